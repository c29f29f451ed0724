"""Lexical duplicates: pairs with nearly the wording of another pair, in the prompt and in the chosen response.

Candidates share a band of MinHash values over the 3-grams of prompt and chosen response end to end, and are then
compared exactly. A copy is alike on both sides: two questions about one long passage have unlike answers, and two
answers to one long prompt are unlike, however much of the whole they share.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
import rensa
from numpy.typing import NDArray

from curate.screen.arrays import Mask, Rows
from curate.screen.similar.greedy import KEPT_BY, best_first, similar_frame
from curate.screen.text.ngrams import HashedWords, hash_words, join_texts

log = logging.getLogger(__name__)

GRAM = 3
VALUES = 128
BANDS = 32
"""Of four values each. Of rows that
share 0.8 of their 3-grams 1 in 20 million is missed, of 0.6 1 in 85, of 0.5 1 in 8."""
LEADERS = 16
"""The best rows of a band that the others of the band are compared with: a band of n rows takes at most 16 n pairs."""
ROWS_PER_BLOCK = 8192
PAIRS_PER_BLOCK = 262_144
HASHES_PER_BLOCK = 8_000_000
SEED = 30


@dataclass(frozen=True)
class LexicalConfig:
    """Which copies are looked for."""

    floor: float = 0.5
    """Smallest similarity that is kept."""
    version: int = 1
    """Raised when the same pairs would have other copies."""


Bands = NDArray[np.uint32]
"""(BANDS, rows) one number for the values of each band."""
Values = NDArray[np.uint8]
"""(rows, VALUES) the last 8 bits of each MinHash value."""


def find_lexical_duplicates(pairs: pl.LazyFrame, measured: pl.LazyFrame, cfg: LexicalConfig) -> pl.DataFrame:
    """Rows of `Similar` of kind `text`. Of pairs with equal prompt and chosen response only the first stands in them.

    The similarity is the smallest of three Jaccard indices: of the 3-grams of both texts end to end where that is
    under `floor`, of the words of the prompts, and of those of the chosen responses. Texts without three words have
    no copies but equal ones.
    """
    rows = distinct_rows(measured)
    bands, values, has_grams = sign_texts(pairs, rows)
    left, right = candidate_pairs(bands, values, np.flatnonzero(has_grams), cfg.floor)
    del bands, values
    similarity = similarities(pairs, rows, left, right, cfg.floor)
    enough = similarity >= np.float32(cfg.floor)
    one, other = rows[left[enough]], rows[right[enough]]
    log.debug("%d candidates among %d texts, %d of them copies", len(left), len(rows), len(one))
    return similar_frame("text", np.minimum(one, other), np.maximum(one, other), similarity[enough])


def distinct_rows(measured: pl.LazyFrame) -> Rows:
    """The first row of each distinct prompt and chosen response, in the order in which the best of each is kept."""
    texts = measured.select("chosen_hash", *KEPT_BY).with_row_index("row").collect()
    firsts = texts.group_by("chosen_hash").agg(pl.col("row").min())
    best = best_first(texts).unique("chosen_hash", keep="first", maintain_order=True).select("chosen_hash")
    return best.join(firsts, on="chosen_hash", how="left", maintain_order="left")["row"].to_numpy().astype(np.int64)


def sign_texts(pairs: pl.LazyFrame, rows: Rows) -> tuple[Bands, Values, Mask]:
    """What finds candidates among the texts of `rows`, in that order, and which of them have 3-grams."""
    bands = np.zeros((BANDS, len(rows)), dtype=np.uint32)
    values = np.zeros((len(rows), VALUES), dtype=np.uint8)
    has_grams = np.zeros(len(rows), dtype=np.bool_)
    for places, words in words_at(pairs, rows):
        grams = HashedWords(words.hashes, words.starts[::2]).ngrams(GRAM)
        digests = rensa.RMinHash.digest_matrix_from_flat_token_hashes(
            grams.hashes, grams.starts.astype(np.uint64), num_perm=VALUES, seed=SEED
        )
        block = np.array(digests.to_rows(), dtype=np.uint32).reshape(len(places), VALUES)
        values[places] = block.astype(np.uint8)
        bands[:, places] = band_keys(block).T
        has_grams[places] = grams.counts > 0
    return bands, values, has_grams


def band_keys(values: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """(rows, BANDS) one number for the values of each band."""
    keys = np.zeros((len(values), BANDS), dtype=np.uint64)
    for place in range(VALUES // BANDS):
        keys = keys * np.uint64(0x9E3779B97F4A7C15) + values[:, place :: VALUES // BANDS]
    return ((keys ^ (keys >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9) >> np.uint64(32)).astype(np.uint32)


def words_at(pairs: pl.LazyFrame, rows: Rows) -> Iterator[tuple[Rows, HashedWords]]:
    """Block by block the places in `rows` that lie in it, and the words of the prompt and chosen response of each."""
    by_row = np.argsort(rows)
    ascending = rows[by_row]
    said = pl.col("messages").list.eval(pl.element().struct.field("content")).list.join("\n")
    start = 0
    texts = pairs.select(texts=pl.concat_list(said, "chosen"))
    for block in texts.collect_batches(chunk_size=ROWS_PER_BLOCK, maintain_order=True):
        first, last = np.searchsorted(ascending, [start, start + block.height])
        if first < last:
            here = block["texts"].gather(ascending[first:last] - start)
            yield by_row[first:last], hash_words(here.explode())
        start += block.height


def candidate_pairs(bands: Bands, values: Values, places: Rows, floor: float) -> tuple[Rows, Rows]:
    """Pairs of places, the better first, that share a band and whose values say that they may reach `floor`."""
    count = len(values)
    # The estimate from 128 values is off by 0.044 at 0.5, and of 8 bits 1 in 256 is equal by chance.
    least = int(VALUES * max(floor - 0.13, 0))
    seen = np.zeros(0, dtype=np.int64)
    for band in bands:
        keys = band[places]
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])) if len(keys) else np.zeros(0, np.int64)
        sizes = np.diff(np.append(starts, len(keys)))
        if not (sizes > 1).any():
            continue
        own_start = np.repeat(starts, sizes)
        within = np.arange(len(keys)) - own_start
        found = []
        for leader in range(min(LEADERS, int(sizes.max()) - 1)):
            below = np.flatnonzero(within > leader)
            found.append(places[order[own_start[below] + leader]] * count + places[order[below]])
        fresh = np.setdiff1d(np.unique(np.concatenate(found)), seen, assume_unique=True)
        seen = np.union1d(seen, fresh[may_reach(values, fresh // count, fresh % count, least)])
    return seen // count, seen % count


def may_reach(values: Values, left: Rows, right: Rows, least: int) -> Mask:
    """True for the pairs with at least `least` equal values."""
    found = np.zeros(len(left), dtype=np.bool_)
    for start in range(0, len(left), PAIRS_PER_BLOCK):
        block = slice(start, start + PAIRS_PER_BLOCK)
        found[block] = np.count_nonzero(values[left[block]] == values[right[block]], axis=1) >= least
    return found


def similarities(pairs: pl.LazyFrame, rows: Rows, left: Rows, right: Rows, floor: float) -> NDArray[np.float32]:
    """(pairs,) how alike the texts at these places are, as `find_lexical_duplicates` says; rounded to 4 digits."""
    needed = np.unique(np.concatenate([left, right]))
    found: list[tuple[Rows, HashedWords, HashedWords, HashedWords]] = []
    for places, words in words_at(pairs, rows[needed]):
        grams = HashedWords(words.hashes, words.starts[::2]).ngrams(GRAM)
        sides = words.halves().distinct()
        prompts = np.arange(0, 2 * len(places), 2)
        found.append((places, grams.halves().distinct(), sides.take(prompts), sides.take(prompts + 1)))
    if not found:
        return np.zeros(0, dtype=np.float32)
    at, *sets = zip(*found, strict=True)
    place_of = np.empty(len(needed), dtype=np.int64)
    place_of[np.concatenate(at)] = np.arange(len(needed))
    one, other = place_of[np.searchsorted(needed, left)], place_of[np.searchsorted(needed, right)]
    whole, prompt, chosen = (jaccard(join_texts(parts), one, other) for parts in sets)
    return np.round(np.where(whole < floor, whole, np.minimum(prompt, chosen)), 4).astype(np.float32)


def jaccard(sets: HashedWords, left: Rows, right: Rows) -> NDArray[np.float32]:
    """(pairs,) share of the hashes of either text that both hold; 1 for two empty ones."""
    total = sets.counts[left] + sets.counts[right]
    shared = np.zeros(len(left), dtype=np.int64)
    cuts = np.searchsorted(np.cumsum(total), np.arange(0, total.sum(), HASHES_PER_BLOCK)[1:])
    for block in np.split(np.arange(len(left)), np.unique(cuts)):
        shared[block] = sets.take(left[block]).shared(sets.take(right[block]))
    return np.where(total == 0, 1, shared / np.maximum(total - shared, 1)).astype(np.float32)
