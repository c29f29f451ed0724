"""Judges that reason before their verdict: they get room for it, and a limit that cuts them off is named."""

import json

import pytest
from garden import PAIRS, write_rows
from scripted import completion

from curate.cli.main import main
from curate.config import BuildConfig
from curate.pipeline.build import build
from schemas.stages import StageName

SKIP = ("off_topic", "semantic_duplicate_prompt", "semantic_duplicate_pair")


def rows_of(built, stage):
    return built.tables[stage].scan().collect()


def judging(endpoint, reply, tmp_path, form="judge", **fields):
    """A build of ready pairs with a judge on an endpoint."""
    server = endpoint(reply) if callable(reply) else None
    url = server.url + "#m" if server else reply
    pairs = write_rows(tmp_path / "pairs.jsonl", PAIRS[:6])
    fields = {"no_probes": True, "skip_rule": SKIP, "data": tmp_path / "data"} | fields
    return server, lambda **more: build(BuildConfig(source=pairs, scorer=f"{form}:{url}", **fields | more))


@pytest.mark.parametrize("form", ["judge", "judge-pairs"])
def test_the_reported_judge_whose_reasoning_takes_its_tokens_gives_its_scores(case, reported_endpoint, tmp_path, form):
    case("judge_token_cap")
    _, run = judging(None, f"{reported_endpoint}#j-reasoning8", tmp_path, form)

    scored = rows_of(run(), StageName.SCORE_PAIRS)

    assert scored["failed_score"].sum() == 0
    # The same score for all, and a judge that always says A: p is one half.
    assert set(scored["score_chosen"]) == {7.0 if form == "judge" else 0.5}


@pytest.mark.parametrize("form", ["judge", "judge-pairs"])
def test_the_reported_answer_of_a_judge_stops_the_build_and_names_the_limit(case, endpoint, tmp_path, form, capsys):
    body = json.loads((case("judge_token_cap") / "reply_200.json").read_text())
    pairs = write_rows(tmp_path / "pairs.jsonl", PAIRS[:6])
    scorer = f"{form}:{endpoint(lambda sent: (200, body)).url}#m"

    code = main(["build", "--source", pairs, "--scorer", scorer, "--data", str(tmp_path / "data")])

    assert code != 0
    assert "the judge was cut off at 4,096 tokens before a verdict; raise --judge-max-tokens" in capsys.readouterr().err


def thinks_first(verdict, tokens, message):
    """A judge that takes so many tokens before its verdict; `message` is what it says when they are too few."""

    def reply(body):
        if body.get("max_tokens", body.get("max_completion_tokens")) < tokens:
            told = completion("", finish_reason="length")
            told["choices"][0]["message"] |= message
            return 200, told
        return 200, completion(verdict)

    return reply


HALF_A_VERDICT = {
    "reasoning that is not shown": {"content": ""},
    "null": {"content": None},
    "reasoning in a field": {"content": None, "reasoning": "First I"},
    "tags": {"content": "<think>First I"},
    "tags, the first in the template": {"content": "Okay, let me compare the two"},
    "half an object": {"content": '{"reason": "It is a long story, and'},
    "parts": {"content": [{"type": "thinking", "thinking": "First I"}]},
}


@pytest.mark.parametrize("message", HALF_A_VERDICT.values(), ids=HALF_A_VERDICT)
@pytest.mark.parametrize(("form", "verdict"), [("judge", '{"reason": "r", "score": 7}'), ("judge-pairs", "A")])
def test_a_judge_cut_off_before_its_verdict_is_asked_with_more_room(endpoint, tmp_path, form, verdict, message, caplog):
    server, run = judging(endpoint, thinks_first(verdict, 1500, message), tmp_path, form, concurrency=1)

    built = run()

    assert rows_of(built, StageName.SCORE_PAIRS)["failed_score"].sum() == 0
    # 12 calls, the first of which went out twice: from then on it is known.
    assert [body["max_tokens"] for body in server.bodies] == [400 if form == "judge" else 8] + [4096] * 12
    assert sum("--judge-max-tokens" in text for text in caplog.messages) == 1
    assert run().calls == 0


def test_calls_of_a_judge_without_options_keep_their_keys_and_limits(endpoint, tmp_path):
    server, run = judging(endpoint, lambda body: (200, completion('{"reason": "r", "score": 7}')), tmp_path)

    run()

    assert {body["max_tokens"] for body in server.bodies} == {400}
    assert server.bodies[0].keys() == {"model", "messages", "temperature", "top_p", "max_tokens", "response_format"}


@pytest.mark.parametrize("form", ["judge", "judge-pairs"])
def test_a_limit_of_the_user_is_kept_and_named_and_the_cut_call_is_not_kept_as_a_refusal(endpoint, tmp_path, form):
    verdict = '{"reason": "r", "score": 7}' if form == "judge" else "A"
    hard = ("What makes bread", "Where do swallows", "Who painted")

    def reply(body):
        text = body["messages"][-1]["content"]
        is_cut = any(words in text for words in hard) and body["max_tokens"] < 3000
        return 200, completion(None if is_cut else verdict, finish_reason="length" if is_cut else "stop")

    server, run = judging(endpoint, reply, tmp_path, form, max_failed_share=1.0)
    cut = run(judge_max_tokens=900)
    again = run(judge_max_tokens=900)
    enough = run(judge_max_tokens=3000)

    # One of the six pairs is about a ceiling.
    assert rows_of(cut, StageName.SCORE_PAIRS)["failed_score"].sum() == 1
    assert cut.counts.dropped["failed_score"] == 1
    assert again.calls == 2
    assert rows_of(enough, StageName.SCORE_PAIRS)["failed_score"].sum() == 0
    assert {body["max_tokens"] for body in server.bodies} == {900, 3000}


def test_a_judge_without_room_for_reasoning_in_its_context_is_cut_off_by_name(endpoint, tmp_path):
    def reply(body):
        if body["max_tokens"] > 400:
            return 400, {"error": {"message": "This model's maximum context length is 2048 tokens."}}
        return 200, completion(None, finish_reason="length")

    _, run = judging(endpoint, reply, tmp_path, max_failed_share=1.0)

    built = run()

    assert built.counts.dropped == {"failed_score": 6}


def test_the_first_token_of_a_reasoning_is_no_verdict(endpoint, tmp_path):
    def reply(body):
        told = completion("B", reasoning_content="A careful look at both ...")
        top = [{"token": "A", "logprob": -0.01}, {"token": "B", "logprob": -5.0}]
        told["choices"][0]["logprobs"] = {"content": [{"token": "A", "logprob": -0.01, "top_logprobs": top}]}
        return 200, told

    _, run = judging(endpoint, reply, tmp_path, "judge-pairs")
    built = run()

    # A judge that always says B: one half, to the last digit.
    assert set(rows_of(built, StageName.SCORE_PAIRS)["score_chosen"]) == {0.5}
