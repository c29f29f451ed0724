"""What is known of each reviewer."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from curate.review.estimate.reviewers import answers_per_hour, reviewer_facts

START = datetime(2026, 1, 5, 9, tzinfo=UTC)
NAMED = {
    "reviewer": pl.String,
    "answered_at": pl.Datetime("us", "UTC"),
    "sampler": pl.String,
    "named": pl.String,
}


def named(*rows: tuple[str, float, str, str]) -> pl.DataFrame:
    """Reviewer, seconds since the start, sampler and the response that was named."""
    return pl.DataFrame(
        [(reviewer, START + timedelta(seconds=at), sampler, said) for reviewer, at, sampler, said in rows],
        schema=NAMED,
        orient="row",
    )


def test_nobody_has_no_facts_and_no_pace():
    assert reviewer_facts(named()).is_empty()
    assert answers_per_hour(named()) is None


def test_one_answer_has_no_speed():
    said = named(("r1", 0, "random", "chosen"))

    (row,) = reviewer_facts(said).to_dicts()

    assert row == {
        "reviewer": "r1",
        "answers": 1,
        "seconds": None,
        "answers_an_hour": None,
        "gold": 0,
        "right": None,
        "low": None,
        "high": None,
    }
    assert answers_per_hour(said) is None


def test_pauses_over_ten_minutes_are_left_out():
    # gaps of 10, 600 and 20 s, and a night
    times = (0, 10, 610, 40_000, 40_020)
    said = named(*(("r1", at, "random", "chosen") for at in reversed(times)))

    (row,) = reviewer_facts(said).to_dicts()

    assert row["seconds"] == 20
    assert row["answers_an_hour"] == pytest.approx(3600 * 3 / 630)
    assert answers_per_hour(said) == pytest.approx(3600 * 3 / 630)


def test_gaps_between_two_reviewers_are_not_counted():
    said = named(("r1", 0, "random", "chosen"), ("r2", 1, "random", "chosen"), ("r1", 30, "random", "chosen"))

    assert reviewer_facts(said)["seconds"].to_list() == [30, None]
    assert answers_per_hour(said) == pytest.approx(120)


def test_answers_given_at_once_have_no_pace():
    assert answers_per_hour(named(("r1", 0, "random", "chosen"), ("r1", 0, "random", "chosen"))) is None


def test_gold_accuracy_counts_who_finds_neither_better_as_wrong():
    said = named(*(("r1", i, "gold", word) for i, word in enumerate(["chosen"] * 8 + ["rejected", "equal"])))

    (row,) = reviewer_facts(said).to_dicts()

    assert (row["gold"], row["right"]) == (10, 0.8)
    # Wilson: 8 of 10
    assert (row["low"], row["high"]) == pytest.approx((0.490, 0.943), abs=1e-3)
