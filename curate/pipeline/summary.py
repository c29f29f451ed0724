"""What became of the rows of a build, counted over its tables."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from curate.generate.flaws import flaw_summary
from curate.store.store import Table
from schemas.names import DROP_REASONS, FLAGS, WrittenFlaw
from schemas.stages import pairs_stage


def count_rows(tables: Mapping[str, Table]) -> dict[str, Any]:
    """`rows_in`, `kept`, `dropped` (reason -> rows, in the order the reasons are met) and `flags`; sums agree."""
    dropped, kept = dropped_rows(tables), kept_pairs(tables["screen_pairs"])
    return {
        "rows_in": kept + sum(dropped.values()),
        "kept": kept,
        "dropped": dropped,
        "flags": flag_counts(tables["screen_pairs"]),
    }


def dropped_rows(tables: Mapping[str, Table]) -> dict[str, int]:
    """Reason -> rows dropped on the whole way, in the order the reasons are met."""
    found: dict[str, int] = {}
    for table in tables.values():
        for reason, rows in table.dropped.items():
            found[reason] = found.get(reason, 0) + rows
    screened = tables["screen_pairs"].scan().group_by("dropped_by").len().drop_nulls().collect()
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


def flaw_rows(tables: Mapping[str, Table], shares: Sequence[tuple[WrittenFlaw, float]]) -> list[dict[str, Any]] | None:
    """How each flaw that was asked for came out, up to the pairs that were kept; None where none was."""
    if not shares:
        return None
    written = tables["write_pairs"]
    rows = flaw_summary(written.scan().select("flaw").collect(), written.scan_dropped().collect(), shares)
    return count_kept_flaws(rows, tables[pairs_stage(tables)].scan(), tables["screen_pairs"].scan())


def count_kept_flaws(
    flaws: Sequence[dict[str, Any]], pairs: pl.LazyFrame, screened: pl.LazyFrame
) -> list[dict[str, Any]]:
    """The rows of `flaw_summary` with `kept`, the pairs of the flaw that passed every rule.

    `share` is their part of all kept pairs, null where none was kept: the quota is a promise about these, and
    rules and `--num-pairs` drop pairs of one flaw oftener than of another.
    """
    passed = screened.filter(pl.col("dropped_by").is_null()).select("pair_id")
    named = pairs.select("pair_id", flaw=pl.col("flaw").cast(pl.String))
    counts = dict(named.join(passed, on="pair_id", how="semi").group_by("flaw").len().collect().rows())
    kept = [int(counts.get(row["flaw"], 0)) for row in flaws]
    total = sum(kept)
    return [
        {**row, "kept": count, "share": count / total if total else None}
        for row, count in zip(flaws, kept, strict=True)
    ]
