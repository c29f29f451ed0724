"""Predict memory, and choose the micro-batch from the free memory unless it is given."""

import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import torch
from torch import Tensor

from curate.files import Damaged
from curate.store.folders import read_folder, write_folder
from curate.store.runs import PLAN
from schemas.errors import UserError
from train.config import TrainingConfig
from train.data.token_store import TokenRows
from train.data.tokens import Row, Tokens
from train.model.language_model import LanguageModel

log = logging.getLogger(__name__)

PROBE_TOKENS = 256
MOST_TOKENS = {"cpu": 4096, "cuda": 65_536}
"""More at a time is no faster."""
SHARE = 0.7
"""Of the free memory that is planned for."""
SPARE = {"cpu": 1.5, "cuda": 1.1}
"""What an allocator holds, over what is in use: blocks of a heap that fit nothing, and what passes by in a layer."""


class MemoryPlan(NamedTuple):
    """Size of a micro-batch, and its estimated peak memory."""

    micro_batch_tokens: int
    predicted_peak_mb: int


def plan_memory(language: LanguageModel, rows: TokenRows, cfg: TrainingConfig) -> MemoryPlan:
    """Tokens of a micro-batch: as asked, or as many as fit into the free memory.

    Raises UserError for a row that is longer than what was asked for.
    """
    sizes, asked, batch_size = rows.sizes, cfg.micro_batch_tokens, cfg.batch_size
    longest = int(sizes.max())
    if asked is not None and longest > asked:
        row = rows[int(sizes.argmax())]
        raise UserError(
            f"row {row.row_id} has {longest} tokens, more than --micro-batch-tokens {asked}; raise that, or lower "
            "--max-length"
        )
    held, free = device_memory(language.device)
    each = bytes_per_token(language) * SPARE[language.device.type]
    needed = min(int(np.sort(sizes)[-batch_size:].sum()), MOST_TOKENS[language.device.type])
    tokens = asked if asked is not None else max(longest, min(needed, int(SHARE * free / each)))
    predicted = round((held + each * min(tokens, needed)) / 1e6)
    log.info("micro-batch %s tokens, estimated peak %s MB", f"{tokens:,}", f"{predicted:,}")
    return MemoryPlan(tokens, predicted)


def read_plan(folder: Path) -> MemoryPlan | None:
    """The plan that a run was begun with, since another one rounds otherwise; a damaged one is none, with a warning."""
    path = folder / PLAN
    if not path.exists():
        return None
    try:
        plan = read_folder(path, folder.name, "another one is made")
    except Damaged as error:
        log.warning("warning: %s", error)
        return None
    return MemoryPlan(**{field: plan[field] for field in MemoryPlan._fields})


def save_plan(folder: Path, plan: MemoryPlan) -> None:
    write_folder(folder / PLAN, folder.name, plan._asdict())


def lower_plan(folder: Path, tokens: int) -> None:
    """Write the size of a micro-batch that fits the memory into the plan of a run, for when it is resumed."""
    if plan := read_plan(folder):
        save_plan(folder, plan._replace(micro_batch_tokens=tokens))


def bytes_per_token(language: LanguageModel) -> float:
    """Memory that a token takes for the backward, measured on a short row."""
    kept: dict[int, int] = {}
    weights = {value.untyped_storage().data_ptr() for value in language.model.parameters()}

    def note(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return value

    probe = np.arange(PROBE_TOKENS, dtype=np.uint32) % len(language.head.weight)
    half = PROBE_TOKENS // 2
    row = Row("probe", probe[:half], (Tokens(probe[half:], np.ones(PROBE_TOKENS - half, dtype=bool)),))
    batch = language.batch([row], [0])
    language.dropout.draw_for(0, 0, batch.spans)
    was_training = language.model.training
    language.model.train()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda value: value):
        found = language.line_logps(batch)
    language.model.train(was_training)
    del found
    return sum(kept.values()) / PROBE_TOKENS


def device_memory(device: torch.device) -> tuple[int, int]:
    """Bytes that are held on the device and that are free there; on a CPU also within the limit of a container."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        reserved = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.memory_allocated(device), free + reserved
    free = psutil.virtual_memory().available
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        if limit != "max":
            free = min(free, int(limit) - int(Path("/sys/fs/cgroup/memory.current").read_text()))
    except (OSError, ValueError):
        pass
    return psutil.Process().memory_info().rss, max(free, 0)
