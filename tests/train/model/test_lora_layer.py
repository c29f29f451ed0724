"""A LoRA layer in one node is PEFT's, and its dropout belongs to a row and a step, not to a batch."""

import warnings

import pytest
import torch
from peft import LoraConfig, get_peft_model
from rounding import assert_as_exact
from tiny_models import shaken
from torch import nn

from train.data.packing import Span
from train.model.lora_layer import Dropout, adapt_lora_layers, mix_numbers

CPU = torch.device("cpu")


def a_layer(dtype=torch.float32, bias=False, dropout=0.0, **settings):
    """A model of two adapted layers of 6 to 5 and 5 to 6 numbers, the same at every call."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5, bias=bias), nn.Linear(5, 6, bias=bias)).to(dtype).requires_grad_(False)
    lora = LoraConfig(r=3, lora_alpha=12, lora_dropout=dropout, target_modules=["0", "1"], **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return shaken(get_peft_model(model, lora)).get_base_model()


def results(model, dtype, shape=(2, 4)):
    """Values, and gradients of the states and of every adapter weight, in float64."""
    states = torch.randn(*shape, 6, generator=torch.Generator().manual_seed(1)).to(dtype).requires_grad_()
    out = model(states)
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(2)).to(dtype)
    (out * weights).sum().backward()
    grads = {name: value.grad.double() for name, value in model.named_parameters() if value.grad is not None}
    return {"out": out.detach().double(), "states": states.grad.double(), **grads}


def assert_same(ours, make, dtype, shape=(2, 4)):
    """A layer gives what the layer that `make` makes gives: in float64, and about as near to that in `dtype`."""
    exact = results(make(torch.float64), torch.float64, shape)
    found = results(ours, dtype, shape)
    if dtype == torch.float64:
        torch.testing.assert_close(found, exact, atol=1e-12, rtol=1e-12)
    else:
        assert_as_exact(found, results(make(dtype), dtype, shape), exact, dtype)


def mask(seed=30, step=1, rows=(4,), sizes=(50,), layer=0, width=20, share=0.3):
    dropout = Dropout()
    dropout.draw_for(seed, step, [Span(row, size, size) for row, size in zip(rows, sizes, strict=True)])
    return dropout.mask(layer, width, share, CPU)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (2, 4)])
def test_values_and_gradients_are_those_of_peft(dtype, bias, shape):
    ours = a_layer(dtype, bias)

    adapt_lora_layers(ours)

    assert_same(ours, lambda dtype: a_layer(dtype, bias), dtype, shape)


@pytest.mark.parametrize("settings", [{"use_rslora": True}, {"use_dora": True}, {"lora_bias": True}])
def test_other_forms_of_lora_are_those_of_peft(settings):
    ours = a_layer(bias=True, **settings)

    adapt_lora_layers(ours)

    assert_same(ours, lambda dtype: a_layer(dtype, bias=True, **settings), torch.float32)


def test_an_adapter_that_is_off_or_merged_is_that_of_peft():
    ours, theirs = a_layer(torch.float64), a_layer(torch.float64)
    adapt_lora_layers(ours)
    states = torch.randn(3, 6, dtype=torch.float64)

    expected = {}
    for model, found in ((theirs, expected), (ours, {})):
        found["on"] = model(states)
        for layer in model:
            layer.enable_adapters(False)
        found["off"] = model(states)
        for layer in model:
            layer.enable_adapters(True)
            layer.merge()
        found["merged"] = model(states)
        for layer in model:
            layer.unmerge()
        found["unmerged"] = model(states)
        for name in expected:
            torch.testing.assert_close(found[name], expected[name], atol=1e-12, rtol=1e-12)

    assert not torch.allclose(expected["on"], expected["off"])
    torch.testing.assert_close(expected["on"], expected["merged"], atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_gradients_under_dropout_are_those_of_the_masks_written_out(dtype):
    ours = a_layer(dtype, dropout=0.4).train()
    dropout = adapt_lora_layers(ours)
    dropout.draw_for(30, 1, [Span(7, 3, 3), Span(2, 5, 5)])

    class Masked(nn.Module):
        def __init__(self, number, width, dtype):
            super().__init__()
            self.kept = dropout.mask(number, width, 0.4, CPU).to(dtype) / 0.6

        def forward(self, states):
            return states * self.kept

    def make(dtype):
        plain = a_layer(dtype, dropout=0.4).train()
        for number, layer in enumerate(plain):
            layer.lora_dropout["default"] = Masked(number, layer.in_features, dtype)
        return plain

    assert_same(ours, make, dtype, (8,))


def test_dropout_is_off_where_the_model_is_evaluated():
    model = a_layer(torch.float64, dropout=0.4)
    states = torch.randn(3, 6, dtype=torch.float64)
    expected = model.eval()(states)

    # nothing was drawn
    adapt_lora_layers(model)

    torch.testing.assert_close(model(states), expected)


def test_the_mask_of_a_row_does_not_depend_on_the_rows_beside_it():
    alone = mask(rows=[4], sizes=[50])

    beside = mask(rows=[9, 4, 1], sizes=[30, 50, 1])

    assert beside.shape == (81, 20)
    assert torch.equal(beside[30:80], alone)


@pytest.mark.parametrize("other", [{"seed": 31}, {"step": 2}, {"rows": [5]}, {"layer": 1}, {"layer": 60}])
def test_every_seed_step_row_and_layer_has_a_mask_of_its_own(other):
    assert torch.equal(mask(), mask())
    # two masks that have nothing to do with each other agree in 0.7^2 + 0.3^2 = 58% of places
    assert (mask() == mask(**other)).float().mean() == pytest.approx(0.58, abs=0.08)


@pytest.mark.parametrize("share", [0.01, 0.05, 0.5, 0.99])
def test_as_much_is_dropped_as_was_asked_for(share):
    kept = mask(sizes=[1000], width=100, share=share)

    # five standard errors
    assert 1 - kept.float().mean().item() == pytest.approx(share, abs=5 * (share * (1 - share) / 100_000) ** 0.5)


def test_numbers_from_numbers_are_spread_and_do_not_run_into_each_other():
    found = {mix_numbers(*parts) for parts in [(1, 23), (12, 3), (1, 2, 3), (123,), (1, 23, 0)]}

    assert len(found) == 5
    assert all(0 <= number < 2**63 for number in found)
