"""Builds that were begun and are not finished: what is whole of them, and the command that goes on.

A record is written whenever a build begins to make a table, and removed when the build is saved.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from curate.files import damaged_file, read_record, write_record
from curate.store.store import saved_part
from curate.store.workspace import BuildRecord, Workspace
from schemas.errors import UserError
from schemas.stages import StageName


@dataclass(frozen=True)
class UnfinishedBuild:
    """A build that is being made, or that was stopped."""

    name: str
    config: dict[str, Any]
    scorer: dict[str, Any] | None
    """Both as in the record of a build."""
    command: str
    """The command that made it, and goes on."""
    process: str
    """The machine and the process that makes it; empty where that has ended it."""
    tables: dict[StageName, str]
    """Stage -> key of its table, of those that are whole."""
    stage: StageName
    """The stage that was begun last."""
    key: str
    """Of its table."""
    to_come: tuple[StageName, ...]
    """Stages up to the pairs that were not begun."""

    @property
    def is_running(self) -> bool:
        """The process still works, as far as this machine can tell."""
        machine, _, number = self.process.rpartition(":")
        if machine != socket.gethostname():
            return False
        try:
            os.kill(int(number), 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True

    @property
    def record(self) -> BuildRecord:
        """What is whole of it, as the record of a build."""
        return BuildRecord(self.name, self.config, self.tables, {}, self.scorer, {})


@dataclass(frozen=True)
class Standing:
    """Where an unfinished build stands."""

    build: UnfinishedBuild
    rows: dict[StageName, int]
    """Stage -> rows of its whole table; of the stage that was begun last, rows of its whole parts."""

    def summary(self) -> dict[str, Any]:
        build = self.build
        return {
            "name": build.name,
            "is_running": build.is_running,
            "stage": build.stage,
            "rows": self.rows,
            "to_come": list(build.to_come),
            "command": build.command,
        }

    def lines(self) -> list[str]:
        """The state, the rows of each stage, and the command."""
        build = self.build
        state = f"is being made by process {build.process}, and is at" if build.is_running else "was stopped in"
        lines = [f"build '{build.name}' {state} the stage {build.stage}"]
        width = max(len(f"{rows:,}") for rows in self.rows.values())
        for stage, rows in self.rows.items():
            end = " so far" if stage == build.stage else ", whole"
            lines.append(f"  {rows:>{width},} {stage.rows}{end}")
        to_come = [stage.rows for stage in build.to_come]
        lines.append(f"  to come: {', '.join([*to_come, 'screening'])}")
        return [*lines, f"  go on with: {build.command}"]


def save_unfinished(workspace: Workspace, build: UnfinishedBuild) -> None:
    write_record(workspace.unfinished(build.name), asdict(build))


@contextmanager
def noted_when_stopped(workspace: Workspace, name: str) -> Iterator[None]:
    """What ends the work inside early ends the build, though the process may go on."""
    try:
        yield
    except BaseException:
        with suppress(UserError):
            if build := read_unfinished(workspace, name):
                save_unfinished(workspace, replace(build, process=""))
        raise


def forget_unfinished(workspace: Workspace, name: str) -> None:
    """The build is finished."""
    workspace.unfinished(name).unlink(missing_ok=True)


def unfinished_names(workspace: Workspace) -> list[str]:
    return sorted(path.stem for path in workspace.unfinished("").parent.glob("*.json"))


def read_unfinished(workspace: Workspace, name: str) -> UnfinishedBuild | None:
    """The record of an unfinished build; None where there is none."""
    path = workspace.unfinished(name)
    if name not in unfinished_names(workspace):
        return None
    value = read_record(path)
    try:
        tables = {StageName(stage): key for stage, key in value.pop("tables").items()}
        to_come = tuple(StageName(stage) for stage in value.pop("to_come"))
        return UnfinishedBuild(**value | {"stage": StageName(value["stage"])}, tables=tables, to_come=to_come)
    except (ValueError, TypeError, KeyError) as error:
        raise damaged_file(path, error) from error


def find_standing(workspace: Workspace, name: str) -> Standing | None:
    """Where the build `name` stands; None where no build of that name is unfinished."""
    build = read_unfinished(workspace, name)
    if build is None:
        return None
    rows = {stage: workspace.open_table(stage, key).rows for stage, key in build.tables.items()}
    return Standing(build, rows | {build.stage: sum(whole_parts(workspace.tables / build.stage / build.key))})


def whole_parts(folder: Path) -> Iterator[int]:
    """Rows of each part of a table that lies there whole."""
    for index in count():
        record = saved_part(folder, index)
        if record is None:
            return
        yield record.rows
