"""Words and n-grams of texts as hashes, for every rule about wording."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.screen.arrays import Rows
from curate.screen.text.words import UNSPACED

Hashes = NDArray[np.unsignedinteger[Any]]

WORD = rf"[\w&&[{UNSPACED}]]|[\w--[{UNSPACED}]]+"
"""One sign of a script without blanks, else letters, digits and `_`."""
CHANGEABLE = r"[^\x00-\x7f\u00c0-\u00ff\u2013\u2014\u2018\u2019\u201c\u201d\u2022]"
"""What NFKC may change: all but ASCII, the letters of Latin-1, dashes and quotation marks, which most texts are."""
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class HashedWords:
    """Words or n-grams of texts: those of text i are `hashes[starts[i] : starts[i + 1]]`.

    Hashes compare within one process; they are not kept. Of 32 bits they are the first half, which takes half the room.
    """

    hashes: Hashes
    starts: Rows
    """(texts + 1,)."""

    @property
    def counts(self) -> Rows:
        return np.diff(self.starts)

    def owners(self) -> Rows:
        """The text of each hash."""
        return np.repeat(np.arange(len(self.starts) - 1), self.counts)

    def ngrams(self, n: int) -> "HashedWords":
        """All runs of `n` words within a text; a text with fewer words has none."""
        counts = np.maximum(self.counts - (n - 1), 0)
        starts = offsets(counts)
        if not starts[-1]:
            return HashedWords(np.zeros(0, dtype=np.uint64), starts)
        rolled = np.zeros(len(self.hashes) - n + 1, dtype=np.uint64)
        for place in range(n):
            rolled = rolled * MULTIPLIER + self.hashes[place : len(self.hashes) - n + 1 + place]
        # The last n - 1 words of a text begin no run of its own.
        within = np.arange(starts[-1]) + np.repeat(self.starts[:-1] - starts[:-1], counts)
        return HashedWords(rolled[within], starts)

    def take(self, rows: Rows) -> "HashedWords":
        """The texts at `rows`, in that order."""
        counts = self.counts[rows]
        starts = offsets(counts)
        return HashedWords(
            self.hashes[np.arange(starts[-1]) + np.repeat(self.starts[rows] - starts[:-1], counts)], starts
        )

    def halves(self) -> "HashedWords":
        """The same with hashes of 32 bits."""
        return HashedWords((self.hashes >> np.uint64(32)).astype(np.uint32), self.starts)

    def distinct(self) -> "HashedWords":
        """Each hash of a text once, in order."""
        keys = np.sort(self.keys)
        is_first = np.ones(len(keys), dtype=np.bool_)
        is_first[1:] = keys[1:] != keys[:-1]
        keys = keys[is_first]
        hashes = (keys << self._text_bits) >> np.uint64(64 - 8 * self.hashes.itemsize)
        return HashedWords(hashes.astype(self.hashes.dtype), offsets(self._count(keys)))

    def shared(self, other: "HashedWords") -> Rows:
        """(texts,) hashes that stand in the text of the same row of both, which are distinct."""
        keys = np.concatenate([self.keys, other.keys])
        # This kind of sorting merges what is in order already.
        keys.sort(kind="stable")
        return self._count(keys[1:][keys[1:] == keys[:-1]])

    @cached_property
    def keys(self) -> Hashes:
        """The text of each hash in the first bits, and what there is room for of the hash in the others."""
        hashes = self.hashes.astype(np.uint64) << np.uint64(64 - 8 * self.hashes.itemsize)
        return (self.owners().astype(np.uint64) << (np.uint64(64) - self._text_bits)) | (hashes >> self._text_bits)

    def _count(self, keys: Hashes) -> Rows:
        return np.bincount((keys >> (np.uint64(64) - self._text_bits)).astype(np.int64), minlength=len(self.starts) - 1)

    @property
    def _text_bits(self) -> np.uint64:
        return np.uint64(max(len(self.starts) - 1, 2).bit_length())


def offsets(counts: Rows) -> Rows:
    """(counts + 1,) where each of so many starts, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(counts)])


def join_texts(parts: Sequence[HashedWords]) -> HashedWords:
    """The texts of several, one after the other."""
    return HashedWords(
        np.concatenate([part.hashes for part in parts]), offsets(np.concatenate([part.counts for part in parts]))
    )


def normalize_texts(texts: pl.Series) -> pl.Series:
    """The texts in lower case and compatible form (NFKC)."""
    others = texts.str.contains(CHANGEABLE).fill_null(False).arg_true()
    if not others.is_empty():
        # A series is changed in place, and the texts of the caller must stay as they are.
        texts = texts.clone().scatter(others, texts.gather(others).str.normalize("NFKC"))
    return texts.str.to_lowercase()


def hash_words(texts: pl.Series) -> HashedWords:
    """The words of each text: letters, digits and `_`, in lower case and compatible form (NFKC). Null has none."""
    return hash_normalized(normalize_texts(texts))


def hash_normalized(texts: pl.Series) -> HashedWords:
    """The words of texts that are normalized already."""
    words = texts.str.extract_all(WORD)
    counts = words.list.len().fill_null(0).to_numpy().astype(np.int64)
    # An empty list explodes to a null.
    return HashedWords(words.explode().drop_nulls().hash(seed=0).to_numpy(), offsets(counts))
