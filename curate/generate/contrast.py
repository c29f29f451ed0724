"""One chosen and one rejected response a prompt, written as JSON by one model."""

import json
from dataclasses import dataclass
from typing import Any

import polars as pl
from pydantic import ValidationError

from curate.backends.calls import Backend, Request
from curate.backends.ledger import Recorder, call_key
from curate.parts import Part, drop, part
from schemas.errors import ResponseError
from schemas.ids import made_pair_id
from schemas.tables import Pair
from schemas.wire import PairJSON

INSTRUCTION = """\
You write preference data. For the conversation you are given, write two responses to its last user message.
"chosen" is correct, complete and step by step where that helps.
"rejected" is plausible at first sight but contains one deliberate flaw or omission; do not point the flaw out.
Answer with one JSON object with exactly these two keys, both texts, and nothing else:
{"chosen": "...", "rejected": "..."}"""

PAIR_SCHEMA = {
    "type": "object",
    "properties": {"chosen": {"type": "string"}, "rejected": {"type": "string"}},
    "required": ["chosen", "rejected"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class ContrastConfig:
    """What decides the pairs."""

    model: str
    digest: str
    temperature: float
    top_p: float
    max_tokens: int
    seed: int
    instruction: str = INSTRUCTION
    version: int = 1
    """Raised when the same recorded calls would give other rows."""

    def request(self, messages: list[dict[str, str]]) -> Request:
        sampling = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.max_tokens,
            "seed": self.seed,
        }
        asked = [{"role": "system", "content": self.instruction}, {"role": "user", "content": transcript(messages)}]
        return Request("generate", asked, schema=PAIR_SCHEMA, sampling=sampling)


def write_contrasts(prompts: pl.DataFrame, cfg: ContrastConfig, *, generator: Backend, recorder: Recorder) -> Part:
    """One pair a prompt; a response that is not such a pair is dropped with its raw text."""
    requests = [cfg.request(messages) for messages in prompts["messages"].to_list()]
    answers = recorder.ask(generator, requests)
    rows: list[dict[str, Any]] = []
    dropped: list[dict[str, Any]] = []
    for prompt, request, answer in zip(prompts.to_dicts(), requests, answers, strict=True):
        prompt_id = prompt["prompt_id"]
        if answer.failure:
            dropped.append(drop("write_contrasts", answer.failure, answer.error or "", prompt_id))
            continue
        raw = answer.responses[0].text
        try:
            written = parse_pair(raw)
        except ResponseError:
            dropped.append(drop("write_contrasts", "malformed_json", raw, prompt_id))
            continue
        call_id = call_key(generator, request)
        rows.append(
            {
                "pair_id": made_pair_id(prompt_id, prompt["messages"], written.chosen, written.rejected),
                "prompt_id": prompt_id,
                "group": prompt["group"],
                "messages": prompt["messages"],
                "chosen": written.chosen,
                "rejected": written.rejected,
                "failed_score": False,
                "origin": "synthetic",
                "chosen_call": call_id,
                "rejected_call": call_id,
            }
        )
    return part(Pair, rows, dropped)


def transcript(messages: list[dict[str, str]]) -> str:
    """A conversation as one text; a single user turn stands as it is."""
    if len(messages) == 1:
        return messages[0]["content"]
    return "\n\n".join(f"[{message['role']}]\n{message['content']}" for message in messages)


def parse_pair(text: str) -> PairJSON:
    """The first JSON object in `text` that is a pair, whatever stands around it.

    Raises ResponseError when there is none.
    """
    decoder = json.JSONDecoder()
    start = text.find("{")
    while start >= 0:
        try:
            found, _ = decoder.raw_decode(text, start)
            pair = PairJSON.model_validate(found)
            (pair.chosen + pair.rejected).encode("utf-8")
            return pair
        # A ValueError too: half a surrogate pair, which JSON allows and no table holds.
        except (ValueError, ValidationError, RecursionError):
            start = text.find("{", start + 1)
    raise ResponseError(f"expected a JSON object with 'chosen' and 'rejected', got {text[:80]!r}")
