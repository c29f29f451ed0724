"""One training loop for SFT and DPO: step, held-out check, checkpoint, resume."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from curate.store.mixes import Split
from curate.store.runs import CHECKPOINTS, METRICS
from schemas.errors import UserError
from train.config import TrainingConfig
from train.data.packing import Batch
from train.data.token_store import TokenRows
from train.loop.checkpoints import newest_checkpoint, restore_moments, save_checkpoint
from train.loop.diagnostics import Metrics, warnings_of
from train.loop.memory import lower_plan
from train.loop.metrics import MetricsLog
from train.loop.oom import MicroBatcher
from train.loop.schedule import Schedule, check_steps
from train.model.language_model import LanguageModel, base_of

log = logging.getLogger(__name__)

START_TOLERANCE = {"cpu": 1e-3, "cuda": 5e-2}
"""How far the loss before step 1 may lie from what it must be, as a share of that; half precision is coarse."""


class Loss(NamedTuple):
    """Loss, weights and metrics of a batch."""

    total: Tensor
    """Sum over the rows, each times its weight: over all parts of a step it is divided by `Objective.weight` of all."""
    metrics: dict[str, Tensor]
    """Name -> (rows,)."""


class Objective(Protocol):
    """The objective to minimize: the sum of `loss` over the sum of `weight`."""

    def weight(self, batch: Batch, split: Split) -> float: ...

    def loss(self, logps: Tensor, batch: Batch, split: Split) -> Loss:
        """`logps` is (lines,)."""
        ...


@dataclass(frozen=True)
class Trained:
    """Result of a finished loop."""

    rows: list[Metrics]
    """As `MetricsLog` keeps them."""
    first_loss: float
    """Of the first step."""
    last_loss: float
    steps: int
    tokens: int
    """Read in training; a prompt that two responses share counts once."""
    seconds: float
    warnings: dict[str, str]


def new_accelerator(device: torch.device) -> Accelerator:
    """One process on one device; the model has the precision that it was loaded in."""
    accelerator = Accelerator(mixed_precision="no", cpu=device.type != "cuda")
    if accelerator.num_processes > 1:
        raise UserError("training runs in one process; start it without a launcher for several")
    return accelerator


def train(
    language: LanguageModel,
    rows: Mapping[Split, TokenRows],
    learned: NDArray[np.int64],
    objective: Objective,
    cfg: TrainingConfig,
    tokens: int,
    folder: Path,
    asked: str,
    start_loss: float | None = None,
) -> Trained:
    """Train the adapter of a PEFT model, from the last checkpoint in `folder` if there is one.

    `asked` is the digest of what the run was asked for. Places of the training rows to learn are in `learned`, and a
    micro-batch has at most `tokens` tokens: the gradient of a step is the sum over its parts. Where `start_loss` is
    given, the loss before the first step must be that.
    """
    if cfg.gradient_checkpointing:
        base_of(language.model).activation_checkpointing_enable({"use_reentrant": False})
    weights = {name: value for name, value in language.model.named_parameters() if value.requires_grad}
    adam = torch.optim.AdamW(weights.values(), lr=cfg.lr, weight_decay=0.0)
    accelerator = new_accelerator(language.device)
    model, optimizer = accelerator.prepare(language.model, adam)
    batcher = MicroBatcher(tokens, language.packs, partial(lower_plan, folder))
    trainer = Trainer(replace(language, model=model), rows, learned, objective, batcher, cfg.seed, accelerator)
    schedule = Schedule(len(learned), cfg.batch_size, cfg.epochs, cfg.seed)
    steps = schedule.steps()
    checks = check_steps(steps, cfg.epochs)
    saved = newest_checkpoint(folder / CHECKPOINTS, asked)
    done, spent = (saved.step, saved.seconds) if saved else (0, 0.0)
    metrics = MetricsLog(folder / METRICS, checks, done)
    if saved:
        log.info("resuming after step %d of %d", done, steps)
        with torch.no_grad():
            for name, value in weights.items():
                value.copy_(saved.weights[name])
        restore_moments(adam, saved.moments)
    else:
        for row in trainer.start(schedule, start_loss):
            metrics.add(row)
    begun = time.monotonic() - spent
    warned: set[str] = set()
    # A bar in a terminal; elsewhere each held-out check is a line.
    with tqdm(total=steps, initial=done, desc="training", unit="step", disable=None) as bar:
        for step in range(done + 1, steps + 1):
            for group in adam.param_groups:
                group["lr"] = cfg.lr * (1 - (step - 1) / steps)
            row = trainer.step(step, learned[schedule.rows(step)].tolist(), optimizer, weights)
            row |= {"epoch": step * cfg.epochs / steps, "learning_rate": adam.param_groups[0]["lr"]}
            row["num_tokens"] += metrics.newest.get("num_tokens", 0)
            metrics.add(row)
            if step in checks:
                if len(rows["heldout"]):
                    metrics.add({"step": step, "epoch": row["epoch"], **trainer.check()})
                metrics.write()
                spent = time.monotonic() - begun
                save_checkpoint(folder / CHECKPOINTS, asked, step, spent, weights, adam, metrics)
                for kind, text in warnings_of(metrics.rows).items():
                    if kind not in warned:
                        bar.clear()
                        log.warning("warning: %s", text)
                        warned.add(kind)
            bar.set_postfix(format_metrics(metrics.newest), refresh=False)
            bar.update()
            if bar.disable and step in checks:
                said = ", ".join(f"{name} {value}" for name, value in format_metrics(metrics.newest).items())
                log.info("step %d of %d: %s", step, steps, said)
    assert metrics.first_loss is not None
    losses, seen = (metrics.first_loss, metrics.newest["loss"]), metrics.newest["num_tokens"]
    return Trained(metrics.rows, *losses, steps, seen, time.monotonic() - begun, warnings_of(metrics.rows))


@dataclass(frozen=True)
class Trainer:
    """A model in training: what a step, a check and the start share."""

    language: LanguageModel
    rows: Mapping[Split, TokenRows]
    learned: NDArray[np.int64]
    """Places of the training rows that are learned."""
    objective: Objective
    batcher: MicroBatcher
    seed: int
    """Of the dropout."""
    accelerator: Accelerator

    def start(self, schedule: Schedule, expected: float | None) -> list[Metrics]:
        """The metrics before the first step; without held-out rows, the loss of the first batch is looked at alone."""
        if len(self.rows["heldout"]):
            metrics = self.check()
        else:
            log.warning("there are no held-out rows, so overfitting is not checked")
            metrics = self.measure("train", self.learned[schedule.rows(1)])
        found = metrics["eval_loss"]
        tolerance = START_TOLERANCE[self.accelerator.device.type] * max(1.0, abs(expected or 0.0))
        if expected is not None and abs(found - expected) > tolerance:
            raise RuntimeError(f"the loss before step 1 is {found:.6f}, and must be {expected:.6f}")
        log.info("step 0: loss %.4f%s", found, "" if expected is None else f", as it must be ({expected:.4f})")
        return [{"step": 0, "epoch": 0.0, **metrics}] if len(self.rows["heldout"]) else []

    def step(self, step: int, chosen: list[int], optimizer: Any, weights: dict[str, Tensor]) -> Metrics:
        """One step of the optimizer. Raises UserError, with the rows, where the numbers are no longer finite."""
        rows = self.rows["train"]
        metrics = self.batcher.run_in_parts(rows, chosen, lambda parts: self.gradient(step, parts, optimizer))
        norm = torch.nn.utils.get_total_norm([value.grad for value in weights.values() if value.grad is not None])
        if not (np.isfinite(metrics["loss"]) and torch.isfinite(norm)):
            ids = ", ".join(rows[row].row_id for row in chosen)
            raise UserError(
                f"step {step} is not finite (loss {metrics['loss']}, gradient norm {norm.item()}); its rows: {ids}; "
                "nothing of it was saved: take these rows out, or lower --lr"
            )
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return {"step": step, "loss": metrics.pop("loss"), "grad_norm": norm.item(), **metrics}

    def gradient(self, step: int, parts: list[list[int]], optimizer: Any) -> Metrics:
        """Loss and metrics of a step, whose gradient is then there, put together from these parts."""
        self.language.model.train()
        optimizer.zero_grad(set_to_none=True)
        rows = self.rows["train"]
        batches = [self.language.batch(rows, part) for part in parts]
        weight = sum(self.objective.weight(batch, "train") for batch in batches)
        loss = 0.0
        sums: Metrics = {}
        for batch in batches:
            self.language.dropout.draw_for(self.seed, step, batch.spans)
            found = self.objective.loss(self.language.line_logps(batch), batch, "train")
            self.accelerator.backward(found.total / weight)
            loss += found.total.item() / weight
            add_up(sums, found.metrics)
        rows.release()
        count = sum(map(len, parts))
        means = {name: value / count for name, value in sums.items()}
        return {"loss": loss, **means, "num_tokens": sum(batch.tokens for batch in batches)}

    def check(self) -> Metrics:
        """Metrics of the held-out rows."""
        return self.measure("heldout", np.arange(len(self.rows["heldout"])))

    def measure(self, split: Split, chosen: NDArray[np.int64]) -> Metrics:
        """Mean loss and metrics of these rows, under names that begin with `eval_`; dropout is off."""
        return self.batcher.run_in_parts(self.rows[split], chosen, lambda parts: self.measure_parts(split, parts))

    def measure_parts(self, split: Split, parts: list[list[int]]) -> Metrics:
        self.language.model.eval()
        rows = self.rows[split]
        total, weight = 0.0, 0.0
        sums: Metrics = {}
        for part in parts:
            batch = self.language.batch(rows, part)
            with torch.no_grad():
                found = self.objective.loss(self.language.line_logps(batch), batch, split)
            total, weight = total + found.total.item(), weight + self.objective.weight(batch, split)
            add_up(sums, found.metrics)
        rows.release()
        count = sum(map(len, parts))
        means = {f"eval_{name}": value / count for name, value in sums.items()}
        return {"eval_loss": total / weight, "eval_rows": count, **means}


def format_metrics(newest: Metrics) -> dict[str, str]:
    """The figures worth watching."""
    names = {"loss": "loss", "eval_loss": "held-out", "rewards/accuracies": "accuracy", "rewards/margins": "margin"}
    return {name: f"{newest[key]:.4f}" for key, name in names.items() if key in newest}


def add_up(sums: Metrics, found: Metrics) -> None:
    """Add what was found for some rows, (rows,) by name, to the sums."""
    for name, values in found.items():
        sums[name] = sums.get(name, 0.0) + float(values.detach().sum())
