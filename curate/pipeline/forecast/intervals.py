"""What many calls will take, from what a few have taken: sums with a 95% interval."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t

from curate.stats import TAILS, jeffreys


@dataclass(frozen=True)
class Range:
    """An estimate and its 95% interval."""

    estimate: float
    low: float
    high: float

    def __add__(self, other: "Range") -> "Range":
        """The sum of two that may err together: the ends are added, which is on the safe side."""
        return Range(self.estimate + other.estimate, self.low + other.low, self.high + other.high)

    def times(self, factor: float) -> "Range":
        return Range(factor * self.estimate, factor * self.low, factor * self.high)


NOTHING = Range(0.0, 0.0, 0.0)


def span_ranges(fewest: Range, likely: Range, most: Range) -> Range:
    """What takes one of three amounts of work: the likely estimate, between the ends of the least and the most work."""
    return Range(likely.estimate, min(fewest.low, likely.low), max(most.high, likely.high))


def sum_range(
    seen: Sequence[float], weights: Sequence[float], most: float, stands_for: Sequence[float] | None = None
) -> Range:
    """The sum over calls that are still to be made, call j taking about the mean of `seen` times `weights[j]`.

    A prediction interval: with m values of standard deviation s seen it is
    t(m - 1) · s · sqrt(Σw² + (Σw)²/m) on either side, cut at 0 and at `most`, which is certain. Of fewer than
    two values nothing but `most` can be said. Where value i `stands_for` cᵢ calls that were made together, mean
    and s are weighted by c, and m in the root is (Σc)²/Σc² (Kish), for they are no more than one thing seen.
    """
    w = np.asarray(weights, dtype=float)
    if not w.size:
        return NOTHING
    if not len(seen):
        return Range(most, 0.0, most)

    def cut(value: float) -> float:
        return min(max(0.0, value), most)

    c = np.ones(len(seen)) if stands_for is None else np.asarray(stands_for, dtype=float)
    mean = float(np.average(seen, weights=c))
    if len(seen) == 1:
        return Range(cut(mean * float(w.sum())), 0.0, most)
    m = float(c.sum() ** 2 / (c**2).sum())
    deviations = (np.asarray(seen) - mean) ** 2
    s = math.sqrt(float(np.average(deviations, weights=c)) * len(seen) / (len(seen) - 1))
    half = float(t.ppf(TAILS[1], len(seen) - 1)) * s * math.sqrt(float((w**2).sum() + w.sum() ** 2 / m))
    middle = mean * float(w.sum())
    return Range(cut(middle), cut(middle - half), cut(middle + half))


def share_range(hits: int, rows: int) -> Range:
    """A share with the interval of Jeffreys, which is sound for few rows and at 0 and 1."""
    return Range(hits / rows, *jeffreys(hits, rows))
