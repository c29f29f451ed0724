"""Texts as hashed words end to end: what every rule about wording counts in."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Starts = NDArray[np.int64]

UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
"""Scripts that put no blanks between words: there a sign counts as a word."""
WORD = rf"[{UNSPACED}]|[\w--[{UNSPACED}]]+"
CHANGEABLE = r"[^\x00-\x7f\u00c0-\u00ff\u2013\u2014\u2018\u2019\u201c\u201d\u2022]"
"""What NFKC may change: all but ASCII, the letters of Latin-1, dashes and quotation marks, which most texts are."""
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Hashed:
    """Words or n-grams of texts: those of text i are `hashes[starts[i] : starts[i + 1]]`.

    Hashes compare within one process; they are not kept.
    """

    hashes: Hashes
    starts: Starts
    """(texts + 1,)."""

    @property
    def counts(self) -> Starts:
        """Words or n-grams of each text."""
        return np.diff(self.starts)

    def owners(self) -> Starts:
        """The text of each hash."""
        return np.repeat(np.arange(len(self.starts) - 1), self.counts)

    def ngrams(self, n: int) -> "Hashed":
        """All runs of `n` words within a text; a text with fewer words has none."""
        counts = np.maximum(self.counts - (n - 1), 0)
        starts = np.concatenate([[0], np.cumsum(counts)])
        if not starts[-1]:
            return Hashed(np.zeros(0, dtype=np.uint64), starts)
        rolled = np.zeros(len(self.hashes) - n + 1, dtype=np.uint64)
        for place in range(n):
            rolled = rolled * MULTIPLIER + self.hashes[place : len(self.hashes) - n + 1 + place]
        # The last n - 1 words of a text begin no run of its own.
        within = np.arange(starts[-1]) + np.repeat(self.starts[:-1] - starts[:-1], counts)
        return Hashed(rolled[within], starts)


def levelled(texts: pl.Series) -> pl.Series:
    """The texts in lower case and compatible form (NFKC)."""
    others = texts.str.contains(CHANGEABLE).fill_null(False).arg_true()
    if not others.is_empty():
        # A series is changed in place, and the texts of the caller must stay as they are.
        texts = texts.clone().scatter(others, texts.gather(others).str.normalize("NFKC"))
    return texts.str.to_lowercase()


def hashed_words(texts: pl.Series) -> Hashed:
    """The words of each text: letters, digits and `_`, in lower case and compatible form (NFKC). Null has none."""
    return hashed_levelled(levelled(texts))


def hashed_levelled(texts: pl.Series) -> Hashed:
    """The words of texts that are levelled already."""
    words = texts.str.extract_all(WORD)
    counts = words.list.len().fill_null(0).to_numpy().astype(np.int64)
    starts = np.concatenate([[0], np.cumsum(counts)])
    # An empty list explodes to a null.
    return Hashed(words.explode().drop_nulls().hash(seed=0).to_numpy(), starts)
