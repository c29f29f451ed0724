"""Shared and repeated runs of words, row by row, and look-ups of a list of words."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.screen.arrays import Mask, Rows
from curate.screen.text.ngrams import HashedWords, Hashes, hash_normalized, hash_words, normalize_texts, offsets

RUN = 4
"""Words of a run. Runs of three come again in good lists and tables, runs of five miss loops of one phrase."""
PLACES = np.uint64(0xFFFF)


@dataclass(frozen=True)
class Wording:
    """A column of texts and their words."""

    texts: pl.Series
    normalized: pl.Series
    """In lower case and compatible form."""
    words: HashedWords

    @cached_property
    def runs(self) -> HashedWords:
        """Their distinct runs of `RUN` words."""
        return self.words.ngrams(RUN).distinct()


def read_wording(texts: pl.Series) -> Wording:
    """The words of a column of texts, all of them hashed once."""
    level = normalize_texts(texts)
    return Wording(texts, level, hash_normalized(level))


def read_signs(texts: pl.Series) -> HashedWords:
    """The signs of each text, white space left out, in the place of words."""
    bare = texts.fill_null("").str.replace_all(r"\s+", "")
    points = np.frombuffer("".join(bare).encode("utf-32-le"), dtype=np.uint32)
    starts = offsets(bare.str.len_chars().to_numpy().astype(np.int64))
    # Spread over all bits, of which a key keeps the first.
    return HashedWords((points.astype(np.uint64) + np.uint64(1)) * np.uint64(0xD6E8FEB86659FD93), starts)


def repeated_shares(totals: Rows, distinct: Rows) -> NDArray[np.float64]:
    """(texts,) share of the runs of each text that repeat an earlier one, of how many there are and how many unlike."""
    return np.where(totals == 0, 0, 1 - distinct / np.maximum(totals, 1))


class WordSet:
    """A few words, looked up among many hashes: a table with one place for each."""

    def __init__(self, words: Iterable[str]) -> None:
        hashes = np.unique(hash_words(pl.Series(list(words), dtype=pl.String)).hashes)
        # Words in one place would hide each other, so bits are taken that tell all of them apart.
        self._shift = next(
            shift for shift in map(np.uint64, range(48)) if len(np.unique((hashes >> shift) & PLACES)) == len(hashes)
        )
        self._table = np.zeros(int(PLACES) + 1, dtype=np.uint64)
        self._table[(hashes >> self._shift) & PLACES] = hashes

    def holds(self, hashes: Hashes) -> Mask:
        """True for each hash of one of the words."""
        is_held: Mask = self._table[(hashes >> self._shift) & PLACES] == hashes
        return is_held


def sum_by_text(words: HashedWords, values: Mask | Hashes) -> Hashes:
    """(texts,) the sum of `values`, one a word, over the words of each text, modulo 2^64."""
    running = np.zeros(len(values) + 1, dtype=np.uint64)
    np.cumsum(values, dtype=np.uint64, out=running[1:])
    return running[words.starts[1:]] - running[words.starts[:-1]]
