"""Fused parts of a decoder layer: fewer passes over memory, gradients by hand; the base model is frozen.

Each replaces the forward of a module that is built as expected and that gives the same numbers on a trial; any other
module stays as transformers wrote it. Only what is costly to compute again is saved for the backward: the input and one
number a token for a norm, gate and up for SwiGLU, nothing for rotary embeddings, and for LoRA the input and its
low-rank image.
"""

import inspect
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train.model.matmul import input_gradient, row_parts


def fuse(model: nn.Module) -> dict[str, int]:
    """Replace what can be replaced in a model, adapters and all; returns how many modules of each kind were."""
    found = {"norms": 0, "mlps": 0, "linears": 0, "rotary": 0}
    module: Any
    for module in model.modules():
        if is_rms_norm(module) and agrees_with(module, rms_norm_forward(module), module.weight.shape[0]):
            module.forward = rms_norm_forward(module)
            found["norms"] += 1
        elif is_swiglu(module) and agrees_with(module, swiglu_forward(module), module.gate_proj.weight.shape[1]):
            module.forward = swiglu_forward(module)
            found["mlps"] += 1
        elif is_frozen_linear(module):
            module.forward = frozen_forward(module)
            found["linears"] += 1
        if hasattr(module, "q_proj"):
            found["rotary"] += replace_rotary(sys.modules[type(module).__module__])
    return found


def agrees_with(module: Any, ours: Callable[[Tensor], Tensor], width: int) -> bool:
    """Whether a module and its replacement give the same values and input gradients on random states."""
    weight = next(module.parameters())
    states = torch.randn(5, width, generator=torch.Generator().manual_seed(0)).to(weight)
    results = []
    for call in (module.forward, ours):
        given = states.clone().requires_grad_()
        out = call(given)
        (grad,) = torch.autograd.grad(out.square().sum(), given)
        results.append((out.detach().float(), grad.float()))
    share = 1e-4 if torch.finfo(weight.dtype).bits >= 32 else 5e-2
    return all((a - b).abs().max() <= share * a.abs().max() for a, b in zip(*results, strict=True))


def is_rms_norm(module: nn.Module) -> bool:
    return (
        type(module).__name__.endswith("RMSNorm") and hasattr(module, "variance_epsilon") and hasattr(module, "weight")
    )


def rms_norm_forward(module: Any) -> Callable[[Tensor], Tensor]:
    def forward(states: Tensor) -> Tensor:
        return RMSNorm.apply(states, module.weight, module.variance_epsilon)  # type: ignore[no-untyped-call, no-any-return]

    return forward


class RMSNorm(torch.autograd.Function):
    """x / sqrt(mean(x^2) + epsilon) * frozen weight, over the last dimension, https://arxiv.org/abs/1910.07467."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        exact = states.float() if states.dtype in (torch.bfloat16, torch.float16) else states
        size = torch.linalg.vector_norm(exact, dim=-1, keepdim=True)
        scale = (size.square_().div_(states.shape[-1]).add_(epsilon)).rsqrt_()
        ctx.save_for_backward(states, weight, scale)
        out: Tensor = (exact * scale).to(states.dtype).mul_(weight)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        states, weight, scale = ctx.saved_tensors
        slope = (grad * weight).to(scale.dtype)
        exact = states.to(scale.dtype)
        along = torch.linalg.vecdot(slope, exact)[..., None]
        along.mul_(scale.pow(3)).div_(-states.shape[-1])
        return slope.mul_(scale).addcmul_(exact, along).to(grad.dtype), None, None


def is_swiglu(module: nn.Module) -> bool:
    layers = [getattr(module, name, None) for name in ("gate_proj", "up_proj", "down_proj")]
    return (
        all(type(layer) is nn.Linear and layer.bias is None for layer in layers)
        and not any(value.requires_grad for value in module.parameters())
        and type(getattr(module, "act_fn", None)).__name__ in ("SiLU", "SiLUActivation")
    )


def swiglu_forward(module: Any) -> Callable[[Tensor], Tensor]:
    def forward(states: Tensor) -> Tensor:
        weights = (module.gate_proj.weight, module.up_proj.weight, module.down_proj.weight)
        out: Tensor = SwiGLU.apply(states.flatten(0, -2), *weights)  # type: ignore[no-untyped-call]
        return out.view(states.shape)

    return forward


class SwiGLU(torch.autograd.Function):
    """(silu(x @ gate.T) * (x @ up.T)) @ down.T, https://arxiv.org/abs/2002.05202, with frozen weights."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
        out = torch.empty_like(states)
        kept = []
        # a block at a time, so that what is in between stays in the processor's cache
        for part in row_parts(len(states)):
            gated, raised = torch.mm(states[part], gate.T), torch.mm(states[part], up.T)
            torch.mm(F.silu(gated).mul_(raised), down.T, out=out[part])
            kept += [gated, raised]
        ctx.save_for_backward(gate, up, down, *kept)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        gate, up, down, *kept = ctx.saved_tensors
        out = torch.empty_like(grad)
        for number, part in enumerate(row_parts(len(grad))):
            gated, raised = kept[2 * number], kept[2 * number + 1]
            inner = input_gradient(grad[part], down)
            of_gate = torch.ops.aten.silu_backward(inner * raised, gated)
            of_up = inner.mul_(F.silu(gated))
            out[part] = input_gradient(of_up, up, plus=input_gradient(of_gate, gate))
        return out, None, None, None


def is_frozen_linear(module: nn.Module) -> bool:
    return type(module) is nn.Linear and not any(value.requires_grad for value in module.parameters())


def frozen_forward(module: Any) -> Callable[[Tensor], Tensor]:
    def forward(states: Tensor) -> Tensor:
        out: Tensor = FrozenLinear.apply(states.flatten(0, -2), module.weight, module.bias)  # type: ignore[no-untyped-call]
        return out.view(*states.shape[:-1], -1)

    return forward


class FrozenLinear(torch.autograd.Function):
    """x @ weight.T + bias, of which nothing is trained."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return torch.mm(states, weight.T) if bias is None else torch.addmm(bias, states, weight.T)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        return input_gradient(grad, weight), None, None


def replace_rotary(module: ModuleType) -> bool:
    """Put ours in the place of a modeling module's rotary function, if that is the usual one."""
    theirs = getattr(module, "apply_rotary_pos_emb", None)
    if hasattr(theirs, "replaced"):
        return True
    names = ["q", "k", "cos", "sin", "unsqueeze_dim"]
    if theirs is None or list(inspect.signature(theirs).parameters) != names:
        return False
    random = torch.Generator().manual_seed(0)
    query, key = (torch.randn(1, heads, 5, 8, generator=random) for heads in (4, 2))
    angles = torch.randn(1, 5, 4, generator=random).repeat(1, 1, 2)
    ours = rotary_function(theirs)
    expected, found = (call(query, key, angles.cos(), angles.sin()) for call in (theirs, ours))
    if not all(torch.allclose(a, b, atol=1e-5) for a, b in zip(expected, found, strict=True)):
        return False
    module.apply_rotary_pos_emb = ours  # type: ignore[attr-defined]
    return True


def rotary_function(theirs: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., tuple[Tensor, Tensor]]:
    """`rotate_both`, and theirs where a model turns a part of each head alone."""

    def rotate(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1) -> tuple[Tensor, Tensor]:
        call = rotate_both if cos.shape[-1] == q.shape[-1] else theirs
        return call(q, k, cos, sin, unsqueeze_dim=unsqueeze_dim)

    rotate.replaced = theirs  # type: ignore[attr-defined]
    return rotate


def rotate_both(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1) -> tuple[Tensor, Tensor]:
    """Rotary embeddings of queries and keys, https://arxiv.org/abs/2104.09864, halves rotated as transformers does it.

    `cos` and `sin` hold every angle twice, once for each half.
    """
    half = q.shape[-1] // 2
    angles = [each[..., :half].unsqueeze(unsqueeze_dim) for each in (cos, sin)]
    return Rotation.apply(q, *angles), Rotation.apply(k, *angles)  # type: ignore[no-untyped-call]


class Rotation(torch.autograd.Function):
    """The two halves of the last dimension as the plane's axes, turned by angles."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return rotate_states(states, cos, sin, 1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return rotate_states(grad, cos, sin, -1), None, None


def rotate_states(states: Tensor, cos: Tensor, sin: Tensor, sign: int) -> Tensor:
    out = torch.empty_like(states)
    half = states.shape[-1] // 2
    first, second = states[..., :half], states[..., half:]
    torch.mul(first, cos, out=out[..., :half]).addcmul_(second, sin, value=-sign)
    torch.mul(second, cos, out=out[..., half:]).addcmul_(first, sin, value=sign)
    return out
