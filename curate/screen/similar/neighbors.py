"""Find similar vectors: exactly where that is fast, through inverted lists of measured recall beyond."""

from collections.abc import Callable
from functools import partial
from itertools import product

import numpy as np
import torch
from torch import Tensor

from curate.screen.arrays import Cosines, Rows, Vectors
from curate.screen.similar.cosines import SLACK, UnitVectors, bound, main_axes, round_cosines
from curate.screen.similar.ivf import Probes, list_members, lookup_lists, make_lists
from curate.screen.similar.neighbor_lists import (
    LIMIT,
    Pairs,
    count_levels,
    fits_list,
    join_pairs,
    settle_lists,
    shorten_lists,
)

EXACT_ROWS = 20_000
"""Rows up to which all products are made: 9.5 CPU seconds at 50,000, where inverted lists take 3.3; equal at 16,000."""
EXACT_PRODUCTS = 400_000_000
"""Queries times rows up to which the nearest one is looked for among all: ten seconds of one core."""
UNLIKE = 0.7
"""Largest cosine of two rows that are unlike."""
BLOCK = 4096
PIECE = 256
CROWDED = 32
"""Hits a row of a block from which the block is gone through in pieces, so that full lists take no more."""


def similar_rows(vectors: Vectors, floor: float, rank: Rows | None = None) -> tuple[Rows, Rows, Cosines]:
    """All pairs of rows, the left one first in order, whose cosine is `floor` or more; cosines to 4 digits.

    `vectors` is (n, dimensions); a row that is zero or not a number is like no other. `rank` is (n,), 0 for the row
    that is kept first; without it that is the first row. Only of a row with more than `neighbor_lists.LIMIT` better
    neighbors some are left out, as described there.
    """
    unit = UnitVectors(vectors)
    usable = unit.usable()
    order = np.argsort(np.arange(len(vectors)) if rank is None else rank, kind="stable")
    order = order[usable[order]]
    if len(order) < 2:
        return join_pairs([])
    levels = count_levels(floor)
    axes = main_axes(unit, np.sort(order))
    first_alike: Callable[[Rows, Rows, float], Pairs]
    if len(order) <= EXACT_ROWS:
        pairs = pairs_within(unit, order, axes, levels)
        first_alike = partial(first_better, unit, order, axes)
    else:
        probes = make_lists(unit, order, axes, floor)
        pairs = shorten_lists(pairs_of_lists(unit, order, probes, axes, levels), len(order), levels)
        first_alike = partial(first_better_of_lists, unit, order, probes)
    better, worse, cosines = settle_lists(pairs, len(order), levels, first_alike)
    one, other = order[better], order[worse]
    return np.minimum(one, other), np.maximum(one, other), cosines


def pairs_within(unit: UnitVectors, order: Rows, axes: Tensor, levels: Cosines) -> Pairs:
    """The pairs of the rows of `order` that are alike, by places in `order`, which ascend from the best."""
    bounds = torch.cat([bound(unit.rows(order[i : i + BLOCK]), axes) for i in range(0, len(order), BLOCK)])
    found: list[Pairs] = []
    for start in range(0, len(order), BLOCK):
        rows = bounds[start : start + BLOCK]
        counts = np.zeros((len(rows), len(levels)), dtype=np.int64)
        needed = torch.full((len(rows), 1), float(levels[0]) - SLACK)
        for first in range(0, start + 1, BLOCK):
            products = rows @ bounds[first : first + BLOCK].T
            hits = hits_of(products, needed, start - first)
            is_crowded = len(hits[0]) > CROWDED * len(rows)
            for begin in range(first, first + products.shape[1], PIECE if is_crowded else BLOCK):
                if is_crowded:
                    hits = hits_of(products[:, begin - first : begin - first + PIECE], needed, start - begin)
                local, column = hits
                if not len(local):
                    continue
                cosines = round_cosines(unit.cosines(order[start + local], order[begin + column]))
                reaches = cosines >= levels[0]
                local, column, cosines = local[reaches], column[reaches], cosines[reaches]
                taken = fits_list(local, cosines, counts, levels)
                found.append((begin + column[taken], start + local[taken], cosines[taken]))
                needed = next_needed(counts, levels)
            if torch.isinf(needed).all():
                break
    return join_pairs(found)


def pairs_of_lists(unit: UnitVectors, order: Rows, probes: Probes, axes: Tensor, levels: Cosines) -> Pairs:
    """The pairs that lie in one list, or of which one looks into the list of the other; some of them twice."""
    own = probes[:, 0]
    found: list[Pairs] = []
    for number, looking in enumerate(list_members(probes)):
        standing = np.flatnonzero(own[looking] == number)
        rows = unit.rows(order[looking])
        hits: list[Pairs] = []
        for start, begin in product(range(0, len(standing), BLOCK), range(0, len(looking), BLOCK)):
            block = standing[start : start + BLOCK]
            products = rows[begin : begin + BLOCK] @ rows[torch.from_numpy(block)].T
            local, column = np.nonzero((products >= float(levels[0]) - SLACK).numpy())
            cosines = round_cosines(products.numpy()[local, column])
            one, other = looking[begin + local], looking[block[column]]
            reaches = (cosines >= levels[0]) & (one != other)
            one, other, cosines = one[reaches], other[reaches], cosines[reaches]
            hits.append((np.minimum(one, other), np.maximum(one, other), cosines))
            if sum(len(hit[0]) for hit in hits) > CROWDED * len(looking):
                # So crowded a list is gone through from its best row on, so that it does not take all its pairs.
                better, worse, cosines = pairs_within(unit, order[looking], axes, levels)
                hits = [(looking[better], looking[worse], cosines)]
                break
        found += hits
    return join_pairs(found)


def first_better(unit: UnitVectors, order: Rows, axes: Tensor, rows: Rows, others: Rows, level: float) -> Pairs:
    """For each of `rows` the first of `others` that comes before it and is alike at `level`; places in `order`."""
    found: list[Pairs] = []
    for start in range(0, len(others), BLOCK):
        block = others[start : start + BLOCK]
        columns = bound(unit.rows(order[block]), axes)
        for begin in range(0, len(rows), BLOCK):
            part = rows[begin : begin + BLOCK]
            products = bound(unit.rows(order[part]), axes) @ columns.T
            mask = (products >= level - SLACK).numpy() & (block[None, :] < part[:, None])
            local, column = np.nonzero(mask)
            cosines = round_cosines(unit.cosines(order[part[local]], order[block[column]]))
            reaches = cosines >= np.float32(level)
            found.append((block[column[reaches]], part[local[reaches]], cosines[reaches]))
        if found:
            better, worse, cosines = join_pairs(found)
            worse, firsts = np.unique(worse, return_index=True)
            found = [(better[firsts], worse, cosines[firsts])]
            rows = np.setdiff1d(rows, worse, assume_unique=True)
    return join_pairs(found)


def first_better_of_lists(
    unit: UnitVectors, order: Rows, probes: Probes, rows: Rows, others: Rows, level: float
) -> Pairs:
    """The same among the rows that `pairs_of_lists` compares."""
    own = probes[:, 0]
    is_row, is_other = np.zeros(len(order), dtype=np.bool_), np.zeros(len(order), dtype=np.bool_)
    is_row[rows], is_other[others] = True, True
    found: list[Pairs] = []
    for number, looking in enumerate(list_members(probes)):
        standing = looking[own[looking] == number]
        for parts, columns in ((looking[is_row[looking]], standing), (standing[is_row[standing]], looking)):
            columns = columns[is_other[columns]]
            if not len(parts) or not len(columns):
                continue
            compared = unit.rows(order[columns]).T
            for begin in range(0, len(parts), BLOCK):
                part = parts[begin : begin + BLOCK]
                products = (unit.rows(order[part]) @ compared).numpy()
                local, column = np.nonzero((products >= level - SLACK) & (columns[None, :] < part[:, None]))
                cosines = round_cosines(products[local, column])
                reaches = cosines >= np.float32(level)
                found.append((columns[column[reaches]], part[local[reaches]], cosines[reaches]))
    better, worse, cosines = join_pairs(found)
    by_worse = np.lexsort((better, worse))
    firsts = by_worse[np.unique(worse[by_worse], return_index=True)[1]]
    return better[firsts], worse[firsts], cosines[firsts]


def nearest_cosines(queries: Vectors, base: Vectors, own: Rows | None = None) -> Cosines:
    """(queries,) the largest cosine of each query to a row of `base`; not a number without a query or a base.

    `own` is (queries,), the row of `base` that belongs to each query: rows whose cosine to it is above `UNLIKE`, and
    itself, are left out then. Not a number where a vector is missing or no row is left. With `own`, and more than
    `EXACT_PRODUCTS` products, only the lists nearest to the query are looked into.
    """
    ones, others = UnitVectors(queries), UnitVectors(base)
    usable = np.flatnonzero(others.usable())
    best = torch.full((len(queries),), -torch.inf)
    if own is None or len(usable) * len(queries) <= EXACT_PRODUCTS:
        for start in range(0, len(usable), BLOCK):
            columns = others.rows(usable[start : start + BLOCK]).T
            for begin in range(0, len(queries), BLOCK):
                block = np.arange(begin, min(begin + BLOCK, len(queries)))
                raise_best(best, ones, others, own, block, columns)
    else:
        for block, standing in lookup_lists(ones, others, usable):
            raise_best(best, ones, others, own, block, others.rows(standing).T)
    found = best.numpy()
    return np.where(np.isfinite(found), found, np.float32("nan"))


def raise_best(
    best: Tensor, ones: UnitVectors, others: UnitVectors, own: Rows | None, block: Rows, columns: Tensor
) -> None:
    """Raise `best` of the queries of `block` by the columns that are unlike the query's own row, if it has one."""
    products = ones.rows(block) @ columns
    if own is not None:
        # An own row without a vector is like nothing, so that nothing can be told about its query.
        to_own = others.rows(own[block]) @ columns
        products[~(to_own <= UNLIKE)] = -torch.inf
    places = torch.from_numpy(block)
    best[places] = torch.maximum(best[places], products.amax(dim=1))


def hits_of(products: Tensor, needed: Tensor, diagonal: int) -> tuple[Rows, Rows]:
    """Row and column of each product that is large enough, of columns before the row's own place."""
    mask = products >= needed
    if diagonal < products.shape[1]:
        mask = mask.tril_(diagonal - 1)
    rows, columns = np.nonzero(mask.numpy())
    return rows, columns


def next_needed(counts: Rows, levels: Cosines) -> Tensor:
    """(rows, 1) the smallest cosine that the list of each row still takes; infinite where it is full at all levels."""
    is_open = counts < LIMIT
    first = np.where(is_open.any(axis=1), levels[np.argmax(is_open, axis=1)] - SLACK, np.inf)
    return torch.from_numpy(first.astype(np.float32))[:, None]
