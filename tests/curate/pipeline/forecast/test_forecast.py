"""`--dry-run` and the caps, against an endpoint that counts what it is asked and what that costs."""

import json
import time
from pathlib import Path

import pytest
from scripted import completion, user

from curate.cli.main import main
from curate.ledger.ledger import Ledger
from curate.ledger.report import report_ledger
from curate.models.resolve import resolve_scorer
from curate.pipeline.forecast.intervals import UNSEEN
from schemas.calls import Request

TOPICS = ["bread", "rivers", "chess", "glass", "bees", "trains", "salt", "violins", "tides", "maps", "soap", "clocks"]
PRICE = '[models."{url}#m"]\ninput = 100.0\noutput = 1000.0\n'
CALL_USD = (7 * 100 + 5 * 1000) / 1e6
"""Of the tokens that `completion` says a response took."""


def write_pair(body):
    asked = body["messages"][-1]["content"]
    return 200, completion(json.dumps({"chosen": f"Good: {asked}", "rejected": f"Bad: {asked}"}))


@pytest.fixture
def place(tmp_path, monkeypatch, capsys, endpoint):
    """An endpoint with a price, twelve prompts, and `run(*words)` for a build from them: exit code, JSON, errors."""
    monkeypatch.chdir(tmp_path)
    prompts = [json.dumps({"prompt": f"Tell me something about {topic}."}) for topic in TOPICS]
    Path("prompts.jsonl").write_text("\n".join(prompts))
    server = endpoint(write_pair)
    Path("prices.toml").write_text(PRICE.format(url=server.url))

    def run(*words, prices=True, data="data"):
        told = ["--prices", "prices.toml"] if prices else []
        generator = f"{server.url}#m"
        source = ["--source", "gpt", "--flaws", "none", "--generator", generator, "--prompts", "prompts.jsonl"]
        code = main(["build", *source, "--max-tokens", "64", "--data", data, "--json", *told, *words])
        printed = capsys.readouterr()
        found = json.loads(printed.out) if code in (0, 1) else {}
        return code, found, printed.err

    run.server = server
    return run


def stage(found, name):
    return next(stage for stage in found["stages"] if stage["stage"] == name)


def test_without_a_pilot_nothing_is_asked_and_the_most_it_can_cost_is_said(place):
    code, found, _ = place("--dry-run", "--pilot", "0")

    writing = stage(found, "write_pairs")
    assert (code, place.server.bodies) == (0, [])
    assert (writing["held"], writing["to_make"]["estimate"], writing["seen"]) == (0, 12, 0)
    assert writing["output_tokens"] == {"estimate": 768, "low": 0, "high": 768}
    assert writing["cost_usd"]["high"] > writing["cost_usd"]["low"] == 0
    assert found["seconds"] is None
    assert not Path("data/builds").exists()


def test_a_pilot_is_paid_once_and_its_estimate_is_what_the_build_then_takes(place):
    _, before, _ = place("--dry-run", "--pilot", "4")
    asked_by_pilot = len(place.server.bodies)
    _, built, _ = place()
    _, after, _ = place("--dry-run", "--pilot", "0")

    writing = stage(before, "write_pairs")
    assert asked_by_pilot == 4
    assert (writing["held"], writing["to_make"]["estimate"], writing["seen"]) == (4, 8, 4)
    assert writing["cost_usd"]["estimate"] == pytest.approx(8 * CALL_USD, rel=0.2)
    assert before["accepted"]["estimate"] == 1.0
    assert (len(place.server.bodies), built["calls"]) == (12, 8)
    assert built["cost_usd"] == pytest.approx(8 * CALL_USD)
    assert (stage(after, "write_pairs")["held"], stage(after, "write_pairs")["to_make"]["estimate"]) == (12, 0)


def test_pairs_that_are_asked_for_say_how_many_prompts_are_likely_needed(place):
    _, found, _ = place("--dry-run", "--pilot", "4", "--num-pairs", "6")

    # The first round takes 1.2 prompts a pair, however many are accepted.
    assert found["rows"]["low"] == 8
    assert found["rows"]["estimate"] == 8
    assert 8 < found["rows"]["high"] <= 12


def test_rows_that_may_be_needed_and_are_recorded_are_not_asked_again(place):
    place()
    _, all_held, _ = place("--dry-run", "--pilot", "4", "--num-pairs", "6")
    _, none_held, _ = place("--dry-run", "--pilot", "0", "--num-pairs", "6", data="other")

    assert all_held["rows"]["high"] > all_held["rows"]["estimate"] == 8
    assert stage(all_held, "write_pairs")["to_make"] == {"estimate": 0, "low": 0, "high": 0}
    assert all_held["cost_usd"] == {"estimate": 0, "low": 0, "high": 0}
    # Nothing is known of how many will be accepted.
    assert none_held["rows"] == {"estimate": 8, "low": 8, "high": 12}
    assert stage(none_held, "write_pairs")["to_make"] == {"estimate": 8, "low": 8, "high": 12}


def test_rows_beyond_those_that_are_recorded_cost_something_at_the_high_end_alone(place):
    place("--num-prompts", "8")
    _, found, _ = place("--dry-run", "--pilot", "4", "--num-pairs", "6")

    high = found["rows"]["high"]
    writing = stage(found, "write_pairs")
    assert (found["rows"]["estimate"], writing["held"]) == (8, 8)
    assert writing["to_make"] == {"estimate": 0, "low": 0, "high": high - 8}
    assert writing["cost_usd"]["low"] == writing["cost_usd"]["estimate"] == 0
    # The prompts are known. Of 8 calls like each other one with the 64 tokens that are allowed may have been missed.
    most_output = 5 + UNSEEN / 8 * (64 - 5)
    assert writing["cost_usd"]["high"] == pytest.approx((high - 8) * (7 * 100 + most_output * 1000) / 1e6, rel=0.02)


def test_a_flaw_that_the_pilot_never_gave_may_take_all_rows_and_is_named(place, capsys):
    def write(body):
        asked = body["messages"][-1]["content"]
        flaw = "truncation" if '"truncation"' in body["messages"][0]["content"] else "needless_refusal"
        pair = {"chosen": f"{asked} It is made in many ways by many people, and it is old.", "rejected": "I see.",
                "flaw": flaw, "quote": "I see.", "constraint": ""}  # fmt: skip
        if flaw == "needless_refusal":
            pair |= {"rejected": "I'm sorry, but I can't help with that.", "quote": "I can't help with that"}
        return 200, completion(json.dumps(pair))

    place.server.handler = write
    words = ("--dry-run", "--pilot", "8", "--num-pairs", "4", "--flaws", "needless_refusal=.5,truncation=.5")
    _, found, _ = place(*words)
    main([
        "build", "--source", "gpt", "--generator", f"{place.server.url}#m", "--prompts", "prompts.jsonl",
        "--max-tokens", "64", *words,
    ])  # fmt: skip

    assert found["never_accepted"] == ["truncation"]
    assert found["rows"]["high"] == 12
    assert "no pair with the flaw truncation was accepted in the pilot; it is given up after 30 prompts" in (
        capsys.readouterr().out
    )


def no_usage(body):
    status, told = write_pair(body)
    return status, {**told, "usage": None}


def test_an_endpoint_that_counts_no_tokens_is_told_with_its_bounds_and_costs_something(place):
    place.server.handler = no_usage

    _, found, _ = place("--dry-run", "--pilot", "4")

    writing = stage(found, "write_pairs")
    assert (writing["seen"], writing["with_tokens"]) == (4, 0)
    assert writing["output_tokens"] == {"estimate": 8 * 64, "low": 0, "high": 8 * 64}
    assert found["cost_usd"]["estimate"] == found["cost_usd"]["high"] > found["cost_usd"]["low"] == 0


class Judged:
    """A generator of responses whose lengths a test decides, judged by the same endpoint; 4 characters are a token."""

    def __init__(self, place, endpoint):
        self.length = 4000
        self.server = endpoint(self.handle)
        self.run_at = place

    def handle(self, body):
        asked = body["messages"][-1]["content"]
        count = len(self.server.bodies)
        if "max_tokens" in body and body.get("n"):
            texts = [f"{count} {i} {'la ' * 2000}"[: self.length] for i in range(body["n"])]
            spoken = [text[: 4 * body["max_tokens"]] for text in texts]
        else:
            texts = spoken = [json.dumps({"reason": "none", "score": 1 + count % 9})]
        told = completion(*spoken)
        for choice, text in zip(told["choices"], texts, strict=True):
            choice["finish_reason"] = "stop" if choice["message"]["content"] == text else "length"
        taken = sum(len(text) for text in spoken) // 4
        told["usage"] = {"prompt_tokens": len(asked) // 4, "completion_tokens": taken}
        return 200, told

    def run(self, *words, max_tokens=2000):
        source = ["--source", "sft", "--generator", f"{self.server.url}#m", "--scorer", f"judge:{self.server.url}#m"]
        return self.run_at(*source, "--flaws", "", "--max-tokens", str(max_tokens), *words)[1]


@pytest.fixture
def judged(place, endpoint):
    return Judged(place, endpoint)


def spent(data, kind):
    with Ledger(Path(data) / "ledger.sqlite") as ledger:
        query = "SELECT count(*), sum(input_tokens), sum(output_tokens) FROM calls WHERE kind = ?"
        return ledger.read(query, [kind])[0]


def test_responses_that_are_not_drawn_yet_are_as_long_as_those_of_the_pilot(judged):
    before = judged.run("--dry-run", "--pilot", "4")
    calls, tokens, _ = spent("data", "score")
    judged.run()
    more_calls, more_tokens, _ = spent("data", "score")

    scoring = stage(before, "score_responses")
    assert scoring["to_make"]["estimate"] == more_calls - calls
    assert scoring["input_tokens"]["estimate"] == pytest.approx(more_tokens - tokens, rel=0.05)


def test_responses_of_which_none_was_seen_are_as_long_as_they_may_be(judged):
    short = judged.run("--dry-run", "--pilot", "0", max_tokens=100)
    long = judged.run("--dry-run", "--pilot", "0", max_tokens=1100)

    # 48 responses to score, each asked about twice where the judge reasons; bytes are the bound of tokens, and 4
    # characters to a token that of a response.
    grown = (
        stage(long, "score_responses")["input_tokens"]["high"] - stage(short, "score_responses")["input_tokens"]["high"]
    )
    assert grown == 48 * 2 * 4 * 1000


def test_responses_that_ended_by_themselves_are_not_asked_or_scored_again_with_more_tokens(judged):
    judged.length = 100
    judged.run(max_tokens=64)
    found = judged.run("--dry-run", "--pilot", "0", max_tokens=128)

    assert (stage(found, "sample_responses")["held"], stage(found, "score_responses")["held"]) == (12, 48)
    assert stage(found, "sample_responses")["to_make"]["high"] == 0
    assert stage(found, "score_responses")["to_make"]["high"] == 0


def test_probes_are_told_beforehand_and_none_are_left_after_the_build(judged):
    judged.length = 40
    before = judged.run("--dry-run", "--pilot", "0")
    built = judged.run()
    after = judged.run("--dry-run", "--pilot", "0")
    without = judged.run("--dry-run", "--pilot", "0", "--no-probes")

    # Twelve prompts with three probes each; a prompt whose four scores are equal has a pair as well.
    assert stage(before, "score_probes")["to_make"]["estimate"] == 36
    assert built["calls"] == 12 + 48 + 36
    assert (stage(after, "score_probes")["held"], stage(after, "score_probes")["to_make"]["high"]) == (36, 0)
    assert [told["stage"] for told in without["stages"]] == ["sample_responses", "score_responses"]


def test_prompts_that_gave_no_pair_are_not_probed_and_not_told_of(judged):
    handle = judged.handle

    def say_nothing(body):
        status, told = handle(body)
        if body.get("n") and "bees" in body["messages"][-1]["content"]:
            for choice in told["choices"]:
                choice["message"]["content"], choice["finish_reason"] = "", "stop"
        return status, told

    judged.server.handler = say_nothing
    judged.length = 40
    judged.run()
    after = judged.run("--dry-run", "--pilot", "0")

    assert (stage(after, "score_probes")["held"], stage(after, "score_probes")["to_make"]["high"]) == (33, 0)


def test_what_was_cut_is_estimated_from_what_the_pilot_repeated(judged):
    judged.length = 480
    judged.run(max_tokens=64)
    _, _, before = spent("data", "generate")
    unseen = judged.run("--dry-run", "--pilot", "0", max_tokens=200)
    found = judged.run("--dry-run", "--pilot", "4", max_tokens=200)
    _, _, after_pilot = spent("data", "generate")
    judged.run(max_tokens=200)
    _, _, after = spent("data", "generate")

    assert stage(unseen, "sample_responses")["output_tokens"] == {"estimate": 9600, "low": 0, "high": 9600}
    sampling = stage(found, "sample_responses")
    assert (sampling["held"], sampling["to_make"]["estimate"]) == (4, 8)
    assert after_pilot > before
    assert sampling["output_tokens"]["estimate"] == pytest.approx(after - after_pilot)
    assert sampling["input_tokens"]["estimate"] > 0


def test_of_a_prompt_with_truncated_responses_those_alone_are_drawn_and_scored(judged):
    """Of four responses two are truncated."""
    handle = judged.handle

    def cut_two(body):
        judged.length = 480
        status, told = handle(body)
        if body.get("n") == 4:
            for choice in told["choices"][:2]:
                choice["message"]["content"] = choice["message"]["content"][:40]
                choice["finish_reason"] = "stop"
        return status, told

    judged.server.handler = cut_two
    judged.run(max_tokens=64)
    found = judged.run("--dry-run", "--pilot", "4", max_tokens=200)

    sampling, scoring = stage(found, "sample_responses"), stage(found, "score_responses")
    assert (sampling["held"], sampling["to_make"]["estimate"]) == (4, 8)
    # Two new responses to each of eight prompts, of 120 tokens.
    assert sampling["output_tokens"]["estimate"] == pytest.approx(8 * 2 * 120)
    assert (scoring["held"], scoring["to_make"]["estimate"]) == (4 * 4 + 8 * 2, 8 * 2)


@pytest.mark.parametrize("name", ["reward-mini", "reward-mini-b"])
def test_what_runs_here_says_itself_how_long_each_row_took(name):
    model = resolve_scorer(name)
    turns = [[*user("What is salt?"), {"role": "assistant", "content": f"It is number {i}."}] for i in range(40)]
    requests = [Request("score", messages) for messages in turns]

    began = time.perf_counter()
    answers = [answer for group in model.answer(requests, set(range(40))) for _, answer in group]
    took = time.perf_counter() - began

    assert all(answer.seconds > 0 for answer in answers)
    assert sum(answer.seconds for answer in answers) <= took
    # Rows of a batch have equal shares.
    assert len({answer.seconds for answer in answers}) < 5


def test_an_unknown_price_is_unknown_and_never_0(place):
    _, found, _ = place("--dry-run", "--pilot", "2", prices=False)

    assert stage(found, "write_pairs")["cost_usd"] is None
    assert found["cost_usd"] is None


def test_a_budget_needs_a_price(place):
    code, _, err = place("--budget", "1", prices=False)

    assert code == 2
    assert "--budget needs the price of http://127.0.0.1" in err
    assert place.server.bodies == []


def test_a_budget_stops_before_the_call_that_could_cross_it_and_the_same_command_goes_on(place):
    # A call may cost up to about 0.12 USD and costs 0.0057.
    code, _, err = place("--budget", "0.14", "--concurrency", "1")
    asked_first = len(place.server.bodies)
    again, built, _ = place("--budget", "1")

    assert code == 3
    assert "before the call that could cross --budget 0.14" in err
    assert 1 <= asked_first < 12
    assert asked_first * CALL_USD <= 0.14
    assert (again, built["kept"], len(place.server.bodies)) == (0, 12, 12)


def test_hours_stop_before_the_call_that_could_cross_them(place):
    code, _, err = place("--max-hours", "1e-9")

    assert code == 3
    assert "--max-hours 1e-09; everything so far is saved" in err
    assert place.server.bodies == []


def test_the_ledger_has_what_every_call_cost(place, tmp_path):
    place("--num-prompts", "3")

    assert report_ledger(tmp_path / "data" / "ledger.sqlite").total.cost_usd == pytest.approx(3 * CALL_USD)


def test_a_larger_max_tokens_repeats_only_the_pairs_that_were_cut(place, endpoint, tmp_path, monkeypatch):
    """A cut pair is no JSON: it is dropped as truncated, and asked for again where more tokens are allowed."""

    def cut_some(body):
        is_cut = body["max_tokens"] < 128 and any(t in body["messages"][-1]["content"] for t in ("bees", "soap"))
        status, whole = write_pair(body)
        return (200, completion('{"chosen": "Go', finish_reason="length")) if is_cut else (status, whole)

    place.server.handler = cut_some
    _, short, _ = place()
    _, long, _ = place("--max-tokens", "128")

    assert short["dropped"] == {"truncated_json": 2}
    assert (long["kept"], long["repeated_calls"]) == (12, 2)
    assert len(place.server.bodies) == 12 + 2


def test_a_cap_with_json_ends_with_one_object_too(place, capsys):
    words = ["--prompts", "prompts.jsonl", "--data", "data", "--prices", "prices.toml", "--budget", "0.0001", "--json"]
    code = main(["build", "--source", "gpt", "--generator", f"{place.server.url}#m", *words])

    found = json.loads(capsys.readouterr().out)
    assert (code, found["exit_code"]) == (3, 3)
    assert "--budget 0.0001 allows no call: one may cost up to" in found["error"]
    with Ledger(Path("data/ledger.sqlite")) as ledger:
        assert ledger.counts() == {}
