"""The losses are what their formulas say."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from train.losses import dpo_loss, dpo_metrics, learnt_logps, sft_loss

nats = st.floats(-500, 0, allow_nan=False)
pair = st.tuples(nats, nats)


def two(values):
    return torch.tensor([values], dtype=torch.float64)


@given(logps=pair, beta=st.floats(0.01, 2))
def test_equal_models_have_a_loss_of_ln_2(logps, beta):
    assert dpo_loss(two(logps), two(logps), beta).item() == pytest.approx(math.log(2), abs=1e-12)


@given(policy=pair, reference=pair)
def test_swapping_chosen_and_rejected_turns_the_sign_of_the_margin(policy, reference):
    straight = dpo_loss(two(policy), two(reference), 0.2).item()
    swapped = dpo_loss(two(policy[::-1]), two(reference[::-1]), 0.2).item()

    # -log sigmoid(m) + log sigmoid(-m) = -m
    margin = 0.2 * ((policy[0] - reference[0]) - (policy[1] - reference[1]))
    assert straight - swapped == pytest.approx(-margin, abs=1e-9)


@settings(deadline=None)
@given(policy=pair, reference=pair)
def test_the_gradient_is_that_of_the_formula(policy, reference):
    logps = two(policy).requires_grad_()

    dpo_loss(logps, two(reference), 0.2).sum().backward()

    margin = 0.2 * ((policy[0] - reference[0]) - (policy[1] - reference[1]))
    slope = -0.2 / (1 + math.exp(min(margin, 700)))
    assert logps.grad.tolist()[0] == pytest.approx([slope, -slope], abs=1e-12)


def test_the_loss_passes_a_numeric_gradient_check():
    policy = torch.tensor([[-3.0, -4.0], [-8.0, -2.0]], dtype=torch.float64, requires_grad=True)
    reference = torch.tensor([[-3.5, -3.0], [-7.0, -2.5]], dtype=torch.float64)

    assert torch.autograd.gradcheck(lambda logps: dpo_loss(logps, reference, 0.2), (policy,))


def test_a_tie_is_half_right():
    policy = torch.tensor([[-3.0, -4.0], [-3.0, -4.0], [-4.0, -3.0]])

    metrics = dpo_metrics(policy, torch.tensor([[-3.0, -4.0], [-4.0, -4.0], [-3.0, -3.0]]), 0.5)

    assert metrics["rewards/accuracies"].tolist() == [0.5, 1.0, 0.0]
    # row 2: 0.5 * ((-3 + 4) - 0)
    assert metrics["rewards/margins"].tolist() == [0.0, 0.5, -0.5]


def test_sft_loss_is_a_mean_over_tokens_and_not_over_rows():
    # (2 + 9) nats over (1 + 10) tokens
    assert sft_loss(torch.tensor([-2.0, -9.0]), torch.tensor([1, 10])).item() == pytest.approx(1.0)


def test_log_probabilities_are_those_of_the_learnt_tokens_alone():
    torch.manual_seed(0)
    head = torch.nn.Linear(4, 11, bias=False)
    hidden, ids = torch.randn(2, 5, 4), torch.randint(0, 11, (2, 5))
    learnt = torch.tensor([[0, 0, 1, 1, 0], [0, 1, 0, 0, 1]], dtype=torch.bool)

    found = learnt_logps(hidden, head, ids, learnt)

    plain = head(hidden).log_softmax(-1)
    expected = [
        plain[0, 1, ids[0, 2]] + plain[0, 2, ids[0, 3]],
        plain[1, 0, ids[1, 1]] + plain[1, 3, ids[1, 4]],
    ]
    assert found.tolist() == pytest.approx([value.item() for value in expected], abs=1e-6)
