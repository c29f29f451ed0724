"""Sample n responses of one model to each prompt."""

from dataclasses import dataclass, field
from typing import Any

import polars as pl

from curate.ledger.entries import call_key
from curate.ledger.recorder import Recorder
from curate.models.reasoning import is_cut_reasoning, read_response
from curate.store.store import Part, dropped_row, make_part
from schemas.calls import Backend, CallResult, Request
from schemas.ids import short_id
from schemas.stages import StageName
from schemas.tables import Candidate


@dataclass(frozen=True)
class SampleConfig:
    """Everything that decides the responses."""

    model: str
    digest: str
    """Of the generator's weights."""
    n: int
    temperature: float
    top_p: float
    max_tokens: int
    seed: int
    options: dict[str, Any] = field(default_factory=dict)
    """What the user adds to the sampling parameters, as `curate.models.call_options` reads it."""
    version: int = 2
    """Raised when the same recorded calls would give other rows."""

    def request(self, messages: list[dict[str, str]]) -> Request:
        sampling = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.max_tokens,
            "seed": self.seed,
            **self.options,
        }
        return Request("generate", messages, n=self.n, sampling=sampling)


def sample_responses(prompts: pl.DataFrame, cfg: SampleConfig, *, generator: Backend, recorder: Recorder) -> Part:
    """`n` candidates a prompt; prompts that got none are dropped with a reason."""
    requests = [cfg.request(messages) for messages in prompts["messages"].to_list()]
    answers = recorder.ask(generator, requests, why_lost)
    rows: list[dict[str, Any]] = []
    dropped: list[dict[str, Any]] = []
    for prompt_id, request, answer in zip(prompts["prompt_id"], requests, answers, strict=True):
        if answer.failure:
            dropped.append(dropped_row(StageName.SAMPLE_RESPONSES, answer.failure, answer.error or "", prompt_id))
            continue
        call_id = call_key(generator, request)
        for index, response in enumerate(answer.responses):
            if response.finish_reason == "content_filter":
                # The endpoint withheld this one of n; it is no response that could be chosen or rejected.
                continue
            reasoning, text = read_response(response)
            rows.append(
                {
                    "candidate_id": short_id([prompt_id, call_id, index]),
                    "prompt_id": prompt_id,
                    "sample_index": index,
                    "response": text,
                    "reasoning": reasoning or None,
                    "finish_reason": response.finish_reason,
                    "call_id": call_id,
                }
            )
    return make_part(Candidate, rows, dropped)


def why_lost(_: int, answer: CallResult) -> str | None:
    """Nothing comes of an answer without any text but reasoning."""
    read = [(read_response(response)[1], response.finish_reason) for response in answer.responses]
    if any(text.strip() for text, _ in read):
        return None
    return "truncated_reasoning" if any(is_cut_reasoning(*each) for each in read) else "empty"
