"""The 95% interval of a share."""

import math

Z_95 = 1.959964
"""Quantile 0.975 of the normal distribution."""


def wilson(share: float, n: float) -> tuple[float, float]:
    """95% interval of a share that was found among n, by Wilson (J. Am. Stat. Assoc. 22, 1927).

    `n` may be an effective sample size, and infinite, which leaves the share itself. Raises ValueError for n = 0.
    """
    if n <= 0:
        raise ValueError(f"a share among n = {n} says nothing")
    z2 = Z_95**2 / n
    middle = (share + z2 / 2) / (1 + z2)
    half = math.sqrt(max(share * (1 - share), 0.0) * z2 + z2**2 / 4) / (1 + z2)
    return min(share, max(0.0, middle - half)), max(share, min(1.0, middle + half))
