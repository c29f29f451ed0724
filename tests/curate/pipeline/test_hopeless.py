"""Builds of whose first calls nothing comes: they stop, keep what was answered, and go on when the cause is mended."""

import asyncio
import json
from pathlib import Path

import pytest
from garden import write_rows
from misbehaving import Call, Misbehaving, fails, says

from curate.cli.main import main

PAIR = json.dumps({"chosen": "Water boils at a hundred degrees.", "rejected": "Water never boils at all, I think."})
PROMPTS = [{"prompt": f"At how many degrees does liquid number {i} boil?"} for i in range(60)]


@pytest.fixture
def server():
    started = Misbehaving(lambda call: says(PAIR))
    yield started
    started.close()


def build(server: Misbehaving, data: Path, *words: str, prompts: list = PROMPTS, source: str = "gpt") -> int:
    path = write_rows(data.parent / "prompts.jsonl", prompts)
    skip = [
        word for rule in ("off_topic", "semantic_duplicate_prompt", "semantic_duplicate_pair", "lexical_duplicate")
        for word in ("--skip-rule", rule)
    ]  # fmt: skip
    flaws = ["--flaws", "none"] if source == "gpt" else []
    made_by = ["--generator", f"{server.url}#tiny", "--concurrency", "1", "--data", str(data)]
    return main(["build", "--source", source, "--prompts", str(path), *made_by, *flaws, *skip, *words])


@pytest.mark.parametrize(
    ("act", "reason", "change"),
    [
        (says("I would rather talk."), "malformed_json", "keeps to a JSON schema"),
        (says('{"chosen": "a", "reject', finish_reason="length"), "truncated_json", "a larger --max-tokens"),
        (says("<think>Let me see", finish_reason="length"), "truncated_reasoning", "a larger --max-tokens"),
        (says("no", finish_reason="content_filter"), "refused", "give another model, or other prompts"),
        (fails(400, "maximum context length is 16 tokens"), "prompt_too_long", "a smaller --max-tokens"),
    ],
)
def test_a_build_of_which_nothing_comes_stops_after_its_first_calls_and_says_what_to_change(
    server, tmp_path, capsys, act, reason, change
):
    server.act = lambda call: act

    code = build(server, tmp_path / "data")

    said = capsys.readouterr().err.splitlines()[-1]
    assert code == 1
    assert f"15 of the first 20 calls to {server.url}#tiny came to nothing ({reason}), the last with: " in said
    assert "all answers are saved" in said and change in said
    # One call may have begun before the fifteenth was looked at.
    assert 15 <= len(server.calls) <= 17
    assert not (tmp_path / "data" / "builds").exists()


def test_what_was_answered_is_kept_and_the_run_goes_on_when_the_cause_is_mended(server, tmp_path):
    server.act = lambda call: says("no pair")
    build(server, tmp_path / "data")
    asked = set(server.texts)
    server.act = lambda call: says(PAIR)

    code = build(server, tmp_path / "data")

    assert code == 0
    assert len(server.texts) == len(set(server.texts)) == 60
    assert asked < set(server.texts)


def test_fourteen_of_the_first_twenty_do_not_stop_it_and_later_ones_do_not_count(server, tmp_path):
    def act(call: Call):
        return says(PAIR) if 14 <= call.number < 20 else says("no pair")

    server.act = act

    code = build(server, tmp_path / "data")

    assert (code, len(server.calls)) == (0, 60)


def test_reasons_are_counted_apart(server, tmp_path):
    server.act = lambda call: says("no pair") if call.number % 2 else says("", finish_reason="content_filter")

    code = build(server, tmp_path / "data")

    # No pair is kept, but not for one reason.
    assert (code, len(server.calls)) == (1, 60)
    assert (tmp_path / "data" / "builds" / "gpt.json").exists()


def test_fewer_than_fifteen_calls_are_all_made(server, tmp_path):
    server.act = lambda call: says("no pair")

    code = build(server, tmp_path / "data", prompts=PROMPTS[:14])

    assert (code, len(server.calls)) == (1, 14)
    assert (tmp_path / "data" / "builds" / "gpt.json").exists()


def test_a_build_that_may_fail_altogether_is_not_stopped(server, tmp_path):
    server.act = lambda call: says("no pair")

    code = build(server, tmp_path / "data", "--max-failed-share", "1")

    assert (code, len(server.calls)) == (1, 60)


def test_calls_that_fail_stop_it_sooner_with_the_same_code(server, tmp_path, capsys):
    server.act = lambda call: fails(400, f"odd request {call.number}")

    code = build(server, tmp_path / "data")

    assert code == 1
    assert len(server.calls) < 15
    assert "calls to" in capsys.readouterr().err


def test_failed_calls_of_one_kind_stop_a_build_that_lets_nearly_all_fail(server, tmp_path, capsys):
    server.act = lambda call: fails(400, f"odd request {call.number}") if call.number % 6 else says(PAIR)

    code = build(server, tmp_path / "data", "--max-failed-share", "0.95")

    assert code == 1
    assert "came to nothing (failed_call), the last with: HTTP 400: odd request" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "reason"), [("", "empty"), (" \n", "empty"), ("<think>Let me see", "truncated_reasoning")]
)
def test_responses_without_text_stop_the_sampling(server, tmp_path, capsys, text, reason):
    server.act = lambda call: says(*[text] * call.n, finish_reason="length" if "think" in text else "stop")

    code = build(server, tmp_path / "data", source="sft")

    assert code == 1
    assert f"came to nothing ({reason})" in capsys.readouterr().err


def test_a_judge_that_gives_no_score_stops_the_build_and_names_the_scorer(server, tmp_path, capsys):
    server.act = lambda call: says(PAIR) if call.number < 60 else says("A fine answer, I would say.")

    code = build(server, tmp_path / "data", "--scorer", f"judge:{server.url}#judge")

    said = capsys.readouterr().err.splitlines()[-1]
    assert code == 1
    assert f"calls to judge:{server.url}#judge came to nothing (failed_score)" in said
    assert "give another --scorer" in said
    assert len(server.calls) < 60 + 20


def test_the_first_calls_of_all_rounds_count_together(server, tmp_path):
    # Twelve prompts in the first round; the second adds as many again.
    server.act = lambda call: says("no pair")

    code = build(server, tmp_path / "data", "--num-pairs", "10")

    assert code == 1
    assert 15 <= len(server.calls) <= 17


def test_prompts_that_are_refused_at_once_are_not_the_first_because_they_are_fast(server, tmp_path):
    async def slow(call: Call) -> None:
        await asyncio.sleep(0.3)
        await says(PAIR)(call)

    # A third of the prompts is too long, and each of these is answered long before the others.
    server.act = lambda call: fails(400, "maximum context length is 16 tokens") if call.number % 3 == 0 else slow

    code = build(server, tmp_path / "data", "--concurrency", "8")

    assert (code, len(server.calls)) == (0, 60)
