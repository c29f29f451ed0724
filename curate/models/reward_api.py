"""Scores from a reward model behind a chat endpoint: Nemotron on NVIDIA's NIM."""

import math
from typing import Any

from curate.models.chat_api import ChatAPI, sent_messages
from schemas.calls import CallResult, Request
from schemas.errors import ResponseError


class RewardAPI(ChatAPI):
    """A reward NIM: the conversation ends in the response to judge, the score comes back as text."""

    def payload(self, request: Request) -> dict[str, Any]:
        return {"model": self._remote_model, "messages": sent_messages(request)}

    def read(self, body: dict[str, Any], request: Request) -> CallResult:
        answer = super().read(body, request)
        if answer.failure:
            return answer
        text = answer.responses[0].text
        return CallResult(
            values=(read_reward(text),), input_tokens=answer.input_tokens, output_tokens=answer.output_tokens
        )


def read_reward(text: str) -> float:
    """The score in "reward:-3.5", or helpfulness in "helpfulness:1.26,correctness:0.52,...".

    Raises ResponseError for anything else; a score that is not a number is refused the same way.
    """
    attributes = parse_attributes(text)
    for name in ("reward", "helpfulness"):
        if name in attributes:
            return attributes[name]
    raise ResponseError(f"expected 'reward' or 'helpfulness', got {text[:80]!r}")


def parse_attributes(text: str) -> dict[str, float]:
    """Read a reward NIM's response, e.g. "helpfulness:1.26,verbosity:0.52"."""
    try:
        pairs = [part.split(":") for part in text.split(",")]
        attributes = {name.strip(): float(score) for name, score in pairs}
    except ValueError as error:
        raise ResponseError(f"expected 'name:score,...', got {text[:80]!r}") from error
    if len(attributes) < len(pairs):
        raise ResponseError(f"expected each name once, got {text[:80]!r}")
    if not all(map(math.isfinite, attributes.values())):
        raise ResponseError(f"expected finite scores, got {text[:80]!r}")
    return attributes
