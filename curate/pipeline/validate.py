"""What no build can mean: refused in one sentence, before anything is read or asked."""

import difflib
import math
from collections.abc import Sequence
from pathlib import Path

from curate.config import BuildConfig, Thresholds
from curate.generate.flaws import parse_flaws
from curate.models.resolve import JUDGES
from curate.pipeline.pairing import SIGMA_FROM
from curate.screen.rules import RULES, parse_quantiles
from schemas.errors import UserError

GENERATED = ("sft", "gpt")
"""Sources whose responses a model of the build writes."""
LEAST_COSINE = 0.5
LEAST_JACCARD = 0.5
"""Near copies are looked for from this Jaccard index on."""


def validate_build(cfg: BuildConfig) -> None:
    """Raises UserError for flags that contradict each other or a value that is out of range."""
    check_source(cfg)
    check_amounts(cfg)
    check_sampling(cfg)
    check_screening(cfg)
    check_limits(cfg)


def check_source(cfg: BuildConfig) -> None:
    """Flags that belong to another source."""
    if cfg.source == "sft" and cfg.num_responses < 2:
        raise UserError(f"--num-responses {cfg.num_responses} gives no pair; draw at least 2 responses a prompt")
    if cfg.source == "gpt" and not cfg.generator:
        raise UserError("--source gpt needs --generator, for example openai:gpt-4o-mini or http://HOST:PORT/v1#MODEL")
    if cfg.source not in GENERATED and cfg.generator:
        if near := difflib.get_close_matches(cfg.source, GENERATED, n=1) if not Path(cfg.source).exists() else []:
            raise UserError(f"no source '{cfg.source}'; did you mean '{near[0]}'?")
        raise UserError(f"--generator writes responses for --source sft or gpt; '{cfg.source}' holds ready pairs")
    if cfg.source not in GENERATED and cfg.prompts != BuildConfig.prompts:
        raise UserError(f"--prompts is what --source sft and gpt write responses to; '{cfg.source}' holds ready pairs")
    if cfg.source != "sft" and cfg.num_responses != BuildConfig.num_responses:
        raise UserError(
            f"--num-responses is how many responses --source sft draws; '{cfg.source}' has one pair a prompt"
        )
    if cfg.pairing != "auto" and cfg.source != "sft":
        raise UserError(f"--pairing chooses among the responses that --source sft draws; '{cfg.source}' has none")
    if cfg.pairing == "best_sigma" and cfg.num_responses < SIGMA_FROM:
        raise UserError(
            f"--pairing best_sigma needs --num-responses {SIGMA_FROM} or more, found {cfg.num_responses}: of few "
            "scores hardly any lies two standard deviations under their mean, and of 4 none can; use best_worst"
        )
    if cfg.source == "gpt":
        parse_flaws(cfg.flaws)
    elif cfg.flaws:
        raise UserError(f"--flaws says how --source gpt writes the rejected response; '{cfg.source}' does not")


def check_amounts(cfg: BuildConfig) -> None:
    """How many prompts and pairs."""
    if cfg.num_prompts is not None and cfg.num_prompts < 1:
        raise UserError("--num-prompts must be at least 1")
    if cfg.num_pairs is not None and cfg.num_pairs < 1:
        raise UserError("--num-pairs must be at least 1")
    if cfg.num_pairs is not None and cfg.num_prompts is not None:
        raise UserError("--num-pairs adds prompts until there are enough pairs; use --max-prompts, not --num-prompts")
    if cfg.max_prompts is not None and cfg.num_pairs is None:
        raise UserError("--max-prompts belongs to --num-pairs; without it, use --num-prompts")
    if cfg.max_prompts is not None and cfg.max_prompts < 1:
        raise UserError("--max-prompts must be at least 1")


def check_sampling(cfg: BuildConfig) -> None:
    """How responses are drawn."""
    if cfg.max_tokens < 1:
        raise UserError(f"--max-tokens {cfg.max_tokens} leaves no room for a response")
    if not 0 <= cfg.temperature <= 2:
        raise UserError(f"--temperature {cfg.temperature} is outside 0 to 2")
    if cfg.source == "sft" and cfg.temperature == 0:
        raise UserError("--temperature 0 draws the same response every time, so there is no pair; use 0.7")
    if not 0 < cfg.top_p <= 1:
        raise UserError(f"--top-p {cfg.top_p} is outside 0 to 1")


def check_screening(cfg: BuildConfig) -> None:
    """What scores and the rules of screening go by."""
    if cfg.rubric != BuildConfig.rubric and cfg.scorer.partition(":")[0] not in JUDGES:
        # The name is not repeated: it may hold a password.
        raise UserError("--rubric is what a judge goes by, and --scorer names none; give --scorer judge:GENERATOR")
    check_margins(cfg)
    check_thresholds(cfg)
    check_skip(cfg.skip_rule)
    if cfg.redact and cfg.drop_personal_data:
        raise UserError("--redact replaces personal data and --drop-personal-data drops its pairs; give one of them")


def check_margins(cfg: BuildConfig) -> None:
    """Thresholds of scores, and whether there can be such scores."""
    for flag, least in (("--min-margin", cfg.min_margin), ("--min-z-margin", cfg.min_z_margin)):
        if not 0 <= least < math.inf:
            raise UserError(f"{flag} {least:g} must be 0 or more")
    if cfg.min_score is not None and not math.isfinite(cfg.min_score):
        raise UserError(f"--min-score {cfg.min_score:g} is no score")
    if cfg.margin_quantiles:
        parse_quantiles(cfg.margin_quantiles)
    if cfg.min_z_margin > 0 and cfg.source != "sft":
        raise UserError(
            "--min-z-margin needs several scored responses a prompt, which --source sft draws; "
            f"'{cfg.source}' has one pair a prompt: use --min-margin"
        )
    asked = {
        "--min-margin": cfg.min_margin > 0,
        "--margin-quantiles": bool(cfg.margin_quantiles),
        "--min-score": cfg.min_score is not None,
    }
    if cfg.source == "gpt" and not cfg.scorer:
        for flag in (flag for flag, is_set in asked.items() if is_set):
            raise UserError(f"{flag} needs scores, and without --scorer written pairs have none")


def check_thresholds(cfg: Thresholds) -> None:
    """Ranges of what is measured of texts, vectors and clusters."""
    for flag, share in (
        ("--max-repetition", cfg.max_repetition),
        ("--max-echo", cfg.max_echo),
        ("--max-other-language", cfg.max_other_language),
        ("--max-response-similarity", cfg.max_response_similarity),
    ):
        # Not `< 0 or > 1`, which is false of nan.
        if not 0 <= share <= 1:
            raise UserError(f"{flag} {share:g} is outside 0 to 1")
    if not LEAST_JACCARD <= cfg.max_jaccard <= 1:
        raise UserError(
            f"--max-jaccard {cfg.max_jaccard:g} is outside {LEAST_JACCARD:g} to 1; texts less alike are not looked for"
        )
    if not LEAST_COSINE <= cfg.max_cosine <= 1:
        raise UserError(
            f"--max-cosine {cfg.max_cosine:g} is outside {LEAST_COSINE:g} to 1; under it nearly all texts are alike"
        )
    if not 0 <= cfg.max_topic_gap <= 2:
        raise UserError(
            f"--max-topic-gap {cfg.max_topic_gap:g} is outside 0 to 2, the most that two cosines can be apart"
        )
    if cfg.min_tokens < 0:
        raise UserError(f"--min-tokens {cfg.min_tokens} must be 0 or more")
    if cfg.keep_per_cluster < 1:
        raise UserError(f"--keep-per-cluster {cfg.keep_per_cluster} must be at least 1")


def check_skip(skip: Sequence[str]) -> None:
    """Rules that do not exist, or that nothing may go without."""
    can_skip = {rule.name: rule.can_skip for rule in RULES}
    for name in skip:
        if name not in can_skip:
            near = difflib.get_close_matches(name, can_skip, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"rules: {', '.join(can_skip)}"
            raise UserError(f"--skip-rule {name}: no such rule; {hint}")
        if not can_skip[name]:
            never = ", ".join(rule for rule, can in can_skip.items() if not can)
            raise UserError(f"--skip-rule {name}: a build is nothing without the rules {never}")


def refuse_scores(cfg: Thresholds, scorer: str | None, compares: bool | None) -> None:
    """Raises UserError for a threshold on scores of a scorer that puts responses to each prompt on a scale of its own.

    `compares` is its `compares_across_prompts`. Pairs that were imported with scores have no scorer: whether those
    compare is for the user to know.
    """
    if cfg.min_score is not None and scorer and not compares:
        raise UserError(
            f"--min-score is one threshold for all prompts, and scores of {scorer} compare only between responses to "
            "one prompt; use --min-margin, or --min-z-margin with --source sft"
        )


def check_limits(cfg: BuildConfig) -> None:
    """How endpoints are asked, and when to stop."""
    for flag, number in (
        ("--concurrency", cfg.concurrency),
        ("--requests-per-minute", cfg.requests_per_minute),
        ("--tokens-per-minute", cfg.tokens_per_minute),
    ):
        if number is not None and number < 1:
            raise UserError(f"{flag} must be at least 1")
    if not 0 < cfg.max_failed_share <= 1:
        raise UserError(f"--max-failed-share {cfg.max_failed_share:g} must be above 0 and at most 1")
    # Not `<= 0`, which is false of nan.
    if cfg.budget is not None and not cfg.budget > 0:
        raise UserError(f"--budget {cfg.budget:g} must be above 0")
    if cfg.max_hours is not None and not cfg.max_hours > 0:
        raise UserError(f"--max-hours {cfg.max_hours:g} must be above 0")
    if not 0 <= cfg.pilot <= 20:
        raise UserError(f"--pilot {cfg.pilot} is outside 0 to 20")
    if cfg.pilot != BuildConfig.pilot and not cfg.dry_run:
        raise UserError("--pilot belongs to --dry-run, which makes so many prompts before it estimates the rest")
