"""Inverted lists: each row stands in the list of its nearest center, and looks for neighbors in a few lists.

A list is multiplied at once with all rows that look into it, which is many times as fast as a search row by row. How
many lists a row must look into is measured: for a sample of rows all neighbors are found by exact products, and a
neighbor counts as found when either of the two looks into the other's list.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import NDArray

from curate.screen.arrays import Cosines, Rows
from curate.screen.similar.cosines import SLACK, PCABound, UnitVectors, main_axes, round_cosines

log = logging.getLogger(__name__)

Probes = NDArray[np.int32]

LISTS_PER_ROOT = 4
"""Lists a square root of the rows: finding lists and going through them then take about the same time."""
ROWS_PER_CENTER = 24
"""Rows of the sample for each center."""
ROUNDS = 5
MOST_PROBES = 32
SAMPLE = 1000
"""Rows whose neighbors are all looked for."""
AIMED_AT = 0.95
"""The cosine at which recall must be reached."""
RECALL = 0.995
"""Share of the sample's neighbors to be found: its error is a few thousandths, and 0.99 is wanted."""
OTHER_PROBES = 8
"""Lists that are looked into for the nearest other row."""
BLOCK = 8192


@dataclass(frozen=True)
class Lists:
    """Which lists each row looks into; the first one is its own."""

    probes: Probes
    """(rows, lists looked into), the nearest first."""
    count: int


def make_lists(unit: UnitVectors, order: Rows, axes: PCABound, floor: float) -> Lists:
    """Lists over the rows of `order`, with as many looked into as recall asks for."""
    index = find_centroids(unit, order, axes)
    probes, sample, exact = probe_lists(unit, order, axes, index, floor)
    chosen = enough_probes(probes, sample[exact[0]], exact[1], exact[2], floor)
    return Lists(np.ascontiguousarray(probes[:, :chosen]), index.ntotal)


def find_centroids(unit: UnitVectors, order: Rows, axes: PCABound) -> faiss.Index:
    """The centers of the lists, by k-means over rows spread evenly."""
    count = int(LISTS_PER_ROOT * len(order) ** 0.5)
    rows = order[:: max(1, len(order) // (ROWS_PER_CENTER * count))]
    sample = axes.bound(unit.rows(rows)).numpy()
    means = faiss.Kmeans(
        sample.shape[1],
        count,
        niter=ROUNDS,
        spherical=True,
        seed=30,
        min_points_per_centroid=1,
        max_points_per_centroid=10 * ROWS_PER_CENTER,
    )
    means.train(np.ascontiguousarray(sample))
    return means.index


def probe_lists(
    unit: UnitVectors, order: Rows, axes: PCABound, index: faiss.Index, floor: float
) -> tuple[Probes, Rows, tuple[Rows, Rows, Cosines]]:
    """The nearest lists of each row, and the neighbors of a sample: places of sampled row and neighbor, cosine."""
    sample = np.arange(0, len(order), max(1, len(order) // SAMPLE))
    bounds = axes.bound(unit.rows(order[sample]))
    probes = np.empty((len(order), min(MOST_PROBES, index.ntotal)), dtype=np.int32)
    found = []
    for start in range(0, len(order), BLOCK):
        rows = axes.bound(unit.rows(order[start : start + BLOCK]))
        probes[start : start + BLOCK] = index.search(rows.numpy(), probes.shape[1])[1]
        places, columns = np.nonzero((bounds @ rows.T >= floor - SLACK).numpy())
        columns = columns + start
        cosines = round_cosines(unit.cosines(order[sample[places]], order[columns]))
        reaches = (cosines >= np.float32(floor)) & (sample[places] != columns)
        found.append((places[reaches], columns[reaches], cosines[reaches]))
    all_places, all_columns, all_cosines = zip(*found, strict=True)
    return probes, sample, (np.concatenate(all_places), np.concatenate(all_columns), np.concatenate(all_cosines))


def enough_probes(probes: Probes, left: Rows, right: Rows, cosines: Cosines, floor: float) -> int:
    """The smallest number of lists that finds `RECALL` of the sample's neighbors at `AIMED_AT`."""
    looks = (probes[left] == probes[right, :1]) | (probes[right] == probes[left, :1])
    recalls = {}
    for level in sorted({floor, max(floor, 0.9), max(floor, AIMED_AT)}):
        at_level = looks[cosines >= np.float32(level)]
        recalls[level] = (
            np.cumsum(at_level, axis=1).clip(max=1).mean(axis=0) if len(at_level) else np.ones(looks.shape[1])
        )
    reached = np.min([recall for level, recall in recalls.items() if level >= min(0.9, AIMED_AT)], axis=0) >= RECALL
    chosen = int(np.argmax(reached)) + 1 if reached.any() else probes.shape[1]
    log.info(
        "neighbors through %d of %d lists: recall %s in a sample of %d neighbors",
        chosen,
        int(probes.max()) + 1,
        ", ".join(f"{recall[chosen - 1]:.4f} at {level:g}" for level, recall in recalls.items()),
        len(cosines),
    )
    return chosen


def list_members(lists: Lists) -> tuple[Rows, Rows]:
    """The places that look into each list, list after list, and where each list starts."""
    flat = lists.probes.ravel()
    order = np.argsort(flat, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(flat, minlength=lists.count))])
    return order // lists.probes.shape[1], starts


def lookup_lists(queries: UnitVectors, base: UnitVectors, usable: Rows) -> Iterator[tuple[Rows, Rows]]:
    """Queries, and the rows of `base` in the lists nearest to them, a list at a time."""
    axes = main_axes(base, usable)
    index = find_centroids(base, usable, axes)
    own = np.empty(len(usable), dtype=np.int32)
    for start in range(0, len(usable), BLOCK):
        own[start : start + BLOCK] = index.search(axes.bound(base.rows(usable[start : start + BLOCK])).numpy(), 1)[1][
            :, 0
        ]
    probes = np.empty((len(queries.vectors), min(OTHER_PROBES, index.ntotal)), dtype=np.int32)
    for start in range(0, len(probes), BLOCK):
        rows = axes.bound(queries.rows(slice(start, start + BLOCK))).nan_to_num()
        probes[start : start + BLOCK] = index.search(rows.numpy(), probes.shape[1])[1]
    by_list = np.argsort(own, kind="stable")
    firsts = np.concatenate([[0], np.cumsum(np.bincount(own, minlength=index.ntotal))])
    places, starts = list_members(Lists(probes, index.ntotal))
    for number in range(index.ntotal):
        standing = usable[by_list[firsts[number] : firsts[number + 1]]]
        looking = places[starts[number] : starts[number + 1]]
        if not len(standing):
            continue
        for start in range(0, len(looking), BLOCK):
            for begin in range(0, len(standing), BLOCK):
                yield looking[start : start + BLOCK], standing[begin : begin + BLOCK]
