"""Cosines of many vectors with many: a few numbers of each rule out nearly all of them."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from curate.screen.arrays import Cosines, Mask, Rows, Vectors

AXES = 64
"""Numbers of a vector that are multiplied first. With 64 of MiniLM's 384, about 20 of 50,000 rows are left for each
row at a cosine of 0.9."""
SAMPLE = 20_000
"""Rows that the axes are taken from."""
SLACK = 1e-4
"""How far a product of rounded numbers may lie under the cosine."""
ROWS_PER_GATHER = 32_768


@dataclass(frozen=True)
class UnitVectors:
    """Rows of vectors, read in single precision and at length 1."""

    vectors: Vectors

    def rows(self, rows: Rows | slice) -> Tensor:
        """(rows, dimensions); not a number where a vector is missing or zero."""
        found = torch.from_numpy(self.vectors[rows]).float()
        units: Tensor = found / found.norm(dim=1, keepdim=True)
        return units

    def cosines(self, left: Rows, right: Rows) -> Cosines:
        """(pairs,) the cosine of each row of `left` to that of `right`."""
        found = np.empty(len(left), dtype=np.float32)
        for start in range(0, len(left), ROWS_PER_GATHER):
            block = slice(start, start + ROWS_PER_GATHER)
            found[block] = (self.rows(left[block]) * self.rows(right[block])).sum(dim=1).numpy()
        return found

    def usable(self) -> Mask:
        """(n,) false where a vector is missing, infinite or zero."""
        found = np.empty(len(self.vectors), dtype=np.bool_)
        for start in range(0, len(self.vectors), ROWS_PER_GATHER):
            block = slice(start, start + ROWS_PER_GATHER)
            found[block] = self.rows(block).isfinite().all(dim=1).numpy()
        return found


def main_axes(unit: UnitVectors, rows: Rows) -> Tensor:
    """(dimensions, axes) the principal axes, not centered, of vectors spread evenly over `rows`."""
    sample = unit.rows(rows[:: max(1, len(rows) // SAMPLE)])
    _, axes = torch.linalg.eigh(sample.T @ sample)
    main: Tensor = axes.flip(1)[:, :AXES].contiguous()
    return main


def bound(units: Tensor, axes: Tensor) -> Tensor:
    """(rows, axes + 1): products of these are never smaller than the cosines.

    The last number is the length of what lies off the axes: of two such parts the product is at most that of
    their lengths.
    """
    along = units @ axes
    off = (1 - along.square().sum(dim=1)).clamp(min=0).sqrt()
    return torch.cat([along, off[:, None]], dim=1)


def round_cosines(cosines: Cosines) -> Cosines:
    """To 4 digits: the last ones depend on how many rows were multiplied at once."""
    return np.round(cosines.astype(np.float64), 4).astype(np.float32)
