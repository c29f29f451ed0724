"""Losses and log-probabilities as plain tensor functions."""

import torch
import torch.nn.functional as F
from torch import Tensor


def dpo_loss(policy: Tensor, reference: Tensor, beta: float) -> Tensor:
    """DPO, equation 7 of https://arxiv.org/abs/2305.18290.

    `policy` and `reference` are (batch, 2): summed log-probability of the chosen, then the
    rejected response, in nats. Returns (batch,) losses.
    """
    chosen, rejected = (policy - reference).unbind(dim=1)
    return -F.logsigmoid(beta * (chosen - rejected))


def sft_loss(logps: Tensor, tokens: Tensor) -> Tensor:
    """Negative log-probability a learnt token: `logps` and `tokens` are (batch,) sums and counts."""
    return -logps.sum() / tokens.sum()


def dpo_metrics(policy: Tensor, reference: Tensor, beta: float) -> dict[str, Tensor]:
    """What DPO is watched by, (batch,) each, under TRL's names; a tie counts as half right."""
    rewards = beta * (policy - reference)
    margins = rewards[:, 0] - rewards[:, 1]
    return {
        "rewards/chosen": rewards[:, 0],
        "rewards/rejected": rewards[:, 1],
        "rewards/accuracies": (torch.sign(margins) + 1) / 2,
        "rewards/margins": margins,
        "logps/chosen": policy[:, 0],
        "logps/rejected": policy[:, 1],
    }


def learnt_logps(hidden: Tensor, head: torch.nn.Module, ids: Tensor, learnt: Tensor) -> Tensor:
    """Summed log-probability of the learnt tokens of each sequence, (batch,), float64.

    `hidden` is (batch, length, width): the state at a position predicts the next token. Logits are made for the
    positions before learnt tokens alone: those of prompts and padding would be most of the memory. The sum is in
    float64, for DPO takes small differences of large sums: in float32 a response of 2,000 nats is off by 1e-4.
    """
    targets = learnt[:, 1:]
    logits = head(hidden[:, :-1][targets]).float()
    logps = -F.cross_entropy(logits, ids[:, 1:][targets], reduction="none")
    sequence = targets.nonzero()[:, 0]
    return torch.zeros(len(ids), dtype=torch.float64, device=logps.device).index_add(0, sequence, logps.double())
