"""The losses, what they are watched by and their gradients equal those of TRL's own trainers on the same batch."""

import copy
import warnings

import pytest
import torch
from peft import LoraConfig
from rounding import UNITS, difference, exact_norms
from transformers import AutoModelForCausalLM

from train.losses import LossConfig, dpo_metrics, pair_loss, sigmoid_loss

BETA, SMOOTHING, GAMMA = 0.3, 0.1, 0.7
PAIRS = [
    ("What is tea?", " A drink of leaves and hot water.", " No."),
    ("What is rain?", " Wet.", " Rain is water that falls from clouds, most of all on those who left without a coat."),
    ("What are maps?", " Drawings of a land.", " Drawings of a sea."),
    ("What is snow?", " Snow", " Ice, in a way of speaking."),
]


def shaken(model):
    """Give an adapter weights that change what the model says, so that nothing is equal by being zero."""
    torch.manual_seed(3)
    with torch.no_grad():
        for name, value in sorted(model.named_parameters()):
            if "lora_" in name:
                value.copy_(torch.randn_like(value) * 0.2)
    return model.train()


@pytest.fixture
def trl_trainer(tiny_llama, tokenizer, tmp_path):
    """Make a trainer of TRL's, its adapter shaken, with `size` pairs a step."""

    def make(kind, config, size, **settings):
        from datasets import Dataset

        rows = [dict(zip(("prompt", "chosen", "rejected"), pair, strict=True)) for pair in PAIRS]
        lora = LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            args = config(
                output_dir=str(tmp_path),
                per_device_train_batch_size=size,
                beta=BETA,
                max_length=None if kind.__name__ == "DPOTrainer" else 512,
                gradient_checkpointing=False,
                bf16=False,
                use_cpu=True,
                report_to="none",
                dataloader_pin_memory=False,
                disable_tqdm=True,
                **settings,
            )
            trainer = kind(
                model=AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32),
                args=args,
                train_dataset=Dataset.from_list(rows),
                processing_class=copy.deepcopy(tokenizer),
                peft_config=lora,
            )
        # in float64, where what remains of rounding is far below any mistake
        exact_norms(shaken(trainer.model).double())
        return trainer

    return make


@pytest.fixture
def cpo(trl_trainer):
    def make(loss_type, **settings):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from trl.experimental.cpo import CPOConfig, CPOTrainer

        return trl_trainer(CPOTrainer, CPOConfig, len(PAIRS), loss_type=loss_type, cpo_alpha=0.0, **settings)

    return make


def summed(model, ids, mask, learned):
    """Log-probability of the learned tokens of each line, and how many they are."""
    logps = model(input_ids=ids, attention_mask=mask).logits[:, :-1].log_softmax(-1)
    targets = learned[:, 1:].bool()
    return (logps.gather(2, ids[:, 1:, None])[..., 0] * targets).sum(1).double(), targets.sum(1)


def sides(values):
    """TRL's lines, all chosen before all rejected, as (batch, 2)."""
    return torch.stack(values.chunk(2), dim=1)


def gradients(model, loss):
    """The gradient of each adapter weight."""
    model.zero_grad()
    loss.backward()
    return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}


def assert_same(found, expected, slack=1e-9):
    assert max(value.abs().max() for value in expected.values()) > 1e-3
    assert difference(found, expected) < slack


@pytest.mark.parametrize(
    ("trl_type", "size", "cfg"),
    [
        ("sigmoid", 4, LossConfig("sigmoid", BETA, 0.0, GAMMA)),
        ("ipo", 4, LossConfig("ipo", BETA, 0.0, GAMMA)),
        # TRL's `sigmoid` has no smoothing any more; `aot` has, and is of sorted margins: one pair is sorted already
        ("aot", 1, LossConfig("sigmoid", BETA, SMOOTHING, GAMMA)),
    ],
)
def test_losses_with_a_reference_equal_those_of_trl(trl_trainer, trl_type, size, cfg):
    from trl import DPOConfig, DPOTrainer

    trainer = trl_trainer(DPOTrainer, DPOConfig, size, loss_type=trl_type, label_smoothing=cfg.label_smoothing)
    model = trainer.model
    for batch in trainer.get_train_dataloader():
        expected = trainer.compute_loss(model, batch)
        expected_gradients = gradients(model, expected)

        lines = batch["input_ids"], batch["attention_mask"], batch["completion_mask"]
        policy, tokens = (sides(values) for values in summed(model, *lines))
        with torch.no_grad(), model.disable_adapter():
            reference = sides(summed(model, *lines)[0])
        losses, metrics = pair_loss(policy, reference, tokens, cfg)

        assert (policy - reference).abs().min() > 1e-3
        # TRL's trainer sums log-probabilities in float32, in every precision of the model
        slack = UNITS * torch.finfo(torch.float32).eps * policy.abs().max().item()
        assert losses.mean().item() == pytest.approx(expected.item(), abs=slack)
        assert_same(gradients(model, losses.mean()), expected_gradients, slack)
        watched = {name: values[-1] for name, values in trainer._metrics["train"].items()}
        assert set(metrics) <= set(watched)
        for name, values in metrics.items():
            assert values.mean().item() == pytest.approx(watched[name], abs=slack)


def test_simpo_equals_that_of_trl(cpo):
    trainer = cpo("simpo", simpo_gamma=GAMMA)
    model, batch = trainer.model, next(iter(trainer.get_train_dataloader()))
    expected, watched = trainer.get_batch_loss_metrics(model, batch)
    expected_gradients = gradients(model, expected)

    halves = []
    for side in ("chosen", "rejected"):
        learned = batch[f"{side}_labels"] != -100
        halves.append(summed(model, batch[f"{side}_input_ids"], batch[f"{side}_attention_mask"], learned))
    policy, tokens = (torch.stack(values, dim=1) for values in zip(*halves, strict=True))
    losses, metrics = pair_loss(policy, None, tokens, LossConfig("simpo", BETA, 0.0, GAMMA))

    assert losses.mean().item() == pytest.approx(expected.item(), rel=1e-9)
    assert_same(gradients(model, losses.mean()), expected_gradients)
    for name, values in metrics.items():
        assert values.mean().item() == pytest.approx(watched[name], rel=1e-9, abs=1e-12)


def test_simpo_equals_that_of_trl_on_any_log_probabilities(cpo):
    trainer = cpo("simpo", simpo_gamma=GAMMA)
    policy = -torch.rand(1000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2000
    tokens = torch.randint(1, 500, (1000, 2), generator=torch.Generator().manual_seed(1))

    losses, metrics = pair_loss(policy, None, tokens, LossConfig("simpo", BETA, 0.0, GAMMA))

    expected, chosen, rejected = trainer.cpo_loss(*(policy / tokens).unbind(dim=1))
    torch.testing.assert_close(losses, expected, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(metrics["rewards/chosen"], chosen)
    torch.testing.assert_close(metrics["rewards/rejected"], rejected)


@pytest.mark.parametrize("label_smoothing", [0.0, SMOOTHING, 0.5])
def test_smoothing_equals_that_of_trl_on_any_log_probabilities(cpo, label_smoothing):
    # CPO's `sigmoid` is the smoothed loss of log-probabilities; here it is given log-ratios
    trainer = cpo("sigmoid", label_smoothing=label_smoothing)
    policy, reference = -torch.rand(2, 1000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 500

    losses = sigmoid_loss(policy, reference, BETA, label_smoothing)

    expected, chosen, rejected = trainer.cpo_loss(*(policy - reference).unbind(dim=1))
    torch.testing.assert_close(losses, expected, atol=1e-12, rtol=1e-12)
    metrics = dpo_metrics(policy, reference, BETA)
    torch.testing.assert_close(
        torch.stack([metrics["rewards/chosen"], metrics["rewards/rejected"]]).T, torch.stack([chosen, rejected]).T
    )
