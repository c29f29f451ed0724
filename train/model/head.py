"""Log-probabilities of learned tokens from hidden states, block by block: logits of a whole batch never exist.

The output layer is frozen, so what the log-probabilities change by with the hidden states is made in the forward,
while a block's logits are there, and the backward multiplies it by what comes from the loss.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from schemas.errors import UserError

ROWS = 2048
COLUMNS = {"cpu": 1024, "cuda": 16_384}
"""Learned tokens and words of the vocabulary whose logits exist at a time: few enough for a processor's cache."""


class Head(NamedTuple):
    """logits = cap * tanh(scale * (hidden @ weight.T + bias) / cap); without a cap, what stands inside."""

    weight: Tensor
    """(vocabulary, width)."""
    bias: Tensor | None
    scale: float
    cap: float | None


def read_head(model: Any, name: str) -> Head:
    """The head of a causal language model. Raises UserError where an adapter trains it, for it is taken as frozen."""
    layer = model.get_output_embeddings()
    if any(value.requires_grad for value in layer.parameters()) or hasattr(layer, "base_layer"):
        raise UserError(
            f"an adapter of {name} changes its output layer (lm_head), which is not trained here; leave it out"
        )
    settings = model.config.get_text_config()
    scale = float(getattr(settings, "logit_scale", None) or 1.0) / float(
        getattr(settings, "logits_scaling", None) or 1.0
    )
    cap = getattr(settings, "final_logit_softcapping", None)
    return Head(layer.weight.detach(), getattr(layer, "bias", None), scale, None if cap is None else float(cap))


def learned_logps(hidden: Tensor, head: Head, targets: Tensor, lines: Tensor, count: int) -> Tensor:
    """Summed log-probability of the learned tokens of each of `count` lines, (count,), float64.

    `hidden` is (learned, width): the states that predict `targets`, (learned,), of `lines`, (learned,). The sum is in
    float64, for DPO takes small differences of large sums: in float32 a response of 2,000 nats is off by 1e-4.
    """
    logps: Tensor = TargetLogps.apply(hidden, head, targets)  # type: ignore[no-untyped-call]
    return torch.zeros(count, dtype=torch.float64, device=logps.device).index_add(0, lines, logps)


class TargetLogps(torch.autograd.Function):
    """(learned, width) hidden states to (learned,) log-probabilities of their targets, float64.

    The vocabulary comes in blocks. What was summed before is scaled down wherever a block has a larger logit, as in
    online softmax (https://arxiv.org/abs/1805.02867), and so is the sum of probability times weight that the
    gradient needs: every logit is made once.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Head, targets: Tensor) -> Tensor:
        logps = torch.empty(len(hidden), dtype=torch.float64, device=hidden.device)
        slope = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        for start in range(0, len(hidden), ROWS):
            part = slice(start, start + ROWS)
            found, slopes = target_logps(hidden[part], head, targets[part], slope is not None)
            logps[part] = found
            if slope is not None and slopes is not None:
                slope[part] = slopes
        if slope is not None:
            ctx.save_for_backward(slope)
        return logps

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return slope * grad[:, None].to(slope.dtype), None, None


def target_logps(hidden: Tensor, head: Head, targets: Tensor, with_slope: bool) -> tuple[Tensor, Tensor | None]:
    """Log-probabilities of the targets, (rows,), and what they change by with the hidden states, (rows, width)."""
    exact = torch.promote_types(hidden.dtype, torch.float32)
    columns = COLUMNS[hidden.device.type]
    highest = torch.full((len(hidden), 1), float("-inf"), dtype=exact, device=hidden.device)
    total = torch.zeros_like(highest, dtype=torch.float64)
    wanted, steep = torch.zeros_like(highest), torch.ones_like(highest)
    pull = torch.zeros(hidden.shape, dtype=exact, device=hidden.device)
    buffer = torch.empty(len(hidden) * columns, dtype=hidden.dtype, device=hidden.device)
    for start in range(0, len(head.weight), columns):
        block = head.weight[start : start + columns].to(hidden.dtype)
        raw = torch.mm(hidden, block.T, out=buffer[: len(hidden) * len(block)].view(len(hidden), len(block)))
        bias = None if head.bias is None else head.bias[start : start + columns]
        logits, steepness = cap_logits(raw.to(exact), bias, head)
        # The target's logit is rounded as those it is compared with are: a probability over 1 would be nonsense.
        at = (targets - start)[:, None]
        here, at = (at >= 0) & (at < len(block)), at.clamp(0, len(block) - 1)
        wanted = torch.where(here, logits.gather(1, at), wanted)
        if steepness is not None:
            steep = torch.where(here, steepness.gather(1, at), steep)
        above = torch.maximum(highest, logits.amax(dim=1, keepdim=True))
        shrink = (highest - above).exp_()
        highest = above
        shares = logits.sub_(highest).exp_()
        total.mul_(shrink).add_(shares.sum(dim=1, keepdim=True))
        if with_slope:
            if steepness is not None:
                shares *= steepness
            # A product that is added up by itself first rounds less than one added to the sum term by term.
            pull.mul_(shrink).add_(torch.mm(shares.to(block.dtype), block))
    logps = (wanted.double() - highest.double() - total.log())[:, 0]
    if not with_slope:
        return logps, None
    of_wanted = head.weight[targets].to(exact) * steep
    return logps, pull.div_(-total.to(exact)).add_(of_wanted).mul_(head.scale).to(hidden.dtype)


def cap_logits(raw: Tensor, bias: Tensor | None, head: Head) -> tuple[Tensor, Tensor | None]:
    """Products as logits, in place, and what these change by with a scaled product where there is a cap."""
    if bias is not None:
        raw += bias
    if head.scale != 1.0:
        raw *= head.scale
    if head.cap is None:
        return raw, None
    bent = raw.div_(head.cap).tanh_()
    steepness = 1 - bent.square()
    return bent.mul_(head.cap), steepness
