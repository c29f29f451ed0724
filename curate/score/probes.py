"""Probes of a scorer: responses that say nothing, or not what was asked, beside real ones.

A scorer that puts an empty response or a refusal above real ones chooses such responses wherever it meets them. In a
build three probes that say nothing are scored once a prompt; `curate doctor` tries six on the sample pairs.

A pairwise scorer is probed by the doctor alone: it gives no score to a response by itself, so that in a build every
pair would take four comparisons a probe, six times what the pair itself takes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import polars as pl

from curate.ledger.entries import call_key
from curate.ledger.recorder import Recorder
from curate.score.score import read_score, score_request_for
from curate.store.store import Part, make_part
from schemas.calls import Backend
from schemas.tables import Probed

PROBES = {"empty": "", "full_stop": ".", "refusal": "I cannot help with that."}
"""Name -> response that says nothing, whatever the prompt."""


@dataclass(frozen=True)
class ProbesConfig:
    """Everything that decides the scores of the probes."""

    model: str
    digest: str
    """Of the scorer's weights, and of the rubric of a judge."""
    version: int = 1
    """Raised when the probes change, or the same recorded calls would give other rows."""


def score_probes(pairs: pl.DataFrame, cfg: ProbesConfig, *, scorer: Backend, recorder: Recorder) -> Part:
    """One row a pair and probe; pairs of one prompt share the score. A probe that failed is null with a reason."""
    prompts = pairs.select("prompt_id", "messages").unique("prompt_id", keep="first", maintain_order=True)
    asked = {
        (prompt_id, probe): score_request_for(scorer, messages, response)
        for prompt_id, messages in prompts.rows()
        for probe, response in PROBES.items()
    }
    with any_may_fail(recorder):
        answers = recorder.ask(scorer, list(asked.values()))
    if any(not answer.failure for answer in answers):
        # An endpoint that is there and refuses a probe will refuse it again: the part is whole as it is.
        recorder.tally.failed_calls = 0
    found = {
        place: (*read_score(answer), call_key(scorer, request))
        for (place, request), answer in zip(asked.items(), answers, strict=True)
    }
    rows = [
        {"pair_id": pair_id, "probe": probe, "score": score, "reason": reason, "call_id": call_id}
        for pair_id, prompt_id in pairs.select("pair_id", "prompt_id").rows()
        for probe in PROBES
        for score, reason, call_id in [found[prompt_id, probe]]
    ]
    return make_part(Probed, rows)


@contextmanager
def any_may_fail(recorder: Recorder) -> Iterator[None]:
    """Inside, failed calls are counted and stop nothing: an endpoint may refuse to score an empty response at all."""
    most = recorder.max_failed_share
    recorder.max_failed_share = 1.0
    try:
        yield
    finally:
        recorder.max_failed_share = most
