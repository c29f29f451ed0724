"""Statistics of each reviewer: number of answers, speed and accuracy."""

import polars as pl

from curate.review.estimate.agreement import add_interval

LONGEST_GAP_S = 600.0
"""Longer between two answers, and the reviewer was not at work."""

AT_WORK = pl.col("gap").filter(pl.col("gap") <= LONGEST_GAP_S)
ANSWERS_AN_HOUR = pl.when(AT_WORK.sum() > 0).then(3600.0 * AT_WORK.count() / AT_WORK.sum())


def reviewer_facts(named: pl.DataFrame) -> pl.DataFrame:
    """One row for each reviewer, sorted by name; `named` is what `curate.screen.human.named_answers` returns.

    `answers`; `seconds`, the median between two answers in a row; `answers_an_hour` while at work; `gold`, answers on
    records with a known answer, with `right`, the share that names the better response, and its 95% interval (Wilson)
    `low` and `high`. Gaps over 10 minutes are left out. Null without answers to compute it from.
    """
    is_gold = pl.col("sampler") == "gold"
    facts = (
        add_gaps(named)
        .group_by("reviewer")
        .agg(
            answers=pl.len(),
            seconds=AT_WORK.median(),
            answers_an_hour=ANSWERS_AN_HOUR,
            gold=is_gold.sum(),
            right=(pl.col("named") == "chosen").filter(is_gold).mean(),
        )
        .sort("reviewer")
    )
    return add_interval(facts, "right", "gold")


def answers_per_hour(named: pl.DataFrame) -> float | None:
    """Answers an hour of one reviewer at work, over all of them; None before anyone gave two in a row."""
    pace: float | None = add_gaps(named).select(ANSWERS_AN_HOUR).item()
    return pace


def add_gaps(named: pl.DataFrame) -> pl.DataFrame:
    """The answers with `gap`, the seconds since the one before by the same reviewer; null for the first."""
    seconds = pl.col("answered_at").diff().dt.total_microseconds() / 1e6
    return named.with_columns(gap=seconds.over("reviewer", order_by="answered_at"))
