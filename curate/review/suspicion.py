"""Which labels are likely wrong, by what is known of a pair before anyone looks at it."""

import polars as pl

from schemas.names import PERSONAL_DATA

WEIGHTS: dict[str, float] = {
    "needs_review": 3.0,
    "scorer_unreliable": 1.5,
    "refusal_chosen": 1.0,
    "refusal_rejected": 0.5,
    "maybe_truncated": 0.5,
    "near_evaluation": 0.5,
    **dict.fromkeys(PERSONAL_DATA, 0.5),
}
"""Flag -> what it adds. A judgement, not a measurement: 1 is as much as a margin rank 2.7 times smaller."""
DISPUTED = 1.5
"""What it adds that another scorer prefers the other response."""
UNKNOWN = 0.5
"""Stands for the margin rank of a pair without margin."""


def margin_share() -> pl.Expr:
    """Share of the pairs of the same source with no larger margin, above 0 and at most 1; ties have their mean."""
    return pl.col("margin").rank("average").over("source") / pl.col("margin").count().over("source")


def suspicion() -> pl.Expr:
    """How suspicious each pair is, over a frame of all pairs: `source`, `margin`, `flags` and `is_disputed`.

    Minus the logarithm of `margin_share`, plus the weights of its flags: were the logarithms of likelihood ratios
    known, they would be added like this. A negative margin, where the scorer finds the rejected response better, is a
    small one.
    """
    of_flags = pl.col("flags").list.eval(pl.element().cast(pl.String).replace_strict(WEIGHTS, return_dtype=pl.Float64))
    of_margin = -margin_share().fill_null(UNKNOWN).log()
    return of_margin + of_flags.list.sum() + DISPUTED * pl.col("is_disputed").cast(pl.Float64)
