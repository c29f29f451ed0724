"""Find why a mix or a build has no such pair, as far as the tables at hand say."""

from collections.abc import Mapping, Sequence

import polars as pl

from curate.screen.human import text_key
from curate.store.mixes import MixLock
from curate.store.store import Table

NOT_SAID = "not said"
NO_SOURCE = "source left out"
NO_PAIR = "no pair of the build"
UNPAIRED = "never a pair: "


def absent_from_mix(lost: pl.DataFrame, lock: MixLock, screened: Mapping[str, pl.LazyFrame | None]) -> pl.Series:
    """A reason for each of these pairs: the rule of screening, else what the lock says of others of its source.

    Where the lock counts pairs of a source for several reasons, all are named, for it does not say which pair is which.

    `screened` are the verdicts of each source, None where they are not at hand.
    """
    left_out = {source.build: source.left_out for source in lock.sources}
    rows = lost.select("pair_id", "source", key=text_key()).with_row_index("row")
    parts = [rows.filter(~pl.col("source").is_in(list(screened))).select("row", reason=pl.lit(NO_SOURCE))]
    for build, verdicts in screened.items():
        own = rows.filter(pl.col("source") == build)
        if verdicts is None:
            parts.append(own.select("row", reason=pl.lit(NOT_SAID)))
            continue
        found = one_verdict(verdicts, own)
        reason = (
            pl.when(pl.col("is_known").is_null())
            .then(pl.lit(NO_PAIR))
            .otherwise(pl.coalesce("dropped_by", pl.lit(" or ".join(left_out[build]) or NOT_SAID)))
        )
        parts.append(own.join(found, on="key", how="left").select("row", reason=reason))
    return pl.concat(parts).sort("row")["reason"]


def absent_from_build(lost: pl.DataFrame, verdicts: pl.LazyFrame, tables: Sequence[Table]) -> pl.Series:
    """A reason for each of these pairs: the rule of screening, else why its prompt gave no pair."""
    rows = lost.select("prompt_id", key=text_key()).with_row_index("row")
    found = rows.join(one_verdict(verdicts, rows), on="key", how="left", maintain_order="left")
    unpaired = pl.concat([table.scan_dropped() for table in tables]).select(
        prompt_id=text_key("prompt_id"), unpaired=pl.concat_str(pl.lit(UNPAIRED), pl.col("reason").cast(pl.String))
    )
    first = unpaired.filter(pl.col("prompt_id").is_not_null()).unique("prompt_id", keep="first", maintain_order=True)
    told = found.with_columns(text_key("prompt_id")).join(
        first.collect(), on="prompt_id", how="left", maintain_order="left"
    )
    return told.select(reason=pl.coalesce("dropped_by", "unpaired", pl.lit(NOT_SAID)))["reason"]


def one_verdict(verdicts: pl.LazyFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """key, dropped_by and is_known of the texts of these rows; of a text that comes twice one that was dropped."""
    found = verdicts.select(key=text_key(), dropped_by=pl.col("dropped_by").cast(pl.String)).collect()
    return (
        found.join(rows, on="key", how="semi")
        .sort("key", "dropped_by", nulls_last=True)
        .unique("key", keep="first", maintain_order=True)
        .with_columns(is_known=True)
    )
