"""Statistics of each reviewer: number of answers, speed and accuracy."""

import polars as pl

from curate.stats import wilson

LONGEST_GAP_S = 600.0
"""Longer between two answers, and the reviewer was not at work."""


def reviewer_facts(named: pl.DataFrame) -> pl.DataFrame:
    """One row for each reviewer, sorted by name; `named` is what `curate.screen.human.named_answers` returns.

    `answers`; `seconds`, the median between two answers in a row; `answers_an_hour` while at work; `gold`, answers on
    records with a known answer, with `right`, the share that names the better response, and its 95% interval (Wilson)
    `low` and `high`. Gaps over 10 minutes are left out. Null without answers to compute it from.
    """
    gap = (pl.col("answered_at").diff().dt.total_microseconds() / 1e6).over("reviewer", order_by="answered_at")
    at_work = pl.col("gap").filter(pl.col("gap") <= LONGEST_GAP_S)
    is_gold = pl.col("sampler") == "gold"
    facts = (
        named.with_columns(gap=gap)
        .group_by("reviewer")
        .agg(
            answers=pl.len(),
            seconds=at_work.median(),
            answers_an_hour=pl.when(at_work.sum() > 0).then(3600 * at_work.count() / at_work.sum()),
            gold=is_gold.sum(),
            right=(pl.col("named") == "chosen").filter(is_gold).mean(),
        )
        .sort("reviewer")
    )
    ends = [wilson(right, n) if n else (None, None) for right, n in facts.select("right", "gold").iter_rows()]
    return facts.with_columns(
        low=pl.Series([low for low, _ in ends], dtype=pl.Float64),
        high=pl.Series([high for _, high in ends], dtype=pl.Float64),
    )


def answers_per_hour(named: pl.DataFrame) -> float | None:
    """Answers an hour of one reviewer at work, over all of them; None before anyone gave two in a row."""
    gaps = (
        named.select(
            gap=(pl.col("answered_at").diff().dt.total_microseconds() / 1e6).over("reviewer", order_by="answered_at")
        )
        .drop_nulls()
        .filter(pl.col("gap") <= LONGEST_GAP_S)["gap"]
    )
    total = float(gaps.sum())
    return 3600 * gaps.len() / total if total > 0 else None
