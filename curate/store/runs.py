"""Finished training runs of a data folder: their adapters and base models."""

from dataclasses import dataclass
from pathlib import Path

from curate.files import read_record
from curate.store.workspace import Workspace


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


def all_runs(data: Path) -> list[Run]:
    """Runs whose manifest is written, which training does last; oldest first."""
    found = []
    for path in sorted(Workspace(data).runs.glob("*/manifest.json")):
        value = read_record(path, "kind", "base", "finished_at")
        found.append(Run(path.parent.name, value["kind"], value["base"], path.parent / "adapter", value["finished_at"]))
    return sorted(found, key=lambda run: (run.finished_at, run.name))


def newest_run(data: Path, kind: str | None = None) -> Run | None:
    """The run of this kind that finished last; without one, of any kind."""
    runs = [run for run in all_runs(data) if kind in (None, run.kind)]
    return runs[-1] if runs else None


def find_run(data: Path, name: str) -> Run | None:
    return next((run for run in all_runs(data) if run.name == name), None)


def run_names(data: Path) -> list[str]:
    return [run.name for run in all_runs(data)]
