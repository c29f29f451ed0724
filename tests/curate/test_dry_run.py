"""`--dry-run` and the caps, against an endpoint that counts what it is asked and what that costs."""

import json
from pathlib import Path

import pytest
from scripted import completion

from curate.cli import main
from curate.ledger_report import report

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
        found = json.loads(printed.out.splitlines()[-1]) if code in (0, 1) else {}
        return code, found, printed.err

    run.server = server
    return run


def stage(found, name):
    return next(stage for stage in found["stages"] if stage["stage"] == name)


def test_without_a_pilot_nothing_is_asked_and_the_most_it_can_cost_is_said(place):
    code, found, _ = place("--dry-run", "--pilot", "0")

    writing = stage(found, "write_contrasts")
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

    writing = stage(before, "write_contrasts")
    assert asked_by_pilot == 4
    assert (writing["held"], writing["to_make"]["estimate"], writing["seen"]) == (4, 8, 4)
    assert writing["cost_usd"]["estimate"] == pytest.approx(8 * CALL_USD, rel=0.2)
    assert before["accepted"]["estimate"] == 1.0
    # eight pairs to write and eight prompts to embed
    assert (len(place.server.bodies), built["calls"]) == (12, 16)
    assert built["cost_usd"] == pytest.approx(8 * CALL_USD)
    assert (stage(after, "write_contrasts")["held"], stage(after, "write_contrasts")["to_make"]["estimate"]) == (12, 0)


def test_pairs_that_are_asked_for_say_how_many_prompts_are_likely_needed(place):
    _, found, _ = place("--dry-run", "--pilot", "4", "--num-pairs", "6")

    assert found["rows"]["low"] == 6
    assert found["rows"]["estimate"] == 6
    assert 6 < found["rows"]["high"] <= 12


def test_an_unknown_price_is_unknown_and_never_0(place):
    _, found, _ = place("--dry-run", "--pilot", "2", prices=False)

    assert stage(found, "write_contrasts")["cost_usd"] is None
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

    from curate.config import LedgerConfig

    found = report(LedgerConfig(data=tmp_path / "data"))
    assert str(round(3 * CALL_USD, 4)) in json.dumps(found)


def test_a_larger_max_tokens_repeats_only_the_pairs_that_were_cut(place, endpoint, tmp_path, monkeypatch):
    """A cut pair is no JSON: it is dropped as malformed, and asked for again where more tokens are allowed."""

    def cut_some(body):
        is_cut = body["max_tokens"] < 128 and any(t in body["messages"][-1]["content"] for t in ("bees", "soap"))
        status, whole = write_pair(body)
        return (200, completion('{"chosen": "Go', finish_reason="length")) if is_cut else (status, whole)

    place.server.handler = cut_some
    _, short, _ = place()
    _, long, _ = place("--max-tokens", "128")

    assert short["dropped"] == {"malformed_json": 2}
    assert (long["kept"], long["repeated_calls"]) == (12, 2)
    assert len(place.server.bodies) == 12 + 2
