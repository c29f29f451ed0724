"""Schedule: the rows of each step, and the steps after which held-out rows are checked."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Schedule:
    """Every row once an epoch, in a seeded order; the last step of an epoch may have fewer.

    Only the order of one epoch is held at a time.
    """

    count: int
    """Rows."""
    size: int
    """Rows a step."""
    epochs: int
    seed: int

    def steps(self) -> int:
        """Steps of all epochs."""
        return self.epochs * math.ceil(self.count / self.size)

    def rows(self, step: int) -> list[int]:
        """Rows of a step, by number; the first step is 1."""
        epoch, place = divmod(step - 1, math.ceil(self.count / self.size))
        start = place * self.size
        chosen: list[int] = epoch_order(self.count, self.seed, epoch)[start : start + self.size].tolist()
        return chosen


@lru_cache(maxsize=1)
def epoch_order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The rows of an epoch in their order."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def check_steps(steps: int, epochs: int, checks_per_epoch: int = 8) -> set[int]:
    """Steps after which the held-out rows are checked and a checkpoint is written; the last step is one of them."""
    parts = epochs * checks_per_epoch
    return {math.ceil(part * steps / parts) for part in range(1, parts + 1)}
