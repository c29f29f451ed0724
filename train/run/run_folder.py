"""Run folder: the settings are written first, then adapter, metrics and card, last the manifest with their digests."""

import json
import logging
import resource
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from peft import get_peft_model_state_dict
from safetensors import torch as safetensors

from curate.files import Damaged, refuse_read_only, write_atomically
from curate.models.embedded import EMBEDDED
from curate.store.folders import read_folder, write_folder
from curate.store.mixes import Split
from curate.store.runs import ADAPTER, ASKED, CHECKPOINTS, MANIFEST, METRICS, PLAN, read_run, run_folders
from curate.store.workspace import Workspace, check_name
from schemas.errors import UserError
from train.config import TrainingConfig
from train.data.token_store import TokenRows
from train.loop.loop import Trained
from train.loop.memory import MemoryPlan, read_plan, save_plan
from train.model.load import ModelWeights
from train.run.card import run_card
from train.run.curves import draw_curves

log = logging.getLogger(__name__)

ASKED_FIELDS = ("kind", "base", "base_digest", "policy", "reference", "data", "config")
"""Of the manifest: what `run_request` gives."""
WEIGHTS, SETTINGS = "adapter_model.safetensors", "adapter_config.json"
FILES = (f"{ADAPTER}/{WEIGHTS}", f"{ADAPTER}/{SETTINGS}", METRICS)
"""Files that the manifest has digests of; card and curves are drawn from them, and a card may be edited."""
LIBRARIES = ("accelerate", "peft", "pairwright", "tokenizers", "torch", "transformers")
NOT_ASKED = {"data", "name", "device", "dataset", "mix", "base", "policy", "reference", "weights", "micro_batch_tokens"}
"""Fields that change no weight, or that the run records in full instead."""


@dataclass(frozen=True)
class RunFolder:
    """A run that is being made, or is there already."""

    name: str
    path: Path
    asked: dict[str, Any]
    manifest: dict[str, Any] | None
    """Of the finished run."""


@dataclass(frozen=True)
class TrainedRun:
    """A finished run."""

    run: str
    steps: int
    first_loss: float
    last_loss: float
    tokens: int
    seconds: float
    peak_rss_mb: int
    """Most memory the process held."""
    adapter: Path
    """Folder of the adapter."""

    @classmethod
    def of(cls, run: RunFolder, manifest: dict[str, Any]) -> "TrainedRun":
        """The run as its manifest says."""
        names = ("steps", "first_loss", "last_loss", "tokens", "seconds", "peak_rss_mb")
        return cls(run=run.name, **{name: manifest[name] for name in names}, adapter=run.path / ADAPTER)

    def summary(self) -> dict[str, Any]:
        """What `--json` prints; the names are a contract."""
        return {**asdict(self), "adapter": str(self.adapter)}

    def lines(self) -> list[str]:
        losses = f"loss {self.first_loss:.4f} at the first, {self.last_loss:.4f} at the last"
        spent = f"{self.tokens:,} tokens, {self.seconds:.1f} s, {self.peak_rss_mb:,} MB at most"
        return [f"run '{self.run}': {self.steps} steps, {losses}; {spent}", str(self.adapter)]


def run_request(kind: str, cfg: TrainingConfig, data: dict[str, Any], **sides: ModelWeights) -> dict[str, Any]:
    """Everything that decides the weights: two runs that were asked for the same are the same."""
    config = {name: value for name, value in asdict(cfg).items() if name not in NOT_ASKED}
    named = {side: {"name": weights.name, "digest": weights.digest} for side, weights in sides.items()}
    start = sides["policy"]
    return {"kind": kind, "base": start.base, "base_digest": start.base_digest, **named, "data": data, "config": config}


@contextmanager
def open_run(data: Path, name: str, asked: dict[str, Any]) -> Iterator[RunFolder]:
    """The folder of run `name`, which nobody else trains meanwhile.

    Raises UserError where the name belongs to a run that was asked for something else.
    """
    check_name("run name", name, (*EMBEDDED, *(path.name for path in run_folders(data))))
    if name in EMBEDDED:
        raise UserError(f"run name '{name}' is the name of a model; choose another")
    refuse_read_only(data)
    path = Workspace(data).run(name)
    path.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path / ".lock")
    try:
        with lock.acquire(timeout=0):
            yield RunFolder(name, path, asked, take_name(path, asked))
    except Timeout as error:
        raise UserError(
            f"run '{name}' is being trained by another process; wait for it, or choose another --name"
        ) from error


def take_name(path: Path, asked: dict[str, Any]) -> dict[str, Any] | None:
    """The manifest of the run where it is finished; a damaged run is removed, with a warning, to be trained again.

    The settings of the run are written; earlier ones stay once any of it is trained.
    """
    finished, damage = None, None
    try:
        if finished := read_run(path):
            finished.check()
    except Damaged as error:
        damage = error
    written = asked_of(finished.manifest) if finished else read_asked(path)
    is_begun = finished or damage or list((path / CHECKPOINTS).glob("step-*"))
    if written not in (None, asked) and is_begun:
        changes = "; ".join(describe_change(written, asked))
        raise UserError(
            f"run '{path.name}' was asked for otherwise ({changes}); choose another --name, or remove {path}"
        )
    if damage:
        log.warning("warning: %s; the run is trained again", damage.found)
        (path / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(path / ADAPTER, ignore_errors=True)
    elif finished:
        return finished.manifest
    if written != asked:
        (path / PLAN).unlink(missing_ok=True)
        write_folder(path / ASKED, path.name, asked)
    return None


def asked_of(record: Mapping[str, Any]) -> dict[str, Any]:
    return {field: record[field] for field in ASKED_FIELDS if field in record}


def read_asked(path: Path) -> dict[str, Any] | None:
    """The settings that a run was begun with; None for a damaged file, with a warning, and where there is none."""
    if not (path / ASKED).exists():
        return None
    try:
        return asked_of(read_folder(path / ASKED, path.name, "it is written again"))
    except Damaged as error:
        log.warning("warning: %s", error)
        return None


def describe_change(written: Any, asked: Any, where: str = "") -> list[str]:
    """`field old -> new` for whatever differs."""
    if not (isinstance(written, dict) and isinstance(asked, dict)):
        return [] if written == asked else [f"{where} {written} -> {asked}"]
    names = dict.fromkeys([*written, *asked])
    return [
        change
        for name in names
        for change in describe_change(written.get(name), asked.get(name), f"{where}.{name}".removeprefix("."))
    ]


def plan_run(run: RunFolder, asked: int | None, make: Callable[[], MemoryPlan]) -> MemoryPlan:
    """The plan that the run was begun with; a new one where it was not, or tokens are asked for."""
    saved = read_plan(run.path) if asked is None else None
    plan = saved or make()
    save_plan(run.path, plan)
    return plan


def finish_run(run: RunFolder, model: Any, trained: Trained, rows: Mapping[Split, TokenRows]) -> dict[str, Any]:
    """Write adapter, curves and card, then the manifest; the checkpoints go. Returns the manifest."""
    save_adapter(model, run.path / ADAPTER, run.asked["base"])
    plan = read_plan(run.path)
    assert plan is not None
    checks = [row for row in trained.rows if "eval_loss" in row]
    written = {
        **run.asked,
        "seed": run.asked["config"]["seed"],
        "preflight": {split: part.preflight.to_json() for split, part in rows.items()},
        "steps": trained.steps,
        "first_loss": trained.first_loss,
        "last_loss": trained.last_loss,
        "last_check": checks[-1] if checks else None,
        "tokens": trained.tokens,
        "seconds": round(trained.seconds, 1),
        "peak_rss_mb": peak_rss_mb(),
        **plan._asdict(),
        "warnings": list(trained.warnings.values()),
        "versions": {name: version(name) for name in LIBRARIES},
        "finished_at": datetime.now(UTC).isoformat(timespec="microseconds"),
    }
    write_atomically(run.path / "curves.png", draw_curves(trained.rows, run.name))
    write_atomically(run.path / "README.md", run_card({"name": run.name, **written}).encode())
    manifest = write_folder(run.path / MANIFEST, run.name, written, FILES)
    shutil.rmtree(run.path / CHECKPOINTS, ignore_errors=True)
    (run.path / PLAN).unlink(missing_ok=True)
    return manifest


def save_adapter(model: Any, folder: Path, base: str) -> None:
    """The adapter as PEFT and vLLM load it, all of it or nothing."""
    scratch = folder.with_name(f".{folder.name}")
    shutil.rmtree(scratch, ignore_errors=True)
    config = model.peft_config["default"]
    settings = {name: list(value) if isinstance(value, set) else value for name, value in config.to_dict().items()}
    settings |= {"base_model_name_or_path": base.removeprefix("hf:"), "inference_mode": True}
    settings["target_modules"] = sorted(settings["target_modules"])
    # embeddings are frozen here, so none are looked for
    lora = get_peft_model_state_dict(model, save_embedding_layers=False)
    weights = {name: value.detach().cpu().contiguous() for name, value in lora.items()}
    try:
        write_atomically(scratch / WEIGHTS, safetensors.save(weights, {"format": "pt"}))
        write_atomically(scratch / SETTINGS, json.dumps(settings, indent=2, sort_keys=True).encode())
        shutil.rmtree(folder, ignore_errors=True)
        scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def log_reused(run: RunFolder, manifest: dict[str, Any]) -> TrainedRun:
    """Say that the run is there already."""
    log.info(
        "run '%s' is finished, with these very settings, since %s; nothing to do", run.name, manifest["finished_at"]
    )
    return TrainedRun.of(run, manifest)


def peak_rss_mb() -> int:
    """Most memory this process held, in MB; Linux counts it in KiB."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6)
