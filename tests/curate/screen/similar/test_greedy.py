import time

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from curate.screen.arrays import Rows
from curate.screen.similar.greedy import Edges, Mask, kept_rows


def edges(*pairs: tuple[int, int]) -> Edges:
    left, right = zip(*pairs, strict=True) if pairs else ((), ())
    return np.array(left, dtype=np.int64), np.array(right, dtype=np.int64)


def kept_by_plain_loop(rank: Rows, class_of: Rows, joined: Edges, keep: int) -> Mask:
    kept = np.zeros(len(rank), dtype=np.bool_)
    both = set(zip(*(end.tolist() for end in joined), strict=True))
    for row in np.argsort(rank):
        alike = [
            class_of[other] == class_of[row]
            or (class_of[other], class_of[row]) in both
            or (class_of[row], class_of[other]) in both
            for other in np.flatnonzero(kept)
        ]
        kept[row] = sum(alike) < keep
    return kept


@st.composite
def crowds(draw: st.DrawFn) -> tuple[Rows, Rows, Edges, int]:
    count = draw(st.integers(0, 20))
    rank = np.array(draw(st.permutations(range(count))), dtype=np.int64)
    class_of = np.array(draw(st.lists(st.integers(0, 9), min_size=count, max_size=count)), dtype=np.int64)
    ends = st.tuples(st.integers(0, 11), st.integers(0, 11)).filter(lambda pair: pair[0] != pair[1])
    return rank, class_of, edges(*draw(st.lists(ends, max_size=25))), draw(st.integers(1, 3))


def test_no_rows_keep_nothing() -> None:
    none = np.zeros(0, dtype=np.int64)

    assert kept_rows(none, none, edges(), 1).tolist() == []


def test_rows_alike_to_none_all_stay() -> None:
    rows = np.arange(3)

    assert kept_rows(rows, rows, edges(), 1).all()


def test_the_end_of_a_chain_stays_because_the_middle_fell() -> None:
    rows = np.arange(3)

    kept = kept_rows(rows, rows, edges((0, 1), (1, 2)), 1)

    assert kept.tolist() == [True, False, True]


def test_the_best_by_rank_stays_wherever_it_stands() -> None:
    kept = kept_rows(np.array([2, 0, 1]), np.array([0, 1, 2]), edges((0, 1), (1, 2)), 1)

    assert kept.tolist() == [False, True, False]


def test_as_many_of_a_class_stay_as_are_asked_for() -> None:
    kept = kept_rows(np.array([3, 1, 0, 2]), np.zeros(4, dtype=np.int64), edges(), 2)

    assert kept.tolist() == [False, True, True, False]


def test_an_edge_given_twice_counts_once() -> None:
    rows = np.arange(3)

    # Row 2 is alike to row 0 only, so that a second one may stay.
    kept = kept_rows(rows, rows, edges((0, 2), (2, 0), (0, 2)), 2)

    assert kept.tolist() == [True, True, True]


def test_classes_without_rows_join_nothing() -> None:
    kept = kept_rows(np.arange(2), np.array([0, 2]), edges((0, 1), (1, 2), (2, 7)), 1)

    assert kept.all()


@given(crowds())
def test_rounds_keep_what_a_plain_loop_keeps(crowd: tuple[Rows, Rows, Edges, int]) -> None:
    assert kept_rows(*crowd).tolist() == kept_by_plain_loop(*crowd).tolist()


def test_a_long_chain_in_order_takes_no_round_a_row() -> None:
    rows = np.arange(200_000)

    began = time.process_time()
    kept = kept_rows(rows, rows, (rows[:-1], rows[1:]), 1)

    assert kept.tolist() == [row % 2 == 0 for row in range(200_000)]
    # A round a row would be 100,000 rounds of a millisecond.
    assert time.process_time() - began < 20


def test_a_million_equal_rows_keep_one() -> None:
    count = 1_000_000

    kept = kept_rows(np.arange(count)[::-1].copy(), np.zeros(count, dtype=np.int64), edges(), 1)

    assert np.flatnonzero(kept).tolist() == [count - 1]
