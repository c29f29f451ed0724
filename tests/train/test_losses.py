"""The losses are what their formulas say."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from train.losses import LOSSES, LossConfig, dpo_metrics, ipo_loss, pair_loss, sft_loss, sigmoid_loss, simpo_loss

nats = st.floats(-500, 0, allow_nan=False)
pair = st.tuples(nats, nats)
lengths = st.tuples(st.integers(1, 4000), st.integers(1, 4000))
shares = st.floats(0, 0.5)

every_loss = pytest.mark.parametrize("name", LOSSES)


def two(values):
    return torch.tensor([values], dtype=torch.float64)


def told(name, label_smoothing=0.1):
    """Settings under which the losses differ from each other and none is flat."""
    return LossConfig(name, beta=0.2, label_smoothing=label_smoothing, simpo_gamma=0.5)


@pytest.mark.parametrize(
    ("name", "expected"),
    # without a margin: ln 2 whatever the smoothing, (0 - 1 / 0.4)^2, and -log sigmoid(-0.5)
    [("sigmoid", math.log(2)), ("ipo", 6.25), ("simpo", math.log(1 + math.exp(0.5)))],
)
@pytest.mark.parametrize("tokens", [(1, 1), (7, 7)])
def test_equal_responses_have_the_loss_of_no_margin(name, expected, tokens):
    logps = two((-3.0, -3.0))

    losses, metrics = pair_loss(logps, logps, two(tokens), told(name))

    assert losses.tolist() == pytest.approx([expected], abs=1e-12)
    assert metrics["rewards/margins"].item() == 0
    assert metrics["rewards/accuracies"].item() == 0.5


def test_responses_of_one_token_are_their_own_average():
    policy, reference, tokens = two((-3.0, -4.0)), two((-3.5, -3.0)), two((1, 1))

    # log-ratios 0.5 and -1: (1.5 - 1 / 0.4)^2
    assert ipo_loss(policy, reference, tokens, 0.2).item() == pytest.approx(1.0, abs=1e-12)
    # rewards -0.6 and -0.8: -log sigmoid(0.2 - 0.5)
    assert simpo_loss(policy, tokens, 0.2, 0.5).item() == pytest.approx(math.log(1 + math.exp(0.3)), abs=1e-12)


def test_log_probabilities_are_averaged_over_the_tokens_of_each_response():
    policy, reference, tokens = two((-30.0, -4.0)), two((-35.0, -3.0)), two((10, 2))

    # log-ratios 5 and -1 over 10 and 2 tokens: (0.5 + 0.5 - 1 / 0.4)^2
    assert ipo_loss(policy, reference, tokens, 0.2).item() == pytest.approx(2.25, abs=1e-12)
    # averages -3 and -2: -log sigmoid(2 * (-3 + 2) - 0.5)
    assert simpo_loss(policy, tokens, 2.0, 0.5).item() == pytest.approx(math.log(1 + math.exp(2.5)), abs=1e-12)


@every_loss
@pytest.mark.parametrize("policy", [(0.0, -1e4), (-1e4, 0.0), (-1e4, -1e4), (0.0, 0.0)])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.5])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_huge_margins_stay_finite(name, policy, label_smoothing, dtype):
    logps = two(policy).to(dtype).requires_grad_()

    losses, metrics = pair_loss(logps, two((-5.0, -5.0)).to(dtype), two((1, 1)), told(name, label_smoothing))
    losses.sum().backward()

    assert losses.isfinite().all() and logps.grad.isfinite().all()
    assert all(value.isfinite().all() for value in metrics.values())


@given(policy=pair, reference=pair)
def test_half_of_the_pairs_swapped_cannot_tell_the_sides_apart(policy, reference):
    straight = sigmoid_loss(two(policy), two(reference), 0.2, 0.5).item()
    swapped = sigmoid_loss(two(policy[::-1]), two(reference[::-1]), 0.2, 0.5).item()

    assert straight == pytest.approx(swapped, abs=1e-9)


@given(policy=pair, reference=pair, share=shares)
def test_smoothing_is_the_same_as_swapping_that_share_of_the_pairs(policy, reference, share):
    straight = sigmoid_loss(two(policy), two(reference), 0.2).item()
    swapped = sigmoid_loss(two(policy[::-1]), two(reference[::-1]), 0.2).item()

    smoothed = sigmoid_loss(two(policy), two(reference), 0.2, share).item()

    assert smoothed == pytest.approx((1 - share) * straight + share * swapped, abs=1e-9)
    swapped_smoothed = sigmoid_loss(two(policy[::-1]), two(reference[::-1]), 0.2, 1 - share).item()
    assert smoothed == pytest.approx(swapped_smoothed, abs=1e-9)


@given(logps=pair, beta=st.floats(0.01, 2), share=shares)
def test_equal_models_have_a_loss_of_ln_2(logps, beta, share):
    assert sigmoid_loss(two(logps), two(logps), beta, share).item() == pytest.approx(math.log(2), abs=1e-12)


@given(logps=pair, tokens=lengths, beta=st.floats(0.01, 2))
def test_equal_models_are_half_over_beta_from_where_ipo_leads(logps, tokens, beta):
    assert ipo_loss(two(logps), two(logps), two(tokens), beta).item() == pytest.approx(1 / (4 * beta**2), rel=1e-9)


@given(policy=pair, reference=pair)
def test_swapping_chosen_and_rejected_turns_the_sign_of_the_margin(policy, reference):
    straight = sigmoid_loss(two(policy), two(reference), 0.2).item()
    swapped = sigmoid_loss(two(policy[::-1]), two(reference[::-1]), 0.2).item()

    # -log sigmoid(m) + log sigmoid(-m) = -m
    margin = 0.2 * ((policy[0] - reference[0]) - (policy[1] - reference[1]))
    assert straight - swapped == pytest.approx(-margin, abs=1e-9)


@given(policy=pair, reference=pair, tokens=lengths)
def test_swapping_turns_the_sign_of_the_margin_of_averages(policy, reference, tokens):
    def both(loss):
        straight = loss(two(policy), two(reference), two(tokens)).item()
        return straight, loss(two(policy[::-1]), two(reference[::-1]), two(tokens[::-1])).item()

    ratio = (policy[0] - reference[0]) / tokens[0] - (policy[1] - reference[1]) / tokens[1]
    # (d - c)^2 - (-d - c)^2 = -4 c d, where c = 1 / (2 * 0.2)
    straight, swapped = both(lambda p, r, t: ipo_loss(p, r, t, 0.2))
    assert straight - swapped == pytest.approx(-10 * ratio, rel=1e-9, abs=1e-9)
    average = policy[0] / tokens[0] - policy[1] / tokens[1]
    straight, swapped = both(lambda p, r, t: simpo_loss(p, t, 2.0, 0.0))
    assert straight - swapped == pytest.approx(-2 * average, abs=1e-9)


@every_loss
@given(policy=pair, reference=pair, tokens=lengths, shift=st.floats(-50, 50))
def test_nothing_but_the_difference_of_the_sides_counts(name, policy, reference, tokens, shift):
    cfg, counts = told(name), two(tokens)
    # the same for every response where sums count, for every token where averages do
    moved = shift if name == "sigmoid" else shift * counts

    before, _ = pair_loss(two(policy), two(reference), counts, cfg)
    after, _ = pair_loss(two(policy) + moved, two(reference), counts, cfg)

    assert after.item() == pytest.approx(before.item(), rel=1e-9, abs=1e-9)


@every_loss
@given(policy=pair, reference=pair, tokens=lengths, shift=st.floats(-50, 50))
def test_policy_and_reference_moved_together_change_nothing_where_there_is_a_reference(
    name, policy, reference, tokens, shift
):
    cfg, counts = told(name), two(tokens)
    moved = two((shift, -2 * shift))

    before, _ = pair_loss(two(policy), two(reference), counts, cfg)
    with_reference, _ = pair_loss(two(policy) + moved, two(reference) + moved, counts, cfg)
    alone, _ = pair_loss(two(policy), two(reference) + moved, counts, cfg)

    found = with_reference if LOSSES[name].needs_reference else alone
    assert found.item() == pytest.approx(before.item(), rel=1e-9, abs=1e-9)


@settings(deadline=None)
@given(policy=pair, reference=pair, share=shares)
def test_the_gradient_is_that_of_the_formula(policy, reference, share):
    logps = two(policy).requires_grad_()

    sigmoid_loss(logps, two(reference), 0.2, share).sum().backward()

    # d/dm of -(1 - e) log sigmoid(m) - e log sigmoid(-m) is sigmoid(m) - (1 - e)
    margin = 0.2 * ((policy[0] - reference[0]) - (policy[1] - reference[1]))
    slope = 0.2 * (share - 1 / (1 + math.exp(min(margin, 700))))
    assert logps.grad.tolist()[0] == pytest.approx([slope, -slope], abs=1e-12)


@every_loss
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 0.5])
def test_the_losses_pass_a_numeric_gradient_check(name, label_smoothing):
    policy = torch.tensor([[-3.0, -4.0], [-8.0, -2.0], [-5.0, -5.0]], dtype=torch.float64, requires_grad=True)
    reference = torch.tensor([[-3.5, -3.0], [-7.0, -2.5], [-5.0, -5.0]], dtype=torch.float64)
    tokens = torch.tensor([[1, 1], [4, 3], [2, 9]])

    def losses(logps):
        return pair_loss(logps, reference, tokens, told(name, label_smoothing))[0]

    assert torch.autograd.gradcheck(losses, (policy,))


def test_a_loss_without_a_reference_needs_none_and_watches_averages():
    policy, tokens = torch.tensor([[-30.0, -4.0], [-2.0, -4.0]]), torch.tensor([[10, 2], [1, 4]])

    _, metrics = pair_loss(policy, None, tokens, told("simpo"))

    assert not LOSSES["simpo"].needs_reference
    assert metrics["logps/chosen"].tolist() == [-3.0, -2.0]
    # 0.2 times averages of -3 and -2, -2 and -1
    assert metrics["rewards/margins"].tolist() == pytest.approx([-0.2, -0.2])
    assert metrics["rewards/accuracies"].tolist() == [0.0, 0.0]


def test_a_reference_that_is_needed_must_be_there():
    with pytest.raises(AssertionError):
        pair_loss(two((-3.0, -4.0)), None, two((1, 1)), told("ipo"))


def test_a_tie_is_half_right():
    policy = torch.tensor([[-3.0, -4.0], [-3.0, -4.0], [-4.0, -3.0]])

    metrics = dpo_metrics(policy, torch.tensor([[-3.0, -4.0], [-4.0, -4.0], [-3.0, -3.0]]), 0.5)

    assert metrics["rewards/accuracies"].tolist() == [0.5, 1.0, 0.0]
    # row 2: 0.5 * ((-3 + 4) - 0)
    assert metrics["rewards/margins"].tolist() == [0.0, 0.5, -0.5]


def test_sft_loss_is_a_sum_over_lines():
    # 2 + 9 nats
    assert sft_loss(torch.tensor([-2.0, -9.0])).item() == pytest.approx(11.0)
