"""A training run's state on disk, so that kill -9 costs at most an eighth of an epoch and changes no weight.

Tensors are safetensors and the rest is JSON; nothing is pickled. Random state is not kept, for each
step begins from a seed of its own. `state.json` holds the digests of the tensors and of the metrics so far.
"""

import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import torch as safetensors
from torch import Tensor

from curate.files import Damaged, write_atomically
from curate.store.folders import write_folder
from curate.store.runs import STATE, check_checkpoint, checkpoint_name
from train.loop.metrics import MetricsLog

log = logging.getLogger(__name__)

WEIGHTS, MOMENTS = "adapter.safetensors", "optimizer.safetensors"
KEPT = 2
"""Checkpoints that stay: the newest, and one to fall back on."""


@dataclass(frozen=True)
class Checkpoint:
    """State of training after a step."""

    step: int
    """Steps done."""
    seconds: float
    """Time they took."""
    weights: dict[str, Tensor]
    moments: dict[str, Tensor]
    """`index.field` -> what AdamW keeps for the parameter at `index`."""


def save_checkpoint(
    folder: Path,
    asked: str,
    step: int,
    seconds: float,
    weights: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    metrics: MetricsLog,
) -> None:
    """Write a checkpoint beside the others and rename it into place; then remove all but the last `KEPT`.

    `folder` is in that of the run, and `asked` the digest of what the run was asked for.
    """
    scratch, target = folder / f".step-{step:08d}", folder / f"step-{step:08d}"
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        for name, tensors in ((WEIGHTS, weights), (MOMENTS, moments_of(optimizer))):
            content = safetensors.save({key: value.detach().cpu().contiguous() for key, value in tensors.items()})
            write_atomically(scratch / name, content)
        state = {"step": step, "seconds": round(seconds, 3), "asked": asked, "metrics": metrics.written()}
        write_folder(scratch / STATE, checkpoint_name(target), state, (WEIGHTS, MOMENTS), target / STATE)
        shutil.rmtree(target, ignore_errors=True)
        os.rename(scratch, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    for old in sorted(folder.glob("step-*"))[:-KEPT]:
        shutil.rmtree(old)


def newest_checkpoint(folder: Path, asked: str) -> Checkpoint | None:
    """The last whole checkpoint of what was `asked` for; a damaged one, or another run's, is skipped with a warning."""
    for path in sorted(folder.glob("step-*"), reverse=True):
        try:
            return read_checkpoint(path, asked)
        except Damaged as error:
            log.warning("warning: %s", error)
    return None


def read_checkpoint(path: Path, asked: str) -> Checkpoint:
    """A checkpoint whose files are what was written. Raises Damaged for another."""
    remedy = "training goes on from the checkpoint before, or begins anew"
    state = check_checkpoint(path, remedy)
    if state["asked"] != asked:
        raise Damaged(f"{path} is of other settings", remedy)
    weights, moments = (safetensors.load((path / name).read_bytes()) for name in (WEIGHTS, MOMENTS))
    return Checkpoint(int(state["step"]), float(state["seconds"]), weights, moments)


def moments_of(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state of each parameter, under flat names."""
    state = optimizer.state_dict()["state"]
    return {f"{index}.{field}": value for index, fields in state.items() for field, value in fields.items()}


def restore_moments(optimizer: torch.optim.Optimizer, moments: Mapping[str, Tensor]) -> None:
    """Restore the state that `moments_of` saved."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in moments.items():
        index, _, field = name.partition(".")
        state.setdefault(int(index), {})[field] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
