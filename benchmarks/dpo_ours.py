"""One measured run of this project's DPO in a process of its own: `dpo_ours.py JOB RESULT`, started by `dpo.py`.

The steps are those of `train/loop/loop.py`, with their metrics and checks, on rows in files. Dropout is 0, as it is for
TRL here, for masks that differ would make other numbers.
"""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from curate.flags import set_defaults

set_defaults()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from dpo_measured import ADAPTER, BETA, RATE, Meter, run_job, set_adapter, set_threads, shaken, write_gradients  # noqa: E402
from dpo_pairs import Pair, read_steps  # noqa: E402
from dpo_store import read_store, row_of, write_store  # noqa: E402
from torch import Tensor  # noqa: E402

from train.config import TrainingConfig  # noqa: E402
from train.data.token_store import TokenRows  # noqa: E402
from train.dpo import PairObjective, line_logps  # noqa: E402
from train.loop.loop import Trainer, new_accelerator  # noqa: E402
from train.loop.oom import MicroBatcher  # noqa: E402
from train.losses import LossConfig, sigmoid_loss  # noqa: E402
from train.model.language_model import prepare_model  # noqa: E402
from train.model.load import load_chat, load_trainable, resolve_weights  # noqa: E402

LOSS = LossConfig("sigmoid", BETA, 0.0, 0.0)
REFERENCE_TOKENS = 4096


def steps(job: dict[str, Any]) -> dict[str, Any]:
    """A warm-up and the measured steps."""
    side = Side(job)
    losses = []
    with tempfile.TemporaryDirectory(dir=job["work"]) as folder:
        taken = side.steps(read_steps(Path(job["steps"])), Path(folder))
        meter = Meter(job["device"])
        for step in taken:
            meter.begin()
            losses.append(step())
            meter.end()
    return meter.report() | {"loss": losses}


def curve(job: dict[str, Any]) -> dict[str, Any]:
    """The loss of every step."""
    with tempfile.TemporaryDirectory(dir=job["work"]) as folder:
        return {"loss": [step() for step in Side(job).steps(read_steps(Path(job["steps"])), Path(folder))]}


def equality(job: dict[str, Any]) -> dict[str, Any]:
    """The loss of every batch, and the gradients of their mean, at adapter weights that are not zero."""
    side = Side(job)
    shaken(side.model)
    batches = [[pair for micro in step for pair in micro] for step in read_steps(Path(job["steps"]))]
    losses = []
    for batch in batches:
        loss = side.losses(batch, side.reference(batch)).mean()
        (loss / len(batches)).backward()
        losses.append(loss.item())
    write_gradients(side.model, Path(job["gradients"]))
    return {"loss": losses}


class AsDealt(MicroBatcher):
    """Parts of so many rows in the order they come, whatever their tokens."""

    def __init__(self, size: int) -> None:
        super().__init__(0, True)
        self.size = size

    def parts(self, rows: Any, chosen: Any) -> list[list[int]]:
        return [list(chosen[start : start + self.size]) for start in range(0, len(chosen), self.size)]


class Side:
    """Our model with its adapter and optimizer."""

    def __init__(self, job: dict[str, Any]) -> None:
        set_threads(job)
        self.device = torch.device(job["device"])
        weights = resolve_weights(f"hf:{job['model']}", Path(job["work"]))
        cfg = TrainingConfig(
            lr=RATE,
            max_length=job["max_length"],
            lora_rank=ADAPTER["r"],
            lora_alpha=ADAPTER["lora_alpha"],
            lora_dropout=0.0,
            seed=0,
        )
        self.model = set_adapter(load_trainable(weights, cfg, self.device), 0.0)
        self.language = prepare_model(self.model, weights.name, load_chat(weights).pad)
        self.model.train()
        self.weights = {name: value for name, value in self.model.named_parameters() if value.requires_grad}
        self.adam = torch.optim.AdamW(self.weights.values(), lr=RATE, weight_decay=0.0)

    def logps(self, pairs: Sequence[Pair]) -> Tensor:
        """(pairs, 2) log-probabilities of the responses."""
        rows = [row_of(pair, str(i)) for i, pair in enumerate(pairs)]
        return self.language.line_logps(self.language.batch(rows, range(len(pairs)))).view(-1, 2)

    @torch.no_grad()
    def reference(self, pairs: Sequence[Pair]) -> Tensor:
        """(pairs, 2) log-probabilities without the adapter."""
        with self.model.disable_adapter():
            return self.logps(pairs)

    def losses(self, pairs: Sequence[Pair], reference: Tensor) -> Tensor:
        """(pairs,)"""
        return sigmoid_loss(self.logps(pairs), reference, BETA)

    def trainer(self, rows: TokenRows, reference: Tensor, batcher: MicroBatcher) -> Trainer:
        """Training on these rows."""
        objective = PairObjective(LOSS, {"train": reference}, torch.ones(len(rows), dtype=torch.float64))
        accelerator = new_accelerator(self.device)
        return Trainer(self.language, {"train": rows}, np.arange(len(rows)), objective, batcher, 0, accelerator)

    def steps(self, dealt: Sequence[Sequence[Sequence[Pair]]], folder: Path) -> Iterator[Any]:
        """Calls that take a step each, in micro-batches as they are dealt, and return its loss.

        The learning rate falls in a straight line.
        """
        pairs = [pair for step in dealt for micro in step for pair in micro]
        write_store(folder, pairs, len(pairs))
        rows = read_store(folder)
        with self.model.disable_adapter():
            reference = line_logps(self.language, MicroBatcher(REFERENCE_TOKENS, True), rows, list(range(len(rows))))
        trainer = self.trainer(rows, reference, AsDealt(len(dealt[0][0])))

        def step(at: int, chosen: list[int]) -> float:
            for group in self.adam.param_groups:
                group["lr"] = RATE * (1 - at / len(dealt))
            return float(trainer.step(at + 1, chosen, self.adam, self.weights)["loss"])

        start = 0
        for at, micros in enumerate(dealt):
            chosen = list(range(start, start + sum(map(len, micros))))
            start += len(chosen)
            yield lambda at=at, chosen=chosen: step(at, chosen)


if __name__ == "__main__":
    run_job({"steps": steps, "curve": curve, "equality": equality})
