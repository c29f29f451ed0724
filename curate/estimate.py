"""What many calls will take, from what a few have taken: sums with a 95% interval."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import beta, t

LEVEL = 0.975


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

    def over(self, counts: "Range") -> "Range":
        """For as many rows as `counts` says instead of its estimate of them."""
        if not counts.estimate:
            return self
        return Range(self.estimate, self.low * counts.low / counts.estimate, self.high * counts.high / counts.estimate)


NOTHING = Range(0.0, 0.0, 0.0)


def total(seen: Sequence[float], weights: Sequence[float], most: float) -> Range:
    """The sum over calls that are still to be made, call j taking about the mean of `seen` times `weights[j]`.

    A prediction interval: with m values of standard deviation s seen it is
    t(m - 1) · s · sqrt(Σw² + (Σw)²/m) on either side, cut at 0 and at `most`, which is certain. Of fewer than
    two values nothing but `most` can be said.
    """
    w = np.asarray(weights, dtype=float)
    if not w.size:
        return NOTHING
    if not len(seen):
        return Range(most, 0.0, most)
    mean = float(np.mean(seen)) * float(w.sum())
    if len(seen) == 1:
        return Range(min(mean, most), 0.0, most)
    spread = float(np.std(seen, ddof=1)) * math.sqrt(float((w**2).sum() + w.sum() ** 2 / len(seen)))
    half = float(t.ppf(LEVEL, len(seen) - 1)) * spread
    return Range(min(mean, most), min(max(0.0, mean - half), most), min(mean + half, most))


def share(hits: int, rows: int) -> Range:
    """A share with the interval of Jeffreys, which is sound for few rows and at 0 and 1."""
    low = float(beta.ppf(1 - LEVEL, hits + 0.5, rows - hits + 0.5)) if hits else 0.0
    high = float(beta.ppf(LEVEL, hits + 0.5, rows - hits + 0.5)) if hits < rows else 1.0
    return Range(hits / rows, low, high)
