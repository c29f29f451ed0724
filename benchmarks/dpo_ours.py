"""One measured run of this project's DPO in a process of its own: `dpo_ours.py JOB RESULT`, started by `dpo.py`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from curate.environment import set_defaults

set_defaults()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from dpo_measured import ADAPTER, BETA, RATE, Meter, run_job, set_adapter, set_threads, shaken, write_gradients  # noqa: E402
from dpo_pairs import Pair, read_steps  # noqa: E402
from torch import Tensor  # noqa: E402

from train.language_model import prepare  # noqa: E402
from train.losses import sigmoid_loss  # noqa: E402
from train.models import LoRA, load_chat, named_weights, trainable  # noqa: E402
from train.tokens import Row, Tokens  # noqa: E402


def steps(job: dict[str, Any]) -> dict[str, Any]:
    """A warm-up and the measured steps."""
    side = Side(job)
    dealt = read_steps(Path(job["steps"]))
    measured = [[side.reference(micro) for micro in step] for step in dealt]
    meter = Meter(job["device"])
    losses = []
    for at, (step, references) in enumerate(zip(dealt, measured, strict=True)):
        meter.begin()
        losses.append(side.step(step, references, 1 - at / len(dealt)))
        meter.end()
    return meter.report() | {"loss": losses}


def curve(job: dict[str, Any]) -> dict[str, Any]:
    """The loss of every step."""
    side = Side(job)
    dealt = read_steps(Path(job["steps"]))
    losses = []
    measured = [[side.reference(micro) for micro in step] for step in dealt]
    for at, (step, references) in enumerate(zip(dealt, measured, strict=True)):
        losses.append(side.step(step, references, 1 - at / len(dealt)))
    return {"loss": losses}


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


class Side:
    """Our model with its adapter and optimizer."""

    def __init__(self, job: dict[str, Any]) -> None:
        set_threads(job)
        self.device = torch.device(job["device"])
        weights = named_weights(f"hf:{job['model']}", Path(job["work"]))
        lora = LoRA(ADAPTER["r"], ADAPTER["lora_alpha"], 0.0)
        self.model = set_adapter(trainable(weights, lora, job["max_length"], 0, self.device), 0.0)
        self.language = prepare(self.model, weights.name, load_chat(weights).pad)
        self.model.train()
        self.weights = [value for value in self.model.parameters() if value.requires_grad]
        self.adam = torch.optim.AdamW(self.weights, lr=RATE, weight_decay=0.0)

    def logps(self, pairs: Sequence[Pair]) -> Tensor:
        """(pairs, 2) log-probabilities of the responses."""
        return self.language.line_logps(self.language.batch(rows_of(pairs), range(len(pairs)))).view(-1, 2)

    @torch.no_grad()
    def reference(self, pairs: Sequence[Pair]) -> Tensor:
        """(pairs, 2) log-probabilities without the adapter."""
        with self.model.disable_adapter():
            return self.logps(pairs)

    def losses(self, pairs: Sequence[Pair], reference: Tensor) -> Tensor:
        """(pairs,)"""
        return sigmoid_loss(self.logps(pairs), reference, BETA)

    def step(self, micros: Sequence[Sequence[Pair]], references: Sequence[Tensor], left: float) -> float:
        """One step of the optimizer, the learning rate falling in a straight line; returns the mean loss."""
        count, total = sum(map(len, micros)), 0.0
        for micro, reference in zip(micros, references, strict=True):
            loss = self.losses(micro, reference).sum() / count
            loss.backward()
            total += loss.item()
        for group in self.adam.param_groups:
            group["lr"] = RATE * left
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)
        return total


def rows_of(pairs: Sequence[Pair]) -> list[Row]:
    """Pairs as the data path holds them."""
    return [row_of(pair, str(i)) for i, pair in enumerate(pairs)]


def row_of(pair: Pair, row_id: str) -> Row:
    responses = tuple(
        Tokens(np.array(ids, dtype=np.uint32), np.ones(len(ids), dtype=np.bool_))
        for ids in (pair.chosen_ids, pair.rejected_ids)
    )
    return Row(row_id, np.array(pair.prompt_ids, dtype=np.uint32), responses)


if __name__ == "__main__":
    run_job({"steps": steps, "curve": curve, "equality": equality})
