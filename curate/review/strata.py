"""Strata of an audit: margin bands of each source, the number of records of each, and the pairs drawn.

Each pair has a random number for good, from a hash, and a stratum gives its pairs with the smallest. So a larger audit
contains the smaller one, and a pair that was judged for another reason is part of it as soon as its number is small
enough: in every stratum the audit is a simple random sample, however many times it was extended (permanent random
numbers; Ohlsson, "Coordination of samples using permanent random numbers", 1995).
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import polars as pl

BANDS = 4
PAIRS_PER_BAND = 10
"""A source with fewer margins than twice this is one band."""
AT_LEAST = 2
"""Records of a stratum, where there is room: a single one gives no variance."""
NO_MARGIN = "none"


def band_edges(rows: pl.DataFrame) -> dict[str, list[float]]:
    """Source -> margins between its bands, ascending: its quartiles, or fewer where it has few or equal margins.

    `rows` has `source` and `margin`. An edge belongs to the band under it, and no band is empty.
    """
    edges = {}
    for source in rows["source"].unique().sort():
        margins = rows.filter(pl.col("source") == source)["margin"].drop_nulls().sort()
        bands = max(1, min(BANDS, len(margins) // PAIRS_PER_BAND))
        ends: list[float] = margins.gather([len(margins) * i // bands - 1 for i in range(1, bands)]).to_list()
        edges[source] = sorted({end for end in ends if end < margins[-1]})
    return edges


def band_names(edges: Sequence[float]) -> list[str]:
    """Names of the bands between these edges, in their order."""
    if not edges:
        return ["any"]
    digits = next((n for n in range(2, 17) if len({f"{edge:.{n}g}" for edge in edges}) == len(edges)), 17)
    shown = [f"{edge:.{digits}g}" for edge in edges]
    return [f"up to {shown[0]}", *map(" to ".join, pairwise(shown)), f"above {shown[-1]}"]


def add_bands(rows: pl.DataFrame, edges: Mapping[str, Sequence[float]]) -> pl.DataFrame:
    """The rows with `band`, and `place`, that of the band among those of its source; pairs without margin come last."""
    of_source = pl.col("source")
    places = [
        pl.when(of_source == source).then(
            pl.when(pl.col("margin").is_null())
            .then(len(between) + 1)
            .otherwise(pl.sum_horizontal(pl.lit(0), *[(pl.col("margin") > edge).cast(pl.Int64) for edge in between]))
        )
        for source, between in edges.items()
    ]
    names = pl.DataFrame(
        [
            (source, place, name)
            for source, between in edges.items()
            for place, name in enumerate([*band_names(between), NO_MARGIN])
        ],
        schema={"source": pl.String, "place": pl.Int64, "band": pl.String},
        orient="row",
    )
    placed = rows.with_columns(place=pl.coalesce(*places, pl.lit(None)).cast(pl.Int64))
    return placed.join(names, on=["source", "place"], how="left", maintain_order="left")


def rank_for_audit(rows: pl.DataFrame) -> pl.DataFrame:
    """The pairs in the order in which they come into the audit, with `turn` from 0: the first n are one of n records.

    `rows` are all pairs with `source`, `band`, `place` and `number`, their random number. Every stratum gives its
    first pair, then its second; from there the stratum with the largest pairs / (records + 1/2) is next, as in the
    method of Webster. So records are in proportion to the pairs of strata, and one record more takes none away;
    rounding to largest remainders could (the Alabama paradox), and an extended audit would lose records.
    """
    stratum = ["source", "place"]
    nth = pl.col("number").rank("ordinal").over(stratum).cast(pl.Int64)
    claim = pl.len().over(stratum) / (nth - 0.5)
    return rows.sort(pl.min_horizontal(nth - 1, AT_LEAST), -claim, *stratum).with_row_index("turn")


def make_strata(turns: pl.DataFrame, records: int) -> pl.DataFrame:
    """The strata of an audit of so many records, `source`, `band`, `pairs` and `drawn`: by source, then by margin.

    `turns` is what `rank_for_audit` returns.
    """
    counts = turns.group_by("source", "place", "band").agg(
        pairs=pl.len().cast(pl.Int64), drawn=(pl.col("turn") < records).sum().cast(pl.Int64)
    )
    return counts.sort("source", "place").drop("place")


def draw_audit(turns: pl.DataFrame, records: int) -> pl.DataFrame:
    """The pairs of an audit of so many records, with `probability`: the share of its stratum that is drawn.

    `turns` is what `rank_for_audit` returns.
    """
    share = (pl.col("turn") < records).mean().over("source", "place")
    return turns.with_columns(probability=share).filter(pl.col("turn") < records)
