"""Scores of responses: one row a candidate, or two a ready pair; a score that failed is null with a reason."""

import math
from dataclasses import dataclass
from typing import Any

import polars as pl

from curate.backends.calls import Answer, Backend, Request
from curate.backends.ledger import Recorder, call_key
from curate.parts import Part, part
from schemas.tables import Pair, Score


@dataclass(frozen=True)
class ScoreConfig:
    """What decides the scores."""

    model: str
    digest: str
    """Of the scorer's weights."""
    version: int = 1
    """Raised when the same recorded calls would give other rows."""


def score_responses(
    prompts: pl.DataFrame, candidates: pl.DataFrame, cfg: ScoreConfig, *, scorer: Backend, recorder: Recorder
) -> Part:
    """One score a candidate."""
    asked = candidates.join(prompts.select("prompt_id", "messages"), on="prompt_id", how="left", maintain_order="left")
    requests = [judged(messages, response) for messages, response in asked.select("messages", "response").rows()]
    answers = recorder.ask(scorer, requests)
    rows: list[dict[str, Any]] = []
    for candidate, request, answer in zip(candidates.to_dicts(), requests, answers, strict=True):
        score, reason = read_score(answer)
        rows.append(
            {
                "candidate_id": candidate["candidate_id"],
                "scorer": cfg.model,
                "prompt_id": candidate["prompt_id"],
                "score": score,
                "reason": reason,
                "call_id": call_key(scorer, request),
            }
        )
    return part(Score, rows)


def score_pairs(pairs: pl.DataFrame, cfg: ScoreConfig, *, scorer: Backend, recorder: Recorder) -> Part:
    """The pairs with both scores set by the scorer; which side is chosen stays as it is."""
    sides = [
        judged(messages, response)
        for messages, *responses in pairs.select("messages", "chosen", "rejected").rows()
        for response in responses
    ]
    scores = [read_score(answer)[0] for answer in recorder.ask(scorer, sides)]
    columns = {
        "score_chosen": pl.Series(scores[0::2], dtype=pl.Float64),
        "score_rejected": pl.Series(scores[1::2], dtype=pl.Float64),
    }
    scored = pairs.with_columns(**columns, scorer=pl.lit(cfg.model)).with_columns(
        failed_score=pl.col("score_chosen").is_null() | pl.col("score_rejected").is_null()
    )
    return Part(scored.select(Pair.column_names()), part(Pair, []).dropped)


def judged(messages: list[dict[str, str]], response: str) -> Request:
    """The request for the score of `response`."""
    return Request("score", [*messages, {"role": "assistant", "content": response}])


def read_score(answer: Answer) -> tuple[float | None, str | None]:
    """The score, or null and why."""
    if answer.failure:
        return None, answer.error
    score = answer.values[0]
    return (score, None) if math.isfinite(score) else (None, f"the score is {score}")
