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
from curate.screen.guards import GuardConfig, guard_rules
from curate.screen.margins import margin_rules
from schemas.names import GUARDS, ScreenReason

Cost = Literal["none", "text", "every row", "vectors"]


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
    Rule("wrong_language", "either response beside the prompt", "text", "max_foreign"),
    Rule("too_alike", "both responses", "text", "max_alike"),
    Rule("personal_data", "all text", "text"),
    Rule("contaminated", "8-grams and 13-grams of evaluation prompts", "text"),
    Rule("off_topic", "vectors of either response and of all prompts", "vectors", "off_topic"),
    Rule("near_copy", "3-grams of prompt and chosen response", "every row", "max_jaccard"),
    Rule("near_duplicate_prompt", "vectors of prompts", "vectors", "max_cosine"),
    Rule("near_duplicate_pair", "vectors of prompt and chosen response", "vectors", "max_cosine"),
    Rule("surplus", "the number of pairs before it", "none", can_skip=False),
)

NEEDS_VECTORS = tuple(rule.name for rule in RULES if rule.cost == "vectors")

CONTAMINATED_COVERAGE = 0.5
"""Share of an evaluation prompt's 8-grams from which a pair is taken to hold it."""
NEAR_EVALUATION = 0.9
"""Cosine to an evaluation prompt above which a prompt is flagged: many of these are the same question, some are not."""


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
        "too_alike": pl.col("alike") > cfg.max_alike,
        "personal_data": (pl.col("personal").list.len() > 0) & cfg.drop_personal_data,
        "contaminated": (pl.col("longest") > 0) | (pl.col("coverage") >= CONTAMINATED_COVERAGE),
        "off_topic": is_off_topic("chosen", cfg) | (is_off_topic("rejected", cfg) & guards_rejected(cfg)),
    }
    return {rule.name: rules[rule.name] for rule in RULES if rule.name in rules and rule.name not in cfg.skip}


def either_side(cfg: RulesConfig, guard: str) -> pl.Expr:
    """True where the chosen response breaks the guard, or a rejected one that may not."""
    chosen, rejected = (guard_rules(side, guard_config(cfg)) for side in ("chosen", "rejected"))
    if guard not in chosen:
        return pl.lit(False)
    return chosen[guard] | (rejected[guard] & guards_rejected(cfg))


def guards_rejected(cfg: Thresholds) -> pl.Expr:
    """True where the rejected response must not be degenerate: a flaw that was asked for may look like it."""
    return pl.col("flaw").is_null() & (not cfg.allow_degenerate_rejected)


def guard_config(cfg: Thresholds) -> GuardConfig:
    """The part of the thresholds that is about single responses."""
    skip = tuple(guard for guard in GUARDS if guard in cfg.skip)
    return GuardConfig(cfg.min_tokens, cfg.max_repetition, cfg.max_echo, cfg.max_foreign, skip)


def is_off_topic(side: str, cfg: Thresholds) -> pl.Expr:
    """True where a response is nearer to another prompt than to its own; unknown without vectors."""
    return pl.col(f"{side}_other") - pl.col(f"{side}_own") > cfg.off_topic


def flag_rules() -> dict[str, pl.Expr]:
    """Flag -> expression true for a pair to look at; personal data is flagged by its kinds."""
    maybe = (pl.col("chosen_cut") == "maybe") | ((pl.col("rejected_cut") == "maybe") & pl.col("flaw").is_null())
    return {
        "refusal_chosen": pl.col("chosen_refuses"),
        "refusal_rejected": pl.col("rejected_refuses"),
        "maybe_truncated": maybe,
        "scorer_unreliable": pl.col("is_unreliable"),
        "near_evaluation": pl.col("evaluation") > NEAR_EVALUATION,
        "needs_review": pl.col("answers").is_not_null() & pl.col("verdict").is_null(),
    }


def first_match(rules: Mapping[str, pl.Expr]) -> pl.Expr:
    """The name of the first rule that is true, null for none; what is unknown is not true."""
    if not rules:
        return pl.lit(None, dtype=pl.String)
    return pl.coalesce(pl.when(rule.fill_null(False)).then(pl.lit(reason)) for reason, rule in rules.items())
