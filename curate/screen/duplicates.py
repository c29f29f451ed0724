"""Pairs that say again what another pair says: the same text, or nearly the same prompt."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
ROWS_PER_BLOCK = 1024


def keep_order(pairs: pl.DataFrame) -> pl.DataFrame:
    """Pairs in the order in which duplicates are kept: larger margin first, no margin last, ties by id."""
    return pairs.sort(["margin", "pair_id"], descending=[True, False], nulls_last=True)


def same_text(pairs: pl.DataFrame) -> dict[str, str]:
    """Pair id -> the kept pair with the same prompt, chosen and rejected text.

    `pairs` has pair_id, text_key and margin; `text_key` is the pair's id without its occurrence number.
    """
    kept = keep_order(pairs).with_columns(first=pl.col("pair_id").first().over("text_key"))
    again = kept.filter(pl.col("pair_id") != pl.col("first"))
    return dict(again.select("pair_id", "first").rows())


def near_prompts(pairs: pl.DataFrame, vectors: Vectors, threshold: float) -> dict[str, tuple[str, float]]:
    """Pair id -> the kept pair whose prompt is at least `threshold` alike, and their cosine.

    Greedy in `keep_order`: a pair falls only to one that is kept itself, so a chain of look-alikes
    never deletes a pair unlike the one that stays. `vectors` is (pairs, dimensions), of length 1, in
    the order of `pairs` (pair_id, margin).
    """
    if pairs.is_empty():
        return {}
    ordered = keep_order(pairs.with_row_index("vector"))
    ids = ordered["pair_id"].to_list()
    rows = np.ascontiguousarray(vectors[ordered["vector"].to_numpy()])
    found: dict[str, tuple[str, float]] = {}
    for start in range(0, len(ids), ROWS_PER_BLOCK):
        cosines = rows[start : start + ROWS_PER_BLOCK] @ rows[: start + ROWS_PER_BLOCK].T
        for below, earlier in np.argwhere(cosines >= threshold).tolist():
            pair_id, nearest = ids[start + below], ids[earlier]
            if earlier < start + below and pair_id not in found and nearest not in found:
                found[pair_id] = (nearest, float(cosines[below, earlier]))
    return found
