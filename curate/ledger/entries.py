"""Ledger entries: calls as they are written and read back, whole answers and those with responses missing."""

import hashlib
import json
from array import array
from dataclasses import dataclass, replace
from typing import Any, Literal

from schemas.calls import Backend, CallResult, Request, Response
from schemas.ids import digest

State = Literal["asked", "partial", "answered", "failed"]
"""asked: claimed, nothing recorded yet; partial: fewer responses than asked for; failed: to be asked again."""

TEXTS = (
    "call_id",
    "identity",
    "kind",
    "model",
    "digest",
    "request",
    "sampling",
    "state",
    "answer",
    "failure",
    "reused_from",
)
FIGURES = ("answered_at", "numbers", "input_tokens", "output_tokens", "seconds", "cost_usd")
"""With `TEXTS` the columns of a call that nothing but a further answer changes."""

NUMBERS = {"score": "d", "embed": "f"}
"""Packing of the numbers of a call: scores as doubles, vectors as floats."""

PartialResponses = list[Response | None]
"""The n responses of a call, None where one is still to be asked for."""


@dataclass
class PendingCall:
    """A call that this process is to make, with the responses it already has."""

    slots: PartialResponses
    reused_from: str | None = None
    """The call under a smaller `max_tokens` some or all of whose responses were not truncated."""
    refusal: CallResult | None = None
    """That call was refused, as this one would be."""

    @property
    def is_whole(self) -> bool:
        """Nothing is left to ask."""
        return self.refusal is not None or None not in self.slots


@dataclass(frozen=True)
class Entry:
    """One answer as the ledger stores it."""

    call_id: str
    request: Request
    state: State
    answer: CallResult
    """All that is known of the call; its tokens, seconds and cost are those of this time alone."""
    slots: PartialResponses
    reused_from: str | None = None


def request_rest(request: Request, slots: PartialResponses) -> Request:
    """The request for the responses that are still missing."""
    missing = [position for position, slot in enumerate(slots) if slot is None]
    if len(missing) == request.n:
        return request
    return replace(request, first_sample=request.first_sample + missing[0], n=len(missing))


def find_cut_slots(call_id: str, text: str) -> PendingCall:
    """The responses to ask for again when more tokens are allowed: those that were truncated."""
    content = json.loads(text)
    slots = read_slots(content)
    if content["failure"]:
        return PendingCall(slots, call_id, CallResult(failure=content["failure"], error=content["error"]))
    # Where a server does not say why a response ended, it may have been truncated.
    return PendingCall([None if slot and slot.finish_reason in ("length", None) else slot for slot in slots], call_id)


def write_answer(entry: Entry) -> tuple[str, bytes | None]:
    """An answer as JSON text and packed numbers."""
    answer = entry.answer
    slots = entry.slots if entry.state == "partial" else answer.responses
    text = json.dumps(
        {
            "responses": [slot and written_slot(slot) for slot in slots],
            "failure": answer.failure,
            "error": answer.error,
        },
        ensure_ascii=False,
    )
    return text, array(NUMBERS[entry.request.kind], answer.values).tobytes() if answer.values else None


def written_slot(slot: Response) -> list[str | None]:
    """Text, finish reason and, where some came beside the text, reasoning."""
    return [slot.text, slot.finish_reason, *([slot.reasoning] if slot.reasoning else [])]


def read_slots(content: dict[str, Any]) -> PartialResponses:
    """The responses that `write_answer` wrote."""
    return [slot and Response(*slot) for slot in content["responses"]]


def read_answer(kind: str, text: str, numbers: bytes | None, input_tokens: int, output_tokens: int) -> CallResult:
    """The whole answer that `write_answer` wrote."""
    content = json.loads(text)
    return CallResult(
        responses=tuple(slot for slot in read_slots(content) if slot),
        values=tuple(array(NUMBERS[kind], numbers)) if numbers else (),
        failure=content["failure"],
        error=content["error"],
        input_tokens=input_tokens,
        output_tokens=output_tokens,
    )


def call_sha256(*kept: bytes | float | None) -> str:
    """Digest of a call: of its `TEXTS`, as bytes, and its `FIGURES`."""
    whole = hashlib.sha256()
    for value in kept:
        part = value if isinstance(value, bytes) else repr(value).encode()
        whole.update(b"%s %d " % (type(value).__name__.encode(), len(part)) + part)
    return whole.hexdigest()


def request_content(request: Request) -> dict[str, Any]:
    """The content of a request, without its sampling parameters."""
    return {
        "messages": request.messages,
        "schema": request.schema,
        "first_sample": request.first_sample,
        "n": request.n,
    }


def call_identity(backend: Backend, request: Request) -> str:
    """Digest of the content of a request and of its model."""
    return digest([request.kind, backend.model, backend.digest, request_content(request)])


def call_key(backend: Backend, request: Request) -> str:
    """Digest of a call: its identity and its sampling parameters."""
    return digest([call_identity(backend, request), request.sampling])[:32]


def other_sampling(request: Request) -> str:
    """The sampling parameters but `max_tokens`, as JSON."""
    others = {name: value for name, value in request.sampling.items() if name != "max_tokens"}
    return json.dumps(others, sort_keys=True)
