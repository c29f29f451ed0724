"""How far rounding may carry: as far as it carries a peer of the same precision, whatever the processor.

A product or a sum is rounded otherwise on every processor, so no figure that was measured on one is a bound on others.
Float64 tells what is exact, a plain implementation how far its own rounding takes it from there.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

FACTOR = 8
"""Times a peer's distance from float64 that is no mistake: another order of the sums, or a peer that was lucky."""
UNITS = 16
"""Units of rounding that are always allowed, for a peer may be exact."""
SENSE = {torch.float32: 1e-3, torch.bfloat16: 0.2}
"""Distance of the peer above which the bound would hold for anything."""


def difference(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """How far two sets of tensors lie apart: the largest over the tensors of |a - b| / |b|, Euclidean norms."""
    assert found.keys() == expected.keys()
    return max(
        ((found[name].double() - value.double()).norm() / value.double().norm()).item()
        for name, value in expected.items()
    )


def assert_as_exact(
    found: Mapping[str, Tensor], peer: Mapping[str, Tensor], exact: Mapping[str, Tensor], dtype: torch.dtype
) -> None:
    """`found` is about as near to `exact` as `peer` is, which computes the same in the same `dtype`."""
    ours, theirs = difference(found, exact), difference(peer, exact)
    assert theirs < SENSE[dtype]
    assert ours <= FACTOR * theirs + UNITS * torch.finfo(dtype).eps


def assert_close(found: Tensor, peer: Tensor, exact: Tensor) -> None:
    """The same of one tensor, in the precision of the peer."""
    assert_as_exact({"": found.detach()}, {"": peer.detach()}, {"": exact.detach()}, peer.dtype)


def exact_norms(model: nn.Module) -> nn.Module:
    """A model in float64 of which no norm is computed in float32, as transformers computes it in every precision."""

    def replace(module: nn.Module, epsilon: float, scale: Tensor) -> None:
        module.forward = lambda states: scale * states * (states.square().mean(-1, keepdim=True) + epsilon).rsqrt()

    for module in norms_of(model):
        if hasattr(module, "variance_epsilon"):
            replace(module, module.variance_epsilon, module.weight)
        else:
            # Gemma's, whose weight is what a norm has beyond 1
            replace(module, module.eps, 1 + module.weight)
    return model


def norms_of(model: nn.Module) -> Iterable[nn.Module]:
    return [module for module in model.modules() if type(module).__name__.endswith("RMSNorm")]
