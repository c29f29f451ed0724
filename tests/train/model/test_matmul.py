"""Gradients block by block are those of the whole, whatever library makes them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from train.model.matmul import BLOCKS, input_gradient, row_parts

SHARES = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2}


def numbers(*shape, dtype):
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("dtype", SHARES)
@pytest.mark.parametrize("rows", [0, 1, 127, 128, 129, 511, 512, 640, 1153])
@pytest.mark.parametrize("is_added", [False, True])
def test_a_gradient_is_that_of_float64(dtype, rows, is_added):
    grad, weight = numbers(rows, 40, dtype=dtype), numbers(40, 24, dtype=dtype)
    plus = numbers(rows, 24, dtype=dtype) if is_added else None
    kept = None if plus is None else plus.clone()

    found = input_gradient(grad, weight, plus)

    expected = grad.double() @ weight.double() + (0.0 if plus is None else plus.double())
    assert (found.dtype, found.shape) == (dtype, (rows, 24))
    assert rows == 0 or (found - expected).abs().max() <= SHARES[dtype] * expected.abs().max()
    assert plus is None or torch.equal(plus, kept)


@pytest.mark.parametrize("rows", [128, 600])
def test_gradients_that_do_not_lie_in_one_piece_are_multiplied_too(rows):
    grad, weight = numbers(40, rows, dtype=torch.float32).T, numbers(24, 40, dtype=torch.float32).T

    torch.testing.assert_close(input_gradient(grad, weight), grad @ weight, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        input_gradient(grad[:, ::2], weight[::2]), grad[:, ::2] @ weight[::2], atol=1e-4, rtol=1e-4
    )


@given(rows=st.integers(0, 3000))
def test_blocks_cover_all_rows_once_and_have_few_lengths(rows):
    parts = row_parts(rows)

    assert [row for part in parts for row in range(part.start, part.stop)] == list(range(rows))
    assert all(part.stop - part.start in BLOCKS for part in parts[:-1])
    assert not parts or parts[-1].stop - parts[-1].start <= max(BLOCKS)
