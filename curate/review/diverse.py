"""Pairs that are unlike each other, from which most is learned."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.review.suspicion import margin_share

SMALL_SHARE = 0.5
POOL_FACTOR = 10
POOL_MOST = 5_000
"""Prompts that may have to be embedded."""
ROWS_PER_BLOCK = 1024


def has_small_margin() -> pl.Expr:
    """Whether the margin is in the lower half of its source, over a frame of all pairs; true without one."""
    return (margin_share() <= SMALL_SHARE).fill_null(True)


def pool(rows: pl.DataFrame, records: int) -> pl.DataFrame:
    """The pairs to choose `records` among: some by chance of those of small margin, others where these run out.

    `rows` has `is_small` and `number`, a random number, whose order the pool has.
    """
    small = int(rows["is_small"].sum())
    most = max(records, min(POOL_FACTOR * records, POOL_MOST, small))
    return rows.sort(~pl.col("is_small"), "number").head(most)


def spread_over_groups(rows: pl.DataFrame, records: int) -> pl.DataFrame:
    """The first pair of every prompt group, then the second ones, as far as `records` reach; in the order of rows."""
    return rows.with_columns(turn=pl.int_range(pl.len()).over("group")).sort("turn", maintain_order=True).head(records)


def farthest_first(vectors: NDArray[np.float32], taken: NDArray[np.float32], records: int) -> NDArray[np.int64]:
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
