"""Shared and repeated runs of words, row by row, and look-ups of a list of words."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.screen.text.ngrams import HashedWords, Hashes, hash_normalized, hash_words, normalize_texts

Counts = NDArray[np.int64]
Mask = NDArray[np.bool_]

RUN = 4
"""Words of a run. Runs of three come again in good lists and tables, runs of five miss loops of one phrase."""
PLACES = np.uint64(0xFFFF)


@dataclass(frozen=True)
class WordRuns:
    """The distinct runs of words (or signs) of each text."""

    keys: Hashes
    """Sorted: the text in the first bits, the hash of a run in the others."""
    texts: int
    totals: Counts
    """(texts,) runs of each text, repeated ones included."""

    @cached_property
    def counts(self) -> Counts:
        """(texts,) distinct runs of each text."""
        return self._count(self.keys)

    @property
    def repeated(self) -> NDArray[np.float64]:
        """(texts,) share of the runs that repeat an earlier one."""
        shares: NDArray[np.float64] = np.where(self.totals == 0, 0, 1 - self.counts / np.maximum(self.totals, 1))
        return shares

    def shared(self, other: "WordRuns") -> Counts:
        """(texts,) distinct runs that stand in the text of the same row of both."""
        if not len(other.keys):
            return np.zeros(self.texts, dtype=np.int64)
        places = np.minimum(np.searchsorted(other.keys, self.keys), len(other.keys) - 1)
        return self._count(self.keys[other.keys[places] == self.keys])

    def _count(self, keys: Hashes) -> Counts:
        return np.bincount((keys >> text_shift(self.texts)).astype(np.int64), minlength=self.texts)


def distinct_runs(words: HashedWords, n: int) -> WordRuns:
    """The runs of `n` words of each text."""
    grams, texts = words.ngrams(n), len(words.counts)
    shift = text_shift(texts)
    keys = (grams.owners().astype(np.uint64) << shift) | (grams.hashes >> (np.uint64(64) - shift))
    keys.sort()
    is_first = np.ones(len(keys), dtype=np.bool_)
    is_first[1:] = keys[1:] != keys[:-1]
    return WordRuns(keys[is_first], texts, grams.counts)


def text_shift(texts: int) -> np.uint64:
    """Bits of a key that are left to the hash."""
    return np.uint64(64 - max(texts, 2).bit_length())


@dataclass(frozen=True)
class Wording:
    """A column of texts and their words."""

    texts: pl.Series
    normalized: pl.Series
    """In lower case and compatible form."""
    words: HashedWords

    @cached_property
    def runs(self) -> WordRuns:
        """Their runs of `RUN` words."""
        return distinct_runs(self.words, RUN)


def read_wording(texts: pl.Series) -> Wording:
    """The words of a column of texts, all of them hashed once."""
    level = normalize_texts(texts)
    return Wording(texts, level, hash_normalized(level))


def read_signs(texts: pl.Series) -> HashedWords:
    """The signs of each text, white space left out, in the place of words."""
    bare = texts.fill_null("").str.replace_all(r"\s+", "")
    points = np.frombuffer("".join(bare).encode("utf-32-le"), dtype=np.uint32)
    starts = np.concatenate([[0], np.cumsum(bare.str.len_chars().to_numpy().astype(np.int64))])
    # Spread over all bits, of which a key keeps the first.
    return HashedWords((points.astype(np.uint64) + np.uint64(1)) * np.uint64(0xD6E8FEB86659FD93), starts)


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
