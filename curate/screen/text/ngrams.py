"""Words and n-grams of texts as hashes, for every rule about wording."""

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

Rows = NDArray[np.int64]
KEYS_PER_BLOCK = 8_000_000


@dataclass(frozen=True)
class HashedWords:
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

    def ngrams(self, n: int) -> "HashedWords":
        """All runs of `n` words within a text; a text with fewer words has none."""
        counts = np.maximum(self.counts - (n - 1), 0)
        starts = np.concatenate([[0], np.cumsum(counts)])
        if not starts[-1]:
            return HashedWords(np.zeros(0, dtype=np.uint64), starts)
        rolled = np.zeros(len(self.hashes) - n + 1, dtype=np.uint64)
        for place in range(n):
            rolled = rolled * MULTIPLIER + self.hashes[place : len(self.hashes) - n + 1 + place]
        # The last n - 1 words of a text begin no run of its own.
        within = np.arange(starts[-1]) + np.repeat(self.starts[:-1] - starts[:-1], counts)
        return HashedWords(rolled[within], starts)


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
    starts = np.concatenate([[0], np.cumsum(counts)])
    # An empty list explodes to a null.
    return HashedWords(words.explode().drop_nulls().hash(seed=0).to_numpy(), starts)


@dataclass(frozen=True)
class WordSets:
    """Distinct hashes of each row, in 32 bits: those of row i are `values[starts[i] : starts[i + 1]]`."""

    values: NDArray[np.uint32]
    starts: Rows

    def keys(self, rows: Rows) -> NDArray[np.uint64]:
        """The hashes of `rows` end to end, each with the place of its row among them in the high bits."""
        counts = self.starts[rows + 1] - self.starts[rows]
        ends = np.cumsum(counts)
        places = np.arange(ends[-1]) + np.repeat(self.starts[rows] - ends + counts, counts)
        owners = np.repeat(np.arange(len(rows), dtype=np.uint64), counts)
        return np.asarray((owners << np.uint64(32)) | self.values[places], dtype=np.uint64)

    def jaccard(self, left: Rows, right: Rows) -> NDArray[np.float32]:
        """(pairs,) share of the hashes of either row that both hold; 1 for two empty rows."""
        sizes = np.diff(self.starts)
        total = sizes[left] + sizes[right]
        found = np.ones(len(left), dtype=np.float32)
        cuts = np.searchsorted(np.cumsum(total), np.arange(0, total.sum(), KEYS_PER_BLOCK)[1:])
        for block in np.split(np.arange(len(left)), np.unique(cuts)):
            if len(block):
                keys = np.concatenate([self.keys(left[block]), self.keys(right[block])])
                keys.sort()
                twice = (keys[1:][keys[1:] == keys[:-1]] >> np.uint64(32)).astype(np.int64)
                shared = np.bincount(twice, minlength=len(block))
                found[block] = (shared / np.maximum(total[block] - shared, 1)).astype(np.float32)
        found[total == 0] = 1
        return found


def word_sets(hashed: HashedWords) -> WordSets:
    """The sets of all texts."""
    keys = (hashed.owners().astype(np.uint64) << np.uint64(32)) | (hashed.hashes >> np.uint64(32))
    keys.sort()
    is_first = np.ones(len(keys), dtype=np.bool_)
    is_first[1:] = keys[1:] != keys[:-1]
    keys = keys[is_first]
    counts = np.bincount((keys >> np.uint64(32)).astype(np.int64), minlength=len(hashed.counts))
    return WordSets(keys.astype(np.uint32), np.concatenate([[0], np.cumsum(counts)]))


def stack_sets(parts: list[WordSets]) -> WordSets:
    """The rows of several, one after the other."""
    counts = np.concatenate([np.zeros(0, np.int64), *(np.diff(part.starts) for part in parts)])
    values = np.concatenate([np.zeros(0, np.uint32), *(part.values for part in parts)])
    return WordSets(values, np.concatenate([[0], np.cumsum(counts)]))
