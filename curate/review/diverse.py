"""Choose pairs of small margin that are unlike each other, and rank pairs by suspicion."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from schemas.names import PERSONAL_DATA

POOL_FACTOR = 10
POOL_MOST = 5_000
"""Prompts that may have to be embedded."""
ROWS_PER_BLOCK = 1024

WEIGHTS: dict[str, float] = {
    "needs_review": 3.0,
    "scorer_unreliable": 1.5,
    "refusal_chosen": 1.0,
    "refusal_rejected": 0.5,
    "maybe_truncated": 0.5,
    "near_evaluation": 0.5,
    **dict.fromkeys(PERSONAL_DATA, 0.5),
}
"""Flag -> what it adds. A judgment, not a measurement: 1 is as much as a margin rank 2.7 times smaller."""
DISPUTED = 1.5
"""What it adds that another scorer prefers the other response."""
UNKNOWN = 0.5
"""Stands for the margin rank of a pair without margin."""


def has_small_margin() -> pl.Expr:
    """Whether the margin is in the lower half of its source, over a frame of all pairs; true without one."""
    return (margin_share() <= 0.5).fill_null(True)


def draw_pool(rows: pl.DataFrame, records: int) -> pl.DataFrame:
    """The pairs to choose `records` among: some at random of those of small margin, others where these run out.

    `rows` has `is_small` and `number`, a random number, whose order the pool has.
    """
    small = int(rows["is_small"].sum())
    most = max(records, min(POOL_FACTOR * records, POOL_MOST, small))
    return rows.sort(~pl.col("is_small"), "number").head(most)


def spread_over_groups(rows: pl.DataFrame, records: int) -> pl.DataFrame:
    """The first pair of every prompt group, then the second ones, as far as `records` reach; in the order of rows."""
    turn = pl.int_range(pl.len()).over("prompt_group")
    return rows.sort(turn, maintain_order=True).head(records)


def pick_farthest_first(vectors: NDArray[np.float32], taken: NDArray[np.float32], records: int) -> NDArray[np.int64]:
    """The places of `records` vectors, each the one least like all before it and all of `taken`.

    Both are (texts, dimensions) of length 1. Likeness is the cosine; greedy k-center (Gonzalez, 1985). Texts without
    a vector, whose rows are NaN, come last. The first of `vectors` begins where nothing is taken.
    """
    nearest = np.full(len(vectors), -1.0, np.float32)
    # Each row is NaN throughout or not at all.
    has_vector = ~np.isnan(vectors[:, 0])
    known = np.nan_to_num(vectors)
    others = taken[~np.isnan(taken[:, 0])]
    for start in range(0, len(others), ROWS_PER_BLOCK):
        nearest = np.maximum(nearest, (known @ others[start : start + ROWS_PER_BLOCK].T).max(axis=1))
    # Above every cosine, so that they are reached last; and above these what is chosen already.
    nearest[~has_vector] = 2
    chosen = np.empty(min(records, len(vectors)), np.int64)
    for turn in range(chosen.size):
        place = chosen[turn] = int(np.argmin(nearest))
        nearest = np.maximum(nearest, known @ known[place])
        nearest[place] = 3
    return chosen


def margin_share() -> pl.Expr:
    """Share of the pairs of the same source with no larger margin, above 0 and at most 1; ties have their mean."""
    return pl.col("margin").rank("average").over("source") / pl.col("margin").count().over("source")


def suspicion_score() -> pl.Expr:
    """Suspicion of each pair, over a frame of all pairs: `source`, `margin`, `flags` and `is_disputed`.

    Minus the logarithm of `margin_share`, plus the weights of its flags: were the logarithms of likelihood ratios
    known, they would be added like this. A negative margin, where the scorer finds the rejected response better, is a
    small one.
    """
    of_flags = pl.col("flags").list.eval(pl.element().cast(pl.String).replace_strict(WEIGHTS, return_dtype=pl.Float64))
    of_margin = -margin_share().fill_null(UNKNOWN).log()
    return of_margin + of_flags.list.sum() + DISPUTED * pl.col("is_disputed").cast(pl.Float64)
