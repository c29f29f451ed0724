"""The share of right labels, corrected for the errors of reviewers."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.review.estimate.gold import correct_rate, fieller_interval, gold_answers
from curate.review.estimate.rates import Estimate
from curate.stats import Z_95

RATE = Estimate(estimate=0.78, low=0.7, high=0.85, records=120, n_eff=120.0, pairs=5000)


def gold(right: int, opposite: int, neither: int = 0) -> pl.DataFrame:
    n = right + opposite + neither
    return pl.DataFrame(
        {"is_right": [i < right for i in range(n)], "is_opposite": [right <= i < right + opposite for i in range(n)]},
        schema={"is_right": pl.Boolean, "is_opposite": pl.Boolean},
    )


def test_few_known_answers_correct_nothing():
    for answers in (gold(0, 0), gold(9, 0)):
        found = correct_rate(RATE, answers)

        assert (found.estimate, found.low, found.high) == (None, None, None)
        assert found.reason == f"it takes 10 answers on records with a known answer; there are {answers.height}"


@pytest.mark.parametrize("answers", [gold(10, 10), gold(5, 15), gold(12, 8), gold(0, 0, 20), gold(0, 20)])
def test_reviewers_who_are_no_better_than_chance_correct_nothing(answers):
    found = correct_rate(RATE, answers)

    assert found.estimate is None
    assert found.reason is not None and "too near to chance" in found.reason


def test_rate_is_corrected_by_hand():
    # (0.78 - 0.10) / (0.85 - 0.10) = 0.9067
    found = correct_rate(RATE, gold(85, 10, 5))

    assert found.estimate == pytest.approx(0.68 / 0.75)
    assert found.low is not None and found.high is not None
    assert found.low < 0.9067 < found.high
    assert found.gold == 100


def test_reviewers_without_a_fault_leave_the_rate_with_a_wider_interval():
    found = correct_rate(RATE, gold(50, 0))

    assert found.estimate == pytest.approx(0.78)
    assert found.low is not None and found.high is not None
    assert found.high - found.low > RATE.high - RATE.low


def test_interval_narrows_with_more_known_answers():
    widths = [
        found.high - found.low
        for n in (20, 100, 1000)
        if (found := correct_rate(RATE, gold(8 * n // 10, n // 10, n // 10))).high is not None and found.low is not None
    ]

    assert len(widths) == 3
    assert widths == sorted(widths, reverse=True)


def test_estimate_above_1_is_cut():
    found = correct_rate(replace(RATE, estimate=0.88), gold(42, 4, 4))

    assert found.estimate == 1.0
    assert found.high == 1.0


def test_gold_that_is_unlike_the_pairs_is_said_so():
    found = correct_rate(replace(RATE, estimate=0.99, n_eff=2000.0), gold(60, 30, 10))

    assert found.estimate is None
    assert found.reason is not None and "more often than" in found.reason


@given(st.integers(0, 120), st.integers(0, 60), st.integers(0, 60), st.integers(0, 20))
def test_correction_is_a_share_in_its_interval_or_a_reason(agree, right, opposite, neither):
    found = correct_rate(replace(RATE, estimate=agree / 120), gold(right, opposite, neither))

    if found.estimate is None or found.low is None or found.high is None:
        assert found.reason
        assert found.estimate is found.low is found.high is None
    else:
        assert 0 <= found.low <= found.estimate <= found.high <= 1
        assert found.reason is None


@given(st.floats(0.05, 0.95), st.integers(20, 500), st.floats(0.6, 0.95), st.integers(10, 500))
def test_ends_are_where_the_test_is_just_passed(agree, n, right, m):
    opposite = (1 - right) / 2
    ends = fieller_interval(agree, n, right, opposite, m)

    for s in ends or ():
        d = s * right + (1 - s) * opposite
        spread = d * (1 - d) / n + (s**2 * right + (1 - s) ** 2 * opposite - d**2) / m
        assert (agree - d) ** 2 == pytest.approx(Z_95**2 * spread, rel=1e-6, abs=1e-9)


def test_gold_answers_are_those_on_known_answers_alone():
    named = pl.DataFrame(
        {
            "reviewer": ["r1", "r1", "r2", "r2"],
            "sampler": ["gold", "gold", "gold", "random"],
            "named": ["chosen", "rejected", "equal", "chosen"],
        }
    )

    assert gold_answers(named).rows() == [("r1", True, False), ("r1", False, True), ("r2", False, False)]


def test_interval_covers_the_true_share():
    draw = np.random.default_rng(30)
    covered = 0
    for _ in range(300):
        agree = draw.binomial(200, 0.9 * 0.85 + 0.1 * 0.1) / 200
        right, opposite, neither = draw.multinomial(50, [0.85, 0.1, 0.05])
        found = correct_rate(replace(RATE, estimate=agree, n_eff=200.0), gold(right, opposite, neither))
        covered += found.low is not None and found.high is not None and found.low <= 0.9 <= found.high

    assert 0.91 <= covered / 300 <= 0.985
