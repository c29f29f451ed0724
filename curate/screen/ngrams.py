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


def level_forms(texts: pl.Series) -> pl.Series:
    """The texts in compatible form; what is plain ASCII, most of it, is that already."""
    others = (texts.str.len_bytes() != texts.str.len_chars()).arg_true()
    return texts.scatter(others, texts.gather(others).str.normalize("NFKC")) if others.len() else texts


def hashed_words(texts: pl.Series) -> Hashed:
    """The words of each text: letters, digits and `_`, in lower case and compatible form (NFKC). Null has none."""
    words = level_forms(texts).str.to_lowercase().str.extract_all(WORD)
    counts = words.list.len().fill_null(0).to_numpy().astype(np.int64)
    starts = np.concatenate([[0], np.cumsum(counts)])
    # An empty list explodes to a null.
    return Hashed(words.explode().drop_nulls().hash(seed=0).to_numpy(), starts)
