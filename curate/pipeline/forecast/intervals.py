"""Estimate sums over many calls from a few recorded ones, with 95% intervals."""

import math
from collections.abc import Sequence
from functools import reduce

import numpy as np
from scipy.stats import t

from curate.stats import NOTHING, Range

LEVEL = 0.975
"""Of either end: together they leave out 5%."""
LONG = 20
"""How many times as long as the usual call one may be that none of the recorded ones was like."""
UNSEEN = 1.15
"""Of m recorded calls: calls of a kind that makes up a share UNSEEN / m are all missed about 1 time in 3."""


def sum_range(seen: Sequence[float], count: float, most: float, times: float = LONG) -> Range:
    """The sum over `count` calls still to be made, each like those `seen`; `most` is the sum that is certain.

    The mean of the seen times `count`, within a prediction interval by Student's t with the spread of the sum and of
    the mean. Lengths of texts are skewed, and a few recorded calls seldom hold the longest, so the upper end is
    corrected for skewness (Johnson, J. Am. Stat. Assoc. 73, 1978), and allows for calls so many `times` as long as the
    median that were not seen. Of fewer than two values nothing but `most` is known.
    """
    if not count:
        return NOTHING
    if not len(seen):
        return Range(most, 0.0, most)
    values, m = np.asarray(seen, dtype=float), len(seen)
    mean = float(values.mean())
    if m == 1:
        return Range(min(count * mean, most), 0.0, most)
    deviation, quantile = float(values.std(ddof=1)), float(t.ppf(LEVEL, m - 1))
    spread = quantile * deviation * math.sqrt(1 / count + 1 / m)
    moment = float(((values - mean) ** 3).mean())
    skew = moment / (6 * m * deviation**2) * (1 + 2 * quantile**2) if deviation else 0.0
    longest = min(times * float(np.median(values)), most / count)
    unseen = UNSEEN / m * max(0.0, longest - float(values.max()))
    high = mean + max(spread + max(0.0, skew), unseen)
    return Range(*(min(max(0.0, count * value), most) for value in (mean, mean - spread, high)))


def at_least(one: Range, other: Range) -> Range:
    """The larger of both, end by end."""
    return Range(*(max(pair) for pair in zip(one, other, strict=True)))


def sum_known(parts: Sequence[Range | None]) -> Range | None:
    """The sum, None if any part is unknown."""
    known = [part for part in parts if part is not None]
    return reduce(Range.plus, known, NOTHING) if len(known) == len(parts) else None
