"""Inverted lists: each row stands in the list of its nearest center, and looks for neighbors in a few lists.

A list is multiplied at once with all rows that look into it, which is many times as fast as a search row by row. How
many lists a row must look into is measured: for a sample of rows all neighbors are found by exact products, and a
neighbor counts as found when either of the two looks into the other's list.
"""

import logging
from collections.abc import Iterator

import faiss
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from curate.screen.arrays import Rows
from curate.screen.similar.cosines import SLACK, UnitVectors, bound, main_axes, round_cosines
from curate.screen.similar.neighbor_lists import Pairs, join_pairs

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


def make_lists(unit: UnitVectors, order: Rows, axes: Tensor, floor: float) -> Probes:
    """(rows, lists) the lists that each row of `order` looks into, as many as recall asks for; the first is its own."""
    probes, sample = probe_lists(unit, order, axes, floor)
    return np.ascontiguousarray(probes[:, : enough_probes(probes, sample, floor)])


def find_centroids(unit: UnitVectors, order: Rows, axes: Tensor) -> faiss.Index:
    """The centers of the lists, by k-means over rows spread evenly."""
    count = int(LISTS_PER_ROOT * len(order) ** 0.5)
    rows = order[:: max(1, len(order) // (ROWS_PER_CENTER * count))]
    sample = bound(unit.rows(rows), axes).numpy()
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


def probe_lists(unit: UnitVectors, order: Rows, axes: Tensor, floor: float) -> tuple[Probes, Pairs]:
    """The nearest lists of each row, the nearest first, and the neighbors of a sample."""
    index = find_centroids(unit, order, axes)
    sample = np.arange(0, len(order), max(1, len(order) // SAMPLE))
    bounds = bound(unit.rows(order[sample]), axes)
    probes = np.empty((len(order), min(MOST_PROBES, index.ntotal)), dtype=np.int32)
    found = []
    for start in range(0, len(order), BLOCK):
        rows = bound(unit.rows(order[start : start + BLOCK]), axes)
        probes[start : start + BLOCK] = index.search(rows.numpy(), probes.shape[1])[1]
        places, columns = np.nonzero((bounds @ rows.T >= floor - SLACK).numpy())
        left, right = sample[places], columns + start
        cosines = round_cosines(unit.cosines(order[left], order[right]))
        reaches = (cosines >= np.float32(floor)) & (left != right)
        found.append((left[reaches], right[reaches], cosines[reaches]))
    return probes, join_pairs(found)


def enough_probes(probes: Probes, sample: Pairs, floor: float) -> int:
    """The smallest number of lists that finds `RECALL` of the sample's neighbors at `AIMED_AT`."""
    left, right, cosines = sample
    looks = (probes[left] == probes[right, :1]) | (probes[right] == probes[left, :1])
    recalls = {}
    for level in sorted({floor, max(floor, 0.9), max(floor, AIMED_AT)}):
        at_level = looks[cosines >= np.float32(level)]
        recalls[level] = (
            np.cumsum(at_level, axis=1).clip(max=1).mean(axis=0) if len(at_level) else np.ones(looks.shape[1])
        )
    reached = np.min([recall for level, recall in recalls.items() if level >= 0.9], axis=0) >= RECALL
    chosen = int(np.argmax(reached)) + 1 if reached.any() else probes.shape[1]
    log.info(
        "neighbors through %d of %d lists: recall %s in a sample of %d neighbors",
        chosen,
        int(probes.max()) + 1,
        ", ".join(f"{recall[chosen - 1]:.4f} at {level:g}" for level, recall in recalls.items()),
        len(cosines),
    )
    return chosen


def list_members(probes: Probes) -> list[Rows]:
    """The places that look into each list."""
    flat = probes.ravel()
    order = np.argsort(flat, kind="stable")
    return np.split(order // probes.shape[1], np.cumsum(np.bincount(flat))[:-1])


def lookup_lists(queries: UnitVectors, base: UnitVectors, usable: Rows) -> Iterator[tuple[Rows, Rows]]:
    """Queries, and the rows of `base` in the lists nearest to them, a list at a time."""
    axes = main_axes(base, usable)
    index = find_centroids(base, usable, axes)
    own = nearest_lists(index, axes, base, usable, 1)
    every = np.arange(len(queries.vectors))
    probes = nearest_lists(index, axes, queries, every, min(OTHER_PROBES, index.ntotal))
    for places, looking in zip(list_members(own), list_members(probes), strict=False):
        standing = usable[places]
        for start in range(0, len(looking), BLOCK):
            for begin in range(0, len(standing), BLOCK):
                yield looking[start : start + BLOCK], standing[begin : begin + BLOCK]


def nearest_lists(index: faiss.Index, axes: Tensor, unit: UnitVectors, rows: Rows, count: int) -> Probes:
    """(rows, count) the lists nearest to each row."""
    found = np.empty((len(rows), count), dtype=np.int32)
    for start in range(0, len(rows), BLOCK):
        block = bound(unit.rows(rows[start : start + BLOCK]), axes).nan_to_num()
        found[start : start + BLOCK] = index.search(block.numpy(), count)[1]
    return found
