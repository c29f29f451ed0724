"""Intervals contain the estimate, do not depend on which side is called the run, and cover the truth."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.intervals import bootstrap_interval, detectable, detectable_at_80_power

outcomes = st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=60)


def covered(truth: float, n: int, simulations: int, tie: float = 0.0) -> float:
    """Share of simulated evaluations of n prompts whose interval contains the true win rate."""
    draw = np.random.default_rng(11)
    chances = [(1 - tie) * (1 - truth), tie, (1 - tie) * truth]
    rate = chances[2] + tie / 2
    hits = 0
    for seed in range(simulations):
        low, high = bootstrap_interval(draw.choice([0.0, 0.5, 1.0], size=n, p=chances).tolist(), seed)
        hits += low <= rate <= high
    return hits / simulations


@settings(deadline=None, max_examples=60)
@given(outcomes, st.integers(0, 2**32 - 1))
def test_the_interval_contains_the_estimate_and_lies_in_0_to_1(points, seed):
    low, high = bootstrap_interval(points, seed)

    assert 0 <= low <= sum(points) / len(points) + 1e-12
    assert sum(points) / len(points) - 1e-12 <= high <= 1


@settings(deadline=None, max_examples=60)
@given(outcomes, st.integers(0, 2**32 - 1))
def test_swapping_the_sides_mirrors_the_interval(points, seed):
    low, high = bootstrap_interval(points, seed)

    mirrored = bootstrap_interval([1 - point for point in points], seed)

    assert mirrored == pytest.approx((1 - high, 1 - low))


def test_the_same_seed_gives_the_same_interval_and_another_one_nearly_the_same():
    points = [1.0] * 110 + [0.0] * 90

    first, again, other = (bootstrap_interval(points, seed) for seed in (1, 1, 2))

    assert first == again
    assert other == pytest.approx(first, abs=0.01)


def test_the_interval_of_200_prompts_is_that_of_the_normal_approximation():
    low, high = bootstrap_interval([1.0] * 120 + [0.0] * 80, 30)

    # 0.6 -+ 1.96 * sqrt(0.6 * 0.4 / 200) = 0.6 -+ 0.0679
    assert (low, high) == pytest.approx((0.532, 0.668), abs=0.006)


def test_ties_narrow_the_interval():
    decided = bootstrap_interval([1.0, 0.0] * 50, 30)
    tied = bootstrap_interval([1.0, 0.0] * 10 + [0.5] * 80, 30)

    assert tied[1] - tied[0] < 0.5 * (decided[1] - decided[0])


def test_no_prompts_have_no_interval():
    assert bootstrap_interval([], 30) is None
    assert detectable(0) is None
    assert detectable_at_80_power(0) is None


def test_one_prompt_says_next_to_nothing():
    # none of 1: another outcome has a probability of up to 1 - 0.025 = 0.975
    assert bootstrap_interval([1.0], 30) == pytest.approx((0.025, 1.0))
    assert bootstrap_interval([0.0], 30) == pytest.approx((0.0, 0.975))
    assert bootstrap_interval([0.5], 30) == pytest.approx((0.0125, 0.9875))


def test_prompts_that_all_come_out_the_same_are_not_taken_for_certainty():
    # none of 10: 1 - 0.025 ** 0.1 = 0.3085, the bound of Clopper and Pearson
    assert bootstrap_interval([1.0] * 10, 30) == pytest.approx((0.6915, 1.0), abs=1e-4)
    assert bootstrap_interval([0.5] * 10, 30) == pytest.approx((0.5 - 0.1543, 0.5 + 0.1543), abs=1e-4)


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

    found = sum(bootstrap_interval(draw.binomial(1, truth, size=200).tolist(), seed)[0] > 0.5 for seed in range(300))

    # 300 evaluations at 0.8: 0.80 -+ 0.07 is three standard errors
    assert 0.73 <= found / 300 <= 0.87
