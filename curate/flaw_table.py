"""Which flaws the kept pairs have, beside which were asked for and written."""

from collections.abc import Sequence
from typing import Any

import polars as pl


def with_kept(flaws: Sequence[dict[str, Any]], pairs: pl.LazyFrame, screened: pl.LazyFrame) -> list[dict[str, Any]]:
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
