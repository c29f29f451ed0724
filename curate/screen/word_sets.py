"""The words or n-grams of some rows as sets, and how much of them two rows share."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curate.screen.ngrams import Hashed

Rows = NDArray[np.int64]
KEYS_PER_BLOCK = 8_000_000


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


def word_sets(hashed: Hashed) -> WordSets:
    """The sets of all texts."""
    keys = (hashed.owners().astype(np.uint64) << np.uint64(32)) | (hashed.hashes >> np.uint64(32))
    keys.sort()
    is_first = np.ones(len(keys), dtype=np.bool_)
    is_first[1:] = keys[1:] != keys[:-1]
    keys = keys[is_first]
    counts = np.bincount((keys >> np.uint64(32)).astype(np.int64), minlength=len(hashed.counts))
    return WordSets(keys.astype(np.uint32), np.concatenate([[0], np.cumsum(counts)]))


def stacked(parts: list[WordSets]) -> WordSets:
    """The rows of several, one after the other."""
    counts = np.concatenate([np.zeros(0, np.int64), *(np.diff(part.starts) for part in parts)])
    values = np.concatenate([np.zeros(0, np.uint32), *(part.values for part in parts)])
    return WordSets(values, np.concatenate([[0], np.cumsum(counts)]))
