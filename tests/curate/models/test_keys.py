"""A key is in no file and on no screen, whatever an endpoint does with it."""

import json
import os
import sqlite3
import subprocess
import sys

import polars as pl
import pytest
from misbehaving import Misbehaving, fails, sends
from scripted import completion

from curate.models.reply_body import SHORTEST_SECRET, mask_key

MARK = "MARKED7f3c"
"""Near the start of each key, so that a key that was cut off is found too."""
KEYS = {
    "OPENAI_API_KEY": f"sk-{MARK}-of-openai-0123456789abcdefghijklmnopqrstuvwxyz",
    "PAIRWRIGHT_API_KEY": f"pw-{MARK}-of-ones-own-0123456789abcdefghijklmnopqrstuvwxyz",
    "NVIDIA_API_KEY": f"nvapi-{MARK}-of-nvidia-0123456789abcdefghijklmnopqrstuvwxyz",
}


def echoed(key):
    """What an endpoint may do with a key that it was sent; each in its turn."""
    pair = json.dumps({"chosen": f"The key is {key}, as asked.", "rejected": f"There is no {key} here."})
    odd = completion(pair)
    odd["choices"][0]["finish_reason"] = key
    padding = "x" * 190
    return [
        fails(400, f"Bearer {key} is not allowed"),
        fails(400, f"{padding} {padding[:100]}{key}"),
        sends(400, f"<html>Bearer {key}</html>".encode()),
        sends(200, completion(f"I was sent Bearer {key}.")),
        sends(200, completion(f'{{"chosen": "{key}"}}')),
        sends(200, completion(pair)),
        sends(200, completion(None, refusal=f"Not for {key}.")),
        sends(200, odd),
        sends(200, {"error": {"message": f"Bearer {key}"}}),
        sends(200, {"choices": [], "note": f"{padding}{key}"}),
        sends(200, f"{padding}{key}".encode()),
        sends(200, completion(f"reward:{key}")),
        sends(200, completion("reward:1.5"), X_Echo=f"Bearer {key}", Set_Cookie=f"key={key}"),
        sends(429, {"error": {"message": key}}, Retry_After=key),
    ]


def echo(server):
    """Each call in turn is answered with the key that it came with; every other score is a good one."""

    def act(call):
        if call.body["model"] == "reward" and call.number % 2:
            return sends(200, completion(f"reward:{call.number}"))
        ways = echoed(call.headers["authorization"].removeprefix("Bearer "))
        return ways[call.number % len(ways)]

    server.act = act


def build(server, data, *arguments):
    """`curate build` in a process of its own, with all three keys in its environment."""
    addresses = {"OPENAI_BASE_URL": server.url, "NIM_BASE_URL": server.url}
    return subprocess.run(
        [sys.executable, "-m", "curate.cli.main", "build", "--data", str(data), *arguments],
        env={**os.environ, **KEYS, **addresses, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )


def everything_under(folder):
    """Path -> all that the file says: its bytes, and what they hold when unpacked."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        said = path.read_bytes().decode("latin-1")
        if path.suffix == ".parquet":
            said += json.dumps(pl.read_parquet(path).to_dicts(), default=str)
        elif path.suffix == ".sqlite":
            database = sqlite3.connect(path)
            said += "\n".join(database.iterdump())
            database.close()
        found[str(path.relative_to(folder))] = said
    return found


def holders(data, ran):
    """Where the mark of a key is found."""
    found = {**everything_under(data), "stdout": ran.stdout, "stderr": ran.stderr}
    return [name for name, said in found.items() if MARK in said]


@pytest.mark.parametrize(
    ("models", "keys"),
    [
        (["--source", "gpt", "--generator", "openai:tiny"], ["OPENAI_API_KEY"]),
        (
            ["--source", "gpt", "--flaws", "none", "--generator", "{url}#tiny", "--scorer", "nim:reward"],
            ["PAIRWRIGHT_API_KEY", "NVIDIA_API_KEY"],
        ),
    ],
    ids=["openai", "address and NIM"],
)
def test_a_build_leaves_no_key_behind(server, tmp_path, models, keys):
    echo(server)
    models = [name.replace("{url}", server.url) for name in models]
    data = tmp_path / "data"

    ran = build(server, data, *models, "--num-prompts", "28", "--max-failed-share", "1", "--json")

    # Whether a pair of what is echoed passes screening is decided by the order in which the calls come.
    assert ran.returncode in (0, 1), ran.stderr
    assert {call.headers["authorization"] for call in server.calls} == {f"Bearer {KEYS[name]}" for name in keys}
    assert len(server.calls) >= 28
    saved = everything_under(data)
    assert any(name.endswith(".parquet") for name in saved)
    # what the endpoint said around the key is kept
    assert "I was sent Bearer ***." in saved["ledger.sqlite"]
    assert holders(data, ran) == []


@pytest.mark.parametrize("status", [401, 402, 403, 404])
def test_a_run_that_is_stopped_shows_no_key(server, tmp_path, status):
    server.act = lambda call: fails(status, f"no: {call.headers['authorization']}")

    ran = build(server, tmp_path, "--source", "gpt", "--generator", "openai:tiny", "--num-prompts", "4")

    assert ran.returncode == 2
    assert ran.stderr.splitlines()[-1].startswith("error: openai:tiny: ")
    assert "no: Bearer ***" in ran.stderr
    assert holders(tmp_path, ran) == []


@pytest.mark.parametrize(
    "address",
    [
        "http://{key}@127.0.0.1:{port}/v1#tiny",
        "http://somebody:{key}@127.0.0.1:{port}/v1#tiny",
        "http://127.0.0.1:{port}/v1?api_key={key}#tiny",
    ],
)
def test_a_key_in_an_address_is_refused_and_not_repeated(server, tmp_path, address):
    name = address.format(key=KEYS["OPENAI_API_KEY"], port=server.port)

    ran = build(server, tmp_path, "--source", "gpt", "--generator", name, "--num-prompts", "4")

    assert ran.returncode == 2
    assert "a key belongs in the environment (PAIRWRIGHT_API_KEY)" in ran.stderr
    assert server.calls == []
    assert holders(tmp_path, ran) == []


def test_a_redirect_to_another_server_does_not_take_the_key_along(server, tmp_path):
    elsewhere = Misbehaving(lambda call: fails(400, "not me"))
    try:
        server.act = lambda call: sends(307, {}, Location=f"{elsewhere.url}/chat/completions")

        ran = build(
            server,
            tmp_path,
            "--source",
            "gpt",
            "--generator",
            "openai:tiny",
            "--num-prompts",
            "2",
            "--max-failed-share",
            "1",
        )
    finally:
        elsewhere.close()

    assert server.calls
    assert all("authorization" not in call.headers for call in elsewhere.calls)
    assert holders(tmp_path, ran) == []


@pytest.mark.parametrize("stand_in", ["", "EMPTY", "none", "1", "token-abc123"])
def test_a_stand_in_for_a_key_changes_no_response(stand_in):
    raw = json.dumps(completion(f"1 none EMPTY {stand_in}")).encode()

    assert mask_key(raw, stand_in) == raw


def test_a_key_is_blotted_out_of_a_body():
    key = "k" * SHORTEST_SECRET

    assert mask_key(f'{{"a": "Bearer {key}"}}'.encode(), key) == b'{"a": "Bearer ***"}'
