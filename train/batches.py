"""Rows in their seeded order, a few at a time, as padded tensors."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from train.tokens import Row


@dataclass(frozen=True)
class Batch:
    """Some rows, every side of each a line: row 0 chosen, row 0 rejected, row 1 chosen ..."""

    rows: list[int]
    """Which rows these are of all."""
    ids: Tensor
    """(lines, longest line), padded on the right."""
    learnt: Tensor
    """Like `ids`: true where a token is learnt."""
    tokens: int
    """All tokens but padding."""


def batch_of(rows: Sequence[Row], chosen: Sequence[int], pad: int, device: torch.device) -> Batch:
    """The rows at these positions as one batch."""
    sides = [side for row in chosen for side in rows[row].sides]
    longest = max(map(len, sides))
    ids = torch.full((len(sides), longest), pad)
    learnt = torch.zeros((len(sides), longest), dtype=torch.bool)
    for line, side in enumerate(sides):
        ids[line, : len(side)] = torch.from_numpy(side.ids)
        learnt[line, : len(side)] = torch.from_numpy(side.learnt)
    return Batch(list(chosen), ids.to(device), learnt.to(device), sum(map(len, sides)))


def steps_of_epoch(count: int, size: int, seed: int, epoch: int) -> list[list[int]]:
    """Positions of `count` rows in the order of an epoch, `size` a step; the last step may have fewer."""
    order: list[int] = np.random.default_rng([seed, epoch]).permutation(count).tolist()
    return [order[start : start + size] for start in range(0, count, size)]


def steps_by_length(rows: Sequence[Row], size: int) -> list[list[int]]:
    """Positions of all rows, alike in length, `size` a batch: least padding where order does not matter."""
    order = sorted(range(len(rows)), key=lambda row: max(map(len, rows[row].sides)))
    return [order[start : start + size] for start in range(0, len(order), size)]


def seed_step(seed: int, step: int) -> None:
    """Set the random state that a step's dropout starts from, so that a resumed step draws the same."""
    drawn = hashlib.sha256(f"{seed}:{step}".encode()).digest()[:8]
    torch.manual_seed(int.from_bytes(drawn, "big", signed=True))
