"""Rules about scores: how far apart the two of a pair are, and how good the better one is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from schemas.errors import UserError

if TYPE_CHECKING:
    from curate.screen.rules import RulesConfig


def margin_rules(cfg: RulesConfig, measured: pl.DataFrame) -> dict[str, pl.Expr]:
    """Reason -> expression over `Measured` that is true for a pair to drop.

    What lies on a threshold is kept, and so is a pair without the score that a rule looks at. `measured` is all pairs
    of the build: quantiles are taken over them.
    """
    rules = {
        "low_margin": pl.col("margin") < cfg.min_margin,
        "low_z_margin": pl.col("z_margin") < cfg.min_z_margin,
    }
    if cfg.min_score is not None:
        rules["low_score"] = pl.col("score_chosen") < cfg.min_score
    if cfg.margin_quantiles:
        low, high = margins_at(measured["margin"], cfg.margin_quantiles, cfg.noise)
        # Without any margin both ends are null, and so is the rule.
        rules["outside_quantiles"] = (pl.col("margin") < low) | (pl.col("margin") > high)
    return rules


def margins_at(margins: pl.Series, quantiles: str, noise: float) -> tuple[pl.Expr, pl.Expr]:
    """The margins nearest to both ends of LOW:HIGH; null where no margin is larger than the noise.

    They are margins of pairs, which are kept: between two of them both would fall.
    Ties are left out, which another rule drops: a build half of which is tied would else have its lower quantiles
    among them.
    """
    told = margins.filter(margins.is_not_nan() & (margins.abs() > noise))
    low, high = (told.quantile(quantile, "nearest") for quantile in parse_quantiles(quantiles))
    return pl.lit(low, pl.Float64), pl.lit(high, pl.Float64)


def parse_quantiles(text: str) -> tuple[float, float]:
    """The two numbers of LOW:HIGH. Raises UserError unless 0 <= LOW < HIGH <= 1."""
    low, colon, high = text.partition(":")
    try:
        ends = float(low), float(high)
    except ValueError:
        ends = None
    if not colon or ends is None:
        raise UserError(f"--margin-quantiles '{text}' is not LOW:HIGH, for example 0.1:0.9")
    # Not `>=`, which is false of nan.
    if not 0 <= ends[0] < ends[1] <= 1:
        raise UserError(f"--margin-quantiles '{text}' must be 0 <= LOW < HIGH <= 1, for example 0.1:0.9")
    return ends
