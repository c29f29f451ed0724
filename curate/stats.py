"""95% intervals of shares and means, and the smallest difference that so many can show.

    wilson(0.9, 200)                         a share, also on an effective sample size
    share_range(18, 20)                      a share of few, which are counted
    bootstrap_interval(values, seed)         a mean, of single values or of groups of them
    win_rate_interval(points, seed)          a win rate over prompts

What only one estimator needs stands beside it: Fieller in review/estimate/gold.py, PPI in review/estimate/ppi.py, the
variance of kappa in review/estimate/agreement.py.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

TAILS = (0.025, 0.975)
"""The quantiles between which 95% lies."""
Z_95 = 1.959964
"""Quantile 0.975 of the normal distribution: 95% lies within it on either side."""
Z_80 = 0.841621
"""Quantile 0.8 of the normal distribution: a power of 80%."""
RESAMPLES = 10_000
"""Bootstrap samples of an interval, by default."""
DRAWS_AT_ONCE = 4_000_000
"""Draws held in memory together; a bound, without influence on what is drawn."""


class Range(NamedTuple):
    """An estimate between the ends of its 95% interval."""

    estimate: float
    low: float
    high: float

    def plus(self, other: "Range") -> "Range":
        """The sum of both, ends added: stages of one build are long or short together."""
        return Range(self.estimate + other.estimate, self.low + other.low, self.high + other.high)

    def to_json(self) -> dict[str, float | None]:
        """An end that nothing bounds is null."""
        return {name: None if math.isinf(end) else round(end, 6) for name, end in self._asdict().items()}

    def times(self, factor: float) -> "Range":
        return Range(factor * self.estimate, factor * self.low, factor * self.high)


NOTHING = Range(0.0, 0.0, 0.0)


def wilson(share: float, n: float) -> tuple[float, float]:
    """95% interval of a share that was found among n, by Wilson (J. Am. Stat. Assoc. 22, 1927).

    `n` may be an effective sample size, and infinite, which leaves the share itself; scipy's takes whole counts only.
    Raises ValueError for n = 0.
    """
    if n <= 0:
        raise ValueError(f"a share among n = {n} says nothing")
    z2 = Z_95**2 / n
    middle = (share + z2 / 2) / (1 + z2)
    half = math.sqrt(max(share * (1 - share), 0.0) * z2 + z2**2 / 4) / (1 + z2)
    return min(share, max(0.0, middle - half)), max(share, min(1.0, middle + half))


def jeffreys(hits: float, n: float) -> tuple[float, float]:
    """95% interval of `hits` among n, sound for few and at 0 and 1: quantiles of Beta(hits + 1/2, n - hits + 1/2).

    Brown, Cai and DasGupta (Stat. Sci. 16, 2001), section 4.3, with the end at 0 of no hits, and at 1 of nothing else.
    """
    low, high = betaincinv(hits + 0.5, n - hits + 0.5, TAILS)
    return float(low) if hits else 0.0, float(high) if hits < n else 1.0


def share_range(hits: float, rows: float) -> Range:
    """A share with the interval of Jeffreys."""
    return Range(hits / rows, *jeffreys(hits, rows))


def bootstrap_interval(
    values: Sequence[float] | NDArray[np.float64],
    seed: int,
    groups: Sequence[str] | None = None,
    resamples: int = RESAMPLES,
) -> tuple[float, float]:
    """95% interval of the mean of `values`, by percentile bootstrap.

    Efron and Tibshirani, An Introduction to the Bootstrap, chapter 13. One value is drawn at a time, or, with `groups`
    (the group of each value), all of a group, whose values are alike.
    """
    _, group = np.unique(range(len(values)) if groups is None else groups, return_inverse=True)
    sums, counts = np.bincount(group, weights=values), np.bincount(group)
    draw = np.random.default_rng(seed)
    rows_at_once = max(1, DRAWS_AT_ONCE // sums.size)
    means = []
    for start in range(0, resamples, rows_at_once):
        drawn = draw.integers(sums.size, size=(min(rows_at_once, resamples - start), sums.size))
        means.append(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    low, high = np.quantile(np.concatenate(means), TAILS)
    return float(low), float(high)


def win_rate_interval(points: Sequence[float], seed: int) -> tuple[float, float]:
    """95% interval of the mean of `points`, one a prompt: 1 for a win, 0.5 for a tie, 0 for a loss.

    A bootstrap over prompts: both responses to a prompt are one point, so prompts are resampled in pairs. Swapping
    the sides turns (low, high) into (1 - high, 1 - low). In 1,500 simulated evaluations of 24, 40 and 200 prompts it
    covered true win rates of 0.5, 0.65 and 0.8 in 93% to 97%. Raises ValueError for no points.
    """
    if not points:
        raise ValueError("a win rate over no prompts says nothing")
    if all(point == points[0] for point in points):
        return equal_points_interval(points[0], len(points))
    return bootstrap_interval(points, seed)


def equal_points_interval(value: float, n: int) -> tuple[float, float]:
    """95% interval of the mean of n points in 0 to 1 that are all the same, which a bootstrap takes for certainty.

    Another outcome has a probability of at most 1 - 0.025^(1/n), the bound of Clopper and Pearson
    (Biometrika 26, 1934) for none in n; the interval is where the mean could then lie.
    """
    unseen = 1 - TAILS[0] ** (1 / n)
    return value - unseen * value, value + unseen * (1 - value)


def chance_difference(one: float, other: float, n: int) -> float:
    """Largest difference of two shares of n each by chance in 19 of 20 cases: 1.96 * sqrt(2 * p * (1 - p) / n)."""
    p = (one + other) / 2
    return Z_95 * math.sqrt(2 * p * (1 - p) / n)


def detectable(n: int) -> float | None:
    """Half-width of the 95% interval of a win rate near one half over n prompts, at most: 0.98 / sqrt(n).

    The normal approximation 1.96 * sqrt(p * (1 - p) / n) at p = 0.5 without ties, where it is widest. A
    win rate found this far from 0.5 is just significant; a true one this far is found half the time
    (see `detectable_at_80_power`). None for no prompts.
    """
    return Z_95 * 0.5 / math.sqrt(n) if n else None


def detectable_at_80_power(n: int) -> float | None:
    """Distance of a true win rate from 0.5 that is found with 80% power: 1.40 / sqrt(n), at most.

    (z_0.975 + z_0.8) * sqrt(p * (1 - p) / n) at p = 0.5: the usual sample size formula for one proportion,
    solved for the difference. Above 0.5 there is no such win rate.
    """
    return (Z_95 + Z_80) * 0.5 / math.sqrt(n) if n else None
