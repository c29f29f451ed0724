"""Export a mix or a build in the format of another tool, with the config that the tool needs.

print("\\n".join(export(ExportConfig(name="v1", to="llamafactory")).lines()))
"""

import logging
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.config import ExportConfig
from curate.files import nearest_hint
from curate.mix.export.dropped import write_dropped
from curate.mix.export.files import LONGEST_CELL, Turns, open_records
from curate.mix.export.formats import DETAILS, FORMATS, UNHELD, ExportFormat, lost_details, make_records
from curate.mix.export.records import Unheld
from curate.mix.export.rows import BuildSource, ExportSource, MixSource
from curate.mix.export.usage import Usage, Written
from curate.mix.mix import pin_build, refuse_unapplied
from curate.pipeline.mend import mended
from curate.store.workspace import Workspace
from schemas.errors import UserError

log = logging.getLogger(__name__)

README = "README.md"
NOTES = {
    "defused": "cells that begin as a formula does, with an apostrophe in front, which stays when they are read again",
    "long": f"cells longer than the {LONGEST_CELL:,} characters that a spreadsheet holds",
}


@dataclass(frozen=True)
class Exported:
    """An export."""

    kind: str
    """`mix` or `build`."""
    name: str
    to: str
    folder: Path
    files: dict[str, str]
    """Split, or kind of dropped rows -> file."""
    rows: dict[str, int]
    """The same -> pairs in it."""
    records: dict[str, int]
    """The same -> records in it."""
    left_out: dict[str, int]
    """Reason -> pairs that the format cannot hold."""
    lost: dict[str, int]
    """Detail -> exported pairs that had it, and that the format has no place for."""
    changed: dict[str, int]
    """What was done to cells, or may happen to them -> cells."""
    usage: Usage | None
    note: str = ""
    """Which of two things of this name was taken."""
    concerns: tuple[str, ...] = ()
    """What may keep the rows from being passed on."""

    def summary(self) -> dict[str, Any]:
        """The JSON object of `curate export --json`; the names are a contract."""
        names = ("kind", "name", "to", "files", "rows", "records", "left_out", "lost", "changed", "concerns")
        found = {name: getattr(self, name) for name in names}
        config = sorted(self.usage.files) if self.usage else []
        return found | {"folder": str(self.folder), "config": config, "command": self.usage and self.usage.command}

    def counts(self) -> list[str]:
        """The rows of each file, and what is missing from them."""
        told = ", ".join(f"{self.rows[part]:,} {part}" for part in self.files)
        lines = [f"{self.kind} '{self.name}' as {self.to}: {told}"]
        lines += [f"left out for {UNHELD[reason]}: {count:,}" for reason, count in self.left_out.items()]
        lines += [f"exported without {DETAILS[detail]}: {count:,}" for detail, count in self.lost.items()]
        lines += [f"{NOTES[note]}: {count:,}" for note, count in self.changed.items()]
        return [*lines, *(f"careful: {concern}" for concern in self.concerns)]

    def lines(self) -> list[str]:
        """The same as the summary for people to read."""
        files = [*self.files.values(), *(self.usage.files if self.usage else ())]
        lines = [*([self.note] if self.note else []), *self.counts(), *(str(self.folder / file) for file in files)]
        return [*lines, "", *self.usage.command.splitlines()] if self.usage else lines


def export(cfg: ExportConfig) -> Exported:
    """Write the rows of a mix or a build into a new folder. Raises UserError where the folder is there."""
    workspace = Workspace(cfg.data)
    if cfg.dropped and cfg.to not in ("jsonl", "csv"):
        raise UserError(
            f"--dropped writes what a build dropped with the reasons, which --to {cfg.to} has no place for; give "
            "--to jsonl or --to csv"
        )
    source, note = find_source(workspace, cfg.name)
    folder = cfg.out or workspace.export(f"{source.name}-{cfg.to}{'-dropped' if cfg.dropped else ''}")
    if os.path.lexists(folder):
        raise UserError(f"{folder} is there already; remove it, or name another folder with --out")
    if isinstance(source, MixSource):
        if cfg.dropped:
            raise UserError(
                f"a mix holds only what was kept; --dropped is for a build: --dropped build:NAME{built_of(source)}"
            )
        return write_export(source, cfg.to, folder, note)
    assert isinstance(source, BuildSource)
    refuse_unapplied(workspace, [pin_build(workspace, source.name)])
    if cfg.dropped:
        return mended(workspace, [source.name], lambda: export_dropped(source, cfg.to, folder, note))
    return mended(workspace, [source.name], lambda: write_export(source, cfg.to, folder, note))


def built_of(source: MixSource) -> str:
    """The builds of a mix, for the end of an error."""
    return f" (mix '{source.name}' is of {', '.join(pinned.build for pinned in source.mix.lock.sources)})"


def find_source(workspace: Workspace, name: str) -> tuple[ExportSource, str]:
    """The mix or build of a name, and which of the two it is where both have it."""
    kind, colon, plain = name.rpartition(":")
    mixes, builds = workspace.mix_names(), workspace.build_names()
    if colon and kind not in ("mix", "build"):
        raise UserError(f"'{name}' begins with neither 'mix:' nor 'build:'; name what to export as NAME or KIND:NAME")
    if kind != "build" and plain in mixes:
        both = not kind and plain in builds
        return MixSource(workspace.open_mix(plain)), both_note(plain) if both else ""
    if kind != "mix" and plain in builds:
        return BuildSource(workspace, plain), ""
    known = {"mix": mixes, "build": builds}.get(kind, [*mixes, *builds])
    raise UserError(f"no {kind or 'mix or build'} '{plain}' in {workspace.data}{nearest_hint(plain, known)}")


def both_note(name: str) -> str:
    return f"'{name}' is a mix and a build; this is the mix (the build: build:{name})"


def write_export(source: ExportSource, to: str, folder: Path, note: str) -> Exported:
    """All rows of a source in a format."""
    form = FORMATS[to]
    counts = Counts()
    with new_folder(folder) as scratch:
        turns = Turns(form.turns, "tools" in form.holds and source.has_tool_turns())
        for split, name in zip(("train", "heldout"), form.files, strict=True):
            if split in source.splits:
                counts.files[split] = f"{name}.{form.kind}"
                write_split(source, split, form, turns, scratch / counts.files[split], counts)
        if not sum(counts.rows.values()):
            raise UserError(nothing_left(source, to, counts))
        written = Written(source.name, folder, counts.files, counts.records)
        usage = form.usage(written)
        exported = Exported(
            *(source.kind, source.name, to, folder, counts.files, counts.rows, counts.records),
            left_out={reason: counts.left_out[reason] for reason in UNHELD if counts.left_out[reason]},
            lost={detail: counts.lost[detail] for detail in DETAILS if counts.lost[detail]},
            changed={name: count for name, count in sorted(counts.changed.items()) if count},
            usage=usage,
            note=note,
            concerns=tuple(source.concerns()),
        )
        for name, content in {**usage.files, README: write_readme(exported, form)}.items():
            (scratch / name).write_text(content, encoding="utf-8")
    return exported


class Counts:
    """What an export has written so far."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}
        self.rows: dict[str, int] = {}
        self.records: dict[str, int] = {}
        self.left_out: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self.changed: Counter[str] = Counter()


def write_split(source: ExportSource, split: Any, form: ExportFormat, turns: Turns, path: Path, counts: Counts) -> None:
    """The file of a split, which may have no rows."""
    rows = records = 0
    with open_records(path, form.kind, form.columns, turns) as file:
        for row in source.rows(split):
            try:
                made = make_records(form, row)
            except Unheld as error:
                counts.left_out[error.reason] += 1
                continue
            rows, records = rows + 1, records + len(made)
            counts.lost.update(lost_details(form, row))
            for record in made:
                file.add(record)
    counts.rows[split], counts.records[split] = rows, records
    counts.changed.update(file.notes)
    log.info("%s: %d rows as %d records", path.name, rows, records)


def nothing_left(source: ExportSource, to: str, counts: Counts) -> str:
    """The error for an export without a row."""
    reasons = "; ".join(f"{UNHELD[reason]}: {count:,}" for reason, count in counts.left_out.items())
    return f"nothing of {source.kind} '{source.name}' can be exported as {to} ({reasons or 'it has no pair'})"


def export_dropped(source: BuildSource, to: str, folder: Path, note: str) -> Exported:
    """What a build dropped, with the reasons: before pairs were made, and by screening."""
    with new_folder(folder) as scratch:
        files, rows, changed = write_dropped(source, FORMATS[to], scratch)
        if not any(rows.values()):
            raise UserError(f"build '{source.name}' dropped nothing")
    left = {name: count for name, count in sorted(changed.items()) if count}
    return Exported("build", source.name, to, folder, files, rows, rows, {}, {}, left, None, note)


def write_readme(exported: Exported, form: ExportFormat) -> str:
    """What lies in the folder, what is missing from it, and how to use it.

    Its head tells the datasets library which file is which split: without it a file without rows would stop it.
    """
    usage = exported.usage
    assert usage
    lines = ["---", "configs:", "- config_name: default", "  data_files:"]
    for split, file in exported.files.items():
        if exported.records[split]:
            lines += [f"  - split: {Path(file).name.partition('-')[0].partition('.')[0]}", f"    path: {file}"]
    lines += ["---", "", f"# {exported.name} as {exported.to}", "", f"For {form.about}.", ""]
    lines += [*(f"- {line}" for line in exported.counts()), "", f"```{usage.language}", usage.command, "```", ""]
    return "\n".join(lines)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to write to, which gets its name when all is written, and goes where that fails."""
    scratch = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        scratch.mkdir(parents=True)
        yield scratch
        scratch.rename(folder)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"cannot write {folder} ({reason}); make room, or name another folder with --out") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
