"""Memory of our training when the data or the batch grow, in a process of its own: `dpo_scale.py JOB RESULT`."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from curate.environment import set_defaults

set_defaults()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from dpo_measured import BETA, RATE, forget_peak, peak_mb, resident_mb, run_job, shaken  # noqa: E402
from dpo_ours import Side, rows_of  # noqa: E402
from dpo_pairs import Pair, read_steps  # noqa: E402
from torch import Tensor  # noqa: E402

from train.dpo import PairObjective, line_logps  # noqa: E402
from train.language_model import LanguageModel  # noqa: E402
from train.loop import Course, LoopConfig, Rows, new_accelerator  # noqa: E402
from train.losses import LossConfig  # noqa: E402
from train.packing import Batch, micro_batches  # noqa: E402
from train.reference import reference_logps  # noqa: E402
from train.schedule import Schedule  # noqa: E402
from train.token_store import MANIFEST, TokenRows, write_files  # noqa: E402
from train.tokenising import CHUNK, LEARNT, Encoded  # noqa: E402
from train.tokens import Preflight, Row  # noqa: E402

STORE_BATCH, STORE_STEPS = 4, 30
"""Rows a step, and steps that are really trained, evenly over an epoch."""


def batches(job: dict[str, Any]) -> dict[str, Any]:
    """One step of all pairs under a token budget: its peak, and its gradients against those of other parts.

    The others are the pairs in the order they come, under half of the budget.
    """
    side = Side(job)
    shaken(side.model)
    pairs = [pair for step in read_steps(Path(job["steps"])) for micro in step for pair in micro]
    rows = rows_of(pairs)
    sizes = [len(row) for row in rows]
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
    folder = Path(job["store"])
    rows = rows_of([pair for step in read_steps(Path(job["steps"])) for micro in step for pair in micro])
    written = write_files(folder, repeated(rows, job["rows"]))
    manifest = written | {"kind": "pair", "key": f"benchmark-{job['rows']}", "rows": job["rows"]}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    return {"tokens": written["tokens"], "files_mb": sum(written["bytes"].values()) / 2**20}


def repeated(rows: Sequence[Row], count: int) -> Iterator[Encoded]:
    """Chunks of the store, `count` rows in all."""
    for start in range(0, count, CHUNK):
        places = range(start, min(start + CHUNK, count))
        chunk = [rows[place % len(rows)] for place in places]
        parts = [
            (row.prompt, *(np.where(one.learnt, one.ids | LEARNT, one.ids) for one in row.responses)) for row in chunk
        ]
        yield Encoded(
            np.concatenate([part for row in parts for part in row]),
            np.array([len(part) for row in parts for part in row], dtype=np.int64),
            [f"{place}-{row.row_id}" for place, row in zip(places, chunk, strict=True)],
            Preflight(rows=len(chunk), kept=len(chunk)),
        )


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
        return torch.zeros(len(batch.learnt_tokens), dtype=torch.float64)


def trained(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    side = Side(job)
    base = resident_mb()
    forget_peak()
    rows = TokenRows(folder, json.loads((folder / MANIFEST).read_text()))
    reader = Reader(**vars(side.language))
    with tempfile.TemporaryDirectory() as scratch:
        reference = reference_logps(
            Path(scratch), "benchmark", rows, 2, lambda places: line_logps(reader, rows, places), "benchmark"
        )
    loss = LossConfig("sigmoid", BETA, 0.0, 0.0)
    objective = PairObjective(loss, {"train": reference}, torch.ones(len(rows), dtype=torch.float64))
    cfg = LoopConfig(
        epochs=1, lr=RATE, batch_size=STORE_BATCH, seed=0, gradient_checkpointing=False, tokens_per_batch=job["budget"]
    )
    places = np.arange(len(rows))
    course = Course(side.language, Rows(rows, rows, places), objective, cfg, new_accelerator(side.device), folder)
    schedule = Schedule(len(rows), STORE_BATCH, 1, 0)
    weights = {name: value for name, value in side.model.named_parameters() if value.requires_grad}
    for step in np.linspace(1, schedule.steps(), STORE_STEPS).astype(int).tolist():
        course.step(step, places[schedule.rows(step)].tolist(), side.adam, weights)
    # the rows of all steps are read as a step reads them, so that all of the store was touched in the order of an epoch
    for step in range(1, schedule.steps() + 1):
        for place in schedule.rows(step):
            rows[place]
        rows.release()
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
    """Neighbours together while the budget lasts."""
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
    found = [value.grad.clone() for value in side.weights]
    side.adam.zero_grad(set_to_none=True)
    return found


if __name__ == "__main__":
    run_job({"batches": batches, "store": store, "rss": rss})
