"""Validate a build config before any file is read or any model is called.

Ranges of single fields are checked by the config; this checks combinations of fields.
"""

import difflib
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from curate.config import BuildConfig, Thresholds
from curate.models.call_options import generator_options, judge_options, no_judge_error
from curate.models.licenses import parse_license
from curate.models.resolve import JUDGES
from curate.pipeline.pairing import SIGMA_FROM
from curate.pipeline.source import KINDS, kind_of, requested_flaws
from curate.screen.rules import RULES, parse_quantiles
from curate.store.store import Table
from schemas.errors import UserError

OWN_FLAGS = {
    "generator": (("sft", "gpt"), "--generator writes responses for --source sft or gpt", "holds ready pairs"),
    "prompts": (("sft", "gpt"), "--prompts is what --source sft and gpt write responses to", "holds ready pairs"),
    "num_responses": (
        ("sft",),
        "--num-responses is how many responses --source sft draws",
        "has one pair a prompt",
    ),
    "reasoning_effort": (("sft", "gpt"), "--reasoning-effort is for the model that writes responses", "has them"),
    "extra_body": (("sft", "gpt"), "--extra-body goes to the model that writes responses", "has them"),
    "flaws": (("gpt",), "--flaws says how --source gpt writes the rejected response", "does not"),
}
"""Field -> the sources that use it, what it does for them, and how another source differs."""


def validate_build(cfg: BuildConfig) -> None:
    """Raises UserError for flags that contradict each other."""
    check_source(cfg)
    check_amounts(cfg)
    check_screening(cfg)


def check_source(cfg: BuildConfig) -> None:
    """Flags that belong to another source."""
    kind = kind_of(cfg)
    if kind.is_sampled and cfg.num_responses < 2:
        raise UserError(f"--num-responses {cfg.num_responses} gives no pair; draw at least 2 responses a prompt")
    if cfg.source == "gpt" and not cfg.generator:
        raise UserError("--source gpt needs --generator, for example openai:gpt-4o-mini or http://HOST:PORT/v1#MODEL")
    near = difflib.get_close_matches(cfg.source.lower(), (*KINDS, "samples"), n=1)
    is_word = cfg.source.isidentifier() and cfg.source not in (*KINDS, "samples")
    if near and is_word and not Path(cfg.source).exists():
        raise UserError(f"no source '{cfg.source}'; did you mean '{near[0]}'?")
    for name, (sources, does, differs) in OWN_FLAGS.items():
        if cfg.source not in sources and getattr(cfg, name) != getattr(BuildConfig, name):
            raise UserError(f"{does}; '{cfg.source}' {differs}")
    if kind.is_generated and not kind.is_sampled and cfg.pairing != BuildConfig.pairing:
        raise UserError(f"--pairing chooses among several responses to a prompt; '{cfg.source}' has none")
    if kind.is_sampled and cfg.pairing == "best_sigma" and cfg.num_responses < SIGMA_FROM:
        raise UserError(
            f"--pairing best_sigma needs --num-responses {SIGMA_FROM} or more, found {cfg.num_responses}: of few "
            "scores hardly any lies two standard deviations under their mean, and of 4 none can; use best_worst"
        )
    if kind.is_generated and cfg.preference:
        raise UserError(f"--preference names a column of imported preferences; '{cfg.source}' makes its own")
    requested_flaws(cfg)
    if cfg.license:
        parse_license(cfg.license)
    if kind.is_sampled and cfg.temperature == 0:
        raise UserError("--temperature 0 draws the same response every time, so there is no pair; use 0.7")


def check_amounts(cfg: BuildConfig) -> None:
    """Check the numbers of prompts and pairs, and the pilot of an estimate."""
    if cfg.num_pairs is not None and cfg.num_prompts is not None:
        raise UserError("--num-pairs adds prompts until there are enough pairs; use --max-prompts, not --num-prompts")
    if cfg.max_prompts is not None and cfg.num_pairs is None:
        raise UserError("--max-prompts belongs to --num-pairs; without it, use --num-prompts")
    if cfg.pilot != BuildConfig.pilot and not cfg.dry_run:
        raise UserError("--pilot belongs to --dry-run, which makes so many prompts before it estimates the rest")


def check_screening(cfg: BuildConfig) -> None:
    """Check the flags of scores and of screening rules."""
    if cfg.rubric != BuildConfig.rubric and cfg.scorer.partition(":")[0] not in JUDGES:
        # The name is not repeated: it may hold a password.
        raise UserError("--rubric is what a judge goes by, and --scorer names none; give --scorer judge:GENERATOR")
    generator_options(cfg)
    if (options := judge_options(cfg)) and cfg.scorer.partition(":")[0] not in JUDGES:
        raise no_judge_error(options)
    check_margins(cfg)
    check_skip(cfg.skip_rule)
    if cfg.redact and cfg.drop_personal_data:
        raise UserError("--redact replaces personal data and --drop-personal-data drops its pairs; give one of them")


def check_margins(cfg: BuildConfig) -> None:
    """Check that there can be the scores that a threshold needs."""
    if cfg.margin_quantiles:
        parse_quantiles(cfg.margin_quantiles)
    kind = kind_of(cfg)
    if cfg.min_z_margin > 0 and kind.is_generated and not kind.is_sampled:
        raise UserError(
            "--min-z-margin needs several scored responses a prompt, which --source sft draws; "
            f"'{cfg.source}' has one pair a prompt: use --min-margin"
        )
    if kind.is_generated and not (cfg.scorer or kind.default_scorer):
        for flag in score_flags(cfg):
            raise UserError(f"{flag} needs scores, and without --scorer written pairs have none")


def score_flags(cfg: Thresholds) -> list[str]:
    """The thresholds that are set and look at scores."""
    asked = {
        "--min-margin": cfg.min_margin > 0,
        "--margin-quantiles": bool(cfg.margin_quantiles),
        "--min-score": cfg.min_score is not None,
    }
    return [flag for flag, is_set in asked.items() if is_set]


def refuse_missing_scores(cfg: Thresholds, pairs: Table) -> None:
    """Raises UserError for a threshold on scores where no pair has one."""
    flags = score_flags(cfg)
    if cfg.min_z_margin > 0 or flags:
        found = pairs.scan().select(pl.len(), pl.col("score_chosen", "z_chosen").is_not_null().any()).collect()
        if not found["len"][0]:
            return
        if flags and not found["score_chosen"][0]:
            raise UserError(f"{flags[0]} needs scores, and no pair has one; name a --scorer, or leave {flags[0]} out")
        if cfg.min_z_margin > 0 and not found["z_chosen"][0]:
            raise UserError(
                "--min-z-margin needs several scored responses a prompt, and no pair has a z score: use --min-margin"
            )


def check_skip(skip: Sequence[str]) -> None:
    """Refuse to skip rules that do not exist, or that always apply."""
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
