"""Memory of our training when the data or the batch grow, in a process of its own: `dpo_scale.py JOB RESULT`."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from curate.flags import set_defaults

set_defaults()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from dpo_measured import RATE, forget_peak, peak_mb, resident_mb, run_job, shaken  # noqa: E402
from dpo_ours import Side  # noqa: E402
from dpo_pairs import Pair, read_steps  # noqa: E402
from dpo_store import read_store, row_of, write_store  # noqa: E402
from torch import Tensor  # noqa: E402

from train.data.packing import Batch, micro_batches  # noqa: E402
from train.dpo import line_logps  # noqa: E402
from train.loop.diagnostics import warnings_of  # noqa: E402
from train.loop.metrics import MetricsLog  # noqa: E402
from train.loop.oom import MicroBatcher  # noqa: E402
from train.loop.schedule import Schedule, check_steps  # noqa: E402
from train.model.language_model import LanguageModel  # noqa: E402
from train.model.reference import reference_logps  # noqa: E402

STORE_BATCH, STORE_STEPS = 4, 30
"""Rows a step, and steps that are really trained, evenly over an epoch."""


def batches(job: dict[str, Any]) -> dict[str, Any]:
    """One step of all pairs under a token budget: its peak, and its gradients against those of other parts.

    The others are the pairs in the order they come, under half of the budget.
    """
    side = Side(job)
    shaken(side.model)
    pairs = [pair for step in read_steps(Path(job["steps"])) for micro in step for pair in micro]
    sizes = [len(row_of(pair, "")) for pair in pairs]
    base = resident_mb()
    forget_peak()
    parts = micro_batches(sizes, range(len(pairs)), job["budget"])
    gradients = gradients_of(side, pairs, parts)
    found = {"base_mb": base, "peak_mb": peak_mb(), "pairs": len(pairs), "tokens": sum(sizes), "parts": len(parts)}
    if side.device.type == "cuda":
        return found | {"peak_gpu_gib": torch.cuda.max_memory_allocated() / 2**30}
    others = in_order(sizes, job["budget"] // 2)
    other = gradients_of(side, pairs, others)
    apart = max(((one - two).norm() / two.norm()).item() for one, two in zip(gradients, other, strict=True))
    return found | {"other_parts": len(others), "gradient": apart}


def store(job: dict[str, Any]) -> dict[str, Any]:
    """Write a store of so many rows, the real pairs again and again, as training finds it."""
    pairs = [pair for step in read_steps(Path(job["steps"])) for micro in step for pair in micro]
    written = write_store(Path(job["store"]), pairs, job["rows"])
    return {"tokens": written["tokens"], "files_mb": written["bytes"] / 2**20}


def rss(job: dict[str, Any]) -> dict[str, Any]:
    """Peak memory of training on a store: a pass over all rows as for the reference, and steps all over it.

    The reference pass reads every row into batches and does not compute them, for those of 200,000 rows take days.
    """
    with tempfile.TemporaryDirectory(dir=job["work"]) as folder:
        written = in_another_process(job | {"kind": "store", "store": folder})
        return written | trained(job, Path(folder))


class Reader(LanguageModel):
    """A model that is given every batch and does not compute it."""

    def line_logps(self, batch: Batch) -> Tensor:
        return torch.zeros(len(batch.learned_tokens), dtype=torch.float64)


def trained(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    side = Side(job)
    base = resident_mb()
    forget_peak()
    rows = read_store(folder)
    reader, batcher = Reader(**vars(side.language)), MicroBatcher(job["budget"], True)
    with tempfile.TemporaryDirectory() as scratch:
        reference = reference_logps(
            Path(scratch), rows, lambda places: line_logps(reader, batcher, rows, places), "benchmark"
        )
    trainer = side.trainer(rows, reference, MicroBatcher(job["budget"], True))
    schedule = Schedule(len(rows), STORE_BATCH, 1, 0)
    steps = schedule.steps()
    computed = set(np.linspace(1, steps, STORE_STEPS).astype(int).tolist())
    # the rows of all other steps are read as a step reads them, and every step has its metrics
    checks = check_steps(steps, 1)
    metrics = MetricsLog(folder / "metrics.jsonl", checks)
    for step in range(1, steps + 1):
        chosen = schedule.rows(step)
        if step in computed:
            row = trainer.step(step, chosen, side.adam, side.weights)
        else:
            for place in chosen:
                rows[place]
            rows.release()
        metrics.add(row | {"step": step, "epoch": step / steps, "learning_rate": RATE})
        if step in checks:
            metrics.write()
            warnings_of(metrics.rows)
    return {"base_mb": base, "peak_mb": peak_mb(), "rows": len(rows)}


def in_another_process(job: dict[str, Any]) -> dict[str, Any]:
    """What a job of this file finds by itself, so that its memory is not this process's."""
    with tempfile.TemporaryDirectory() as scratch:
        asked, answered = Path(scratch, "job.json"), Path(scratch, "found.json")
        asked.write_text(json.dumps(job))
        subprocess.run([sys.executable, __file__, str(asked), str(answered)], check=True)
        found: dict[str, Any] = json.loads(answered.read_text())
    return found


def in_order(sizes: Sequence[int], budget: int) -> list[list[int]]:
    """Neighbors together while the budget lasts."""
    parts: list[list[int]] = [[]]
    for place, size in enumerate(sizes):
        if parts[-1] and sum(sizes[other] for other in parts[-1]) + size > budget:
            parts.append([])
        parts[-1].append(place)
    return parts


def gradients_of(side: Side, pairs: Sequence[Pair], parts: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    """Of the mean loss over all pairs, a tensor of the adapter each."""
    for part in parts:
        chosen = [pairs[place] for place in part]
        (side.losses(chosen, side.reference(chosen)).sum() / len(pairs)).backward()
    found = [value.grad.clone() for value in side.weights.values()]
    side.adam.zero_grad(set_to_none=True)
    return found


if __name__ == "__main__":
    run_job({"batches": batches, "store": store, "rss": rss})
