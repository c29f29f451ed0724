"""Bounded neighbor lists for rows with very many neighbors, which lead to the same kept rows as full lists.

Of a row, the neighbors that are better are what it can fall to. Of these the first `LIMIT` are listed at each of a few
levels of cosine, and all where there are fewer: a thousand near-duplicates then take sixteen thousand edges and not
half a million. A row with a full list could still stay beside a better one that is not in it, because all that are in
it fall to others. `settle_lists` looks for such rows among those that stay and adds the edge that is missing, until
there is none: then the rows that stay are those that would stay with all edges, because each fallen row has an edge to
a better one that stays, no two that stay are alike, and only one set of rows is like that.
"""

from collections.abc import Callable

import numpy as np

from curate.screen.arrays import Cosines, Mask, Rows
from curate.screen.similar.greedy import kept_rows

LIMIT = 16
LEVELS = 4
Pairs = tuple[Rows, Rows, Cosines]
"""Places of the better and the worse row, and their cosine, rounded."""


def count_levels(floor: float) -> Cosines:
    """(LEVELS,) the cosines at which lists are counted: from the floor on in equal steps below 1."""
    return np.round(floor + (1 - floor) * np.arange(LEVELS) / LEVELS, 4).astype(np.float32)


def fits_list(rows: Rows, cosines: Cosines, counts: Rows, levels: Cosines) -> Mask:
    """(hits,) true for the hits that a list takes: at some level it has fewer than `LIMIT` so far.

    `rows` ascend, and the hits of a row are in the order of what they hit, the best first. `counts` is (rows,
    LEVELS), of the hits before, and is raised by these.
    """
    taken = np.zeros(len(rows), dtype=np.bool_)
    starts = np.searchsorted(rows, rows)
    for place, level in enumerate(levels):
        reaches = cosines >= level
        before = np.concatenate([[0], np.cumsum(reaches)])
        taken |= reaches & (counts[rows, place] + before[:-1] - before[starts] < LIMIT)
        counts[:, place] += np.bincount(rows[reaches], minlength=len(counts))
    return taken


def shorten_lists(pairs: Pairs, count: int, levels: Cosines) -> Pairs:
    """The pairs that the lists of `count` rows take; each pair once."""
    better, worse, cosines = pairs
    keys, firsts = np.unique(worse * count + better, return_index=True)
    better, worse, cosines = keys % count, keys // count, cosines[firsts]
    taken = fits_list(worse, cosines, np.zeros((count, len(levels)), dtype=np.int64), levels)
    return better[taken], worse[taken], cosines[taken]


def settle_lists(pairs: Pairs, count: int, levels: Cosines, first_alike: Callable[[Rows, Rows, float], Pairs]) -> Pairs:
    """The pairs and those without which two rows that are alike would stay, at any of the levels.

    `first_alike(rows, others, floor)` finds for each of `rows` the best of `others` that is better and alike. It is
    asked only about rows and others that were not held against each other in the round before.
    """
    every = np.arange(count)
    is_clear, was_kept = np.zeros((2, count), dtype=np.bool_)
    for level in levels:
        while True:
            better, worse, cosines = pairs
            here = cosines >= level
            kept = kept_rows(every, every, (better[here], worse[here]), 1)
            is_full = kept & (np.bincount(worse[here], minlength=count) >= LIMIT)
            asked = (
                (is_full & ~is_clear, kept),
                # What is not alike at one level is not at the next.
                (is_full & is_clear, kept & ~was_kept),
            )
            missing = [
                first_alike(np.flatnonzero(rows), np.flatnonzero(others), float(level))
                for rows, others in asked
                if rows.any() and others.any()
            ]
            found = join_pairs(missing)
            is_clear, was_kept = is_full, kept
            is_clear[found[1]] = False
            if not len(found[0]):
                break
            pairs = join_pairs([pairs, found])
    return pairs


def join_pairs(found: list[Pairs]) -> Pairs:
    if not found:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32)
    better, worse, cosines = zip(*found, strict=True)
    return np.concatenate(better), np.concatenate(worse), np.concatenate(cosines)
