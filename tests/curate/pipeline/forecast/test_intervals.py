import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.pipeline.forecast.intervals import (
    LONG,
    UNSEEN,
    at_least,
    sum_known,
    sum_range,
)
from curate.stats import NOTHING, Range, share_range

T2 = 4.302653
"""The 97.5th percentile of Student's t with two degrees of freedom, of three values."""


def test_nothing_to_make_takes_nothing():
    assert sum_range([5.0, 6.0], 0, most=0) == NOTHING


def test_of_nothing_seen_only_the_most_is_known():
    assert sum_range([], 2, most=200) == Range(200, 0, 200)


def test_one_value_gives_an_estimate_and_no_interval():
    assert sum_range([5.0], 2, most=200) == Range(10, 0, 200)
    assert sum_range([5.0], 2, most=8) == Range(8, 0, 8)


def test_the_interval_is_that_of_a_prediction():
    # mean 2, s = 1, three calls after three: half = 3 t sqrt(1/3 + 1/3). A call takes 6 at most, which adds less.
    found = sum_range([1.0, 2.0, 3.0], 3, most=18)

    assert (found.estimate, found.low) == (pytest.approx(6), 0)
    assert found.high == pytest.approx(6 + 3 * T2 * math.sqrt(2 / 3), rel=1e-6)


def test_skewed_values_raise_the_upper_end_alone():
    # mean 2, s² = 3, third moment (-1 - 1 + 8) / 3 = 2: 2 / (6 · 3 · 3) · (1 + 2 t²) more for each of three calls.
    found = sum_range([1.0, 1.0, 4.0], 3, most=60)
    mirrored = sum_range([3.0, 3.0, 0.0], 3, most=18)

    spread = T2 * math.sqrt(3) * math.sqrt(2 / 3)
    assert found.high == pytest.approx(3 * (2 + spread + 2 / 54 * (1 + 2 * T2**2)), rel=1e-6)
    assert (found.low, mirrored.low) == (0, 0)
    assert mirrored.high == pytest.approx(min(18, 3 * (2 + spread)))


def test_equal_values_allow_for_a_long_call_that_was_not_seen():
    # The longest is LONG · 2 = 40, and 40 - 2 = 38 more than any; with 3 for a call at most it is 1 more.
    unbounded, bounded = sum_range([2.0, 2.0], 10, most=math.inf), sum_range([2.0, 2.0], 10, most=30)

    assert unbounded == (20, 20, pytest.approx(10 * (2 + UNSEEN / 2 * (2 * LONG - 2))))
    assert bounded == (20, 20, pytest.approx(10 * (2 + UNSEEN / 2)))


def test_an_interval_ends_at_what_is_certain():
    assert sum_range([1.0, 2.0, 30.0], 3, most=40).high == 40


def test_the_interval_holds_the_sum_at_least_19_times_in_20():
    draw = np.random.default_rng(30)
    hits = 0
    for _ in range(1000):
        seen, rest = draw.exponential(5.0, 20), draw.exponential(5.0, 300)
        found = sum_range(seen.tolist(), 300, most=math.inf)
        hits += found.low <= rest.sum() <= found.high

    # The standard deviation of 950 of 1,000 is 7.
    assert hits >= 950 - 14


tokens = st.integers(0, 100_000).map(lambda thousandths: thousandths / 1000)


@given(st.lists(tokens, max_size=30), st.integers(0, 300), st.floats(0, 1000))
def test_an_estimate_lies_in_its_interval_and_under_the_most(seen, count, most):
    found = sum_range(seen, count, most)

    assert 0 <= found.low <= found.estimate + 1e-6
    assert found.estimate <= found.high + 1e-6
    assert found.high <= most + 1e-6 or not count


@pytest.mark.parametrize(("hits", "rows"), [(0, 5), (5, 5), (3, 5), (0, 1)])
def test_a_share_lies_in_its_interval(hits, rows):
    found = share_range(hits, rows)

    assert 0 <= found.low <= hits / rows <= found.high <= 1
    assert found.high > found.low


def test_ranges_are_added_and_compared_end_by_end():
    one, other = Range(10, 8, 12), Range(11, 5, 40)

    assert one.plus(other) == Range(21, 13, 52)
    assert one.times(2) == Range(20, 16, 24)
    assert at_least(one, other) == Range(11, 8, 40)
    assert at_least(one, Range(9, 9, 9)) == Range(10, 9, 12)


def test_a_sum_with_an_unknown_part_is_unknown():
    assert sum_known([]) == NOTHING
    assert sum_known([Range(1, 0, 2), Range(3, 3, 3)]) == Range(4, 3, 5)
    assert sum_known([Range(1, 0, 2), None]) is None
