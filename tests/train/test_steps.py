"""A step has one gradient, whatever part of it is computed at a time."""

import math

import numpy as np
import pytest
import torch
from rounding import difference, exact_norms
from tiny_models import (
    Listed,
    gradients,
    plain_logps,
    random_rows,
    tiny,
    with_lora,
)

from schemas.errors import UserError
from train.data.packing import pack_rows
from train.dpo import PairObjective
from train.loop.loop import Trainer, new_accelerator
from train.loop.oom import MicroBatcher
from train.losses import LossConfig, pair_loss
from train.model.language_model import prepare_model
from train.sft import SFTObjective

CPU = torch.device("cpu")
LOSSES = {
    "sigmoid": LossConfig("sigmoid", 0.2, 0.1, 0.5),
    "ipo": LossConfig("ipo", 0.1, 0.0, 0.5),
    "simpo": LossConfig("simpo", 2.0, 0.0, 0.5),
}
PAIRS = random_rows((3, 9, 4), (12, 2, 17), (1, 1, 1), (6, 14, 3), (5, 5, 5), (2, 30, 8))
CONVERSATIONS = random_rows((3, 9), (12, 20), (1, 1), (6, 14), (5, 5), (2, 40))
CONVERSATIONS[5].responses[0].learned[3:30] = False
STEP = [4, 0, 5, 2, 1, 3]
BUDGETS = [1, 25, 60, 10_000]
SHARES = {"gemma2": 1e-4}
"""How much of a value may be rounding: transformers takes Gemma's softmax in float32, of whose units this is 1,000."""


def pairs(loss="sigmoid", weights=(1.0, 1.0, 1.0, 1.0, 1.0, 1.0)):
    """An objective of the pairs, against log-probabilities near the model's."""
    reference = -torch.rand(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(5)) * 50
    against = None if loss == "simpo" else {"train": reference, "heldout": reference}
    return PairObjective(LOSSES[loss], against, torch.tensor(weights, dtype=torch.float64))


def trainer_of(budget, objective, rows=PAIRS, kind="smollm2", dropout=0.0, checkpointing=False):
    """A trainer in float64, so that nothing is hidden by rounding."""
    language = prepare_model(exact_norms(with_lora(tiny(kind).double(), dropout).double()), kind, 2)
    if checkpointing:
        language.model.get_base_model().activation_checkpointing_enable({"use_reentrant": False})
    batcher, splits = MicroBatcher(budget, language.packs), {"train": rows, "heldout": rows}
    return Trainer(language, splits, np.arange(len(rows)), objective, batcher, 30, new_accelerator(CPU))


def step_of(budget, objective, step=1, chosen=STEP, **told):
    """Metrics and gradients of a step that is computed with so many tokens at a time."""
    trainer = trainer_of(budget, objective, **told)
    idle = torch.optim.SGD([value for value in trainer.language.model.parameters() if value.requires_grad], lr=0.0)
    return trainer.gradient(step, trainer.batcher.parts(trainer.rows["train"], chosen), idle), gradients(
        trainer.language.model
    )


def assert_same(found, expected, share=1e-9):
    (metrics, grads), (expected_metrics, expected_grads) = found, expected
    assert metrics == pytest.approx(expected_metrics, rel=share, abs=share)
    largest = max(value.abs().max().item() for value in expected_grads.values())
    assert largest > 1e-6
    assert difference(grads, expected_grads) < share


@pytest.mark.parametrize("kind", ["smollm2", "mistral windowed", "gemma2"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_gradient_of_a_step_is_the_same_for_every_budget(kind, dropout, checkpointing):
    expected = step_of(10_000, pairs(), kind=kind, dropout=dropout)

    for budget in BUDGETS:
        found = step_of(budget, pairs(), kind=kind, dropout=dropout, checkpointing=checkpointing)
        assert_same(found, expected, share=SHARES.get(kind, 1e-9))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("weights", [(1.0,) * 6, (0.5, 2.0, 0.0, 1.0, 3.0, 0.25)])
def test_every_loss_has_one_gradient_with_and_without_weights(loss, weights):
    expected = step_of(10_000, pairs(loss, weights))

    for budget in BUDGETS:
        assert_same(step_of(budget, pairs(loss, weights)), expected)


def test_sft_is_a_mean_over_the_tokens_of_a_step_and_not_over_rows_or_parts():
    model = exact_norms(with_lora(tiny("smollm2")).double())
    logps = plain_logps(model, CONVERSATIONS)
    tokens = sum(int(row.responses[0].learned.sum()) for row in CONVERSATIONS)
    (-logps.sum() / tokens).backward()

    for budget in BUDGETS:
        metrics, grads = step_of(budget, SFTObjective(), rows=CONVERSATIONS)
        assert metrics["loss"] == pytest.approx(-logps.sum().item() / tokens, rel=1e-9)
        assert difference(grads, gradients(model)) < 1e-9
        assert metrics["num_tokens"] == CONVERSATIONS.sizes.sum()


@pytest.mark.parametrize("loss", LOSSES)
def test_the_loss_and_gradient_of_a_step_are_those_of_the_formula(loss):
    weights = (0.5, 2.0, 0.0, 1.0, 3.0, 0.25)
    model, objective = exact_norms(with_lora(tiny("smollm2")).double()), pairs(loss, weights)
    tokens = torch.tensor([[len(side) for side in row.responses] for row in PAIRS])
    reference = None if loss == "simpo" else objective.reference["train"]
    losses, _ = pair_loss(plain_logps(model, PAIRS).view(-1, 2), reference, tokens, LOSSES[loss])
    expected = (losses * objective.weights).sum() / 6.75
    expected.backward()

    metrics, grads = step_of(30, objective)

    assert metrics["loss"] == pytest.approx(expected.item(), rel=1e-9)
    assert difference(grads, gradients(model)) < 1e-9


def test_a_pair_that_counts_twice_is_that_pair_twice():
    once = Listed(PAIRS[:2])
    twice = Listed([PAIRS[0], PAIRS[1], PAIRS[1]])
    reference = -torch.arange(6, dtype=torch.float64).view(3, 2)

    def objective(weights):
        known = reference[[0, 1, 1]] if len(weights) == 3 else reference[[0, 1]]
        return PairObjective(LOSSES["sigmoid"], {"train": known}, torch.tensor(weights, dtype=torch.float64))

    (weighted, weighted_grads), (repeated, repeated_grads) = (
        step_of(10_000, objective([1.0, 2.0]), chosen=[0, 1], rows=once),
        step_of(10_000, objective([1.0, 1.0, 1.0]), chosen=[0, 1, 2], rows=twice),
    )

    assert weighted["loss"] == pytest.approx(repeated["loss"], rel=1e-12)
    assert difference(weighted_grads, repeated_grads) < 1e-12


def test_another_step_drops_other_states():
    first, again, second = (step_of(60, pairs(), step=step, dropout=0.3)[0]["loss"] for step in (1, 1, 2))

    assert first == again
    assert first != second


@pytest.mark.parametrize("kind", ["smollm2", "gemma2"])
def test_held_out_rows_have_the_same_metrics_for_every_budget(kind):
    found = [trainer_of(budget, pairs("ipo"), kind=kind, dropout=0.3).check() for budget in BUDGETS]

    assert all(metrics == pytest.approx(found[0], rel=SHARES.get(kind, 1e-9)) for metrics in found)
    assert found[0]["eval_rows"] == 6


class Hungry(SFTObjective):
    """Takes more memory than there is for any part of over `tokens` tokens, and remembers what it was given."""

    def __init__(self, tokens, error):
        self.tokens, self.error = tokens, error
        self.seen = []

    def loss(self, logps, batch, split):
        self.seen.append(batch.tokens)
        if batch.tokens > self.tokens:
            raise self.error
        return super().loss(logps, batch, split)


OUT_OF_MEMORY = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory."),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes."),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: type(error).__name__)
def test_where_memory_runs_out_parts_are_halved_until_they_fit(error, caplog):
    expected = step_of(10_000, SFTObjective(), rows=CONVERSATIONS)
    objective = Hungry(60, error)
    trainer = trainer_of(200, objective, rows=CONVERSATIONS)
    weights = {name: value for name, value in trainer.language.model.named_parameters() if value.requires_grad}
    sgd = torch.optim.SGD(weights.values(), lr=0.0)

    metrics = trainer.step(1, STEP, sgd, weights)

    # 118 tokens in all, then at most half of them at a time
    assert trainer.batcher.tokens == 59
    assert max(objective.seen[1:]) <= 60
    assert metrics["loss"] == pytest.approx(expected[0]["loss"], rel=1e-9)
    norm = math.sqrt(sum(value.square().sum().item() for value in expected[1].values()))
    assert metrics["grad_norm"] == pytest.approx(norm, rel=1e-9)
    assert "out of memory: micro-batch halved to 59 tokens" in caplog.text


class HungryOnce(SFTObjective):
    """Takes more memory than there is for the second part that it is given, once."""

    def __init__(self):
        self.seen = 0

    def loss(self, logps, batch, split):
        self.seen += 1
        if self.seen == 2:
            raise MemoryError
        return super().loss(logps, batch, split)


def test_what_a_step_had_of_its_gradient_before_memory_ran_out_does_not_count_twice():
    expected, grads = step_of(10_000, SFTObjective(), rows=CONVERSATIONS, dropout=0.3)
    trainer = trainer_of(60, HungryOnce(), rows=CONVERSATIONS, dropout=0.3)
    weights = {name: value for name, value in trainer.language.model.named_parameters() if value.requires_grad}
    sgd = torch.optim.SGD(weights.values(), lr=1.0)
    before = {name: value.detach().clone() for name, value in weights.items()}

    metrics = trainer.step(1, STEP, sgd, weights)

    assert trainer.batcher.tokens == 30
    assert metrics["loss"] == pytest.approx(expected["loss"], rel=1e-9)
    assert metrics["num_tokens"] == expected["num_tokens"]
    moved = {name.split("base_model.model.", 1)[1]: before[name] - value.detach() for name, value in weights.items()}
    assert difference(moved, grads) < 1e-9


def test_a_budget_far_over_a_step_is_not_halved_in_vain():
    objective = Hungry(110, MemoryError())
    trainer = trainer_of(10_000, objective, rows=CONVERSATIONS)

    trainer.check()

    # all of it once, and then in two parts
    assert objective.seen[0] == CONVERSATIONS.sizes.sum()
    assert sum(objective.seen[1:]) == CONVERSATIONS.sizes.sum()


def test_held_out_rows_that_do_not_fit_together_are_looked_at_in_parts(caplog):
    expected = trainer_of(10_000, SFTObjective(), rows=CONVERSATIONS).check()

    found = trainer_of(10_000, Hungry(60, MemoryError()), rows=CONVERSATIONS).check()

    assert found == pytest.approx(expected, rel=1e-9)
    assert "out of memory" in caplog.text


def test_a_row_that_does_not_fit_by_itself_is_refused_with_what_to_do():
    trainer = trainer_of(10_000, Hungry(10, MemoryError()), rows=CONVERSATIONS)

    with pytest.raises(UserError, match="a row of up to 42 tokens takes more memory than there is; give --gradient"):
        trainer.check()


def test_an_error_that_is_not_about_memory_is_not_tried_again():
    objective = Hungry(0, RuntimeError("shapes differ"))
    trainer = trainer_of(10_000, objective, rows=CONVERSATIONS)

    with pytest.raises(RuntimeError, match="shapes differ"):
        trainer.check()

    assert len(objective.seen) == 1


def test_rows_that_are_not_packed_take_up_to_twice_their_tokens():
    packed, padded = (trainer_of(60, pairs(), kind=kind) for kind in ("smollm2", "gemma2"))

    assert not padded.language.packs
    assert [sum(PAIRS.sizes[part]) <= 30 or len(part) == 1 for part in padded.batcher.parts(PAIRS, STEP)] == [True] * 5
    assert len(packed.batcher.parts(PAIRS, STEP)) < len(padded.batcher.parts(PAIRS, STEP))
    assert pack_rows(PAIRS, packed.batcher.parts(PAIRS, STEP)[0]).tokens <= 60
