"""Tokens drawn from the nucleus of a distribution, as transformers' temperature and top-p warpers define it."""

from collections.abc import Iterator

import torch
from torch import Tensor

CANDIDATES = 256
"""Most likely tokens that are looked at first: a sort of the whole vocabulary takes twenty times as long."""


def draw(logits: Tensor, temperature: float, top_p: float, luck: Tensor) -> Tensor:
    """One token a row of `logits` (rows, vocabulary); `luck` is (rows,) in [0, 1), uniform.

    A row's token depends on its logits and its luck alone, not on the rows beside it.
    """
    drawn = torch.empty(len(logits), dtype=torch.long, device=logits.device)
    for rows, probabilities, tokens in nuclei(logits, temperature, top_p):
        cumulated = probabilities.cumsum(-1, dtype=torch.float64)
        mass = cumulated[:, -1:]
        # A luck just below 1 may round up to the whole mass: the last token with a probability is meant.
        last = (cumulated < mass).sum(-1, keepdim=True)
        at = torch.searchsorted(cumulated, luck[rows].double()[:, None] * mass, right=True).minimum(last)
        drawn[rows] = tokens.gather(-1, at)[:, 0]
    return drawn


def nuclei(logits: Tensor, temperature: float, top_p: float) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Rows of `logits` in at most two groups: row numbers, probabilities (rows, k) and their tokens (rows, k).

    Probabilities are 0 outside of the nucleus: the fewest most likely tokens whose mass reaches
    `top_p`. They are not scaled to sum to 1.
    """
    every = torch.softmax(logits.float() / temperature, dim=-1)
    if top_p >= 1:
        numbers = [torch.arange(size, device=every.device) for size in every.shape]
        yield numbers[0], every, numbers[1].expand_as(every)
        return
    likely, tokens = every.topk(min(CANDIDATES, every.shape[-1]), dim=-1)
    is_whole = likely.sum(-1, dtype=torch.float64) >= top_p
    for are_whole in (True, False):
        rows = (is_whole == are_whole).nonzero()[:, 0]
        if len(rows):
            found = (likely[rows], tokens[rows]) if are_whole else every[rows].sort(-1, descending=True)
            yield rows, inside(found[0], top_p), found[1]


def inside(likely: Tensor, top_p: float) -> Tensor:
    """`likely`, which falls from left to right, with 0 for tokens whose more likely ones already reach `top_p`."""
    before = likely.cumsum(-1, dtype=torch.float64) - likely
    is_outside = before >= top_p
    is_outside[:, 0] = False
    return likely.masked_fill(is_outside, 0)
