"""Log-probabilities made block by block equal those of all logits at once, and so do their gradients."""

import math

import pytest
import torch
from peft import LoraConfig, get_peft_model
from rounding import assert_as_exact, assert_close
from tiny_models import tiny, with_lora
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import train.model.head as head_module
from schemas.errors import UserError
from train.model.head import Head, TargetLogps, learned_logps, read_head

LEARNED, WIDTH, VOCABULARY = 11, 6, 23

HEADS = {
    "plain": {},
    "bias": {"bias": True},
    "scale": {"scale": 0.25},
    "cap": {"cap": 2.0},
    "bias, scale and cap": {"bias": True, "scale": 3.0, "cap": 1.5},
}


def cut(monkeypatch, rows, columns):
    """Make logits of so many learned tokens and words at a time."""
    monkeypatch.setattr(head_module, "ROWS", rows)
    monkeypatch.setitem(head_module.COLUMNS, "cpu", columns)


@pytest.fixture(params=[(4, 5), (11, 23), (1, 1), (100, 100)], ids=lambda blocks: "{}x{}".format(*blocks))
def blocks(request, monkeypatch):
    """Blocks that divide neither the rows nor the vocabulary, that divide both, of one logit, and larger than all."""
    cut(monkeypatch, *request.param)


def made(bias=False, scale=1.0, cap=None, dtype=torch.float64, size=1.0):
    """Hidden states, a head and targets."""
    random = torch.Generator().manual_seed(0)
    hidden, weight, offset = (
        (torch.randn(*shape, generator=random, dtype=torch.float64) * size).to(dtype)
        for shape in ((LEARNED, WIDTH), (VOCABULARY, WIDTH), (VOCABULARY,))
    )
    targets = torch.randint(VOCABULARY, (LEARNED,), generator=random)
    return hidden, Head(weight, offset if bias else None, scale, cap), targets


def plain(hidden, head, targets):
    """The same from all logits, in the precision that the hidden states have."""
    logits = hidden @ head.weight.to(hidden.dtype).T
    logits = head.scale * (logits if head.bias is None else logits + head.bias.to(hidden.dtype))
    if head.cap is not None:
        logits = head.cap * (logits / head.cap).tanh()
    return logits.log_softmax(-1).gather(1, targets[:, None])[:, 0]


def with_gradient(logps, hidden, head, targets):
    """Log-probabilities and the gradient where each counts differently."""
    hidden = hidden.clone().requires_grad_()
    found = logps(hidden, head, targets)
    (grad,) = torch.autograd.grad((found * torch.arange(1.0, len(targets) + 1)).sum(), hidden)
    return found.detach().double(), grad.double()


def assert_near_float64(hidden, head, targets):
    """Values and gradients are about as near to float64 as those of all logits in the same precision."""
    found, peer, exact = (
        dict(enumerate(with_gradient(logps, states, head, targets)))
        for logps, states in ((TargetLogps.apply, hidden), (plain, hidden), (plain, hidden.double()))
    )
    assert_as_exact(found, peer, exact, hidden.dtype)


@pytest.mark.parametrize("kind", HEADS)
def test_values_and_gradients_are_those_of_all_logits(blocks, kind):
    hidden, head, targets = made(**HEADS[kind])

    found = with_gradient(TargetLogps.apply, hidden, head, targets)

    for ours, theirs in zip(found, with_gradient(plain, hidden, head, targets), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("kind", HEADS)
def test_the_gradient_passes_a_numeric_check(monkeypatch, kind):
    cut(monkeypatch, 4, 5)
    hidden, head, targets = made(**HEADS[kind])

    assert torch.autograd.gradcheck(lambda states: TargetLogps.apply(states, head, targets), hidden.requires_grad_())


@pytest.mark.parametrize("kind", HEADS)
def test_values_are_the_same_where_no_gradient_is_asked_for(blocks, kind):
    hidden, head, targets = made(**HEADS[kind])

    with torch.no_grad():
        found = TargetLogps.apply(hidden, head, targets)

    torch.testing.assert_close(found, plain(hidden, head, targets), atol=1e-12, rtol=1e-10)


def test_many_rows_and_words_are_close_in_float32():
    hidden, weight = torch.randn(700, 32), torch.randn(3000, 32)
    head, targets = Head(weight, None, 1.0, None), torch.randint(3000, (700,))

    assert_near_float64(hidden, head, targets)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", HEADS)
def test_lower_precisions_are_close(blocks, kind, dtype):
    hidden, head, targets = made(**HEADS[kind], dtype=dtype)

    assert_near_float64(hidden, head, targets)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [1e4, -1e4])
def test_huge_logits_stay_finite(blocks, dtype, size):
    weight = torch.zeros(VOCABULARY, WIDTH, dtype=dtype)
    # the first word is certain, or impossible
    weight[0] = size / WIDTH
    hidden, targets = torch.ones(2, WIDTH, dtype=dtype), torch.tensor([0, 1])

    logps, grad = with_gradient(TargetLogps.apply, hidden, Head(weight, None, 1.0, None), targets)

    others = math.log(VOCABULARY - 1)
    expected = [0.0, -1e4] if size > 0 else [-1e4 - others, -others]
    assert grad.isfinite().all()
    # a logit of 1e4 in float32 is off by up to 5e-4
    assert logps.tolist() == pytest.approx(expected, rel=5e-3, abs=1e-3)


def test_lines_are_summed_in_float64_and_one_without_learned_tokens_is_0():
    hidden, head, targets = made(dtype=torch.float32)
    lines = torch.tensor([0, 0, 0, 3, 3, 1, 1, 1, 1, 1, 0])

    found = learned_logps(hidden, head, targets, lines, 4)

    peer, exact = (plain(states, head, targets) for states in (hidden, hidden.double()))
    assert found.dtype == torch.float64
    assert_close(found, *(torch.zeros(4, dtype=each.dtype).index_add(0, lines, each) for each in (peer, exact)))
    assert found[2] == 0


def test_no_learned_token_is_no_log_probability():
    hidden, head, targets = made()

    assert learned_logps(hidden[:0], head, targets[:0], targets[:0], 1).tolist() == [0.0]


class Largest(TorchDispatchMode):
    """Watches how many numbers the largest tensor has that any operation makes."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        made = [each.numel() for each in tree_leaves(out) if isinstance(each, torch.Tensor)]
        self.numbers = max(self.numbers, *made, 0)
        return out


def test_logits_of_a_whole_batch_never_exist():
    vocabulary, learned, width = 30_000, 500, 8
    head = Head(torch.randn(vocabulary, width), None, 1.0, None)
    hidden = torch.randn(learned, width, requires_grad=True)
    targets = torch.randint(vocabulary, (learned,))

    with Largest() as largest:
        learned_logps(hidden, head, targets, torch.zeros_like(targets), 1).sum().backward()

    assert largest.numbers <= max(learned * head_module.COLUMNS["cpu"], vocabulary * width)
    assert largest.numbers < learned * vocabulary / 10


@pytest.mark.parametrize(("kind", "settings", "cap"), [("llama", {}, None), ("smollm2", {}, None), ("gemma2", {}, 3.0)])
def test_the_head_of_a_model_makes_its_logits(kind, settings, cap):
    model = tiny(kind, **settings)

    head = read_head(model, kind)

    assert (head.scale, head.cap) == (1.0, cap)
    assert head.weight.data_ptr() == model.lm_head.weight.data_ptr()
    assert not head.weight.requires_grad


def test_the_head_is_read_through_an_adapter_of_other_layers():
    model = with_lora(tiny("llama"))

    assert read_head(model.get_base_model(), "it").weight.data_ptr() == model.get_output_embeddings().weight.data_ptr()


@pytest.mark.parametrize("is_trainable", [True, False])
def test_a_head_that_an_adapter_changes_is_refused_by_name(is_trainable):
    lora = LoraConfig(r=4, target_modules=["q_proj", "lm_head"], task_type="CAUSAL_LM")
    model = get_peft_model(tiny("llama"), lora)
    if not is_trainable:
        model.requires_grad_(False)

    with pytest.raises(UserError, match="an adapter of dpo-v1 changes its output layer"):
        read_head(model.get_base_model(), "dpo-v1")


def test_a_head_that_is_trained_is_refused_by_name():
    model = tiny("llama")
    model.lm_head = nn.Linear(model.config.hidden_size, VOCABULARY)

    with pytest.raises(UserError, match="an adapter of dpo-v1 changes its output layer"):
        read_head(model, "dpo-v1")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_token_that_is_all_but_certain_has_no_more_than_that_probability(dtype):
    random = torch.Generator().manual_seed(0)
    weight, targets = torch.randn(2000, 256, generator=random), torch.randint(2000, (300,), generator=random)
    # the logit of each target is about 25, of every other word about 0
    hidden = weight[targets] * 0.1 + torch.randn(300, 256, generator=random) * 0.1
    hidden, weight = hidden.to(dtype), weight.to(dtype)
    head = Head(weight, None, 1.0, None)

    found = TargetLogps.apply(hidden, head, targets)

    # rounding of the target's logit must be that of the sum it is compared with
    assert (found - plain(hidden.double(), head, targets)).abs().max() < 1e-3
    assert found.max() < 1e-4
