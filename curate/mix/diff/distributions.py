"""Test whether the distribution of a feature moved between two sets of pairs that have most pairs in common.

Two-sample tests take the sets for independent, and here they are not: a pair that both have says nothing of a
difference. So each distinct pair is one draw, which weighs 1/n in A alone, -1/m in B alone and 1/n - 1/m in both, and
what is asked is whether these weights could lie on any of the pairs. The variance of any share then is the sum of the
squared weights times p (1 - p), as without common pairs, where that sum is the usual 1/n + 1/m. Kolmogorov-Smirnov
and chi-square take 1 / that sum as the effective size. P-values are corrected by Holm over all tests. Pairs of one
prompt are taken for independent, so that a few prompts with many pairs look more certain than they are.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import chdtrc, kolmogorov

ALPHA = 0.05
FEWEST = 10
"""Pairs that must differ in a feature before it is tested."""
FEWEST_EXPECTED = 5
"""Rows that a category must be expected to have, after Cochran; the others are tested together."""
LANGUAGE_SAMPLE = 5_000
"""Pairs of a side whose chosen response is looked at for its language."""
NONE = "none"


@dataclass(frozen=True)
class Moved:
    """One feature on both sides, and how sure it is that its distribution moved."""

    feature: str
    test: str
    a: dict[str, float]
    """Median and mean, or the share of each value."""
    b: dict[str, float]
    rows_a: int
    rows_b: int
    differing: int
    """Rows of either side that the other does not have with the same value."""
    effect: float
    """Of numbers the largest distance between the two distribution functions, of categories half the sum of the
    differences of their shares; 0 for the same distribution, 1 for nothing in common."""
    p: float
    p_holm: float = 1.0

    @property
    def is_moved(self) -> bool:
        return self.p_holm < ALPHA

    def summary(self) -> dict[str, Any]:
        return {**asdict(self), "moved": self.is_moved}

    def line(self) -> str:
        """The feature on both sides with the test that says whether it moved."""
        if self.test == "Kolmogorov-Smirnov":
            change = ", ".join(f"{name} {self.a[name]:.4g} -> {self.b[name]:.4g}" for name in ("median", "mean"))
        else:
            most = sorted(self.a, key=lambda name: (-abs(self.b[name] - self.a[name]), name))[:3]
            change = ", ".join(f"{name} {self.a[name]:.1%} -> {self.b[name]:.1%}" for name in most)
        told = f"{change} ({self.test}: effect {self.effect:.3f}, p {self.p_holm:.2g} after Holm)"
        return f"{'moved' if self.is_moved else 'same '}  {self.feature:17} {told}"


def find_moved(a: pl.DataFrame, b: pl.DataFrame, both: pl.DataFrame) -> list[Moved]:
    """The features of two sets of pairs that can be tested, those that moved most first.

    `a` and `b` are the rows of `row_facts`, and `both` the row numbers of the pairs that both have.
    """
    margin = pl.col("score_chosen") - pl.col("score_rejected")
    difference = pl.col("chosen_length").cast(pl.Int64) - pl.col("rejected_length").cast(pl.Int64)
    numbers = {
        "chosen length": pl.col("chosen_length"),
        "rejected length": pl.col("rejected_length"),
        "length difference": difference,
        "margin": margin,
    }
    found = []
    for name, value in numbers.items():
        left, right = (rows.select(value.cast(pl.Float64).alias("value"))["value"] for rows in (a, b))
        found.append(compare_numbers(name, left, right, both))
    found.append(compare_categories("flaw", a["flaw"].fill_null(NONE), b["flaw"].fill_null(NONE), both))
    found.append(compare_categories("language", a["language"], b["language"], both))
    return holm([moved for moved in found if moved])


def compare_numbers(feature: str, a: pl.Series, b: pl.Series, both: pl.DataFrame) -> Moved | None:
    """Kolmogorov-Smirnov; None where too few pairs differ or all have one value."""
    shared = shared_values(a, b, both)
    left, right = (values.drop_nulls().to_numpy() for values in (a, b))
    if not (differing := count_differing(left.size, right.size, shared)):
        return None
    if min(left.min(), right.min()) == max(left.max(), right.max()):
        return None
    distance = largest_distance(left, right)
    p = float(kolmogorov(distance / np.sqrt(squared_weights(left.size, right.size, shared))))
    here, there = ({"median": float(np.median(values)), "mean": float(values.mean())} for values in (left, right))
    return Moved(feature, "Kolmogorov-Smirnov", here, there, left.size, right.size, differing, distance, p)


def largest_distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """The largest distance between two empirical distribution functions."""
    a, b = np.sort(a), np.sort(b)
    values = np.concatenate([a, b])
    shares = [np.searchsorted(side, values, "right") / side.size for side in (a, b)]
    return float(np.abs(shares[0] - shares[1]).max())


def compare_categories(feature: str, a: pl.Series, b: pl.Series, both: pl.DataFrame) -> Moved | None:
    """Chi-square of the shares; None where too few pairs differ or all have one value."""
    shared = shared_values(a, b, both)
    counts = [dict(values.drop_nulls().value_counts().iter_rows()) for values in (a, b)]
    rows_a, rows_b = (sum(count.values()) for count in counts)
    names = sorted({*counts[0], *counts[1]})
    if len(names) < 2 or not (differing := count_differing(rows_a, rows_b, shared)):
        return None
    weight = squared_weights(rows_a, rows_b, shared)
    shares = np.array(
        [[count.get(name, 0) / size for name in names] for count, size in zip(counts, (rows_a, rows_b), strict=True)]
    )
    apart = np.array([counts[0].get(name, 0) + counts[1].get(name, 0) for name in names]) / (rows_a + rows_b)
    is_rare = apart / weight < FEWEST_EXPECTED
    differences = fold(shares[0] - shares[1], is_rare)
    expected = fold(apart, is_rare)
    if expected.size < 2:
        return None
    p = float(chdtrc(expected.size - 1, float((differences**2 / expected).sum() / weight)))
    effect = float(np.abs(shares[0] - shares[1]).sum() / 2)
    here, there = (dict(zip(names, map(float, side), strict=True)) for side in shares)
    return Moved(feature, "chi-square", here, there, rows_a, rows_b, differing, effect, p)


def fold(values: NDArray[np.float64], is_rare: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The values of common categories, and those of rare ones in one sum."""
    return np.append(values[~is_rare], values[is_rare].sum()) if is_rare.any() else values


def shared_values(a: pl.Series, b: pl.Series, both: pl.DataFrame) -> int:
    """Pairs that both sides have with the same value."""
    return int((a.gather(both["a"]) == b.gather(both["b"])).sum())


def count_differing(rows_a: int, rows_b: int, shared: int) -> int:
    """Rows that only one side has with their value; 0 where these are too few for a test, or a side has none at all."""
    differing = rows_a + rows_b - 2 * shared
    return differing if differing >= FEWEST and rows_a and rows_b else 0


def squared_weights(rows_a: int, rows_b: int, shared: int) -> float:
    """The sum of the squared weights of all distinct rows."""
    alone = (rows_a - shared) / rows_a**2 + (rows_b - shared) / rows_b**2
    return float(alone + shared * (1 / rows_a - 1 / rows_b) ** 2)


def holm(found: Sequence[Moved]) -> list[Moved]:
    """The tests by their p-values, corrected after Holm (Scand. J. Stat. 6, 1979)."""
    ordered = sorted(found, key=lambda moved: (moved.p, -moved.effect))
    corrected, least = [], 0.0
    for i, moved in enumerate(ordered):
        least = max(least, min(1.0, moved.p * (len(ordered) - i)))
        corrected.append(replace(moved, p_holm=least))
    return corrected
