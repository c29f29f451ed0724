"""A training run's state on disk, so that kill -9 costs at most an eighth of an epoch and changes no weight.

Tensors are safetensors and the rest is JSON; nothing is pickled. Random state is not kept, for each
step begins from a seed of its own.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import torch as safetensors
from torch import Tensor

from curate.files import write_atomically

log = logging.getLogger(__name__)

WEIGHTS, MOMENTS, STATE = "adapter.safetensors", "optimizer.safetensors", "state.json"
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
    folder: Path, step: int, seconds: float, weights: Mapping[str, Tensor], optimizer: torch.optim.Optimizer
) -> None:
    """Write a checkpoint beside the others and rename it into place; then remove all but the last `KEPT`."""
    scratch, target = folder / f".step-{step:08d}", folder / f"step-{step:08d}"
    shutil.rmtree(scratch, ignore_errors=True)
    state: dict[str, Any] = {"step": step, "seconds": round(seconds, 3), "sha256": {}}
    try:
        for name, tensors in ((WEIGHTS, weights), (MOMENTS, moments_of(optimizer))):
            content = safetensors.save({key: value.detach().cpu().contiguous() for key, value in tensors.items()})
            write_atomically(scratch / name, content)
            state["sha256"][name] = hashlib.sha256(content).hexdigest()
        write_atomically(scratch / STATE, json.dumps(state).encode())
        shutil.rmtree(target, ignore_errors=True)
        os.rename(scratch, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    for old in sorted(folder.glob("step-*"))[:-KEPT]:
        shutil.rmtree(old)


def newest_checkpoint(folder: Path) -> Checkpoint | None:
    """The last whole checkpoint; one that is truncated or damaged is skipped with a warning."""
    for path in sorted(folder.glob("step-*"), reverse=True):
        try:
            return read_checkpoint(path)
        except (OSError, ValueError, KeyError) as error:
            log.warning("checkpoint %s is not whole (%s); the one before it is used", path.name, error)
    return None


def read_checkpoint(path: Path) -> Checkpoint:
    """A checkpoint whose files are what was written. Raises ValueError, OSError or KeyError for another."""
    state = json.loads((path / STATE).read_text())
    tensors = {}
    for name in (WEIGHTS, MOMENTS):
        content = (path / name).read_bytes()
        if hashlib.sha256(content).hexdigest() != state["sha256"][name]:
            raise ValueError(f"{name} differs from what was written")
        tensors[name] = safetensors.load(content)
    return Checkpoint(int(state["step"]), float(state["seconds"]), tensors[WEIGHTS], tensors[MOMENTS])


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
