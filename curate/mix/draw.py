"""Draw pairs by the hashes of their ids: caps, shares and counts of a source, ratio and strata of a mix, and order.

A draw has a purpose of its own, so that one says nothing of another, and looks at no row number: what is added to a
source or to a mix changes nothing about which of two pairs comes first.
"""

import logging
from collections.abc import Collection, Sequence

import polars as pl

from curate.mix.recipe import Recipe
from schemas.errors import UserError
from schemas.ids import hash_ids

log = logging.getLogger(__name__)

LENGTH_STRATA = 4
TAILS = (0.05, 0.95)
"""Quantiles of length between which the edges of strata lie."""


def by_hash(rows: pl.DataFrame, seed: int, purpose: str) -> pl.DataFrame:
    """The rows by the hashes of their ids."""
    return rows.sort(hash_ids(rows["pair_id"], seed, purpose), "pair_id")


def random_share(ids: pl.DataFrame, share: float, seed: int) -> pl.DataFrame:
    """The `share` of the pairs with the smallest hashes, rounded to whole pairs; a larger share contains it."""
    return random_count(ids, round(share * ids.height), seed)


def random_count(ids: pl.DataFrame, count: int, seed: int) -> pl.DataFrame:
    """As many pairs with the smallest hashes; a larger count, and a share of as many pairs, contains them."""
    return by_hash(ids, seed, "share").head(count)


def cap_groups(rows: pl.DataFrame, cap: int, seed: int) -> pl.DataFrame:
    """At most `cap` pairs of each prompt group, in the order of the rows; a larger cap contains them."""
    kept = by_hash(rows, seed, "cap").group_by("prompt_group", maintain_order=True).head(cap)
    return rows.join(kept.select("pair_id"), on="pair_id", how="semi", maintain_order="left")


def reach_ratio(train: pl.DataFrame, recipe: Recipe) -> pl.DataFrame:
    """The training rows of a recipe with a ratio, in their order."""
    assert recipe.ratio is not None
    synthetic, real = (train.filter(pl.col("origin") == origin) for origin in ("synthetic", "real"))
    for origin, rows in (("synthetic", synthetic), ("real", real)):
        if rows.is_empty():
            raise UserError(
                f"mix '{recipe.name}' has no {origin} training pair, and a ratio of synthetic to real ones; leave the "
                "ratio out, or add a source that has some"
            )
    if recipe.mode == "add":
        wanted = {"synthetic": round(recipe.ratio * real.height), "real": real.height}
        if wanted["synthetic"] > synthetic.height:
            log.info(
                "mix: ratio %g asks for %d synthetic pairs to %d real ones; all %d are taken",
                *(recipe.ratio, wanted["synthetic"], real.height, synthetic.height),
            )
    else:
        total = recipe.rows or real.height
        made = round(total * recipe.ratio / (1 + recipe.ratio))
        wanted = {"synthetic": made, "real": total - made}
        for origin, rows in (("synthetic", synthetic), ("real", real)):
            if wanted[origin] > rows.height:
                raise UserError(
                    f"mix '{recipe.name}' needs {wanted[origin]} {origin} training pairs for ratio {recipe.ratio:g} in "
                    f"{total} rows, and has {rows.height}; lower rows, or change the ratio or the mode"
                )
    taken = [
        by_hash(rows, recipe.seed, "ratio").head(wanted[origin])
        for origin, rows in (("synthetic", synthetic), ("real", real))
    ]
    return same_order(train, taken)


def balance_strata(train: pl.DataFrame, strata: Collection[str], seed: int) -> pl.DataFrame:
    """Equally many training rows of each stratum that has any, in their order. Needs `length` for that stratum."""
    if "length" in strata:
        train = train.with_columns(length_stratum=length_strata(train["length"]))
    names = [{"length": "length_stratum", "source": "source"}[stratum] for stratum in strata]
    parts = train.partition_by(names, maintain_order=True)
    smallest = min(part.height for part in parts)
    return same_order(train, [by_hash(part, seed, "balance").head(smallest) for part in parts]).drop(
        "length_stratum", strict=False
    )


def length_strata(lengths: pl.Series) -> pl.Series:
    """The stratum of each length, from 0 for the shortest.

    The edges lie in equal ratios between two quantiles. Edges at quantiles would make strata of equal size, so that
    there would be nothing to balance.
    """
    low, high = (max(1.0, float(lengths.quantile(tail, "nearest") or 0)) for tail in TAILS)
    edges = [low * (high / low) ** (i / LENGTH_STRATA) for i in range(1, LENGTH_STRATA)]
    stratum = pl.sum_horizontal((pl.col("length") > edge).cast(pl.UInt8) for edge in edges)
    return pl.DataFrame({"length": lengths}).select(stratum.alias("stratum"))["stratum"]


def same_order(rows: pl.DataFrame, taken: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """The rows that were taken, in the order of all."""
    keys = ["source", "pair_id"]
    return rows.join(pl.concat(taken).select(keys), on=keys, how="semi", maintain_order="left")


def order_rows(rows: pl.DataFrame, preserved: Collection[str], seed: int) -> pl.DataFrame:
    """The rows in training order: shuffled, but that those of a preserved source keep their order among themselves.

    A preserved source has the places that its rows have in the shuffled order, so it is spread evenly among the others,
    also where all sources are preserved.
    """
    shuffled = by_hash(rows, seed, "order").with_row_index("place")
    in_order = [
        own.sort("at").with_columns(own["place"])
        for name in preserved
        for own in (shuffled.filter(pl.col("source") == name),)
    ]
    others = shuffled.filter(~pl.col("source").is_in(list(preserved)))
    return pl.concat([others, *in_order]).sort("place").drop("place")
