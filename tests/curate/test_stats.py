"""The interval of a share."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from curate.stats import wilson


def test_share_among_none_is_refused():
    with pytest.raises(ValueError, match="n = 0"):
        wilson(0.5, 0)


def test_share_of_everything_has_no_width():
    assert wilson(0.7, math.inf) == (0.7, 0.7)


@pytest.mark.parametrize(("right", "n"), [(0, 1), (1, 1), (0, 20), (20, 20), (13, 20), (950, 1000)])
def test_whole_numbers_give_the_textbook_interval(right, n):
    expected = binomtest(right, n).proportion_ci(method="wilson")

    assert wilson(right / n, n) == pytest.approx((expected.low, expected.high), abs=1e-6)


@given(st.floats(0, 1), st.floats(0.01, 1e9))
def test_share_lies_in_its_interval_between_0_and_1(share, n):
    low, high = wilson(share, n)

    assert 0 <= low <= share <= high <= 1
    assert wilson(1 - share, n) == pytest.approx((1 - high, 1 - low), abs=1e-9)
