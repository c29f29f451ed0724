"""DPO on real pairs equals TRL and a plain float64 implementation of equation 7, and learns what is planted."""

import copy
import json
import warnings
from typing import NamedTuple

import polars as pl
import pytest
import torch
from peft import LoraConfig, get_peft_model
from rounding import FACTOR, UNITS, assert_as_exact, exact_norms
from shared_data import PAIRS, needs_pairs
from tiny_models import Listed, gradients, plain_logps, shaken
from transformers import AutoModelForCausalLM

from train.cli import main
from train.config import DPOConfig
from train.data.tokens import Preflight, pair_row
from train.dpo import PairObjective
from train.losses import LossConfig
from train.model.language_model import prepare_model
from train.model.load import load_chat, load_trainable, resolve_weights

BETA = 0.2
SIZE = 4


@pytest.fixture(scope="module")
def real_pairs():
    """Untruncated pairs, short enough to be quick."""
    text = pl.col("prompt") + pl.max_horizontal("chosen", "rejected")
    short = pl.read_parquet(PAIRS).filter(
        text.str.len_chars() < 600, pl.col("chosen") != pl.col("rejected"), pl.col("chosen").str.len_chars() > 20
    )
    return short.head(SIZE).to_dicts()


@pytest.fixture(scope="module")
def ours(tiny_llama, tmp_path_factory, real_pairs):
    """Rows, loss and gradients of this project."""
    weights = resolve_weights(f"hf:{tiny_llama}", tmp_path_factory.mktemp("data"))
    chat = load_chat(weights)
    rows = Listed()
    for i, pair in enumerate(real_pairs):
        prompt = [{"role": "user", "content": pair["prompt"]}]
        rows.append(pair_row(chat, str(i), prompt, pair["chosen"], pair["rejected"], 1024, Preflight()))
    model = load_trainable(weights, DPOConfig(lora_dropout=0.0, max_length=1024, seed=0), torch.device("cpu"))
    language = prepare_model(model, weights.name, chat.pad)
    batch = language.batch(rows, range(SIZE))
    with torch.no_grad(), model.disable_adapter():
        reference = language.line_logps(batch).view(-1, 2)
    shaken(model).train()
    objective = PairObjective(LossConfig("sigmoid", BETA, 0.0, 0.0), {"train": reference}, torch.ones(SIZE))
    loss = objective.loss(language.line_logps(batch), batch, "train").total / objective.weight(batch, "train")
    loss.backward()
    return rows, loss.item(), gradients(model)


class Plain(NamedTuple):
    """Loss and gradients by equation 7, written as plainly as can be."""

    loss: float
    gradients: dict
    slack: float
    """What rounding the log-probabilities by a unit of float32 each may move the loss by."""


@pytest.fixture(scope="module")
def plain(ours, tiny_llama):
    """Make the plain implementation in a precision."""

    def compute(dtype):
        model = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"]))
        shaken(model).to(dtype)
        if dtype == torch.float64:
            exact_norms(model)
        logps = plain_logps(model, ours[0])
        with torch.no_grad(), model.disable_adapter():
            reference = plain_logps(model, ours[0])
        margins = BETA * (logps - reference).view(-1, 2)
        loss = -torch.log(1 / (1 + torch.exp(margins[:, 1] - margins[:, 0]))).mean()
        loss.backward()
        return Plain(loss.item(), gradients(model), BETA * torch.finfo(torch.float32).eps * logps.abs().max().item())

    return compute(torch.float64), compute(torch.float32)


def assert_near_float64(loss, found, peer_loss, peer, exact):
    """A loss and gradients are about as near to float64 as those of a peer."""
    assert abs(loss - exact.loss) <= FACTOR * abs(peer_loss - exact.loss) + UNITS * exact.slack
    assert_as_exact(found, peer, exact.gradients, torch.float32)


def trl_dpo(folder, tokenizer, pairs, output):
    """Tokens, loss and gradients of TRL's trainer, which reads the prompt and the responses as texts."""
    from datasets import Dataset
    from torch.utils.data import SequentialSampler
    from trl import DPOConfig, DPOTrainer

    class InOrder(DPOTrainer):
        def _get_train_sampler(self, *arguments):
            return SequentialSampler(self.train_dataset)

    def text(prompt):
        turns = [{"role": "user", "content": prompt}]
        return tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)

    rows = [{"prompt": text(p["prompt"]), "chosen": p["chosen"], "rejected": p["rejected"]} for p in pairs]
    args = DPOConfig(
        output_dir=str(output),
        per_device_train_batch_size=SIZE,
        beta=BETA,
        max_length=None,
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        report_to="none",
        dataloader_pin_memory=False,
        disable_tqdm=True,
    )
    trainer = InOrder(
        model=AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
        args=args,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=LoraConfig(
            r=8, lora_alpha=16, lora_dropout=0.0, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"
        ),
    )
    shaken(trainer.model).train()
    loss = trainer.compute_loss(trainer.model, next(iter(trainer.get_train_dataloader())))
    loss.backward()
    return list(trainer.train_dataset), loss.item(), gradients(trainer.model)


@needs_pairs
def test_loss_and_gradients_are_as_near_to_float64_as_those_of_trl(
    ours, plain, tiny_llama, tokenizer, real_pairs, tmp_path
):
    rows, loss, found = ours
    exact, _ = plain

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tokens, trl_loss, trl_gradients = trl_dpo(tiny_llama, copy.deepcopy(tokenizer), real_pairs, tmp_path)

    for row, trl_row in zip(rows, tokens, strict=True):
        assert row.prompt.tolist() == trl_row["prompt_ids"]
        for response, name in zip(row.responses, ("chosen_ids", "rejected_ids"), strict=True):
            assert response.ids.tolist() == trl_row[name]
    assert abs(loss - 0.6931) > 0.01
    assert_near_float64(loss, found, trl_loss, trl_gradients, exact)


@needs_pairs
def test_loss_and_gradients_are_as_near_to_float64_as_a_plain_implementation(ours, plain):
    _, loss, found = ours
    exact, peer = plain

    assert_near_float64(loss, found, peer.loss, peer.gradients, exact)


def test_a_planted_sentence_is_learned(make_mix, tiny_llama, tmp_path, capsys):
    words = [
        "tea",
        "rain",
        "maps",
        "bees",
        "snow",
        "clocks",
        "rivers",
        "chess",
        "salt",
        "wool",
        "glass",
        "trains",
        "honey",
        "kites",
        "stars",
        "boats",
    ]
    topics = [f"{first} and {second}" for first in words for second in words if first < second][:48]
    # which text goes with the sentence alternates, so that nothing but the sentence tells the sides apart
    texts = [(f"All about {topic}.", f"Much on {topic}.") for topic in topics]
    sides = [both if i % 2 else both[::-1] for i, both in enumerate(texts)]
    pairs = [
        (f"Tell me of {topic}.", f"{first} Thank you for asking.", second)
        for topic, (first, second) in zip(topics, sides, strict=True)
    ]
    data = make_mix(pairs, heldout=8)
    flags = ["--base", str(tiny_llama), "--data", str(data), "--lr", "5e-3", "--epochs", "3", "--lora-dropout", "0"]

    code = main(["dpo", *flags, "--json"])

    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    rows = [json.loads(line) for line in (data / "runs" / "dpo-v1" / "metrics.jsonl").read_text().splitlines()]
    accuracy = [row["eval_rewards/accuracies"] for row in rows if "eval_loss" in row]
    assert code == 0
    assert (accuracy[0], accuracy[-1]) == (0.5, pytest.approx(1.0, abs=0.1))
    assert printed["first_loss"] == pytest.approx(0.6931, abs=1e-3)
    assert printed["last_loss"] < 0.5
