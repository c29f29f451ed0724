"""Scores from a reward model behind a vLLM server's `/classify` or `/pooling`."""

import math
from typing import Any

from curate.models.chat_api import ChatAPI, sent_messages, show_body, usage
from curate.models.limits import EndpointConfig
from schemas.calls import CallResult, Request
from schemas.errors import ResponseError
from schemas.wire import read_number


class ClassifyAPI(ChatAPI):
    """A reward model with one label; both addresses lie at the server's root, not under `/v1`.

    `use_activation` false asks for the raw score, as vLLM 0.12 and later call it: squashed by a
    sigmoid, good scores would all lie near 1, and margins between them would vanish.
    """

    path = "/classify"
    column = "probs"
    """Where one answer holds its numbers; they are raw scores in spite of the name."""

    def __init__(
        self, name: str, url: str, model: str, key_name: str, cfg: EndpointConfig, price_name: str | None = None
    ) -> None:
        """`url` is the server's root, or that with the `/v1` of its other addresses."""
        base, mark, query = url.partition("?")
        root = base.rstrip("/").removesuffix("/v1")
        super().__init__(name, root + mark + query, model, key_name, cfg, price_name)

    def payload(self, request: Request) -> dict[str, Any]:
        return {"model": self._remote_model, "messages": sent_messages(request), "use_activation": False}

    def read(self, body: dict[str, Any], request: Request) -> CallResult:
        try:
            (found,) = body["data"]
            numbers = flatten(found[self.column])
            input_tokens, _ = usage(body)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ResponseError(f"not an answer of {self.path}: {show_body(body)}") from error
        if len(numbers) != 1:
            raise ResponseError(
                f"{self.path} gave {len(numbers)} numbers; a reward model has one label and gives one number a response"
            )
        if not math.isfinite(numbers[0]):
            raise ResponseError(f"expected a finite score, got {numbers[0]}")
        return CallResult(values=(numbers[0],), input_tokens=input_tokens)


class PoolingAPI(ClassifyAPI):
    path = "/pooling"
    column = "data"


def flatten(value: Any) -> list[float]:
    """The numbers in a number, a list, or a list of lists; raises TypeError for anything else."""
    rows = value if isinstance(value, list) else [value]
    return [read_number(number) for row in rows for number in (row if isinstance(row, list) else [row])]
