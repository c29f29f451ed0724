"""LoRA layer in one autograd node, with dropout that does not depend on the other rows of a batch.

The mask of a row comes from the run's seed, the step, the row and the layer: not from the rows beside it. So a step
has one gradient, whatever part of it is computed at a time, and a prompt that two responses share has one mask.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn

from train.data.packing import Span


@dataclass
class Dropout:
    """Seeds of the dropout masks of the current batch."""

    spans: list[tuple[int, Span]] = field(default_factory=list)
    """Seed of each span, in the batch's order."""

    def draw_for(self, seed: int, step: int, spans: Sequence[Span]) -> None:
        """Take the rows of a batch of this step."""
        self.spans = [(mix_numbers(seed, step, span.row), span) for span in spans]

    def mask(self, layer: int, width: int, share: float, device: torch.device) -> Tensor:
        """(places, width): true for what is kept, drawn for this layer."""
        random = torch.Generator(device)
        kept = torch.ones(sum(span.places for _, span in self.spans), width, dtype=torch.bool, device=device)
        start = 0
        for seed, span in self.spans:
            random.manual_seed((seed + 0x9E3779B97F4A7C15 * (layer + 1)) % 2**63)
            kept[start : start + span.tokens].bernoulli_(1 - share, generator=random)
            start += span.places
        return kept


def mix_numbers(*parts: int) -> int:
    """A number below 2**63 that looks random, from numbers."""
    return int.from_bytes(hashlib.sha256(":".join(map(str, parts)).encode()).digest()[:8], "big") >> 1


def adapt_lora_layers(model: nn.Module) -> Dropout:
    """Give every plain LoRA layer of a model the forward of this file; returns the seeds of its dropout."""
    dropout = Dropout()
    layers = [module for module in model.modules() if isinstance(module, LoraLinear)]
    for number, module in enumerate(layers):
        module.forward = lora_forward(module, number, dropout)  # type: ignore[method-assign]
    return dropout


def lora_forward(module: Any, number: int, dropout: Dropout) -> Callable[..., Tensor]:
    theirs = module.forward
    is_usual = not module.lora_variant and not any(module.lora_bias.values()) and len(module.lora_A) == 1
    is_plain = is_usual and type(module.base_layer) is nn.Linear

    def forward(states: Tensor) -> Tensor:
        if module.disable_adapters or module.merged or not is_plain:
            return theirs(states)  # type: ignore[no-any-return]
        (name,) = module.active_adapters
        share = getattr(module.lora_dropout[name], "p", 0.0) if module.training else 0.0
        flat = states.flatten(0, -2)
        kept = dropout.mask(number, flat.shape[1], share, flat.device) if share else None
        base = module.base_layer
        down, up = module.lora_A[name].weight, module.lora_B[name].weight
        keep = 1 - share
        out: Tensor = LoRALayer.apply(flat, base.weight, base.bias, down, up, module.scaling[name], kept, keep)  # type: ignore[no-untyped-call]
        return out.view(*states.shape[:-1], -1)

    return forward


class LoRALayer(torch.autograd.Function):
    """x @ weight.T + bias + scale * dropout(x) @ down.T @ up.T, https://arxiv.org/abs/2106.09685; base frozen."""

    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        down: Tensor,
        up: Tensor,
        scale: float,
        kept: Tensor | None,
        keep: float,
    ) -> Tensor:
        thinned = states if kept is None else (states * kept).div_(keep)
        low = torch.mm(thinned, down.to(states.dtype).T)
        out = torch.mm(states, weight.T) if bias is None else torch.addmm(bias, states, weight.T)
        out.addmm_(low, up.to(states.dtype).T, alpha=scale)
        ctx.save_for_backward(states, weight, down, up, low, kept)
        ctx.told = (scale, keep)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        states, weight, down, up, low, kept = ctx.saved_tensors
        scale, keep = ctx.told
        of_low = torch.mm(grad, up.to(grad.dtype)).mul_(scale)
        thinned = states if kept is None else (states * kept).div_(keep)
        of_down = torch.mm(of_low.T, thinned).to(down.dtype)
        of_up = torch.mm(grad.T, low).mul_(scale).to(up.dtype)
        out = None
        if ctx.needs_input_grad[0]:
            out = torch.mm(grad, weight)
            if kept is None:
                out.addmm_(of_low, down.to(grad.dtype))
            else:
                out += torch.mm(of_low, down.to(grad.dtype)).mul_(kept).div_(keep)
        return out, None, None, of_down, of_up, None, None, None
