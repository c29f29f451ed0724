"""What curate relies on in a vLLM server's own answers."""

import json
import urllib.request
from typing import Any

import pytest

pytestmark = pytest.mark.server

PAIR = {
    "type": "json_schema",
    "json_schema": {
        "name": "pair",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"chosen": {"type": "string"}, "rejected": {"type": "string"}},
            "required": ["chosen", "rejected"],
            "additionalProperties": False,
        },
    },
}


def call(url: str, body: dict[str, Any] | None = None) -> Any:
    """The parsed answer to a GET, or to a POST of `body`."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as response:
        return json.load(response)


def chat(base_url: str, prompt: str, **options: Any) -> list[dict[str, Any]]:
    """The choices for one user turn."""
    body = {"model": "smollm2", "messages": [{"role": "user", "content": prompt}], **options}
    choices: list[dict[str, Any]] = call(f"{base_url}/chat/completions", body)["choices"]
    return choices


def test_server_lists_the_embedded_model(vllm_server: str) -> None:
    models = call(f"{vllm_server}/models")["data"]

    # Adapters that a test has added are listed behind it.
    assert models[0]["id"] == "smollm2"


def test_n_4_gives_4_choices_with_finish_reasons(vllm_server: str) -> None:
    choices = chat(vllm_server, "Name a colour.", n=4, max_tokens=8, temperature=1.0)

    assert [choice["index"] for choice in choices] == [0, 1, 2, 3]
    assert {choice["finish_reason"] for choice in choices} <= {"stop", "length"}


def test_pair_schema_gives_a_pair(vllm_server: str) -> None:
    prompt = "Give a good and a bad answer to: What is 2+2?"
    (choice,) = chat(vllm_server, prompt, max_tokens=400, temperature=0, response_format=PAIR)

    pair = json.loads(choice["message"]["content"])

    assert choice["finish_reason"] == "stop"
    assert sorted(pair) == ["chosen", "rejected"]


def test_pair_cut_by_max_tokens_is_broken_json(vllm_server: str) -> None:
    prompt = "Give a good and a bad answer to: What is 2+2?"
    (choice,) = chat(vllm_server, prompt, max_tokens=12, temperature=0, response_format=PAIR)

    assert choice["finish_reason"] == "length"
    with pytest.raises(json.JSONDecodeError):
        json.loads(choice["message"]["content"])
