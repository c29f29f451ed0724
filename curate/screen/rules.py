"""The rules as data, in the order they are tried, and what makes a single pair break one.

What people said comes first, then scores, which cost nothing, then what single texts say, then what has to be looked
for in every other row; what needs vectors comes last. Of a rule that holds pairs against each other only pairs are
considered that no rule before it has dropped.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import polars as pl

from curate.config import Thresholds
from curate.screen.text.guards import GuardConfig, guard_rules
from schemas.errors import UserError
from schemas.names import GUARDS, ScreenReason

Cost = Literal["none", "text", "every row", "vectors"]

CONTAMINATED_COVERAGE = 0.5
"""Share of an evaluation prompt's 8-grams from which a pair is taken to hold it."""
NEAR_EVALUATION = 0.9
"""Cosine to an evaluation prompt above which a prompt is flagged: many of these are the same question, some are not."""

ROUNDING = 1e-9
"""The score of a rejected response is had back as that of the chosen less the margin, and is off in its last digits."""


@dataclass(frozen=True)
class Rule:
    """One line of the waterfall."""

    name: ScreenReason
    looks_at: str
    cost: Cost
    threshold: str = ""
    """Field of `Thresholds` that moves it."""
    can_skip: bool = True


RULES = (
    Rule("human_reject", "what people said of it", "none"),
    Rule("failed_score", "a score that was asked for and is missing", "none", can_skip=False),
    Rule("empty", "either response", "text", can_skip=False),
    Rule("tie", "the margin, beside the scorer's noise", "none"),
    Rule("identical", "both responses", "text"),
    Rule("duplicate_pair", "prompt and both responses of every pair", "text"),
    Rule("low_margin", "the margin", "none", "min_margin"),
    Rule("low_z_margin", "the margin in standard deviations of its prompt", "none", "min_z_margin"),
    Rule("low_score", "the score of the chosen response", "none", "min_score"),
    Rule("outside_quantiles", "the margin among all margins", "none", "margin_quantiles"),
    Rule("too_short", "either response", "text", "min_tokens"),
    Rule("truncated", "finish reason, else the end of either response", "text"),
    Rule("broken_encoding", "either response", "text"),
    Rule("leaked_tokens", "either response", "text"),
    Rule("prompt_echo", "either response beside the prompt", "text", "max_echo"),
    Rule("repetition", "4-grams of either response", "text", "max_repetition"),
    Rule("wrong_language", "either response beside the prompt", "text", "max_other_language"),
    Rule("similar_responses", "both responses", "text", "max_response_similarity"),
    Rule("personal_data", "all text", "text"),
    Rule("contaminated", "8-grams and 13-grams of evaluation prompts", "text"),
    Rule("off_topic", "vectors of either response and of all prompts", "vectors", "max_topic_gap"),
    Rule("lexical_duplicate", "3-grams of prompt and chosen response", "every row", "max_jaccard"),
    Rule("semantic_duplicate_prompt", "vectors of prompts", "vectors", "max_cosine"),
    Rule("semantic_duplicate_pair", "vectors of prompt and chosen response", "vectors", "max_cosine"),
    Rule("over_quota", "the number of pairs before it", "none", can_skip=False),
)

NEEDS_VECTORS = tuple(rule.name for rule in RULES if rule.cost == "vectors")


@dataclass(frozen=True, kw_only=True)
class RulesConfig(Thresholds):
    """What decides which pairs are kept."""

    noise: float = 0.0
    """What a margin must be larger than, up or down: the error of the scorer's margins, 0 where it was never
    measured."""
    keep: int | None = None
    """Pairs kept of those that pass the other rules; all by default."""
    quotas: tuple[tuple[str, int], ...] = ()
    """Flaw -> pairs of it among the `keep`, as far as there are so many; the first others fill up."""
    version: int = 4
    """Raised when the same tables would be screened otherwise."""


def row_rules(cfg: RulesConfig, rows: pl.DataFrame) -> dict[str, pl.Expr]:
    """Reason -> expression true for a pair to drop, in the order they are tried, skipped ones left out.

    `rows` are `Measured` with the columns of `Contaminated`, `Placed` and `Verdict`, null where these have no row.
    """
    rules: dict[str, pl.Expr] = {
        # People who find neither response better say that the pair teaches nothing.
        "human_reject": pl.col("verdict").cast(pl.String).is_in(["reject", "tie"]),
        "failed_score": pl.col("failed_score"),
        "tie": pl.col("margin").abs() <= cfg.noise,
        "identical": pl.col("is_identical"),
        **margin_rules(cfg, rows),
        **{guard: either_side(cfg, guard) for guard in GUARDS},
        "similar_responses": pl.col("response_similarity") > cfg.max_response_similarity,
        "personal_data": (pl.col("personal").list.len() > 0) & cfg.drop_personal_data,
        "contaminated": pl.col("has_13gram") | (pl.col("coverage") >= CONTAMINATED_COVERAGE),
        "off_topic": is_off_topic("chosen", cfg) | (is_off_topic("rejected", cfg) & checks_rejected_guards(cfg)),
    }
    return {rule.name: rules[rule.name] for rule in RULES if rule.name in rules and rule.name not in cfg.skip_rule}


def either_side(cfg: RulesConfig, guard: str) -> pl.Expr:
    """True where the chosen response breaks the guard, or a rejected one that may not."""
    chosen, rejected = (guard_rules(side, guard_config(cfg)) for side in ("chosen", "rejected"))
    if guard not in chosen:
        return pl.lit(False)
    return chosen[guard] | (rejected[guard] & checks_rejected_guards(cfg))


def checks_rejected_guards(cfg: Thresholds) -> pl.Expr:
    """True where the rejected response must not be degenerate: a flaw that was asked for may look like it."""
    return pl.col("flaw").is_null() & (not cfg.allow_degenerate_rejected)


def guard_config(cfg: Thresholds) -> GuardConfig:
    """The part of the thresholds that is about single responses."""
    skip = tuple(guard for guard in GUARDS if guard in cfg.skip_rule)
    return GuardConfig(cfg.min_tokens, cfg.max_repetition, cfg.max_echo, cfg.max_other_language, skip)


def is_off_topic(side: str, cfg: Thresholds) -> pl.Expr:
    """True where a response is nearer to another prompt than to its own; unknown without vectors."""
    return pl.col(f"{side}_cos_other_prompt") - pl.col(f"{side}_cos_prompt") > cfg.max_topic_gap


def flag_rules() -> dict[str, pl.Expr]:
    """Flag -> expression true for a pair to look at; personal data is flagged by its kinds."""
    maybe = (pl.col("chosen_cut") == "maybe") | ((pl.col("rejected_cut") == "maybe") & pl.col("flaw").is_null())
    return {
        "refusal_chosen": pl.col("chosen_refuses"),
        "refusal_rejected": pl.col("rejected_refuses"),
        "maybe_truncated": maybe,
        "scorer_unreliable": pl.col("is_unreliable"),
        "near_evaluation": pl.col("max_cos_eval") > NEAR_EVALUATION,
        "needs_review": pl.col("answers").is_not_null() & pl.col("verdict").is_null(),
    }


def first_match(rules: Mapping[str, pl.Expr]) -> pl.Expr:
    """The name of the first rule that is true, null for none; what is unknown is not true."""
    if not rules:
        return pl.lit(None, dtype=pl.String)
    return pl.coalesce(pl.when(rule.fill_null(False)).then(pl.lit(reason)) for reason, rule in rules.items())


def unreliable_scores(probed: pl.DataFrame, measured: pl.DataFrame) -> pl.DataFrame:
    """`pair_id` and `is_unreliable`: the better of both responses scores under the best probe of its prompt.

    `measured` has `pair_id`, `score_chosen` and `margin`. One row for each pair that was probed; false where a score
    is missing, or those of all its probes.
    """
    probes = probed.group_by("pair_id", maintain_order=True).agg(best_probe=pl.col("score").max())
    best = pl.max_horizontal("score_chosen", pl.col("score_chosen") - pl.col("margin"))
    slack = ROUNDING * pl.max_horizontal(pl.col("best_probe").abs(), pl.col("score_chosen").abs(), 1.0)
    # The better of two scores is not known while one of them is missing.
    is_under = pl.col("margin").is_not_null() & (best < pl.col("best_probe") - slack)
    return probes.join(
        measured.select("pair_id", "score_chosen", "margin"), on="pair_id", how="left", maintain_order="left"
    ).select("pair_id", is_unreliable=is_under.fill_null(False))


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
        low, high = margin_quantiles(measured["margin"], cfg.margin_quantiles, cfg.noise)
        # Without any margin both ends are null, and so is the rule.
        rules["outside_quantiles"] = (pl.col("margin") < low) | (pl.col("margin") > high)
    return rules


def margin_quantiles(margins: pl.Series, quantiles: str, noise: float) -> tuple[pl.Expr, pl.Expr]:
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
