"""Every part that is replaced gives the values and gradients of the part it replaces; others stay as they are."""

import copy

import pytest
import torch
from tiny_models import ROTARY, as_transformers_wrote_it, tiny, with_lora
from torch import nn
from transformers import Glm4MoeConfig, Glm4MoeForCausalLM, GlmConfig, GlmForCausalLM
from transformers.activations import ACT2FN
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
from transformers.models.glm4_moe import modeling_glm4_moe
from transformers.models.llama.modeling_llama import LlamaRMSNorm

import train.model.fused_cpu as fused
from train.model.fused_cpu import fuse, is_frozen_linear, is_rms_norm, is_swiglu, rotate_both

KINDS = ["llama", "smollm2", "qwen2", "qwen3", "mistral windowed"]
PRECISIONS = [torch.float64, torch.float32, torch.bfloat16]

SHARES = {torch.float64: 1e-6, torch.float32: 1e-5, torch.bfloat16: 3e-2}
"""How far a replacement may be off, of the largest value; norms of transformers are in float32 at most."""


SMALL = {
    "vocab_size": 31,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "pad_token_id": 0,
}


@pytest.fixture(autouse=True)
def rotary():
    """Undo what `fuse` does to modeling modules."""
    with as_transformers_wrote_it():
        yield


def layer(kind, dtype):
    return copy.deepcopy(tiny(kind)).to(dtype).model.layers[0]


def results(call, given):
    """Values and input gradients in float64, where each output counts differently."""
    given = given.clone().requires_grad_()
    out = call(given)
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(9))
    (grad,) = torch.autograd.grad((out * weights.to(out.dtype)).sum(), given)
    assert (out.dtype, grad.dtype) == (given.dtype, given.dtype)
    return out.detach().double(), grad.double()


def assert_same(call, theirs, shape, dtype):
    """Both have the same values and gradients, and leave what they are given as it was."""
    given = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    before = given.clone()
    found, expected = results(call, given), results(theirs, given)
    assert torch.equal(given, before)
    for ours, other in zip(found, expected, strict=True):
        assert (ours - other).abs().max() <= SHARES[dtype] * other.abs().max()


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (3, 5), (1, 512 + 1)])
def test_norms_mlps_and_linears_are_those_of_transformers(kind, dtype, shape):
    ours, theirs = layer(kind, dtype), layer(kind, dtype)

    fuse(ours)

    width = ours.input_layernorm.weight.shape[0]
    for name in ("input_layernorm", "mlp", "self_attn.q_proj", "self_attn.k_proj", "mlp.gate_proj"):
        replaced = ours.get_submodule(name)
        assert "forward" in vars(replaced), name
        assert_same(replaced, theirs.get_submodule(name), (*shape, width), dtype)


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_norms_of_query_and_key_heads_are_those_of_transformers(dtype):
    ours, theirs = layer("qwen3", dtype), layer("qwen3", dtype)

    fuse(ours)

    assert_same(ours.self_attn.q_norm, theirs.self_attn.q_norm, (1, 5, 4, 16), dtype)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("size", [1e-6, 1e4])
def test_a_norm_of_tiny_and_huge_states_is_that_of_transformers(dtype, size):
    norm = LlamaRMSNorm(16, eps=1e-5).to(dtype).requires_grad_(False)
    norm.weight.copy_(torch.linspace(-1, 2, 16))

    def ours(states):
        return fused.rms_norm_forward(norm)(states * size)

    assert_same(ours, lambda states: norm(states * size), (2, 3, 16), dtype)
    assert fused.rms_norm_forward(norm)(torch.zeros(1, 1, 16, dtype=dtype)).abs().max() == 0


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("module", ROTARY, ids=lambda module: module.__name__.rpartition("_")[2])
def test_queries_and_keys_are_turned_as_transformers_does(module, dtype):
    random = torch.Generator().manual_seed(0)
    angles = torch.randn(1, 9, 8, generator=random).repeat(1, 1, 2)
    cos, sin = angles.cos().to(dtype), angles.sin().to(dtype)
    key = torch.randn(1, 2, 9, 16, generator=random).to(dtype)

    for side in (0, 1):
        # the query is given twice as many heads; each side is looked at as a function of its own states
        def turned(rotate, side=side):
            return lambda states: rotate(*((states, key) if side == 0 else (key, states)), cos, sin)[side]

        assert_same(turned(rotate_both), turned(ROTARY[module]), (1, 4, 9, 16), dtype)
        assert_same(turned(rotate_both), turned(ROTARY[module]), (3, 4, 9, 16), dtype)


@pytest.mark.parametrize("kind", KINDS)
def test_all_parts_of_a_layer_are_counted(kind):
    model = tiny(kind)

    found = fuse(model)

    # two norms a layer and one at the end, and those of queries and keys; q, k, v, o, gate, up, down and the head
    assert found == {"norms": 9 if kind == "qwen3" else 5, "mlps": 2, "linears": 15, "rotary": 2}


def test_the_parts_that_an_adapter_wraps_are_left_to_it():
    found = fuse(with_lora(tiny("llama")))

    # what q_proj and v_proj wrap is frozen, and the adapters' own layers are not
    assert found == {"norms": 5, "mlps": 2, "linears": 15, "rotary": 2}


def test_a_gemma_layer_keeps_its_norms_and_its_gelu():
    model = tiny("gemma2")
    mine = model.model.layers[0].mlp, model.model.norm

    found = fuse(model)

    assert (found["norms"], found["mlps"]) == (0, 0)
    assert not any("forward" in vars(module) for module in mine)


def test_a_norm_that_adds_1_to_its_weight_is_not_taken_for_a_usual_one():
    norm = Gemma2RMSNorm(16).requires_grad_(False)
    # as if it were named like the usual one
    norm.variance_epsilon = norm.eps

    found = fuse(nn.Sequential(norm))

    assert is_rms_norm(norm)
    assert found["norms"] == 0
    assert "forward" not in vars(norm)


@pytest.mark.parametrize("change", ["gelu", "bias", "trained", "wrapped", "clamped"])
def test_an_mlp_that_differs_is_left_alone(change):
    mlp = layer("llama", torch.float32).mlp
    match change:
        case "gelu":
            mlp.act_fn = ACT2FN["gelu"]
        case "bias":
            mlp.up_proj = nn.Linear(32, 48).requires_grad_(False)
        case "trained":
            mlp.down_proj.weight.requires_grad_()
        case "wrapped":
            mlp.gate_proj = nn.Sequential(mlp.gate_proj)
        case "clamped":
            theirs = mlp.forward
            mlp.forward = lambda states: theirs(states).clamp(-1e-3, 1e-3)
    before = vars(mlp).get("forward")

    found = fuse(nn.Sequential(mlp))

    assert found["mlps"] == 0
    assert vars(mlp).get("forward") is before
    assert is_swiglu(mlp) == (change == "clamped")


def test_a_linear_layer_that_is_trained_or_of_another_kind_is_left_alone():
    class Doubled(nn.Linear):
        def forward(self, states):
            return 2 * super().forward(states)

    assert not is_frozen_linear(nn.Linear(3, 4))
    assert not is_frozen_linear(Doubled(3, 4).requires_grad_(False))
    assert is_frozen_linear(nn.Linear(3, 4).requires_grad_(False))


def test_a_rotary_function_of_pairs_that_lie_side_by_side_is_kept():
    model = GlmForCausalLM(GlmConfig(**SMALL)).requires_grad_(False)

    assert fuse(model)["rotary"] == 0


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_a_model_that_turns_a_part_of_each_head_says_the_same_as_before(share):
    torch.manual_seed(0)
    theirs = modeling_glm4_moe.apply_rotary_pos_emb
    rope = {"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": share}
    config = Glm4MoeConfig(**SMALL, rope_parameters=rope, first_k_dense_replace=1, partial_rotary_factor=share)
    model = Glm4MoeForCausalLM(config).requires_grad_(False).eval()
    ids = torch.randint(31, (1, 12))
    try:
        before = model(ids).logits

        fuse(model)

        torch.testing.assert_close(model(ids).logits, before, atol=1e-5, rtol=1e-5)
    finally:
        modeling_glm4_moe.apply_rotary_pos_emb = theirs


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", [*KINDS, "gemma2"])
def test_a_whole_model_says_the_same_as_before(kind, dtype):
    model = tiny(kind).to(dtype)
    ids = torch.randint(97, (2, 20), generator=torch.Generator().manual_seed(0))
    before = model(ids).logits.double()

    fuse(model)

    after = model(ids).logits.double()
    assert (after - before).abs().max() <= (1e-4 if dtype == torch.float32 else 0.1) * before.abs().max()
