"""Finished training runs of a data folder: their adapters and base models."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.files import Damaged, check_file, damaged_file
from curate.store.folders import check_beginning, check_folder, read_folder
from curate.store.workspace import NAME, Workspace
from schemas.errors import UserError

log = logging.getLogger(__name__)

MANIFEST, ADAPTER, ASKED, METRICS = "manifest.json", "adapter", "asked.json", "metrics.jsonl"
CHECKPOINTS, STATE, PLAN = "checkpoints", "state.json", "plan.json"
"""Files and folders of a run; checkpoints, with a state each, and plan are gone when it is finished."""


@dataclass(frozen=True)
class Run:
    """A finished run: an adapter and the base model it belongs to."""

    name: str
    kind: str
    """`sft` or `dpo`."""
    base: str
    """The base model, as a generator is named."""
    adapter: Path
    finished_at: str
    """ISO 8601, UTC."""
    manifest: dict[str, Any]

    def check(self, base_digest: str | None = None) -> None:
        """Raises Damaged where a file of it is not what was written, and UserError where its base model is another."""
        for file, sha256 in self.manifest["files"].items():
            check_file(self.adapter.parent / file, sha256, train_again(self.adapter.parent))
        if base_digest is None:
            return
        trained_on = self.manifest.get("base_digest", base_digest)
        if trained_on != base_digest:
            raise UserError(
                f"run '{self.name}' was trained on other weights of {self.base} ({trained_on[:12]}) than are there now "
                f"({base_digest[:12]}); restore them, or train the run again"
            )


def train_again(folder: Path) -> str:
    """How to mend a run."""
    return f"restore it, or give the command that trained run '{folder.name}' again, which then trains it anew"


def checkpoint_name(path: Path) -> str:
    """The name of a checkpoint in its record: that of the run and its own."""
    return f"{path.parents[1].name}/{path.name}"


def check_checkpoint(path: Path, remedy: str) -> dict[str, Any]:
    """The state of a checkpoint, whose files, and the metrics as far as it goes, are what was written.

    Raises Damaged, with the `remedy`, for any other.
    """
    state = check_folder(path / STATE, checkpoint_name(path), remedy)
    check_beginning(path.parents[1] / METRICS, state["metrics"], remedy)
    return state


def run_folders(data: Path) -> list[Path]:
    """The folders of finished runs, whole or not, and of those under way."""
    return sorted(path for path in Workspace(data).runs.glob("*") if NAME.fullmatch(path.name) and path.is_dir())


def read_run(folder: Path) -> Run | None:
    """The run in a folder; None before its manifest is written, which training does last.

    Raises Damaged for a manifest that is not what was written, or that is gone.
    """
    path, adapter = folder / MANIFEST, folder / ADAPTER
    if not path.exists() and not (adapter.exists() and not (folder / CHECKPOINTS).exists()):
        return None
    remedy = train_again(folder)
    manifest = read_folder(path, folder.name, remedy)
    try:
        return Run(folder.name, manifest["kind"], manifest["base"], adapter, manifest["finished_at"], manifest)
    except KeyError as error:
        raise damaged_file(path, error, remedy) from error


def all_runs(data: Path, kind: str | None = None) -> list[Run]:
    """The finished runs of this kind, or of any; oldest first.

    Raises Damaged where the manifest of any is, unless its settings say that it is of another kind.
    """
    found = []
    for folder in run_folders(data):
        try:
            run = read_run(folder)
        except Damaged:
            if kind is None or asked_kind(folder) in (None, kind):
                raise
            continue
        if run and kind in (None, run.kind):
            found.append(run)
    return sorted(found, key=lambda run: (run.finished_at, run.name))


def asked_kind(folder: Path) -> str | None:
    """The kind of a run as its settings say; None where they are damaged too."""
    try:
        return str(read_folder(folder / ASKED, folder.name, "")["kind"])
    except (Damaged, KeyError):
        return None


def newest_run(data: Path, kind: str | None = None) -> Run | None:
    """The run of this kind, or of any, that finished last."""
    runs = all_runs(data, kind)
    return runs[-1] if runs else None


def find_run(data: Path, name: str) -> Run | None:
    """The finished run of this name. Raises Damaged where its manifest is."""
    return read_run(Workspace(data).run(name)) if NAME.fullmatch(name) else None


def run_names(data: Path) -> list[str]:
    """The names of finished runs."""
    return [folder.name for folder in run_folders(data) if (folder / MANIFEST).exists()]
