"""Count the rows of a build over its tables: in, dropped by reason, kept, flagged."""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from curate.generate.flaws import Shares, flaw_summary
from curate.screen.rules import RulesConfig
from curate.screen.summary import suggest_remedy
from curate.store.store import Table
from schemas.names import DROP_REASONS, FLAGS
from schemas.stages import StageName, pairs_stage

FLAW_COLUMNS = ("flaw", "severity", "asked", "check fired", "written", "kept", "wanted", "share")


@dataclass(frozen=True)
class RowCounts:
    """Rows of the source, dropped for each reason, and kept; sums agree."""

    rows_in: int
    kept: int
    dropped: dict[str, int]
    """Reason -> rows, in the order the reasons are met."""
    flags: dict[str, int]
    """Flag -> kept pairs that have it, in the order of the names."""

    def lines(self) -> list[str]:
        """Rows in, rows dropped for each reason, rows kept, and what the kept ones are flagged for."""
        width = max(len(name) for name in (*self.dropped, *self.flags, "rows in"))
        lines = [f"  {'rows in':{width}}  {self.rows_in:>9,}"]
        lines += [f"- {reason:{width}}  {rows:>9,}" for reason, rows in self.dropped.items()]
        lines += [f"= {'kept':{width}}  {self.kept:>9,}"]
        return lines + [f"? {flag:{width}}  {rows:>9,}" for flag, rows in self.flags.items()]


@dataclass(frozen=True)
class FlawCount:
    """Counts of one flaw that was asked for."""

    flaw: str
    severity: str
    asked: int
    """Prompts."""
    checked: int
    """Pairs that came back as JSON."""
    fired: int
    """Of these, pairs whose check found the flaw."""
    check_rate: float | None
    written: int
    """Pairs that could be used."""
    quota: float
    """Share that was wanted."""
    kept: int
    """Pairs that passed every rule."""
    share: float | None
    """Of all kept pairs, null where none was kept: the quota is a promise about these, and rules and `--num-pairs` drop
    pairs of one flaw oftener than of another."""

    def cells(self) -> tuple[str, ...]:
        """A row of the table of flaws, under `FLAW_COLUMNS`."""
        rate, share = (f"{value:.0%}" if value is not None else "-" for value in (self.check_rate, self.share))
        fired = f"{self.fired} of {self.checked}, {rate}"
        counts = (str(self.asked), fired, str(self.written), str(self.kept))
        return (self.flaw, self.severity, *counts, f"{self.quota:.0%}", share)


def count_rows(tables: Mapping[StageName, Table]) -> RowCounts:
    """The rows of a build, from its source to its last stage."""
    dropped, kept = dropped_rows(tables), kept_pairs(tables[StageName.SCREEN_PAIRS])
    return RowCounts(kept + sum(dropped.values()), kept, dropped, flag_counts(tables[StageName.SCREEN_PAIRS]))


def largest_loss(counts: RowCounts, tables: Mapping[StageName, Table], cfg: RulesConfig) -> str | None:
    """The largest cause of lost rows and its cure, where no pair is kept or it cost more than half of the rows."""
    lost = {reason: rows for reason, rows in counts.dropped.items() if reason != "over_quota"}
    reason = max(lost, key=lost.__getitem__, default=None)
    if reason is None or (counts.kept and 2 * lost[reason] <= counts.rows_in):
        return None
    found = "most rows were lost to one cause" if counts.kept else "no pair was kept"
    dropped = f"{reason} dropped {lost[reason]} of {counts.rows_in}"
    return f"{found}; {dropped}: {suggest_remedy(reason, tables, cfg)}"


def dropped_rows(tables: Mapping[StageName, Table]) -> dict[str, int]:
    """Reason -> rows dropped on the whole way, in the order the reasons are met."""
    found: dict[str, int] = {}
    for table in tables.values():
        for reason, rows in table.dropped.items():
            found[reason] = found.get(reason, 0) + rows
    screened = tables[StageName.SCREEN_PAIRS].scan().group_by("dropped_by").len().drop_nulls().collect()
    for reason, rows in screened.rows():
        found[reason] = found.get(reason, 0) + rows
    return {reason: found[reason] for reason in DROP_REASONS if reason in found}


def kept_pairs(screened: Table) -> int:
    """Pairs that passed every rule."""
    return int(screened.scan().select(pl.col("dropped_by").null_count()).collect().item())


def flag_counts(screened: Table) -> dict[str, int]:
    """Flag -> kept pairs that have it, in the order of the names."""
    kept = screened.scan().filter(pl.col("dropped_by").is_null()).select(flag=pl.col("flags").cast(pl.List(pl.String)))
    found = dict(kept.explode("flag").drop_nulls().group_by("flag").len().collect().rows())
    return {flag: found[flag] for flag in FLAGS if flag in found}


def count_flaws(tables: Mapping[StageName, Table], shares: Shares) -> list[FlawCount] | None:
    """Counts of each flaw that was asked for, up to the pairs kept; None where none was."""
    if not shares:
        return None
    written, pairs, screened = (
        tables[stage] for stage in (StageName.WRITE_PAIRS, pairs_stage(tables), StageName.SCREEN_PAIRS)
    )
    rows = flaw_summary(written.scan().select("flaw").collect(), written.scan_dropped().collect(), shares)
    passed = screened.scan().filter(pl.col("dropped_by").is_null()).select("pair_id")
    named = pairs.scan().select("pair_id", flaw=pl.col("flaw").cast(pl.String))
    kept = named.join(passed, on="pair_id", how="semi").group_by("flaw").agg(kept=pl.len().cast(pl.Int64)).collect()
    counted = rows.join(kept, on="flaw", how="left", maintain_order="left").with_columns(pl.col("kept").fill_null(0))
    total = int(counted["kept"].sum())
    return [FlawCount(**row, share=row["kept"] / total if total else None) for row in counted.to_dicts()]
