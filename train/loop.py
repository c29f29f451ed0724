"""One training loop for SFT and DPO: step, held-out check, checkpoint, resume."""

import json
import logging
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm

from curate.store import write_atomically
from schemas.errors import UserError
from train.batches import Batch, batch_of, seed_step, steps_by_length, steps_of_epoch
from train.checkpoints import newest_checkpoint, restore_moments, save_checkpoint
from train.models import line_logps
from train.tokens import Row
from train.watch import Metrics, warnings_of

log = logging.getLogger(__name__)

CHECKS_PER_EPOCH = 8
METRICS = "metrics.jsonl"
START_TOLERANCE = {"cpu": 1e-3, "cuda": 5e-2}
"""How far the loss before step 1 may lie from what it must be; half precision is coarse."""


@dataclass(frozen=True)
class LoopConfig:
    """How long and how fast; the fields are those of `SFTConfig` and `DPOConfig`."""

    epochs: int
    lr: float
    batch_size: int
    seed: int
    gradient_checkpointing: bool


@dataclass(frozen=True)
class Rows:
    """What is learnt and what is only looked at."""

    train: list[Row]
    heldout: list[Row]
    pad: int


class Loss(NamedTuple):
    """What an objective makes of a batch."""

    mean: Tensor
    weight: float
    """What the mean is over, so that batches can be averaged."""
    metrics: dict[str, Tensor]
    """Name -> (rows,)."""


Objective = Callable[[Tensor, Batch, bool], Loss]
"""(log-probability of each line, batch, whether it is held out) -> loss."""


@dataclass(frozen=True)
class Trained:
    """What a finished loop has to say."""

    rows: list[Metrics]
    steps: int
    seconds: float
    warnings: dict[str, str]

    def losses(self) -> list[float]:
        """Training loss by step."""
        return [row["loss"] for row in self.rows if "loss" in row]

    def tokens(self) -> int:
        """Tokens read in training, padding aside."""
        return int(max(row.get("num_tokens", 0) for row in self.rows))


def new_accelerator(device: torch.device) -> Accelerator:
    """One process on one device: bf16 on a GPU; fp32 on a CPU, where bf16 is some 200 times slower."""
    on_gpu = device.type == "cuda"
    accelerator = Accelerator(mixed_precision="bf16" if on_gpu else "no", cpu=not on_gpu)
    if accelerator.num_processes > 1:
        raise UserError("training runs in one process; start it without a launcher for several")
    return accelerator


def train(
    model: Any,
    rows: Rows,
    objective: Objective,
    cfg: LoopConfig,
    folder: Path,
    accelerator: Accelerator,
    start_loss: float | None = None,
) -> Trained:
    """Train the adapter of a PEFT model, from the last checkpoint in `folder` if there is one.

    Where `start_loss` is given, the loss before the first step must be that.
    """
    if cfg.gradient_checkpointing:
        model.get_base_model().activation_checkpointing_enable({"use_reentrant": False})
    weights = {name: value for name, value in model.named_parameters() if value.requires_grad}
    adam = torch.optim.AdamW(weights.values(), lr=cfg.lr, weight_decay=0.0)
    model, optimizer = accelerator.prepare(model, adam)
    course = Course(model, rows, objective, cfg, accelerator)
    steps = [step for e in range(cfg.epochs) for step in steps_of_epoch(len(rows.train), cfg.batch_size, cfg.seed, e)]
    checks = check_steps(len(steps), cfg.epochs)
    saved = newest_checkpoint(folder / "checkpoints")
    log_rows = read_metrics(folder / METRICS, saved.step) if saved else []
    if saved:
        log.info("going on after step %d of %d", saved.step, len(steps))
        with torch.no_grad():
            for name, value in weights.items():
                value.copy_(saved.weights[name])
        restore_moments(adam, saved.moments)
    else:
        log_rows = course.start(steps[0], start_loss)
    begun = time.monotonic() - (saved.seconds if saved else 0.0)
    warned: set[str] = set()
    done = saved.step if saved else 0
    with live_line(len(steps), done) as bar:
        for step in range(done + 1, len(steps) + 1):
            for group in adam.param_groups:
                group["lr"] = cfg.lr * (1 - (step - 1) / len(steps))
            row = course.step(step, steps[step - 1], optimizer, weights)
            row |= {"epoch": step * cfg.epochs / len(steps), "learning_rate": adam.param_groups[0]["lr"]}
            row["num_tokens"] += next((old["num_tokens"] for old in reversed(log_rows) if "num_tokens" in old), 0)
            log_rows.append(row)
            if step in checks:
                if rows.heldout:
                    log_rows.append({"step": step, "epoch": row["epoch"], **course.check()})
                write_atomically(folder / METRICS, "".join(json.dumps(row) + "\n" for row in log_rows).encode())
                save_checkpoint(folder / "checkpoints", step, time.monotonic() - begun, weights, adam)
                for kind, text in warnings_of(log_rows).items():
                    if kind not in warned:
                        bar.clear()
                        log.warning("warning: %s", text)
                        warned.add(kind)
            bar.set_postfix(shown(log_rows), refresh=False)
            bar.update()
            if bar.disable and step in checks:
                said = ", ".join(f"{name} {value}" for name, value in shown(log_rows).items())
                log.info("step %d of %d: %s", step, len(steps), said)
    return Trained(log_rows, len(steps), time.monotonic() - begun, warnings_of(log_rows))


@dataclass(frozen=True)
class Course:
    """A model on its way: what a step, a check and the start have in common."""

    model: Any
    rows: Rows
    objective: Objective
    cfg: LoopConfig
    accelerator: Accelerator

    def start(self, first: list[int], expected: float | None) -> list[Metrics]:
        """The metrics before the first step; without held-out rows, the loss of the first batch is looked at alone."""
        if self.rows.heldout:
            metrics = self.check()
        else:
            log.warning("there are no held-out rows, so nothing checks what is learnt by heart")
            metrics = self.measure(self.rows.train, [first], is_heldout=False)
        found = metrics["eval_loss"]
        if expected is not None and abs(found - expected) > START_TOLERANCE[self.accelerator.device.type]:
            raise RuntimeError(f"the loss before step 1 is {found:.6f}, and must be {expected:.6f}")
        log.info("step 0: loss %.4f%s", found, "" if expected is None else f", as it must be ({expected:.4f})")
        return [{"step": 0, "epoch": 0.0, **metrics}] if self.rows.heldout else []

    def step(self, step: int, chosen: list[int], optimizer: Any, weights: dict[str, Tensor]) -> Metrics:
        """One step of the optimizer. Raises UserError, with the rows, where the numbers are no longer finite."""
        self.model.train()
        seed_step(self.cfg.seed, step)
        batch = batch_of(self.rows.train, chosen, self.rows.pad, self.accelerator.device)
        with self.accelerator.autocast():
            loss = self.objective(line_logps(self.model, batch), batch, False)
        self.accelerator.backward(loss.mean)
        norm = torch.nn.utils.get_total_norm([value.grad for value in weights.values() if value.grad is not None])
        if not (torch.isfinite(loss.mean) and torch.isfinite(norm)):
            ids = ", ".join(self.rows.train[row].row_id for row in chosen)
            raise UserError(
                f"step {step} is not finite (loss {loss.mean.item()}, gradient norm {norm.item()}); its rows: {ids}; "
                "nothing of it was saved: take these rows out, or lower --lr"
            )
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        means = {name: float(values.detach().mean()) for name, values in loss.metrics.items()}
        return {"step": step, "loss": loss.mean.item(), "grad_norm": norm.item(), **means, "num_tokens": batch.tokens}

    def check(self) -> Metrics:
        """Metrics of the held-out rows."""
        return self.measure(self.rows.heldout, steps_by_length(self.rows.heldout, self.cfg.batch_size), is_heldout=True)

    @torch.no_grad()
    def measure(self, rows: list[Row], batches: Sequence[list[int]], is_heldout: bool) -> Metrics:
        """Mean loss and metrics of these batches, under names that begin with `eval_`; dropout is off."""
        self.model.eval()
        total, weight = 0.0, 0.0
        sums: dict[str, float] = {}
        for chosen in batches:
            batch = batch_of(rows, chosen, self.rows.pad, self.accelerator.device)
            with self.accelerator.autocast():
                loss = self.objective(line_logps(self.model, batch), batch, is_heldout)
            total, weight = total + loss.mean.item() * loss.weight, weight + loss.weight
            for name, values in loss.metrics.items():
                sums[name] = sums.get(name, 0.0) + float(values.sum())
        count = sum(map(len, batches))
        means = {f"eval_{name}": value / count for name, value in sums.items()}
        return {"eval_loss": total / weight, "eval_rows": count, **means}


def check_steps(steps: int, epochs: int) -> set[int]:
    """Steps after which the held-out rows are looked at and a checkpoint is written; the last step is one of them."""
    parts = epochs * CHECKS_PER_EPOCH
    return {math.ceil(part * steps / parts) for part in range(1, parts + 1)}


def read_metrics(path: Path, last_step: int) -> list[Metrics]:
    """What was measured up to a step."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [row for row in rows if row["step"] <= last_step]


def live_line(total: int, done: int) -> "tqdm[Any]":
    """A bar in a terminal; elsewhere each held-out check is a line."""
    is_shown = sys.stderr.isatty()
    return tqdm(total=total, initial=done, desc="training", unit="step", file=sys.stderr, disable=not is_shown)


def shown(rows: Sequence[Metrics]) -> dict[str, str]:
    """The newest of the figures worth watching."""
    names = {"loss": "loss", "eval_loss": "held-out", "rewards/accuracies": "accuracy", "rewards/margins": "margin"}
    found = {}
    for key, name in names.items():
        newest = next((row[key] for row in reversed(rows) if key in row), None)
        if newest is not None:
            found[name] = f"{newest:.4f}"
    return found
