"""Score responses: one row a candidate, or two a ready pair; a score that failed is null with a reason.

The `form` and `rubric` of a scorer decide how it is asked. "response": each response by itself, as the last
turn of its conversation, or within a rubric. "pair": two responses at a time and always in both orders, so
that position bias cancels; p is the mean probability that the first is the better one, and 0.5 for a judge
that goes by position alone. Of a ready pair p is the score of the chosen and 1 - p that of the rejected response;
the score of a candidate is its mean p against the others of its prompt.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, permutations

import polars as pl

from curate.ledger.entries import call_key
from curate.ledger.recorder import Recorder
from curate.models.judge_prompts import pair_request, score_request
from curate.models.resolve import LazyModel
from curate.store.store import Part, make_part
from schemas.calls import Backend, CallResult, Request
from schemas.tables import Pair, Score

Messages = list[dict[str, str]]
ScoreOrReason = tuple[float | None, str | None]
"""A score, or null and why."""


@dataclass(frozen=True)
class ScoreConfig:
    """Everything that decides the scores."""

    model: str
    digest: str
    """Of the scorer's weights, and of the rubric of a judge."""
    version: int = 1
    """Raised when the same recorded calls would give other rows."""


def score_responses(
    prompts: pl.DataFrame, candidates: pl.DataFrame, cfg: ScoreConfig, *, scorer: Backend, recorder: Recorder
) -> Part:
    """One score a candidate.

    `call_id` is the call that gave it. Of a pairwise scorer it is the first of several, and empty for the
    only candidate of a prompt, which is compared with nothing and has no score.
    """
    asked = candidates.join(prompts.select("prompt_id", "messages"), on="prompt_id", how="left", maintain_order="left")
    score = compare_candidates if is_pairwise(scorer) else score_candidates
    ids = candidates.select("candidate_id", "prompt_id").rows()
    rows = [
        {
            "candidate_id": candidate_id,
            "scorer": cfg.model,
            "prompt_id": prompt_id,
            "score": value,
            "reason": reason,
            "call_id": call_id,
        }
        for (candidate_id, prompt_id), ((value, reason), call_id) in zip(
            ids, score(asked, scorer, recorder), strict=True
        )
    ]
    return make_part(Score, rows)


def score_pairs(pairs: pl.DataFrame, cfg: ScoreConfig, *, scorer: Backend, recorder: Recorder) -> Part:
    """The pairs with both scores set by the scorer; which side is chosen stays as it is."""
    rows = pairs.select("messages", "chosen", "rejected").rows()
    requests = list(chain.from_iterable(side_requests(scorer, *row) for row in rows))
    found = [read_score(answer) for answer in recorder.ask(scorer, requests)]
    scores = [side_scores(scorer, *two) for two in zip(found[0::2], found[1::2], strict=True)]
    columns = {
        "score_chosen": pl.Series([chosen for chosen, _ in scores], dtype=pl.Float64),
        "score_rejected": pl.Series([rejected for _, rejected in scores], dtype=pl.Float64),
    }
    scored = pairs.with_columns(**columns, scorer=pl.lit(cfg.model)).with_columns(
        failed_score=pl.col("score_chosen").is_null() | pl.col("score_rejected").is_null()
    )
    return Part(scored.select(Pair.column_names()), make_part(Pair, []).dropped)


def score_candidates(asked: pl.DataFrame, scorer: Backend, recorder: Recorder) -> list[tuple[ScoreOrReason, str]]:
    """Verdict and call of each candidate."""
    requests = [
        score_request_for(scorer, messages, response)
        for messages, response in asked.select("messages", "response").rows()
    ]
    answers = recorder.ask(scorer, requests)
    return [(read_score(answer), call_key(scorer, request)) for request, answer in zip(requests, answers, strict=True)]


def compare_candidates(asked: pl.DataFrame, scorer: Backend, recorder: Recorder) -> list[tuple[ScoreOrReason, str]]:
    """Verdict and first call of each candidate, of comparisons with all others of its prompt in both orders."""
    rows = asked.select("prompt_id", "messages", "response").rows()
    of_prompt: dict[str, list[int]] = {}
    for i, (prompt_id, *_) in enumerate(rows):
        of_prompt.setdefault(prompt_id, []).append(i)
    orders = [order for candidates in of_prompt.values() for order in permutations(candidates, 2)]
    requests = [compare_request_for(scorer, rows[i][1], rows[i][2], rows[j][2]) for i, j in orders]
    answers = dict(zip(orders, map(read_score, recorder.ask(scorer, requests)), strict=True))
    first_call: dict[int, str] = {}
    for order, request in zip(orders, requests, strict=True):
        for i in order:
            if i not in first_call:
                first_call[i] = call_key(scorer, request)
    scored = []
    for i, (prompt_id, *_) in enumerate(rows):
        others = [j for j in of_prompt[prompt_id] if j != i]
        verdict = mean_verdict([both_orders(answers[i, j], answers[j, i]) for j in others])
        scored.append((verdict, first_call.get(i, "")))
    return scored


def side_scores(scorer: Backend, first: ScoreOrReason, second: ScoreOrReason) -> tuple[float | None, float | None]:
    """Scores of the chosen and the rejected response, from the verdicts on `side_requests`."""
    if not is_pairwise(scorer):
        return first[0], second[0]
    p, _ = both_orders(first, second)
    return p, None if p is None else 1 - p


def side_requests(scorer: Backend, messages: Messages, chosen: str, rejected: str) -> list[Request]:
    """The two calls behind the scores of a pair: of either side by itself, or of both in either order."""
    if is_pairwise(scorer):
        return [compare_request_for(scorer, messages, *two) for two in ((chosen, rejected), (rejected, chosen))]
    return [score_request_for(scorer, messages, response) for response in (chosen, rejected)]


def candidate_requests(scorer: Backend, messages: Messages, responses: Sequence[str]) -> list[Request]:
    """All calls behind the scores of the candidates of one prompt."""
    if is_pairwise(scorer):
        return [compare_request_for(scorer, messages, *two) for two in permutations(responses, 2)]
    return [score_request_for(scorer, messages, response) for response in responses]


def is_pairwise(scorer: Backend) -> bool:
    """Whether the scorer compares two responses at a time."""
    return isinstance(scorer, LazyModel) and scorer.form == "pair"


def score_request_for(scorer: Backend, messages: Messages, response: str) -> Request:
    """The request for the score of `response`, as `scorer` is asked."""
    if isinstance(scorer, LazyModel) and scorer.rubric is not None:
        return score_request(scorer.rubric, messages, response, scorer.options)
    return Request("score", [*messages, {"role": "assistant", "content": response}])


def compare_request_for(scorer: Backend, messages: Messages, first: str, second: str) -> Request:
    """The request for the probability that `first` is better than `second`; it does not say which is chosen."""
    assert isinstance(scorer, LazyModel) and scorer.rubric is not None
    return pair_request(scorer.rubric, messages, first, second, scorer.options)


def both_orders(shown_first: ScoreOrReason, shown_second: ScoreOrReason) -> ScoreOrReason:
    """The mean probability that a response is better, of its verdict as A and that of the other as A."""
    (p, why), (other_p, other_why) = shown_first, shown_second
    if p is None or other_p is None:
        return None, why or other_why
    # The mean of p and 1 - other_p, written so that equal verdicts give exactly one half.
    return 0.5 + (p - other_p) / 2, None


def mean_verdict(verdicts: Sequence[ScoreOrReason]) -> ScoreOrReason:
    """The mean, or null where one is missing: a mean over fewer would favor whoever was not compared."""
    if not verdicts:
        return None, "no other response to compare with"
    scores = [score for score, _ in verdicts if score is not None]
    if len(scores) < len(verdicts):
        return None, next(why for score, why in verdicts if score is None)
    return math.fsum(scores) / len(scores), None


def read_score(answer: CallResult) -> ScoreOrReason:
    """The score, or null and why."""
    if answer.failure:
        return None, answer.error
    score = answer.values[0]
    return (score, None) if math.isfinite(score) else (None, f"the score is {score}")
