"""Screening rules as records, in the order they are tried, and the expressions of pairs that break them.

Verdicts of reviewers come first, then rules about scores, which cost nothing, then rules about single texts, then
rules that compare each pair with all others; rules that need vectors come last. A rule that compares pairs considers
only pairs that no rule before it has dropped.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import polars as pl

from curate.config import Thresholds
from schemas.errors import UserError
from schemas.names import PERSONAL_DATA, Flag, ScreenReason
from schemas.stages import StageName

CONTAMINATED_COVERAGE = 0.5
"""Share of an evaluation prompt's 8-grams from which a pair is taken to hold it."""
NEAR_EVALUATION = 0.9
"""Cosine to an evaluation prompt above which a prompt is flagged: many of these are the same question, some are not."""
ROUNDING = 1e-9
"""The score of a rejected response is had back as that of the chosen less the margin, and is off in its last digits."""

VECTOR_STAGES = (
    StageName.FIND_SEMANTIC_DUPLICATES,
    StageName.MEASURE_TOPICALITY,
    StageName.MEASURE_EVAL_PROXIMITY,
)
"""Stages that embed texts."""


@dataclass(frozen=True, kw_only=True)
class RulesConfig(Thresholds):
    """Everything that decides which pairs are kept."""

    noise: float = 0.0
    """Error of the scorer's margins: a margin that is not larger, up or down, is a tie; 0 where not measured."""
    keep: int | None = None
    """Pairs kept of those that pass the other rules; all by default."""
    quotas: tuple[tuple[str, int], ...] = ()
    """Flaw -> pairs of it among the `keep`, as far as there are so many; the first others fill up."""
    version: int = 5
    """Raised when the same tables would be screened otherwise."""


Broken = Callable[[RulesConfig, pl.DataFrame], pl.Expr]
OfSide = Callable[[str], pl.Expr]


@dataclass(frozen=True, eq=False)
class Rule:
    """One line of the waterfall, or a flag."""

    name: ScreenReason | Flag
    drops: str
    """The reason a pair is dropped, or flagged, in words."""
    stage: StageName = StageName.MEASURE_PAIRS
    """The stage that makes the columns it uses."""
    value: pl.Expr | None = None
    """Expression: true for a pair to drop or flag, or a number to compare with the threshold."""
    side: OfSide | None = None
    """The same of one response, "chosen" or "rejected"; either may break the rule."""
    threshold: str = ""
    """Field of `Thresholds` that moves it: default, range and help stand there."""
    is_least: bool = False
    """The threshold is the least value that passes; else the largest."""
    excuse: OfSide | None = None
    """True for a response that passes all the same."""
    broken: Broken | None = None
    """True for a pair to drop, where that is no comparison of `value` with the threshold; `rows` are all pairs."""
    same_text: str = ""
    """Column of the text's hash, for a rule that compares pairs with each other."""
    kind: Literal["", "text", "prompt", "pair"] = ""
    """`Similar.kind` of the pairs that it compares with each other; without one equal texts."""
    can_skip: bool = True
    note: str = ""
    """The reason for the default of its threshold."""

    @property
    def flag(self) -> str:
        """The flag of the command line that moves it; empty without a threshold."""
        return f"--{self.threshold.replace('_', '-')}" if self.threshold else ""

    def passes_over(self, value: pl.Expr, thresholds: Mapping[str, float]) -> pl.Expr:
        """True where `value` is on the wrong side of the threshold; without a threshold `value` itself."""
        if not self.threshold:
            return value
        least_or_most = thresholds[self.threshold]
        return value < least_or_most if self.is_least else value > least_or_most


def of_side(column: str) -> OfSide:
    """The column `chosen_...` or `rejected_...`."""
    return lambda side: pl.col(f"{side}_{column}")


RULES = (
    Rule(
        "human_reject",
        "reviewers found both responses bad, or neither better (`curate review`)",
        StageName.COLLECT_HUMAN_VERDICTS,
        # A pair of which neither response is better teaches nothing.
        value=pl.col("verdict").cast(pl.String).is_in(["reject", "tie"]),
    ),
    Rule(
        "failed_score",
        "a score that is missing, not a number or infinite; it is never read as 0",
        value=pl.col("failed_score"),
        can_skip=False,
    ),
    Rule("empty", "a response of nothing but white space and template tokens", side=of_side("empty"), can_skip=False),
    Rule(
        "tie",
        "a margin within the scorer's noise (equal scores where it was not measured)",
        broken=lambda cfg, _: pl.col("margin").abs() <= cfg.noise,
        note="`curate doctor --scorer` measures the noise",
    ),
    Rule("identical", "equal responses (case and spacing aside)", value=pl.col("is_identical")),
    Rule("duplicate_pair", "the same pair again (case and spacing aside)", same_text="pair_hash"),
    Rule(
        "low_margin",
        "a small margin, in the scorer's units",
        value=pl.col("margin"),
        threshold="min_margin",
        is_least=True,
        note="a negative margin contradicts the pair; more depends on the scorer",
    ),
    Rule(
        "low_z_margin",
        "a small margin, in standard deviations of the prompt's scores",
        value=pl.col("z_margin"),
        threshold="min_z_margin",
        is_least=True,
    ),
    Rule(
        "low_score",
        "a chosen response with a low score; refused for scorers that do not compare across prompts",
        value=pl.col("score_chosen"),
        threshold="min_score",
        is_least=True,
    ),
    Rule(
        "outside_quantiles",
        "a margin outside these quantiles of the build",
        threshold="margin_quantiles",
        broken=lambda cfg, rows: outside_quantiles(cfg, rows),
    ),
    Rule(
        "too_short",
        "fewer words and punctuation marks than this, unless they are numbers, words of the prompt or in a script "
        "without blanks",
        side=of_side("tokens"),
        threshold="min_tokens",
        is_least=True,
        excuse=of_side("is_short_answer"),
        note="fewer than three say nothing to prefer the response for",
    ),
    Rule(
        "truncated",
        "a response without an end: by its finish reason, else by its text",
        side=lambda side: pl.col(f"{side}_cut") == "yes",
        note="strong signs only; weak ones flag `maybe_truncated`",
    ),
    Rule("broken_encoding", "text through the wrong character set", side=of_side("broken")),
    Rule("leaked_tokens", "template tokens or the system message", side=of_side("leaked")),
    Rule(
        "prompt_echo",
        "a response that repeats its prompt",
        side=of_side("echo_share"),
        threshold="max_echo",
        note="a quoted sentence is an answer, the whole prompt is none",
    ),
    Rule(
        "repetition",
        "4-grams that repeat an earlier one",
        side=of_side("repetition_share"),
        threshold="max_repetition",
        note="good lists and tables stay under it, loops do not",
    ),
    Rule(
        "wrong_language",
        "another language than the prompt is in, names or asks to translate to",
        side=of_side("foreign_share"),
        threshold="max_other_language",
        note="a response mostly in another language",
    ),
    Rule(
        "similar_responses",
        "responses that differ by punctuation and filler words alone",
        value=pl.col("response_similarity"),
        threshold="max_response_similarity",
        note='one digit or one "not" is a difference',
    ),
    Rule(
        "personal_data",
        "e-mail, phone, card, IP address, key; only with `--drop-personal-data`",
        broken=lambda cfg, _: (pl.col("personal").list.len() > 0) & cfg.drop_personal_data,
        note="else flagged, or replaced with `--redact` in the pairs (tables before that and the ledger keep it)",
    ),
    Rule(
        "contaminated",
        "13 words in a row, or half of the 8-grams, of an evaluation prompt (those that come with pairwright and each "
        "`--decontaminate FILE`)",
        StageName.FIND_CONTAMINATION,
        value=pl.col("has_13gram") | (pl.col("coverage") >= CONTAMINATED_COVERAGE),
        note="runs that many prompts share do not count",
    ),
    Rule(
        "off_topic",
        "a response nearer to another prompt than to its own by more than this cosine",
        StageName.MEASURE_TOPICALITY,
        side=lambda side: pl.col(f"{side}_cos_other_prompt") - pl.col(f"{side}_cos_prompt"),
        threshold="max_topic_gap",
        note="a smaller one would drop short replies that fit any prompt; English only",
    ),
    Rule(
        "lexical_duplicate",
        "prompt and chosen response share this much wording with those of a kept pair (Jaccard index)",
        StageName.FIND_LEXICAL_DUPLICATES,
        threshold="max_jaccard",
        same_text="chosen_hash",
        kind="text",
        note="near-duplicates with a few changed words",
    ),
    Rule(
        "semantic_duplicate_prompt",
        "a prompt this similar to that of a kept pair (cosine of vectors)",
        StageName.FIND_SEMANTIC_DUPLICATES,
        threshold="max_cosine",
        same_text="prompt_hash",
        kind="prompt",
        note="0.9 would drop different questions of one kind",
    ),
    Rule(
        "semantic_duplicate_pair",
        "prompt and chosen response this similar to those of a kept pair (cosine of vectors)",
        StageName.FIND_SEMANTIC_DUPLICATES,
        threshold="max_cosine",
        same_text="chosen_hash",
        kind="pair",
    ),
    Rule(
        "over_quota",
        "accepted, but `--num-pairs` are there already",
        StageName.SCREEN_PAIRS,
        can_skip=False,
    ),
)
"""Rules that drop, in the order they are tried: the first that matches."""

FLAG_RULES = (
    Rule("refusal_chosen", "the chosen response declines; some refusals are right", value=pl.col("chosen_refuses")),
    Rule("refusal_rejected", "the rejected response declines", value=pl.col("rejected_refuses")),
    Rule(
        "maybe_truncated",
        "a response ends as if it were truncated, which short notes and code do as well",
        value=(pl.col("chosen_cut") == "maybe") | ((pl.col("rejected_cut") == "maybe") & pl.col("flaw").is_null()),
    ),
    Rule(
        "scorer_unreliable",
        "the scorer puts a response that says nothing above both",
        StageName.SCORE_PROBES,
        value=pl.col("is_unreliable"),
    ),
    Rule(
        "near_evaluation",
        "the prompt is nearly one of the evaluation prompts",
        StageName.MEASURE_EVAL_PROXIMITY,
        value=pl.col("max_cos_eval") > NEAR_EVALUATION,
    ),
    Rule(
        "needs_review",
        "reviewers judged it, and no verdict has more than half of their answers",
        StageName.COLLECT_HUMAN_VERDICTS,
        value=pl.col("answers").is_not_null() & pl.col("verdict").is_null(),
    ),
    *(
        Rule(kind, f"{kind.replace('_', ' ')} in the text", value=pl.col("personal").list.contains(pl.lit(kind)))
        for kind in PERSONAL_DATA
    ),
)
"""Rules that flag what reviewers should look at, and drop nothing."""

GUARD_RULES = tuple(rule for rule in RULES if rule.side and rule.stage == StageName.MEASURE_PAIRS)
"""Rules that single responses break before they are paired: such a response is never chosen."""

NEEDS_VECTORS = tuple(rule.name for rule in RULES if rule.stage in VECTOR_STAGES)


@dataclass(frozen=True)
class GuardConfig:
    """Everything that decides which responses are degenerate."""

    thresholds: tuple[tuple[str, float], ...] = ()
    """Field of `Thresholds` -> its value."""
    skip_rule: tuple[str, ...] = ()
    """Guards that are not applied."""


def guard_config(cfg: Thresholds) -> GuardConfig:
    """The part of the thresholds that is about single responses."""
    used = {rule.threshold for rule in GUARD_RULES if rule.threshold}
    skipped = tuple(rule.name for rule in GUARD_RULES if rule.name in cfg.skip_rule)
    return GuardConfig(tuple((field, getattr(cfg, field)) for field in sorted(used)), skipped)


def guard_rules(side: str, cfg: GuardConfig) -> dict[str, pl.Expr]:
    """Guard -> expression true where a response breaks it, in their order, over its columns `{side}_...`."""
    thresholds = dict(cfg.thresholds)
    return {rule.name: broken_side(rule, side, thresholds) for rule in GUARD_RULES if rule.name not in cfg.skip_rule}


def broken_side(rule: Rule, side: str, thresholds: Mapping[str, float]) -> pl.Expr:
    """True where the response of one side breaks a rule about single responses."""
    assert rule.side
    broken = rule.passes_over(rule.side(side), thresholds)
    return broken & ~rule.excuse(side) if rule.excuse else broken


def row_rules(cfg: RulesConfig, rows: pl.DataFrame) -> dict[str, pl.Expr]:
    """Reason -> expression true for a pair to drop, in the order they are tried, skipped ones left out.

    `rows` are the features of `join_features`, null where a table has no row for a pair. What lies on a threshold is
    kept, and so is a pair without the columns of a rule. Rules that compare pairs with each other are not among them.
    """
    return {
        rule.name: broken
        for rule in RULES
        if rule.name not in cfg.skip_rule and (broken := broken_pair(rule, cfg, rows)) is not None
    }


def broken_pair(rule: Rule, cfg: RulesConfig, rows: pl.DataFrame) -> pl.Expr | None:
    """True for a pair that breaks the rule by itself; None where it cannot, or where its threshold is not set."""
    if rule.threshold and getattr(cfg, rule.threshold) in (None, ""):
        return None
    if rule.broken:
        return rule.broken(cfg, rows)
    if rule.side:
        rejected = broken_side(rule, "rejected", vars(cfg)) & checks_rejected(cfg)
        return broken_side(rule, "chosen", vars(cfg)) | rejected
    return None if rule.value is None else rule.passes_over(rule.value, vars(cfg))


def worst_value(rule: Rule, cfg: RulesConfig) -> pl.Expr | None:
    """The number of a pair that is held against the rule's threshold; None where there is no such number."""
    if not rule.threshold:
        return None
    if rule.side:
        rejected = pl.when(checks_rejected(cfg)).then(rule.side("rejected"))
        across = pl.min_horizontal if rule.is_least else pl.max_horizontal
        return across(rule.side("chosen"), rejected)
    return rule.value


def checks_rejected(cfg: Thresholds) -> pl.Expr:
    """True where the rejected response must not be degenerate: a flaw that was asked for may look like it."""
    return pl.col("flaw").is_null() & (not cfg.allow_degenerate_rejected)


def first_match(rules: Mapping[str, pl.Expr]) -> pl.Expr:
    """The name of the first rule that is true, null for none; what is unknown is not true."""
    if not rules:
        return pl.lit(None, dtype=pl.String)
    return pl.coalesce(pl.when(rule.fill_null(False)).then(pl.lit(reason)) for reason, rule in rules.items())


def outside_quantiles(cfg: RulesConfig, rows: pl.DataFrame) -> pl.Expr:
    """True for a margin outside the quantiles LOW:HIGH, which are taken over all pairs of the build.

    Both ends are margins of pairs, which are kept: between two of them both would fall. Ties are left out, which
    another rule drops: a build half of which is tied would else have its lower quantiles among them.
    """
    margins = rows["margin"]
    clear = margins.filter(margins.is_not_nan() & (margins.abs() > cfg.noise))
    # Without any margin both ends are null, and so is the rule.
    low, high = (pl.lit(clear.quantile(end, "nearest"), pl.Float64) for end in parse_quantiles(cfg.margin_quantiles))
    return (pl.col("margin") < low) | (pl.col("margin") > high)


def parse_quantiles(text: str) -> tuple[float, float]:
    """The two numbers of LOW:HIGH. Raises UserError unless 0 <= LOW < HIGH <= 1."""
    low, _, high = text.partition(":")
    try:
        ends = float(low), float(high)
    except ValueError as error:
        raise UserError(f"--margin-quantiles '{text}' is not LOW:HIGH, for example 0.1:0.9") from error
    # Not `>=`, which is false of nan.
    if not 0 <= ends[0] < ends[1] <= 1:
        raise UserError(f"--margin-quantiles '{text}' must be 0 <= LOW < HIGH <= 1, for example 0.1:0.9")
    return ends


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
