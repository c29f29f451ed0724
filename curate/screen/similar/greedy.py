"""Greedy choice among near-duplicates: the best rows stay, taken one after the other."""

import numpy as np
import polars as pl

from curate.screen.arrays import Cosines, Mask, Rows
from schemas.tables import Similar

Edges = tuple[Rows, Rows]
"""Ends of each edge; which of the two stands left says nothing."""

KEPT_BY = ("z_margin", "margin", "pair_id")

SLOW_SHARE = 0.01
"""A round that decides less than this share of the rows that are left is followed by a plain loop: a chain of
near-duplicates in order of rank takes as many rounds as it has rows."""


def kept_rows(rank: Rows, class_of: Rows, edges: Edges, keep: int) -> Mask:
    """(rows,) true for the rows that stay when they are taken from the best on.

    A row falls when `keep` better rows that stayed are alike: of its class, or of a class that an edge joins to it.
    So a row falls only to rows that stay, and a chain of near-duplicates never takes a row unlike all of these. `rank`
    is (rows,), distinct, 0 for the best; `class_of` is (rows,), whole numbers from 0; `edges` are between classes,
    and those of classes without a row do nothing.
    """
    kept = np.zeros(len(rank), dtype=np.bool_)
    if not len(rank):
        return kept
    order = np.argsort(rank, kind="stable")
    nodes = order[firsts_of_classes(class_of[order], keep)]
    better, worse = node_edges(class_of[nodes], edges, keep)
    kept[nodes] = kept_nodes(len(nodes), better, worse, keep)
    return kept


def firsts_of_classes(classes: Rows, keep: int) -> Rows:
    """The places of the first `keep` of each class, in order: all after them are sure to fall."""
    by_class = np.argsort(classes, kind="stable")
    is_first = np.ones(len(classes), dtype=np.bool_)
    is_first[keep:] = classes[by_class][keep:] != classes[by_class][:-keep]
    return np.sort(by_class[is_first])


def node_edges(class_of: Rows, edges: Edges, keep: int) -> Edges:
    """Edges between nodes, the better first, from edges between classes and within them."""
    by_class = np.argsort(class_of, kind="stable")
    sizes = np.bincount(class_of)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    left, right = edges
    within = (left < len(sizes)) & (right < len(sizes)) & (left != right)
    left, right = left[within], right[within]
    every = np.arange(len(sizes))
    pairs = [(left, i, right, j) for i in range(keep) for j in range(keep)]
    pairs += [(every, i, every, j) for i in range(keep) for j in range(i + 1, keep)]
    found = []
    for one, i, other, j in pairs:
        there = (sizes[one] > i) & (sizes[other] > j)
        found.append(np.stack([by_class[starts[one[there]] + i], by_class[starts[other[there]] + j]]))
    ends = np.concatenate(found, axis=1)
    better, worse = ends.min(axis=0), ends.max(axis=0)
    if keep > 1:
        # An edge that comes twice would count twice.
        keys = np.unique(better * len(class_of) + worse)
        better, worse = keys // len(class_of), keys % len(class_of)
    return better, worse


def kept_nodes(count: int, better: Rows, worse: Rows, keep: int) -> Mask:
    """(count,) true for the nodes that stay; node 0 is the best.

    In rounds: a node stays as soon as fewer than `keep` better ones stay or are undecided, and falls as soon as
    `keep` better ones stay.
    """
    kept, is_open = np.zeros(count, dtype=np.bool_), np.ones(count, dtype=np.bool_)
    fallen_to = np.zeros(count, dtype=np.int64)
    left = count
    while left:
        waiting = np.bincount(worse, minlength=count)
        stays = is_open & (fallen_to + waiting < keep)
        kept |= stays
        is_open &= ~stays
        from_kept = stays[better]
        fallen_to += np.bincount(worse[from_kept], minlength=count)
        is_open &= fallen_to < keep
        among = is_open[better] & is_open[worse]
        better, worse = better[among], worse[among]
        before, left = left, int(is_open.sum())
        if before - left < SLOW_SHARE * before:
            return keep_one_by_one(kept, is_open, fallen_to, better, worse, keep)
    return kept


def keep_one_by_one(kept: Mask, is_open: Mask, fallen_to: Rows, better: Rows, worse: Rows, keep: int) -> Mask:
    """The same by a loop over the nodes that are still open, in order."""
    order = np.argsort(better, kind="stable")
    nodes = np.flatnonzero(is_open)
    starts = np.searchsorted(better[order], nodes).tolist()
    ends = np.searchsorted(better[order], nodes, side="right").tolist()
    below, counts = worse[order].tolist(), fallen_to.tolist()
    for node, start, end in zip(nodes.tolist(), starts, ends, strict=True):
        if counts[node] < keep:
            kept[node] = True
            for other in below[start:end]:
                counts[other] += 1
    return kept


def keep_order(rows: pl.DataFrame) -> Rows:
    """The place of each pair among all in the order in which near-duplicates are kept, 0 for the first."""
    places = np.empty(rows.height, dtype=np.int64)
    places[best_first(rows.select("row", *KEPT_BY))["row"].to_numpy()] = np.arange(rows.height)
    return places


def best_first(rows: pl.DataFrame) -> pl.DataFrame:
    """Pairs in the order in which near-duplicates are kept: by margin in z, then by margin, none last; ties by id."""
    return rows.sort(KEPT_BY, descending=[True, True, False], nulls_last=True)


def similar_frame(kind: str, left: Rows, right: Rows, similarity: Cosines) -> pl.DataFrame:
    """Rows of `Similar`, in their order; each left row comes before its right one."""
    found = pl.DataFrame({"left": left, "right": right, "similarity": similarity}).with_columns(kind=pl.lit(kind))
    return found.select(Similar.column_names()).pipe(Similar.cast).sort("left", "right")


def round_threshold(threshold: float) -> float:
    """A threshold as similarities are kept, so that one which is equal to it reaches it."""
    return float(np.float32(round(threshold, 4)))
