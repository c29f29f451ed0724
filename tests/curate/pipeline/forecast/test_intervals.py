import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.pipeline.forecast.intervals import NOTHING, Range, share_range, span_ranges, sum_range


def test_nothing_to_make_takes_nothing():
    assert sum_range([5.0, 6.0], [], most=0) == NOTHING


def test_of_nothing_seen_only_the_most_is_known():
    assert sum_range([], [1.0, 1.0], most=200) == Range(200, 0, 200)


def test_of_one_thing_seen_there_is_no_spread():
    assert sum_range([5.0], [1.0, 1.0], most=200) == Range(10, 0, 200)


def test_the_interval_is_that_of_a_prediction():
    # mean 2, s = 1, three calls to make after three seen: half = 4.3027 * sqrt(3 + 9/3) = 10.539
    found = sum_range([1.0, 2.0, 3.0], [1.0] * 3, most=100)

    assert (found.estimate, found.low) == (pytest.approx(6), 0)
    assert found.high == pytest.approx(6 + 4.302653 * math.sqrt(6))


def test_weights_count_as_so_many_calls_for_the_estimate():
    assert sum_range([2.0, 2.0], [1.5, 2.5], most=100) == Range(8, 8, 8)


def test_the_interval_holds_the_sum_about_19_times_in_20():
    draw = np.random.default_rng(30)
    hits = 0
    for _ in range(1000):
        seen, rest = draw.exponential(5.0, 20), draw.exponential(5.0, 300)
        found = sum_range(seen.tolist(), [1.0] * 300, most=math.inf)
        hits += found.low <= rest.sum() <= found.high

    # Skewed calls: a little below the nominal 0.95 is what t intervals give.
    assert 900 <= hits <= 980


@given(st.lists(st.floats(0, 100), max_size=30), st.lists(st.floats(0, 10), max_size=30), st.floats(0, 1000))
def test_an_estimate_lies_in_its_interval_and_under_the_most(seen, weights, most):
    found = sum_range(seen, weights, most)

    assert 0 <= found.low <= found.estimate + 1e-6
    assert found.estimate <= found.high + 1e-6
    assert found.high <= max(most, 0) + 1e-6 or not weights


@pytest.mark.parametrize(("hits", "rows"), [(0, 5), (5, 5), (3, 5), (0, 1)])
def test_a_share_lies_in_its_interval(hits, rows):
    found = share_range(hits, rows)

    assert 0 <= found.low <= hits / rows <= found.high <= 1
    assert found.high > found.low


def test_three_amounts_of_work_span_from_the_low_end_of_the_least_to_the_high_end_of_the_most():
    assert span_ranges(NOTHING, Range(10, 8, 12), Range(40, 30, 50)) == Range(10, 0, 50)


def test_calls_made_together_weigh_as_many_as_they_are_but_are_one_thing_seen():
    # mean (16 · 1 + 4 · 2) / 20 = 1.2, s² = 2 · (16 · 0.04 + 4 · 0.64) / 20 = 0.32, m = 20² / (16² + 4²) = 1.4706;
    # half = t(1) · sqrt(0.32) · sqrt(10 + 10² / 1.4706) = 12.7062 · 0.565685 · 8.831761
    found = sum_range([1.0, 2.0], [1.0] * 10, most=math.inf, stands_for=[16.0, 4.0])

    assert found.estimate == pytest.approx(12)
    assert found.high == pytest.approx(12 + 12.706205 * 0.565685 * 8.831761, rel=1e-5)
    assert sum_range([1.0], [1.0] * 10, most=math.inf, stands_for=[16.0]) == Range(10, 0, math.inf)
