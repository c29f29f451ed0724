"""List the builds, mixes and runs of a data folder, or show one with its pairs.

print("\\n".join(show(ShowConfig(name="sft")).lines()))
"""

from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from curate.config import ShowConfig
from curate.files import nearest_hint
from curate.screen.pii import redact_texts
from curate.store.mixes import as_pairs
from curate.store.runs import all_runs
from curate.store.unfinished import Standing, find_standing, unfinished_names
from curate.store.workspace import Workspace
from schemas.errors import UserError
from schemas.stages import StageName

PAIRS_SHOWN = 20
TEXT_SHOWN = 60
LISTED = ("rows_in", "kept", "generator", "scorer", "rows", "train", "heldout", "sha256", "kind", "base")
"""The facts of a build, a mix or a run that one line shows."""


@dataclass(frozen=True)
class Listing:
    """All builds, mixes and runs, in the order of their names."""

    builds: list[dict[str, Any]]
    """The summary of each build."""
    mixes: list[dict[str, Any]]
    runs: list[dict[str, Any]]
    unfinished: list[Standing]
    """Builds that were stopped or are being made."""

    def summary(self) -> dict[str, Any]:
        listed = {"builds": self.builds, "mixes": self.mixes, "runs": self.runs}
        return listed | {"unfinished": [standing.summary() for standing in self.unfinished]}

    def lines(self) -> list[str]:
        """One line each; several of an unfinished build."""
        lines = []
        for kind, rows in (("builds", self.builds), ("mixes", self.mixes), ("runs", self.runs)):
            lines.append(kind)
            for row in rows:
                facts = [f"{key} {format_value(row[key])}" for key in LISTED if row.get(key) is not None]
                lines.append(f"  {row['name']:16} {'  '.join(facts)}".rstrip())
            lines += [] if rows else ["  none yet"]
        for standing in self.unfinished:
            lines += ["", *standing.lines()]
        return lines


@dataclass(frozen=True)
class Shown:
    """One build or mix with the first of its pairs."""

    facts: dict[str, Any]
    """Its counts, models and digests."""
    pairs: list[dict[str, Any]]
    """The first pairs, their texts shortened to a line, personal data as its kind."""
    unfinished: Standing | None = None
    """Where a later build of the name stands that was stopped or is being made."""

    def summary(self) -> dict[str, Any]:
        unfinished = self.unfinished and self.unfinished.summary()
        return {**self.facts, "pairs": self.pairs, "unfinished": unfinished}

    def lines(self) -> list[str]:
        """The facts in one line, then the pairs."""
        lines = ["  ".join(f"{key} {value}" for key, value in self.facts.items() if isinstance(value, int | str))]
        for pair in self.pairs:
            margin = "" if pair["margin"] is None else f"margin {pair['margin']:.3f}"
            state = pair.get("dropped_by") or pair.get("split") or "kept"
            margin += "".join(f"  {flag}" for flag in pair.get("flags") or ())
            lines += ["", f"{pair['pair_id']}  {state}  license {pair['license']}  {margin}".rstrip()]
            lines += [f"  {text:8}  {pair[text]}" for text in ("prompt", "chosen", "rejected")]
        return [*lines, "", *self.unfinished.lines()] if self.unfinished else lines


def show(cfg: ShowConfig) -> Listing | Shown | Standing:
    """The contents of a data folder, or one build or mix of it. Raises UserError for an unknown name."""
    workspace = Workspace(cfg.data)
    if not cfg.name:
        return list_all(workspace)
    if cfg.name in workspace.build_names():
        return show_build(workspace, cfg.name)
    if cfg.name in workspace.mix_names():
        return show_mix(workspace, cfg.name)
    if standing := find_standing(workspace, cfg.name):
        return standing
    known = [*workspace.build_names(), *workspace.mix_names(), *unfinished_names(workspace)]
    raise UserError(f"no build or mix '{cfg.name}'{nearest_hint(cfg.name, known)}; make one with: curate build")


def list_all(workspace: Workspace) -> Listing:
    locks = {name: workspace.open_mix(name).lock for name in workspace.mix_names()}
    return Listing(
        builds=[workspace.read_build(name).summary for name in workspace.build_names()],
        mixes=[
            {"name": name, "rows": lock.rows, "train": lock.train, "heldout": lock.heldout, "sha256": lock.sha256}
            for name, lock in locks.items()
        ],
        runs=[{"name": run.name, "kind": run.kind, "base": run.base} for run in all_runs(workspace.data)],
        unfinished=[found for name in unfinished_names(workspace) if (found := find_standing(workspace, name))],
    )


def show_build(workspace: Workspace, name: str) -> Shown:
    """A build with the first of its pairs, dropped ones among them."""
    record = workspace.read_build(name)
    screened = workspace.open_tables(record)[StageName.SCREEN_PAIRS].scan()
    pairs = workspace.open_pairs(record).scan().with_columns(margin=pl.col("score_chosen") - pl.col("score_rejected"))
    columns = ["pair_id", "dropped_by", "flags", "license", "margin", "prompt", "chosen", "rejected"]
    rows = screened.head(PAIRS_SHOWN).join(pairs, on="pair_id", how="left", maintain_order="left")
    facts = {**record.summary, "tables": record.tables}
    return Shown(facts, cut_pairs(rows, columns), find_standing(workspace, name))


def show_mix(workspace: Workspace, name: str) -> Shown:
    """A mix with the first of its rows."""
    mix = workspace.open_mix(name)
    columns = ["pair_id", "split", "source", "license", "margin", "prompt", "chosen", "rejected"]
    margin = pl.col("score_chosen") - pl.col("score_rejected")
    rows = as_pairs(mix.scan().head(PAIRS_SHOWN)).with_columns(margin=margin)
    return Shown(asdict(mix.lock) | {"sha256": mix.lock.sha256}, cut_pairs(rows, columns))


def cut_pairs(rows: pl.LazyFrame, columns: list[str]) -> list[dict[str, Any]]:
    """Pairs with their texts shortened to a line, personal data as its kind."""
    last_turn = pl.col("messages").list.last().struct.field("content")
    texts = {"prompt": last_turn, "chosen": pl.col("chosen"), "rejected": pl.col("rejected")}
    redacted = {name: text.map_batches(redact_texts, pl.String) for name, text in texts.items()}
    in_one_line = {name: text.str.replace_all(r"\s+", " ").str.strip_chars() for name, text in redacted.items()}
    cut = {name: text.str.slice(0, TEXT_SHOWN) for name, text in in_one_line.items()}
    return rows.with_columns(**cut).select(columns).collect().to_dicts()


def format_value(value: Any) -> str:
    """A digest by its first digits, anything else as it is."""
    return value[:12] if isinstance(value, str) and len(value) == 64 else str(value)
