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


def first_of_prompts(pairs: pl.DataFrame) -> pl.DataFrame:
    """The first pair of each prompt, in the order of `pairs`."""
    return pairs.unique("prompt_id", keep="first", maintain_order=True)


def near_prompts(pairs: pl.DataFrame, vectors: Vectors, threshold: float) -> dict[str, tuple[str, float]]:
    """Pair id -> the best pair of the kept prompt that is at least `threshold` alike, and their cosine.

    Greedy over prompts, in `keep_order` of the best pair of each: a prompt falls with all its pairs, and
    only to one that is kept itself, so a chain of look-alikes never deletes a prompt unlike the one that
    stays. Pairs of one prompt are never held against each other. `vectors` is (prompts, dimensions), of
    length 1, in the order of `first_of_prompts(pairs)`; `pairs` has pair_id, prompt_id and margin.
    """
    if pairs.is_empty():
        return {}
    places = first_of_prompts(pairs).select("prompt_id").with_row_index("vector")
    ordered = first_of_prompts(keep_order(pairs)).join(places, on="prompt_id", how="left", maintain_order="left")
    best, prompts = ordered["pair_id"].to_list(), ordered["prompt_id"].to_list()
    rows = np.ascontiguousarray(vectors[ordered["vector"].to_numpy()])
    found: dict[str, tuple[str, float]] = {}
    for start in range(0, len(prompts), ROWS_PER_BLOCK):
        cosines = rows[start : start + ROWS_PER_BLOCK] @ rows[: start + ROWS_PER_BLOCK].T
        for below, earlier in np.argwhere(cosines >= threshold).tolist():
            prompt = prompts[start + below]
            if earlier < start + below and prompt not in found and prompts[earlier] not in found:
                found[prompt] = (best[earlier], float(cosines[below, earlier]))
    return {
        pair_id: found[prompt] for pair_id, prompt in pairs.select("pair_id", "prompt_id").rows() if prompt in found
    }
