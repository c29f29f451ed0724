"""`--num-pairs`: exactly so many pairs, from as few prompts as it takes."""

import json
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import completion

from curate.config import BuildConfig
from curate.pipeline.build import Built, build
from curate.pipeline.rounds import Wanted, expected_rows, flaw_quotas, to_add
from schemas.names import FLAWS


def write_pairs(path: Path, count: int, tie_every: int) -> Path:
    """Ready pairs of which one in `tie_every` has equal scores."""
    rows = [
        {
            "prompt": f"What is {n} times {n + 1}?",
            "chosen": f"It is {n * (n + 1)}.",
            "rejected": "I do not know.",
            "score_chosen": 2.0,
            "score_rejected": 2.0 if n % tie_every == 0 else 1.0,
        }
        for n in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def kept(built: Built) -> list[str]:
    screened = built.screened.scan().collect()
    return screened.filter(screened["dropped_by"].is_null())["pair_id"].to_list()


@pytest.fixture
def config(tmp_path):
    """Builds from 60 ready pairs of which every third is a tie; no two prompts are too alike, and no number too near
    to the question about it."""
    source = write_pairs(tmp_path / "pairs.jsonl", 60, tie_every=3)

    def make(**fields) -> BuildConfig:
        apart = {"max_cosine": 1.0, "skip_rule": ("off_topic",)}
        return BuildConfig(**{"source": str(source), **apart, "data": tmp_path / "data", **fields})

    return make


def test_exactly_so_many_pairs_are_kept_and_they_are_the_first_of_the_source(config):
    some = build(config(num_pairs=20))
    all_of_them = build(config(name="all"))

    summary = some.summary()
    assert (summary["kept"], summary["short"]) == (20, 0)
    assert summary["rows_in"] == 20 + sum(summary["dropped"].values()) < 60
    assert kept(some) == kept(all_of_them)[:20]
    assert all_of_them.summary()["short"] == 0


def test_the_same_number_again_is_the_same_table_whatever_was_built_between(config):
    first = build(config(num_pairs=10)).summary()
    build(config(num_pairs=30))
    again = build(config(num_pairs=10)).summary()

    assert (again["table"], again["calls"]) == (first["table"], 0)


def test_a_source_that_ends_too_early_is_saved_with_what_is_short_and_what_each_rule_cost(config, caplog):
    built = build(config(num_pairs=50))

    summary = built.summary()
    assert (summary["kept"], summary["short"], summary["dropped"]) == (40, 10, {"tie": 20})
    assert caplog.messages[-1] == ("40 of 50 pairs from 60 prompts, all the source has; dropped by rule: tie 20")
    assert (built.tables["read_pairs"].folder.parents[2] / "builds" / "pairs.json").exists()


def test_no_more_prompts_than_allowed_are_used(config, caplog):
    summary = build(config(num_pairs=20, max_prompts=25)).summary()

    assert summary["rows_in"] == 25
    assert summary["short"] == 20 - summary["kept"] > 0
    assert "from 25 prompts, as many as --max-prompts allows (25)" in caplog.messages[-1]


def test_a_round_is_one_line(config, caplog):
    caplog.set_level(logging.INFO)

    build(config(num_pairs=30))

    rounds = [message for message in caplog.messages if message.startswith("round ")]
    assert rounds[0].startswith("round 1: ") and "of 30 accepted from 36 prompts; adding " in rounds[0]
    assert "adding" not in rounds[-1]
    assert not any(message.startswith("read pairs") for message in caplog.messages)


@pytest.mark.parametrize(("pairing", "least"), [("best_worst", 12), ("adjacent", 4)])
def test_sampled_prompts_are_asked_once_each_and_the_build_is_saved_last(
    endpoint, tmp_path, monkeypatch, pairing, least
):
    # The four responses to a prompt with an even number score alike, so that half of the prompts give nothing.
    asked, saved = [], []

    def write(body):
        prompt = body["messages"][-1]["content"]
        asked.append(prompt)
        saved.append((tmp_path / "data" / "builds").exists())
        number = prompt.split()[-1]
        return 200, completion(*(f"The number {number} is {'whole and ' * i}not small." for i in range(body["n"])))

    def judge(body):
        prompt, response = (message["content"] for message in body["messages"])
        is_tied = int(prompt.split()[-1]) % 2 == 0
        return 200, completion(f"reward:{0 if is_tied else len(response)}")

    chat = endpoint(write)
    monkeypatch.setenv("NIM_BASE_URL", endpoint(judge).url)
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f"Tell me of the number {n}"}) + "\n" for n in range(64)))
    cfg = BuildConfig(
        source="sft", prompts=str(prompts), generator=f"{chat.url}#m", scorer="nim:m", pairing=pairing, num_pairs=10,
        max_cosine=1.0, skip_rule=("off_topic", "lexical_duplicate"), data=tmp_path / "data",
    )  # fmt: skip

    summary = build(cfg).summary()

    assert (summary["kept"], summary["short"]) == (10, 0)
    assert summary["rows_in"] == 10 + sum(summary["dropped"].values())
    assert least <= len(asked) == len(set(asked)) < 64
    assert not any(saved)


@given(st.integers(1, 50), st.lists(st.booleans(), min_size=1, max_size=400), st.integers(1, 3))
def test_rows_are_added_until_enough_pass_and_never_when_enough_have_passed(pairs, passes, per_row):
    wanted, used, rounds = Wanted(pairs), 1, 0
    while used < len(passes):
        found = per_row * sum(passes[:used])
        more = to_add(wanted, {None: found}, used)
        assert (more == 0) == (found >= pairs)
        assert more <= used
        if not more:
            break
        used, rounds = used + more, rounds + 1
    assert rounds <= len(passes)


def test_what_is_added_follows_from_the_acceptance_so_far_with_a_margin():
    # 57 are missing at 143 in 240: 57 / 143 · 240 · 1.1 = 105.2.
    assert to_add(Wanted(200), {None: 143}, 240) == 106
    # Nothing accepted, or hardly anything, says little: as many again.
    assert to_add(Wanted(200), {}, 240) == 240
    assert to_add(Wanted(200), {None: 1}, 240) == 240


def test_a_flaw_that_is_missing_is_waited_for_though_the_pairs_are_enough():
    wanted = Wanted(10, quotas=((FLAWS[0], 5), (FLAWS[1], 5)))

    # Two of the second flaw are missing at 3 in 40: 2 / 3 · 40 · 1.1 = 29.3.
    assert to_add(wanted, {FLAWS[0]: 9, FLAWS[1]: 3}, 40) == 30
    assert to_add(wanted, {FLAWS[0]: 9, FLAWS[1]: 5}, 40) == 0


def test_the_first_round_is_gone_through_however_many_are_accepted():
    assert expected_rows(Wanted(100), {None: 1.0}, 1000) == 120
    assert expected_rows(Wanted(100, pairs_per_prompt=3), {None: 3.0}, 1000) == 40
    assert expected_rows(Wanted(100), {None: 1.0}, 90) == 90


def test_the_rows_expected_are_those_that_the_rounds_would_add():
    # 60 of 120, then 40 / 60 · 120 · 1.1 = 88 more, of which 104 pass.
    assert expected_rows(Wanted(100), {None: 0.5}, 1000) == 208


def test_a_flaw_that_is_seldom_accepted_decides_how_many_rows_are_expected():
    wanted = Wanted(100, quotas=((FLAWS[0], 89), (FLAWS[1], 11)))

    # 2 of 120, 4 of 240, 9 of 480; then 2 / 9 · 480 · 1.1 = 117.3 more, with which 11 pass.
    assert expected_rows(wanted, {None: 0.92, FLAWS[0]: 0.9, FLAWS[1]: 0.02}, 5000) == 598
    # asked for 13, 26 and then 53 times without one: given up
    assert expected_rows(wanted, {None: 0.9, FLAWS[0]: 0.9, FLAWS[1]: 0.0}, 5000) == 480


@given(st.lists(st.booleans(), min_size=10, max_size=200), st.integers(1, 100))
def test_rows_expected_are_never_more_than_there_are_nor_fewer_than_the_first_round(passes, pairs):
    rows = expected_rows(Wanted(pairs), {None: sum(passes) / len(passes)}, len(passes))

    assert min(pairs, len(passes)) <= rows <= len(passes)


def test_quotas_are_the_largest_remainders_and_add_up():
    # 10 · 0.34 = 3.4, 10 · 0.33 = 3.3 twice: 3, 3, 3 and one more for the largest remainder.
    assert flaw_quotas((("a", 0.33), ("b", 0.34), ("c", 0.33)), 10) == (("a", 3), ("b", 4), ("c", 3))
    # Equal shares: what is over goes to those named first.
    assert flaw_quotas(tuple((name, 1 / 3) for name in "abc"), 5) == (("a", 2), ("b", 2), ("c", 1))


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=8), st.integers(1, 1000))
def test_quotas_always_add_up_and_are_less_than_one_away_from_their_shares(shares, pairs):
    quotas = flaw_quotas(tuple((str(i), share) for i, share in enumerate(shares)), pairs)

    assert sum(quota for _, quota in quotas) == pairs
    assert all(abs(quota - pairs * share / sum(shares)) < 1 for (_, quota), share in zip(quotas, shares, strict=True))


def test_the_pairs_of_a_writer_keep_to_the_shares_of_their_flaws(endpoint, tmp_path):
    # Only every third truncated pair is usable: the others stop at the end of a sentence.
    stopped = []

    def write(body):
        flaw = "truncation" if '"truncation"' in body["messages"][0]["content"] else "needless_refusal"
        number = body["messages"][-1]["content"].split()[-1]
        chosen = f"The number {number} follows {number} less one, and it is followed by {number} and one more."
        rejected, quote = f"I'm sorry, but I can't help with {number}.", f"I can't help with {number}"
        if flaw == "truncation":
            stopped.append(number)
            end = " follows" if len(stopped) % 3 == 0 else "."
            rejected, quote = f"The number {number}{end}", f"number {number}{end}"
        pair = {"chosen": chosen, "rejected": rejected, "flaw": flaw, "quote": quote, "constraint": ""}
        return 200, completion(json.dumps(pair))

    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f"Tell me of the number {n}"}) + "\n" for n in range(80)))
    cfg = BuildConfig(
        source="gpt", prompts=str(prompts), generator=f"{endpoint(write).url}#m", num_pairs=10, max_cosine=1.0,
        skip_rule=("off_topic", "lexical_duplicate"), flaws="needless_refusal=.7,truncation=.3", data=tmp_path / "data",
    )  # fmt: skip

    built = build(cfg)

    summary, pairs = built.summary(), built.pairs.scan().collect()
    flaws = pairs.filter(pairs["pair_id"].is_in(kept(built)))["flaw"].to_list()
    assert (flaws.count("needless_refusal"), flaws.count("truncation")) == (7, 3)
    assert summary["rows_in"] == 10 + sum(summary["dropped"].values())
    assert summary["dropped"]["over_quota"] > 0 and summary["dropped"]["flaw_not_found"] > 0
    assert [(flaw["flaw"], flaw["quota"]) for flaw in summary["flaws"]] == [
        ("needless_refusal", 0.7), ("truncation", 0.3)
    ]  # fmt: skip


def test_a_flaw_that_never_comes_out_is_given_up_instead_of_using_up_every_prompt():
    wanted = Wanted(pairs=100, quotas=(("factual", 50), ("logic", 50)))

    # asked for about 25 times, then about 60 times
    assert to_add(wanted, {"factual": 100}, used=50) > 0
    assert to_add(wanted, {"factual": 100}, used=120) == 0
    # what comes out now and then is gone on with
    assert to_add(wanted, {"factual": 100, "logic": 1}, used=120) == 120
