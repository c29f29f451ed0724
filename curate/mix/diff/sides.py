"""The two things that a diff compares: a mix, a build, or one screening of a build.

`v1`, `mix:v1`, a folder that holds a mix; `sft`, `build:sft`; `sft@KEY`, the screening with this table (its first
digits are enough), and `sft@previous`, the newest other one.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import polars as pl

from curate.config import Thresholds
from curate.files import nearest_hint, read_toml
from curate.mix.diff.absence import absent_from_build, absent_from_mix
from curate.pipeline.thresholds import format_threshold, is_other
from curate.store.mixes import RECIPE, WORDS, Mix, MixLock, PinnedSource, as_pairs, open_mix_folder, plain_turns
from curate.store.store import Table
from curate.store.workspace import BuildRecord, Workspace
from schemas.errors import UserError
from schemas.stages import StageName

Kind = Literal["mix", "build"]
PREVIOUS = "previous"
NO_THRESHOLDS = ("version", "decontaminate")
"""Fields of the config of a screening that say nothing of its thresholds; the files are in a table of their own."""


@dataclass(frozen=True)
class Side:
    """One side of a diff."""

    kind: Kind
    label: str
    settings: dict[str, Any]
    """Setting -> value: the recipe of a mix, the config of a build."""
    thresholds: dict[str, Any]
    """Threshold -> value, of a mix for each of its sources."""
    pairs: pl.LazyFrame
    """The pairs that it stands for and, of a build, those that screening dropped: pair_id, prompt_id, split, source,
    messages, chosen, rejected, score_chosen, score_rejected and flaw."""
    files: list[Path]
    """Where these pairs lie, in order."""
    as_pairs: Callable[[pl.LazyFrame], pl.LazyFrame]
    """The rows of the files with the columns of `pairs`."""
    screened: pl.LazyFrame | None
    """pair_id and dropped_by of all pairs of a build."""
    absent: Callable[[pl.DataFrame], pl.Series]
    """Why it has no such pairs, of which pair_id, prompt_id and source are given; a reason for each."""
    notes: tuple[str, ...] = ()


def open_side(name: str, workspace: Workspace) -> Side:
    """Raises UserError for what is neither, and for a name of both."""
    kind, colon, rest = name.partition(":")
    if colon and kind in ("mix", "build"):
        return open_mix_side(rest, workspace) if kind == "mix" else open_build_side(rest, workspace)
    is_mix, is_build = name in workspace.mix_names(), name.partition("@")[0] in workspace.build_names()
    if is_mix and is_build:
        raise UserError(f"'{name}' is a mix and a build; write mix:{name} or build:{name}")
    if is_mix:
        return open_mix_side(name, workspace)
    if is_build:
        return open_build_side(name, workspace)
    if Path(name).is_dir():
        return mix_side(open_mix_folder(Path(name)), workspace, f"mix in {name}")
    known = [*workspace.mix_names(), *workspace.build_names()]
    raise UserError(f"no mix, build or folder '{name}'{nearest_hint(name, known)}")


def open_mix_side(name: str, workspace: Workspace) -> Side:
    return mix_side(workspace.open_mix(name), workspace, f"mix '{name}'")


def mix_side(mix: Mix, workspace: Workspace, label: str) -> Side:
    """A mix as one side; the tables of its builds tell more where they are at hand."""
    screened = {source.build: find_pinned(source.screened, source.build, workspace) for source in mix.lock.sources}
    settings = recipe_settings(read_toml(mix.file(RECIPE)))
    thresholds: dict[str, Any] = {}
    for source in mix.lock.sources:
        settings[f"{source.build}: pairs"] = source.pairs.identity[:16]
        thresholds |= mix_thresholds(source, screened[source.build], mix.lock)
    lost = [name for name, table in screened.items() if table is None]
    notes = (f"{label}: the screened pairs of {', '.join(lost)} are not here to say why pairs are out",) if lost else ()
    scans = {name: None if table is None else table.scan() for name, table in screened.items()}
    return Side(
        kind="mix",
        label=label,
        settings=settings,
        thresholds=thresholds,
        pairs=as_pairs(mix.scan()),
        files=[path for split in WORDS for path in mix.files(split)],
        as_pairs=lambda rows: as_pairs(plain_turns(rows)),
        screened=None,
        absent=lambda lost: absent_from_mix(lost, mix.lock, scans),
        notes=notes,
    )


def mix_thresholds(source: PinnedSource, table: Table | None, lock: MixLock) -> dict[str, Any]:
    """The thresholds of a source, from its table, else from what the lock says, which may be nothing."""
    known = lock.thresholds(source.build) if table is None else table.manifest.config
    names = [field.name for field in fields(Thresholds) if field.name not in NO_THRESHOLDS]
    return {f"{source.build}: {name}": known[name] for name in names if name in known}


def find_pinned(pinned: Any, build: str, workspace: Workspace) -> Table | None:
    """The pinned table of a build, where it is at hand as it was."""
    try:
        return workspace.open_pinned(pinned, build)
    except UserError:
        return None


def differing_settings(a: Side, b: Side) -> list[dict[str, Any]]:
    """`setting` and its value on both sides, null for none, where they differ; of thresholds those that both tell."""
    names = [*dict.fromkeys([*a.settings, *b.settings]), *(name for name in a.thresholds if name in b.thresholds)]
    left, right = a.settings | a.thresholds, b.settings | b.thresholds
    return [
        {"setting": name, "a": left.get(name), "b": right.get(name)}
        for name in names
        if is_other(left.get(name), right.get(name))
    ]


def recipe_settings(recipe: dict[str, Any]) -> dict[str, Any]:
    """The fields of a recipe but its name; those of a source by its build."""
    settings = {name: value for name, value in recipe.items() if name not in ("name", "source")}
    for source in recipe.get("source", ()):
        settings |= {f"{source['build']}: {name}": value for name, value in source.items() if name != "build"}
    return settings


def screening_settings(table: Table) -> dict[str, Any]:
    """The thresholds of a screening."""
    return {name: value for name, value in table.manifest.config.items() if name not in NO_THRESHOLDS}


def open_build_side(name: str, workspace: Workspace) -> Side:
    """A build, or one screening of it."""
    build, at, key = name.partition("@")
    record = workspace.read_build(build)
    pairs = workspace.open_pairs(record)
    screened = workspace.open_table(StageName.SCREEN_PAIRS, record.tables[StageName.SCREEN_PAIRS])
    names = {field.name for field in fields(Thresholds)}
    settings = {field: value for field, value in record.config.items() if field not in (*names, "name")}
    thresholds = {field: value for field, value in record.config.items() if field in names}
    label = f"build '{build}'"
    if at:
        screened = find_screening(record, key, workspace)
        label += f" as screened in {screened.manifest.key}"
        thresholds |= {field: value for field, value in screening_settings(screened).items() if field in names}
    thresholds["noise"] = screened.manifest.config["noise"]
    settings["pairs"] = pairs.identity[:16]
    verdicts = screened.scan().select("pair_id", pl.col("dropped_by").cast(pl.String))
    made = [table for stage, table in workspace.open_tables(record).items() if stage != StageName.SCREEN_PAIRS]
    return Side(
        kind="build",
        label=label,
        settings=settings,
        thresholds=thresholds,
        pairs=pairs.scan().with_columns(split=pl.lit(None, pl.String), source=pl.lit(None, pl.String)),
        files=pairs.whole_files(),
        as_pairs=lambda rows: rows,
        screened=verdicts,
        absent=lambda lost: absent_from_build(lost, verdicts, made),
    )


def find_screening(record: BuildRecord, key: str, workspace: Workspace) -> Table:
    """A saved screening of the pairs of a build by the first digits of its key. Raises UserError for an unknown one."""
    known = saved_screenings(record, workspace)
    others = [table for table in known if table.manifest.key != record.tables[StageName.SCREEN_PAIRS]]
    if key == PREVIOUS and others:
        return others[-1]
    found = [table for table in known if key and table.manifest.key.startswith(key)]
    if len(found) == 1:
        return found[0]
    told = "; ".join(describe_screening(table, record) for table in known)
    problem = f"{len(found)} screenings of '{record.name}' begin with" if found else f"'{record.name}' has no screening"
    raise UserError(f"{problem} '{key}'; there are {told}")


def saved_screenings(record: BuildRecord, workspace: Workspace) -> list[Table]:
    """The saved screenings of the pairs of a build, the oldest first."""
    measured = record.identities[StageName.MEASURE_PAIRS]
    paths = sorted((workspace.tables / StageName.SCREEN_PAIRS).glob("*/manifest.json"), key=lambda p: p.stat().st_mtime)
    tables = [workspace.open_table(StageName.SCREEN_PAIRS, path.parent.name) for path in paths]
    return [table for table in tables if measured in table.manifest.inputs]


def describe_screening(table: Table, record: BuildRecord) -> str:
    """The key of a screening, and what it was screened by."""
    config = screening_settings(table)
    told = " ".join(
        filter(None, (format_threshold(f.name, config.get(f.name)) for f in fields(Thresholds) if f.name in config))
    )
    now = ", the one that counts now" if table.manifest.key == record.tables[StageName.SCREEN_PAIRS] else ""
    return f"{table.manifest.key} ({told or 'default thresholds'}{now})"
