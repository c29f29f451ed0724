"""Gradients through frozen weights, by the faster of MKL and oneDNN.

On x86 processors torch multiplies float32 matrices with MKL, which on AMD's is mostly slower here than oneDNN
(`benchmarks/dpo.py` prints both). oneDNN comes with torch too, behind the operator that its compiler uses for linear
layers. It adds up long sums one by one and so rounds more: gradients bear that, while log-probabilities, and sums over
a vocabulary, would be farther from the exact ones. So what goes forward stays with MKL.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor

BLOCKS = (512, 128)
"""Rows multiplied at a time. oneDNN compiles a product for each length and keeps it: of any length, without end."""


def input_gradient(grad: Tensor, weight: Tensor, plus: Tensor | None = None) -> Tensor:
    """grad @ weight + `plus`, for the input of a linear layer: (rows, out), (out, in), (rows, in) to (rows, in)."""
    is_usual = grad.dtype == torch.float32 and grad.device.type == "cpu"
    quick = find_onednn() if is_usual else None
    if quick is None or len(grad) < BLOCKS[-1]:
        return torch.mm(grad, weight) if plus is None else torch.addmm(plus, grad, weight)
    out = grad.new_empty(len(grad), weight.shape[1])
    for part in row_parts(len(grad)):
        rows, more = grad[part], None if plus is None else plus[part]
        if len(rows) not in BLOCKS:
            torch.mm(rows, weight, out=out[part])
            if more is not None:
                out[part] += more
        elif more is None:
            out[part] = quick(rows, weight.T, None, "none", [], "")
        else:
            out[part] = quick.binary(rows, more, weight.T, None, "add")
    return out


@cache
def find_onednn() -> Any:
    """The operator, or None where torch was built without it."""
    if not torch.backends.mkldnn.is_available() or not hasattr(  # type: ignore[no-untyped-call]
        torch.ops.mkldnn, "_linear_pointwise"
    ):
        return None
    return torch.ops.mkldnn._linear_pointwise


def row_parts(count: int) -> list[slice]:
    """Rows in blocks, the longest first; what is left over is shorter than any."""
    parts, start = [], 0
    for rows in BLOCKS:
        while count - start >= rows:
            parts.append(slice(start, start + rows))
            start += rows
    return [*parts, slice(start, count)] if start < count else parts
