import logging
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from curate.screen.similar import neighbor_lists
from curate.screen.similar.cosines import UnitVectors, main_axes
from curate.screen.similar.greedy import kept_rows
from curate.screen.similar.ivf import make_lists
from curate.screen.similar.neighbors import nearest_cosines, pairs_of_lists, similar_rows

Floats = NDArray[np.float32]


def unit(rows: NDArray[Any]) -> Floats:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / lengths, dtype=np.float32)


def clustered(rows: int, clusters: int, spread: float, seed: int = 0, dimensions: int = 80) -> Floats:
    """Vectors around a few centers; `spread` is the length of what is added to a center of length 1."""
    rng = np.random.default_rng(seed)
    centers = unit(rng.standard_normal((clusters, dimensions)))
    noise = rng.standard_normal((rows, dimensions)) / dimensions**0.5 * spread
    return unit(centers[rng.integers(0, clusters, rows)] + noise)


def all_pairs(vectors: Floats, floor: float) -> set[tuple[int, int]]:
    cosines = np.round(vectors.astype(np.float64) @ vectors.astype(np.float64).T, 4)
    return set(zip(*(end.tolist() for end in np.nonzero(np.triu(cosines, 1) >= floor - 1e-9)), strict=True))


def pairs_of(found: tuple[NDArray[np.int64], NDArray[np.int64], Floats]) -> set[tuple[int, int]]:
    return set(zip(found[0].tolist(), found[1].tolist(), strict=True))


@pytest.mark.parametrize("rows", [0, 1])
def test_too_few_rows_have_no_neighbors(rows: int) -> None:
    left, right, cosine = similar_rows(np.ones((rows, 8), dtype=np.float16), 0.9)

    assert left.tolist() == right.tolist() == cosine.tolist() == []


def test_rows_without_a_vector_match_nothing() -> None:
    vectors = np.ones((6, 8), dtype=np.float16)
    vectors[1], vectors[3, 2], vectors[4, 0] = 0, np.nan, np.inf

    assert pairs_of(similar_rows(vectors, 0.9)) == {(0, 2), (0, 5), (2, 5)}


def test_a_cosine_on_the_floor_is_found() -> None:
    # 0.6 of one axis and 0.8 of another: a cosine of 0.8 to the latter.
    vectors = np.array([[0, 1], [0.6, 0.8]], dtype=np.float32)

    left, right, cosine = similar_rows(vectors, 0.8)

    assert (left.tolist(), right.tolist(), cosine.tolist()) == ([0], [1], [np.float32(0.8)])


def test_vectors_of_another_length_are_compared_by_direction() -> None:
    vectors = np.array([[3, 0], [0.5, 0]], dtype=np.float16)

    assert similar_rows(vectors, 0.99)[2].tolist() == [1.0]


@pytest.mark.parametrize("dimensions", [3, 64, 65, 200])
def test_all_neighbors_are_found_where_no_row_has_many(dimensions: int) -> None:
    vectors = clustered(600, 200, 0.4, dimensions=dimensions)
    # In three dimensions everything is near something.
    floor = 0.999 if dimensions == 3 else 0.85

    found = similar_rows(vectors, floor)

    assert pairs_of(found) == all_pairs(vectors, floor)
    assert np.all(found[0] < found[1])


def test_every_row_has_all_of_its_first_better_neighbors() -> None:
    vectors = clustered(300, 2, 0.2)

    left, right, _ = similar_rows(vectors, 0.9)

    better = np.bincount([pair[1] for pair in all_pairs(vectors, 0.9)], minlength=300)
    assert np.all(np.bincount(right, minlength=300) >= np.minimum(better, neighbor_lists.LIMIT))
    assert len(left) <= 300 * (neighbor_lists.LIMIT * neighbor_lists.LEVELS + 1)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 1000),
    clusters=st.integers(1, 6),
    spread=st.floats(0.1, 0.8),
    level=st.integers(0, neighbor_lists.LEVELS - 1),
)
def test_short_lists_keep_the_rows_that_all_edges_keep(seed: int, clusters: int, spread: float, level: int) -> None:
    vectors = clustered(400, clusters, spread, seed, dimensions=12)
    rank = np.random.default_rng(seed).permutation(400)
    threshold = neighbor_lists.count_levels(0.8)[level]

    left, right, cosine = similar_rows(vectors, 0.8, rank)

    every = np.arange(400)
    exact = np.array(sorted(all_pairs(vectors, round(float(threshold), 4))), dtype=np.int64).reshape(-1, 2).T
    here = cosine >= threshold
    listed = kept_rows(rank, every, (left[here], right[here]), 1)
    assert listed.tolist() == kept_rows(rank, every, (exact[0], exact[1]), 1).tolist()


def test_a_crowd_of_look_alikes_takes_few_edges_and_keeps_one() -> None:
    vectors = np.repeat(clustered(1, 1, 0.0), 20_000, axis=0).astype(np.float16)

    left, right, _ = similar_rows(vectors, 0.9)

    assert len(left) <= 20_000 * neighbor_lists.LIMIT
    every = np.arange(20_000)
    assert kept_rows(every, every, (left, right), 1).sum() == 1


def test_inverted_lists_find_what_the_sample_promises(caplog: pytest.LogCaptureFixture) -> None:
    vectors = clustered(6000, 1500, 0.35)
    one = UnitVectors(vectors)
    order = np.arange(6000)
    axes = main_axes(one, order)

    with caplog.at_level(logging.INFO):
        lists = make_lists(one, order, axes, 0.85)
    better, worse, _ = pairs_of_lists(one, order, lists, axes, neighbor_lists.count_levels(0.85))

    exact = all_pairs(vectors, 0.85)
    found = set(zip(better.tolist(), worse.tolist(), strict=True))
    assert found <= exact
    assert len(found) >= 0.98 * len(exact)
    assert "recall" in caplog.text


def test_a_crowd_in_one_list_takes_few_edges() -> None:
    vectors = np.concatenate([clustered(3000, 3000, 0.1), np.repeat(clustered(1, 1, 0, seed=9), 2000, axis=0)])
    one = UnitVectors(vectors)
    order = np.arange(5000)
    axes = main_axes(one, order)

    better, worse, _ = pairs_of_lists(
        one, order, make_lists(one, order, axes, 0.9), axes, neighbor_lists.count_levels(0.9)
    )

    assert len(better) < 5000 * neighbor_lists.LIMIT * neighbor_lists.LEVELS
    assert 3000 in better[worse == 4999]


def test_the_nearest_row_is_the_largest_cosine() -> None:
    base = np.eye(3, dtype=np.float16)
    queries = np.array([[0.8, 0.6, 0], [0, 0, -1], [np.nan, 0, 0]], dtype=np.float16)

    found = nearest_cosines(queries, base)

    np.testing.assert_allclose(found, [0.8, 0.0, np.nan], atol=1e-3)


def test_nothing_is_near_without_a_base() -> None:
    assert np.isnan(nearest_cosines(np.eye(2, dtype=np.float16), np.zeros((0, 2), dtype=np.float16))).all()


def test_rows_like_the_own_one_are_no_other() -> None:
    # Row 1 is 0.8 to row 0, above the limit of 0.7, and row 2 is unlike both.
    base = np.array([[1, 0, 0], [0.8, 0.6, 0], [0, 0, 1]], dtype=np.float32)
    queries = np.array([[0.96, 0.28, 0]], dtype=np.float32)

    assert nearest_cosines(queries, base, np.array([0])).tolist() == pytest.approx([0.0], abs=1e-6)
    assert nearest_cosines(queries, base, np.array([2])).tolist() == pytest.approx([0.96], abs=1e-3)


def test_without_another_row_nothing_is_told() -> None:
    one = np.ones((1, 4), dtype=np.float32)

    assert np.isnan(nearest_cosines(one, one, np.array([0]))).all()
    assert np.isnan(nearest_cosines(one, np.stack([np.full(4, np.nan), one[0]]), np.array([0]))).all()


def test_the_nearest_other_row_through_lists_is_nearly_as_near_as_that_of_all() -> None:
    base, own = clustered(21_000, 4000, 0.5, dimensions=32), np.arange(20_500)
    queries = unit(base[:20_500] + 0.02)

    found = nearest_cosines(queries, base, own)

    some = slice(0, 300)
    exact = nearest_cosines(queries[some], base, own[some])
    assert np.all(found[some] <= exact + 1e-5)
    # Thresholds on it are steps of 0.1.
    assert np.mean(exact - found[some]) < 0.03
