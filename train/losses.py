"""Losses and training metrics as plain tensor functions.

`policy` and `reference` are (batch, 2): summed log-probability of the chosen, then the rejected response, in nats.
`tokens` is (batch, 2): learned tokens of each response, at least one. A loss is (batch,).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

SIMPO_GAMMA = 0.5
"""Of TRL, unless it is given."""


@dataclass(frozen=True)
class LossConfig:
    """Settings of a loss; the fields are those of `DPOConfig`."""

    loss: str
    """A name in `LOSSES`."""
    beta: float
    label_smoothing: float
    simpo_gamma: float


def sigmoid_loss(policy: Tensor, reference: Tensor, beta: float, label_smoothing: float = 0.0) -> Tensor:
    """DPO, equation 7 of https://arxiv.org/abs/2305.18290.

    `label_smoothing` is the share of pairs whose labels are assumed to be swapped: conservative DPO, equation 3 of
    https://ericmitchell.ai/cdpo.pdf. TRL dropped it from its loss of this name; its `aot` of one pair is the same.
    """
    chosen, rejected = (policy - reference).unbind(dim=1)
    logits = beta * (chosen - rejected)
    return -(1 - label_smoothing) * F.logsigmoid(logits) - label_smoothing * F.logsigmoid(-logits)


def ipo_loss(policy: Tensor, reference: Tensor, tokens: Tensor, beta: float) -> Tensor:
    """IPO, equation 17 of https://arxiv.org/abs/2310.12036, where `beta` is called tau.

    Of the log-ratio of the average token: with sums, as the equation has it, the loss grows with the square of the
    length. The authors say that theirs were averages: https://huggingface.co/docs/trl/dpo_trainer.
    """
    chosen, rejected = ((policy - reference) / tokens).unbind(dim=1)
    return (chosen - rejected - 1 / (2 * beta)) ** 2


def simpo_loss(policy: Tensor, tokens: Tensor, beta: float, gamma: float) -> Tensor:
    """SimPO, equation 6 of https://arxiv.org/abs/2405.14734: `gamma` is how far the rewards should lie apart."""
    chosen, rejected = (beta * policy / tokens).unbind(dim=1)
    return -F.logsigmoid(chosen - rejected - gamma)


@dataclass(frozen=True)
class PairLoss:
    """A loss of pairs, whether it needs a reference, and its default beta."""

    losses: Callable[[Tensor, Tensor, Tensor, LossConfig], Tensor]
    """(policy, reference, tokens, config) -> (batch,)"""
    needs_reference: bool
    """Whether the reference is looked at; where it is not, nobody has to measure it."""
    beta: float
    """Strength unless it is given: what TRL takes, but for sigmoid, where it is the paper's of this project."""


LOSSES = {
    "sigmoid": PairLoss(
        lambda policy, ref, _, cfg: sigmoid_loss(policy, ref, cfg.beta, cfg.label_smoothing), True, 0.2
    ),
    "ipo": PairLoss(lambda policy, ref, tokens, cfg: ipo_loss(policy, ref, tokens, cfg.beta), True, 0.1),
    "simpo": PairLoss(lambda policy, _, tokens, cfg: simpo_loss(policy, tokens, cfg.beta, cfg.simpo_gamma), False, 2.0),
}
"""By the name that TRL gives them."""


def pair_loss(
    policy: Tensor, reference: Tensor | None, tokens: Tensor, cfg: LossConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """Losses and metrics of a batch; `reference` is None where the loss needs none.

    Without a reference all metrics are of the average token, as in TRL.
    """
    how = LOSSES[cfg.loss]
    against = reference if how.needs_reference else torch.zeros_like(policy)
    # Zeros would pass for a reference that finds every response certain.
    assert against is not None
    losses = how.losses(policy, against, tokens, cfg)
    watched = policy.detach()
    return losses, dpo_metrics(watched if how.needs_reference else watched / tokens, against, cfg.beta)


def sft_loss(logps: Tensor) -> Tensor:
    """Negative log-probability of all learned tokens, in nats: `logps` are sums of lines."""
    return -logps.sum()


def dpo_metrics(policy: Tensor, reference: Tensor, beta: float) -> dict[str, Tensor]:
    """Metrics of training, (batch,) each, under TRL's names; a tie counts as half right."""
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
