"""Models that reason before they answer: what they wrote on the way is kept beside the response, never in it."""

import json

import pytest
from garden import PAIRS, write_rows
from scripted import completion, user

from curate.config import BuildConfig, ExplainConfig
from curate.generate.self_sample import SampleConfig, sample_responses
from curate.models.chat_api import ChatAPI
from curate.models.limits import EndpointConfig
from curate.pipeline.build import build
from curate.report.explain import explain
from curate.store.store import make_frame
from curate.store.workspace import Workspace
from eval.cli import main as eval_main
from schemas.errors import UserError
from schemas.stages import StageName
from schemas.tables import Prompt

PROMPTS = [{"prompt": row["prompt"]} for row in PAIRS[:4]]
THOUGHT = "They ask about something simple. I should be short."
SKIP = ("off_topic", "semantic_duplicate_prompt", "semantic_duplicate_pair")
MESSAGE = "response"
"""Stands for a response in the messages below."""


@pytest.fixture
def drawn(endpoint, recorder):
    """The candidates of the prompts, from an endpoint whose choices hold the message; 4 a prompt."""

    def draw(message, finish_reason="stop"):
        url = endpoint(tell(message, finish_reason)).url
        api = ChatAPI("m", url, "m", "PAIRWRIGHT_API_KEY", EndpointConfig())
        conversations = [user(row["prompt"]) for row in PROMPTS]
        rows = [{"prompt_id": str(i), "messages": c, "prompt_group": ""} for i, c in enumerate(conversations)]
        cfg = SampleConfig("m", url, 4, 0.7, 0.95, 256, 30)
        return sample_responses(make_frame(Prompt, rows), cfg, generator=api, recorder=recorder)

    return draw


@pytest.fixture
def sampled(tmp_path):
    """A build of responses from a model, without what takes time; gives the built."""

    def make(generator: str, **fields):
        prompts = write_rows(tmp_path / "prompts.jsonl", PROMPTS)
        fields = {"data": tmp_path / "data", "skip_rule": SKIP, "no_probes": True, "max_repetition": 1.0} | fields
        return build(BuildConfig(source="sft", prompts=prompts, generator=generator, **fields))

    return make


def rows_of(built, stage):
    return built.tables[stage].scan().collect()


def texts_of(n: int) -> list[str]:
    return [f"{row['chosen']} There are {i} more things to say about it." for i, row in enumerate(PAIRS[:n])]


def tell(message, finish_reason="stop"):
    """An endpoint whose choices hold `message`, with a response of its own for each in the place of MESSAGE."""

    def fill(value, text):
        if isinstance(value, str):
            return value.replace(MESSAGE, text)
        if isinstance(value, list):
            return [fill(each, text) for each in value]
        return {name: fill(each, text) for name, each in value.items()} if isinstance(value, dict) else value

    def reply(body):
        texts = texts_of(body.get("n", 1))
        told = completion(*texts, finish_reason=finish_reason)
        for choice, text in zip(told["choices"], texts, strict=True):
            choice["message"] = {"role": "assistant", **fill(message, text)}
        return 200, told

    return reply


IN_TEXT = {
    "tags": f"<think>\n{THOUGHT}\n</think>\n\n{MESSAGE}",
    "tags, the first in the template": f"{THOUGHT}\n</think>\n\n{MESSAGE}",
    "thinking": f"<thinking>{THOUGHT}</thinking>\n{MESSAGE}",
    "Magistral": f"[THINK]{THOUGHT}[/THINK]{MESSAGE}",
    "gpt-oss": f"<|channel|>analysis<|message|>{THOUGHT}<|end|><|start|>assistant<|channel|>final<|message|>{MESSAGE}",
}
MESSAGES = {
    **{name: {"content": text} for name, text in IN_TEXT.items()},
    "DeepSeek": {"content": MESSAGE, "reasoning_content": THOUGHT},
    "vLLM": {"content": f"\n\n{MESSAGE}", "reasoning": THOUGHT, "reasoning_content": None},
    "OpenRouter": {
        "content": MESSAGE,
        "reasoning": THOUGHT,
        "reasoning_details": [{"type": "reasoning.text", "text": THOUGHT, "format": "unknown"}],
    },
    "OpenRouter, details alone": {
        "content": MESSAGE,
        "reasoning": None,
        "reasoning_details": [
            {"type": "reasoning.encrypted", "data": "c2VjcmV0"},
            {"type": "reasoning.summary", "summary": THOUGHT},
        ],
    },
    "Mistral": {
        "content": [
            {"type": "thinking", "thinking": [{"type": "text", "text": THOUGHT}], "closed": True},
            {"type": "text", "text": MESSAGE},
        ]
    },
    "Anthropic": {
        "content": [
            {"type": "thinking", "thinking": THOUGHT, "signature": "EqQB"},
            {"type": "redacted_thinking", "data": "EmwK"},
            {"type": "text", "text": MESSAGE},
        ]
    },
    "parts": {"content": [{"type": "reasoning", "text": THOUGHT}, {"type": "output_text", "text": MESSAGE}]},
}


def test_the_reported_answer_leaves_its_reasoning_in_a_column_of_its_own(case, endpoint, sampled):
    body = json.loads((case("ep_think_in_text") / "reply_200.json").read_text())
    server = endpoint(lambda sent: (200, {"choices": body["choices"] * sent["n"]}))

    drawn = rows_of(sampled(f"{server.url}#m"), StageName.SAMPLE_RESPONSES)

    assert set(drawn["response"]) == {"The moon pulls the sea."}
    assert set(drawn["reasoning"]) == {"I should be short."}


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
def test_reasoning_of_every_engine_is_kept_beside_the_response(drawn, message):
    candidates = drawn(message).rows

    assert candidates["response"].to_list() == texts_of(4) * 4
    assert set(candidates["reasoning"]) == {THOUGHT}


@pytest.mark.parametrize("content", [MESSAGE, [{"type": "text", "text": MESSAGE}], [{"text": MESSAGE}], [MESSAGE]])
def test_content_in_parts_is_joined_and_has_no_reasoning(drawn, content):
    candidates = drawn({"content": content}).rows

    assert candidates["response"].to_list() == texts_of(4) * 4
    assert candidates["reasoning"].null_count() == 16


def test_parts_of_one_text_are_joined_as_they_stand(drawn):
    parts = [{"type": "text", "text": "The sea, "}, {"type": "text", "text": MESSAGE}, {"type": "text", "text": None}]

    assert drawn({"content": parts}).rows["response"][0] == f"The sea, {texts_of(1)[0]}"


def test_a_part_that_is_no_text_is_a_failed_call_and_not_half_a_response(drawn):
    parts = [{"type": "text", "text": MESSAGE}, {"type": "image_url", "image_url": {"url": "data:"}}]

    with pytest.raises(UserError, match="not a chat completion"):
        drawn({"content": parts})


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "refusal", "refusal": "I will not."}],
        [{"type": "text", "text": "Well."}, {"type": "refusal", "refusal": "I will not."}],
        [{"type": "refusal"}],
    ],
)
def test_a_refusal_as_a_part_is_refused(drawn, content):
    part = drawn({"content": content})

    assert (part.rows.height, part.dropped["reason"].to_list()) == (0, ["refused"] * 4)


@pytest.mark.parametrize("model", ["think", "content-parts", "content-parts-think"])
def test_a_build_with_the_reported_models_holds_no_reasoning(reported_endpoint, sampled, model):
    built = sampled(f"{reported_endpoint}#{model}")

    drawn, pairs = rows_of(built, StageName.SAMPLE_RESPONSES), rows_of(built, StageName.MAKE_PAIRS)
    assert not any("think" in text or "hmm" in text for text in drawn["response"])
    assert (drawn["reasoning"].null_count() == 0) == ("think" in model)
    assert pairs.height == 4
    assert not any("think" in text for side in ("chosen", "rejected") for text in pairs[side])


@pytest.mark.parametrize("model", ["think-open", "reasoning-content"])
def test_reasoning_that_takes_all_tokens_of_the_reported_models_is_the_reason_that_is_named(
    reported_endpoint, sampled, model
):
    built = sampled(f"{reported_endpoint}#{model}")

    assert built.counts.dropped == {"truncated_reasoning": 4}
    assert "truncated_reasoning" in built.hint and "--max-tokens" in built.hint
    assert set(rows_of(built, StageName.SAMPLE_RESPONSES)["response"]) == {""}


CUT = {
    "gpt-oss": {"content": f"<|channel|>analysis<|message|>{THOUGHT} First I"},
    "OpenRouter": {"content": "", "reasoning": f"{THOUGHT} First I"},
    "Mistral": {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": THOUGHT}]}]},
    "OpenAI, which shows no reasoning": {"content": ""},
}


@pytest.mark.parametrize("message", CUT.values(), ids=CUT)
@pytest.mark.parametrize("source", ["sft", "gpt"])
def test_reasoning_that_takes_all_tokens_is_the_reason_that_is_named(endpoint, tmp_path, message, source):
    server = endpoint(tell(message, "length"))
    prompts = write_rows(tmp_path / "prompts.jsonl", PROMPTS)

    cfg = BuildConfig(source=source, prompts=prompts, generator=f"{server.url}#m", no_probes=True, data=tmp_path / "d")
    built = build(cfg)

    assert built.counts.dropped == {"truncated_reasoning": 4}


def test_written_pairs_are_read_after_the_reasoning(endpoint, tmp_path):
    pair = json.dumps({"chosen": "The moon pulls at it.", "rejected": "Nobody knows."})
    draft = '<think>I answer with {"chosen": "...", "rejected": "..."} then.</think>\n'
    server = endpoint(lambda body: (200, completion(draft + pair)))
    prompts = write_rows(tmp_path / "prompts.jsonl", PROMPTS)

    built = build(
        BuildConfig(source="gpt", flaws="none", prompts=prompts, generator=f"{server.url}#m", data=tmp_path / "data")
    )

    assert set(built.pairs.scan().collect()["chosen"]) == {"The moon pulls at it."}


def test_answers_recorded_before_are_parted_too(endpoint, sampled, tmp_path):
    server = endpoint(tell(MESSAGES["tags"]))
    built = sampled(f"{server.url}#m")
    for folder in (Workspace(tmp_path / "data").tables / StageName.SAMPLE_RESPONSES).iterdir():
        for file in folder.iterdir():
            file.unlink()
    asked = len(server.bodies)

    again = sampled(f"{server.url}#m")

    assert len(server.bodies) == asked == 4
    assert rows_of(again, StageName.SAMPLE_RESPONSES).equals(rows_of(built, StageName.SAMPLE_RESPONSES))


def test_explain_shows_the_reasoning_with_personal_data_masked(endpoint, sampled, tmp_path):
    server = endpoint(tell({"content": MESSAGE, "reasoning_content": "Write to jane.doe@gmail.com first."}))
    built = sampled(f"{server.url}#m")
    pair_id = built.pairs.scan().collect()["pair_id"][0]

    shown = explain(ExplainConfig(pair_id=pair_id, data=tmp_path / "data")).summary()

    assert {each["reasoning"] for each in shown["candidates"]} == {"Write to [email] first."}


def test_an_evaluation_judges_responses_without_their_reasoning(endpoint, tmp_path, capsys):
    shown = []

    def reply(body):
        asked = body["messages"][-1]["content"]
        if asked.startswith("You judge"):
            shown.append(asked)
            return 200, completion(f'<think>{{"score": 1}}</think>{{"reason": "r", "score": {3 + len(asked) % 7}}}')
        return 200, completion(f"<think>{THOUGHT}</think>\n\n{body['model']} says {asked}")

    url = endpoint(reply).url
    prompts = write_rows(tmp_path / "prompts.jsonl", PROMPTS)
    words = [f"{url}#run", "--baseline", f"{url}#base", "--judge", f"judge:{url}#m", "--prompts", prompts]

    code = eval_main([*words, "--data", str(tmp_path / "data"), "--name", "e", "--json"])

    assert code == 0 and json.loads(capsys.readouterr().out)["n"] == 4
    lines = [json.loads(line) for line in (tmp_path / "data/evals/e/prompts.jsonl").read_text().splitlines()]
    assert [row["response_run"] for row in lines] == [f"run says {row['prompt']}" for row in lines]
    assert all(row["score_run"] >= 3 for row in lines)
    assert len(shown) == 8 and not any(THOUGHT in text for text in shown)
