"""Intervals contain the estimate, do not depend on which side is called the run, and cover the truth."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binomtest

from curate.stats import (
    bootstrap_interval,
    detectable,
    detectable_at_80_power,
    jeffreys,
    wilson,
    win_rate_interval,
)

outcomes = st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=60)


def test_share_among_none_is_refused():
    with pytest.raises(ValueError, match="n = 0"):
        wilson(0.5, 0)


def test_share_of_everything_has_no_width():
    assert wilson(0.7, math.inf) == (0.7, 0.7)


@pytest.mark.parametrize(("right", "n"), [(0, 1), (1, 1), (0, 20), (20, 20), (13, 20), (950, 1000)])
def test_whole_numbers_give_the_textbook_interval(right, n):
    expected = binomtest(right, n).proportion_ci(method="wilson")

    assert wilson(right / n, n) == pytest.approx((expected.low, expected.high), abs=1e-8)


@given(st.floats(0, 1), st.floats(0.01, 1e9))
def test_share_lies_in_its_interval_between_0_and_1(share, n):
    low, high = wilson(share, n)

    assert 0 <= low <= share <= high <= 1
    assert wilson(1 - share, n) == pytest.approx((1 - high, 1 - low), abs=1e-9)


@pytest.mark.parametrize(("hits", "n"), [(1, 3), (19, 20), (4, 300)])
def test_few_hits_give_the_quantiles_of_a_beta_distribution(hits, n):
    assert jeffreys(hits, n) == pytest.approx(beta.ppf([0.025, 0.975], hits + 0.5, n - hits + 0.5), abs=1e-12)


def test_the_interval_of_nothing_but_misses_or_hits_reaches_the_end():
    low, high = jeffreys(0, 20)

    assert low == 0 and 0 < high < 0.2
    assert jeffreys(20, 20) == pytest.approx((1 - high, 1), abs=1e-12)


def test_one_group_of_many_values_widens_the_interval():
    values = [1.0, 0.0] * 50

    low, high = bootstrap_interval(values, 0, [str(n) for n in range(100)])
    wide_low, wide_high = bootstrap_interval(values, 0, [str(n % 10) for n in range(100)])

    assert (low, high) == bootstrap_interval(values, 0)
    assert high - low < wide_high - wide_low


def test_how_many_draws_are_held_in_memory_does_not_change_them(monkeypatch):
    values = [1.0, 0.0, 0.5] * 30
    whole = bootstrap_interval(values, 3)

    monkeypatch.setattr("curate.stats.DRAWS_AT_ONCE", 1000)

    assert bootstrap_interval(values, 3) == whole


def covered(truth: float, n: int, simulations: int, tie: float = 0.0) -> float:
    """Share of simulated evaluations of n prompts whose interval contains the true win rate."""
    draw = np.random.default_rng(11)
    chances = [(1 - tie) * (1 - truth), tie, (1 - tie) * truth]
    rate = chances[2] + tie / 2
    hits = 0
    for seed in range(simulations):
        low, high = win_rate_interval(draw.choice([0.0, 0.5, 1.0], size=n, p=chances).tolist(), seed)
        hits += low <= rate <= high
    return hits / simulations


@settings(deadline=None, max_examples=60)
@given(outcomes, st.integers(0, 2**32 - 1))
def test_the_interval_contains_the_estimate_and_lies_in_0_to_1(points, seed):
    low, high = win_rate_interval(points, seed)

    assert 0 <= low <= sum(points) / len(points) + 1e-12
    assert sum(points) / len(points) - 1e-12 <= high <= 1


@settings(deadline=None, max_examples=60)
@given(outcomes, st.integers(0, 2**32 - 1))
def test_swapping_the_sides_mirrors_the_interval(points, seed):
    low, high = win_rate_interval(points, seed)

    mirrored = win_rate_interval([1 - point for point in points], seed)

    assert mirrored == pytest.approx((1 - high, 1 - low))


def test_the_same_seed_gives_the_same_interval_and_another_one_nearly_the_same():
    points = [1.0] * 110 + [0.0] * 90

    first, again, other = (win_rate_interval(points, seed) for seed in (1, 1, 2))

    assert first == again
    assert other == pytest.approx(first, abs=0.01)


def test_the_interval_of_200_prompts_is_that_of_the_normal_approximation():
    low, high = win_rate_interval([1.0] * 120 + [0.0] * 80, 30)

    # 0.6 -+ 1.96 * sqrt(0.6 * 0.4 / 200) = 0.6 -+ 0.0679
    assert (low, high) == pytest.approx((0.532, 0.668), abs=0.006)


def test_ties_narrow_the_interval():
    decided = win_rate_interval([1.0, 0.0] * 50, 30)
    tied = win_rate_interval([1.0, 0.0] * 10 + [0.5] * 80, 30)

    assert tied[1] - tied[0] < 0.5 * (decided[1] - decided[0])


def test_no_prompts_have_no_interval():
    with pytest.raises(ValueError, match="no prompts"):
        win_rate_interval([], 30)
    assert detectable(0) is None
    assert detectable_at_80_power(0) is None


def test_one_prompt_says_next_to_nothing():
    # none of 1: another outcome has a probability of up to 1 - 0.025 = 0.975
    assert win_rate_interval([1.0], 30) == pytest.approx((0.025, 1.0))
    assert win_rate_interval([0.0], 30) == pytest.approx((0.0, 0.975))
    assert win_rate_interval([0.5], 30) == pytest.approx((0.0125, 0.9875))


def test_prompts_that_all_come_out_the_same_are_not_taken_for_certainty():
    # none of 10: 1 - 0.025 ** 0.1 = 0.3085, the bound of Clopper and Pearson
    assert win_rate_interval([1.0] * 10, 30) == pytest.approx((0.6915, 1.0), abs=1e-4)
    assert win_rate_interval([0.5] * 10, 30) == pytest.approx((0.5 - 0.1543, 0.5 + 0.1543), abs=1e-4)


def test_200_prompts_can_show_6_9_points_and_find_9_9():
    # 1.96 * 0.5 / sqrt(200) = 0.0693; (1.96 + 0.8416) * 0.5 / sqrt(200) = 0.09905
    assert detectable(200) == pytest.approx(0.0693, abs=5e-5)
    assert detectable_at_80_power(200) == pytest.approx(0.09905, abs=5e-6)


def test_3_points_need_1068_prompts():
    # (0.98 / 0.03) ** 2 = 1067.07
    assert detectable(1068) < 0.03 < detectable(1067)


@pytest.mark.parametrize(("truth", "n", "tie"), [(0.5, 200, 0.0), (0.5, 200, 0.3), (0.65, 100, 0.1)])
def test_95_percent_intervals_cover_the_truth_in_92_to_98_of_100_evaluations(truth, n, tie):
    assert 0.92 <= covered(truth, n, 300, tie) <= 0.98


def test_a_true_difference_of_the_size_found_4_times_in_5_is_found_4_times_in_5():
    draw = np.random.default_rng(7)
    truth = 0.5 + detectable_at_80_power(200)

    found = sum(win_rate_interval(draw.binomial(1, truth, size=200).tolist(), seed)[0] > 0.5 for seed in range(300))

    # 300 evaluations at 0.8: 0.80 -+ 0.07 is three standard errors
    assert 0.73 <= found / 300 <= 0.87
