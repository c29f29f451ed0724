"""Pair scored candidates: choose the chosen and the rejected responses of each prompt."""

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

import polars as pl

from curate.config import Pairing, Thresholds
from curate.screen.rules import GuardConfig, guard_config, guard_rules
from curate.screen.text.guards import hash_prompts, response_features
from curate.screen.text.word_runs import read_wording
from curate.store.store import Part, dropped_row, make_frame
from schemas.ids import digest, made_pair_id
from schemas.licenses import join_licenses
from schemas.names import GUARDS, UnpairedReason
from schemas.stages import StageName
from schemas.tables import Dropped, Pair

Policy = Literal["best_worst", "best_sigma", "best_random", "adjacent"]

SIGMA_FROM = 16
"""Fewest responses drawn for `best_sigma`. Of n scores none lies more than sqrt(n - 1) standard deviations under
their mean, and so far only where all the others are equal: at n = 4 two are never reached, at 16 they often are."""


@dataclass(frozen=True)
class PairConfig:
    """Everything that decides the pairs of a prompt."""

    policy: Policy = "best_worst"
    seed: int = 0
    """Seed of `best_random`."""
    guards: GuardConfig = field(default_factory=lambda: guard_config(Thresholds()))
    """Guards that make a candidate degenerate: such a one is never chosen."""
    allow_degenerate_rejected: bool = False
    """Let a degenerate candidate be the rejected one."""
    terms: str | None = None
    """Terms of the generator that wrote the candidates; None where those of the prompt are all."""
    version: int = 6
    """Raised when the same candidates would give other rows."""


def policy_for(pairing: Pairing, n: int) -> Policy:
    """The policy of `--pairing` for `n` responses a prompt; `auto` depends on `n`."""
    if pairing == "auto":
        return "best_sigma" if n >= SIGMA_FROM else "best_worst"
    return pairing


def make_pairs(prompts: pl.DataFrame, candidates: pl.DataFrame, scores: pl.DataFrame, cfg: PairConfig) -> Part:
    """The pairs of each prompt: one, or with `adjacent` one less than it has candidates that take part.

    Candidates without a score and degenerate ones are set aside first, so an empty best response does not
    cost the prompt. Equal scores keep the earlier sample; when all are equal the pair is a tie, which
    screening drops. Prompts left with fewer than two candidates are dropped with a reason.
    """
    judged = candidates.join(
        scores.select("candidate_id", "score", "scorer"), on="candidate_id", how="left", maintain_order="left"
    ).with_columns(has_score=pl.col("score").is_finite().fill_null(False))
    judged = judged.with_columns(guard=first_broken_guards(prompts, judged, cfg.guards))
    ranked = rank_candidates(eligible_candidates(judged, cfg))
    rejected = choose_rejected(ranked, cfg).select("prompt_id", "chosen_rank", "scorer", **side_columns("rejected"))
    chosen = ranked.select("prompt_id", chosen_rank="rank", **side_columns("chosen"))
    paired = prompts.join(rejected, on="prompt_id", how="inner", maintain_order="left_right").join(
        chosen, on=["prompt_id", "chosen_rank"], how="left", maintain_order="left"
    )
    rows = paired.with_columns(
        pair_id=pl.Series(pair_ids(paired), dtype=pl.String),
        failed_score=pl.lit(False),
        origin=pl.lit("synthetic"),
        flaw=pl.lit(None, dtype=pl.String),
        tools=pl.lit(None, dtype=pl.String),
        license=pl.Series(joined_licenses(paired["license"], cfg.terms)),
        is_heldout=pl.lit(False),
    ).select(Pair.column_names())
    return Part(Pair.cast(rows), unpaired_prompts(judged, set(rejected["prompt_id"])))


def joined_licenses(licenses: pl.Series, terms: str | None) -> list[str]:
    """The license of each pair: that of its prompt, and the terms of the generator."""
    return [license if terms is None else join_licenses(license, terms) for license in licenses]


def first_broken_guards(prompts: pl.DataFrame, candidates: pl.DataFrame, cfg: GuardConfig) -> pl.Series:
    """The first guard that each candidate breaks, or null."""
    asked = candidates.join(prompts.select("prompt_id", "messages"), on="prompt_id", how="left", maintain_order="left")
    features = response_features(
        "response", hash_prompts(asked["messages"]), read_wording(asked["response"]), asked["finish_reason"]
    )
    rules = guard_rules("response", cfg)
    broken = [pl.when(rule).then(pl.lit(guard)) for guard, rule in rules.items()]
    return features.select(guard=pl.coalesce(*broken, pl.lit(None, dtype=pl.String))).to_series()


def eligible_candidates(judged: pl.DataFrame, cfg: PairConfig) -> pl.DataFrame:
    """The candidates that may be in a pair.

    Of the degenerate ones, where they are allowed, only those that score no better than the best of the others:
    one that scores higher would be rejected against its score.
    """
    is_sound = pl.col("guard").is_null()
    scored = judged.filter("has_score")
    if not cfg.allow_degenerate_rejected:
        return scored.filter(is_sound)
    best = pl.col("score").filter(is_sound).max().over("prompt_id")
    return scored.filter((pl.col("score") <= best).fill_null(False))


def rank_candidates(usable: pl.DataFrame) -> pl.DataFrame:
    """The candidates with `z` and with `rank` in their prompt: 0 for the best, ties by sample, in this order.

    Of equal scores the degenerate come last, so the first is never one of them.
    """
    score, prompt = pl.col("score"), "prompt_id"
    z = (score - score.mean().over(prompt)) / score.std(ddof=0).over(prompt)
    # Of equal scores the deviation is not always exactly 0, for their mean is rounded.
    is_spread = (score.max() > score.min()).over(prompt) & z.is_finite()
    return (
        usable.with_columns(z=pl.when(is_spread).then(z))
        .sort(prompt, -score, pl.col("guard").is_not_null(), "sample_index")
        .with_columns(rank=pl.int_range(pl.len(), dtype=pl.Int64).over(prompt))
    )


def choose_rejected(ranked: pl.DataFrame, cfg: PairConfig) -> pl.DataFrame:
    """The candidates to reject, each with `chosen_rank`: the rank of the one it is set against."""
    if cfg.policy == "adjacent":
        # A degenerate response is rejected, but the one after it is set against the last that is not.
        sound = pl.when(pl.col("guard").is_null()).then("rank")
        above = sound.forward_fill().shift(1).over("prompt_id")
        return ranked.with_columns(chosen_rank=above).filter(pl.col("rank") > 0)
    others = ranked.filter(pl.col("rank") > 0)
    if cfg.policy == "best_worst":
        order = others["score"]
    elif cfg.policy == "best_sigma":
        # Rounded, so that two candidates equally far from the aim tie whatever the last digit says.
        order = others.select((pl.col("z") + 2).abs().round(9).fill_null(0)).to_series()
    else:
        names = others.select("prompt_id", "sample_index").rows()
        order = pl.Series([digest([cfg.seed, *name]) for name in names], dtype=pl.String)
    return (
        others.with_columns(order=order, chosen_rank=pl.lit(0, dtype=pl.Int64))
        .sort("prompt_id", "order", "sample_index")
        .unique("prompt_id", keep="first", maintain_order=True)
    )


def side_columns(side: str) -> dict[str, str]:
    """Column of `Pair` -> column of a candidate, for one side."""
    return {
        side: "response",
        f"score_{side}": "score",
        f"z_{side}": "z",
        f"{side}_call": "call_id",
        f"{side}_finish": "finish_reason",
        f"{side}_reasoning": "reasoning",
    }


def pair_ids(paired: pl.DataFrame) -> list[str]:
    """An id a pair; what says the same as an earlier pair of its prompt gets `.2`, `.3` ... after it."""
    seen: Counter[str] = Counter()
    ids = []
    for text in paired.select("prompt_id", "messages", "chosen", "rejected").iter_rows():
        pair_id = made_pair_id(*text)
        seen[pair_id] += 1
        ids.append(pair_id if seen[pair_id] == 1 else f"{pair_id}.{seen[pair_id]}")
    return ids


def unpaired_prompts(judged: pl.DataFrame, paired: set[str]) -> pl.DataFrame:
    """The prompts with candidates but no pair: a failed score is named before the guard that set most aside."""
    left = judged.filter(~pl.col("prompt_id").is_in(list(paired)))
    # The limit came before the response began.
    is_cut = (pl.col("guard") == "empty") & (pl.col("finish_reason") == "length").fill_null(False)
    candidates = left.group_by("prompt_id", maintain_order=True).agg(
        failed=(pl.col("guard").is_null() & ~pl.col("has_score")).any(),
        guards=pl.when(is_cut).then(pl.lit("truncated_reasoning")).otherwise("guard").drop_nulls(),
        responses=pl.col("response").str.slice(0, 200),
    )
    return make_frame(
        Dropped,
        [
            dropped_row(StageName.MAKE_PAIRS, unpaired_reason(failed, guards), json.dumps(responses), prompt_id)
            for prompt_id, failed, guards, responses in candidates.rows()
        ],
    )


def unpaired_reason(failed: bool, guards: list[UnpairedReason]) -> UnpairedReason:
    """The reason too few candidates are left; of guards broken equally often the first in their order."""
    if failed or not guards:
        return "failed_score"
    reasons: tuple[UnpairedReason, ...] = ("truncated_reasoning", *GUARDS)
    return max(reasons, key=guards.count)
