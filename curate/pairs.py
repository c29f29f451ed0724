"""Scored candidates to pairs: the best response is chosen, the worst is rejected."""

from dataclasses import dataclass

import polars as pl

from curate.parts import Part, drop, frame
from curate.screen.guards import is_empty
from schemas.ids import made_pair_id
from schemas.tables import Dropped, Pair


@dataclass(frozen=True)
class PairConfig:
    """Best against worst is the right policy for few responses; it has nothing to set."""

    version: int = 1
    """Raised when the same candidates would give other rows."""


def make_pairs(prompts: pl.DataFrame, candidates: pl.DataFrame, scores: pl.DataFrame, cfg: PairConfig) -> Part:
    """One pair a prompt from its best and worst candidates.

    Candidates without text or without a score are set aside first, so an empty best response does not
    cost the prompt. Equal scores keep the earlier sample; when all are equal the pair is a tie, which
    screening drops. Prompts with fewer than two usable candidates are dropped with a reason.
    """
    judged = candidates.join(
        scores.select("candidate_id", "score", "scorer"), on="candidate_id", how="left", maintain_order="left"
    ).with_columns(has_text=~is_empty("response"), has_score=pl.col("score").is_finite().fill_null(False))
    usable = judged.filter("has_text", "has_score").sort("prompt_id", "sample_index")
    ranked = usable.sort("score", "sample_index", descending=[True, False], maintain_order=True)
    ends = (
        ranked.group_by("prompt_id", maintain_order=True)
        .agg(
            chosen=pl.first("response"),
            score_chosen=pl.first("score"),
            chosen_call=pl.first("call_id"),
            rejected=pl.last("response"),
            score_rejected=pl.last("score"),
            rejected_call=pl.last("call_id"),
            scorer=pl.first("scorer"),
            usable=pl.len(),
        )
        .filter(pl.col("usable") >= 2)
    )
    paired = prompts.join(ends, on="prompt_id", how="inner", maintain_order="left")
    texts = paired.select("prompt_id", "messages", "chosen", "rejected").rows()
    pair_ids = [made_pair_id(*text) for text in texts]
    rows = paired.with_columns(
        pair_id=pl.Series(pair_ids, dtype=pl.String),
        failed_score=pl.lit(False),
        origin=pl.lit("synthetic"),
        flaw=pl.lit(None, dtype=pl.String),
    ).select(Pair.column_names())
    return Part(Pair.cast(rows), unpaired(judged, set(ends["prompt_id"])))


def unpaired(judged: pl.DataFrame, paired: set[str]) -> pl.DataFrame:
    """The prompts with candidates but no pair: a failed score is named before empty text."""
    left = judged.filter(~pl.col("prompt_id").is_in(list(paired)))
    reasons = left.group_by("prompt_id", maintain_order=True).agg(
        failed=(~pl.col("has_score")).any(), responses=pl.col("response").str.slice(0, 200)
    )
    return frame(
        Dropped,
        [
            drop("make_pairs", "failed_score" if failed else "empty", repr(responses), prompt_id)
            for prompt_id, failed, responses in reasons.rows()
        ],
    )
