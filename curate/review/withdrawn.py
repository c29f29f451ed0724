"""Answers that reviewers took back."""

from datetime import timedelta

import polars as pl

from curate.review.answers import KEY, answer_table, latest


def withdrawn(history: pl.DataFrame, taken_back: pl.DataFrame) -> pl.DataFrame:
    """A row of `Answer` without content for each answer of `history` that stands no more.

    `taken_back` has `record_id`, `reviewer` and `answered_at`, which is null where nobody knows when: the moment
    after the answer is taken, which is the same at every pull. What was never submitted, or is withdrawn already,
    leaves no row.
    """
    known = latest(history).select("record_id", "reviewer", "status", last=pl.col("answered_at"))
    standing = known.filter(pl.col("status") != "withdrawn").join(taken_back, on=KEY[:2], how="inner")
    moment = pl.coalesce("answered_at", pl.col("last") + timedelta(microseconds=1))
    rows = standing.with_columns(answered_at=moment).filter(pl.col("answered_at") > pl.col("last")).select(KEY)
    empty = answer_table([])
    absent = [pl.lit(None, dtype).alias(name) for name, dtype in empty.schema.items() if name not in KEY]
    filled = rows.with_columns(absent).with_columns(
        status=pl.lit("withdrawn").cast(empty.schema["status"]), wrong=pl.lit([]).cast(empty.schema["wrong"])
    )
    return filled.select(empty.columns)
