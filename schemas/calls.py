"""Requests to a model and its answers, the same for every kind of engine."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

Kind = Literal["generate", "score", "embed"]
Failure = Literal["failed_call", "prompt_too_long", "refused", "bad_prompt"]


@dataclass(frozen=True)
class Request:
    """One call: `n` responses to a conversation, or one score or vector of what it ends with."""

    kind: Kind
    messages: list[dict[str, str]]
    schema: dict[str, Any] | None = None
    """JSON schema the response must follow."""
    first_sample: int = 0
    n: int = 1
    sampling: dict[str, Any] = field(default_factory=dict)
    """`temperature`, `top_p`, `max_tokens`, `seed`, and what the user adds (`reasoning_effort`, `extra_body`); empty
    where nothing is sampled."""

    @property
    def text(self) -> str:
        """All that is asked, as one text."""
        return "\n".join(message["content"] for message in self.messages)


@dataclass(frozen=True)
class Response:
    """One text drawn from a model, as it came."""

    text: str
    """It may hold reasoning: `curate.models.reasoning.read_response` takes that out."""
    finish_reason: str | None
    reasoning: str = ""
    """Reasoning that came beside the text."""


@dataclass(frozen=True)
class CallResult:
    """The result of a call: responses, numbers, or the reason there are none."""

    responses: tuple[Response, ...] = ()
    values: tuple[float, ...] = ()
    """One score, or the components of one vector."""
    failure: Failure | None = None
    error: str | None = None
    """What went wrong, in words; set exactly when `failure` is."""
    input_tokens: int = 0
    output_tokens: int = 0
    seconds: float = field(default=0.0, compare=False)
    """Time the call took; of several that were answered together, its share."""
    cost_usd: float | None = field(default=0.0, compare=False)
    """None where it is not known, or where a call that broke off may have been charged."""


@runtime_checkable
class Backend(Protocol):
    """A model that can be asked."""

    model: str
    """The name the user gave, without secrets."""
    digest: str
    """SHA-256 of the weights, the revision of a hub model, or the address of a remote one."""
    is_remote: bool
    """Answered outside this process: `answer` may then be called from several threads at once."""
    price_name: str | None
    """The name under which its price is listed; None for what runs on this machine and costs nothing a call."""

    def answer(self, requests: Sequence[Request], needed: set[int]) -> Iterator[list[tuple[int, CallResult]]]:
        """Answers to `requests[i]` for i in `needed`, in groups that are recorded together.

        All requests of a part are passed so that a local engine forms the same batches whatever is
        needed: what is computed after an interruption then equals what would have been without it.
        A group counts as recorded when the next one is asked for. An answer may have fewer than n
        responses: the rest is asked for by another request. Requests of one part may differ in n.
        """
        ...
