"""Packed linear layers, against those that they replace."""

import torch
from rounding import assert_close
from torch import nn
from torch.nn import functional

from curate.models.decode import PackedLinear, pack


@torch.inference_mode()
def test_a_packed_layer_computes_what_the_linear_layer_computes():
    torch.manual_seed(0)
    for bias in (True, False):
        linear = nn.Linear(48, 80, bias=bias)
        for shape in ((1, 48), (7, 48), (2, 5, 48), (300, 48)):
            rows = torch.randn(shape)
            exact = functional.linear(rows.double(), linear.weight.double(), linear.bias.double() if bias else None)
            assert_close(PackedLinear(linear)(rows), linear(rows), exact)


def test_weights_that_something_else_uses_stay_as_they_are():
    model = nn.ModuleDict({"read": nn.Embedding(10, 8), "inner": nn.Sequential(nn.Linear(8, 8)), "write": None})
    model["write"] = nn.Linear(8, 10, bias=False)
    model["write"].weight = model["read"].weight

    pack(model)

    assert type(model["write"]) is nn.Linear
    assert type(model["inner"][0]) is PackedLinear


def test_half_precision_stays_as_it_is():
    model = nn.Sequential(nn.Linear(8, 8, dtype=torch.bfloat16))

    pack(model)

    assert type(model[0]) is nn.Linear
