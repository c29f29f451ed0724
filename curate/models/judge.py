"""Scores from a generator that is asked to judge, by the prompts of `curate.models.judge_prompts`."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from curate.models.chat_api import ChatAPI
from curate.models.judge_prompts import read_letter, read_letter_odds, read_score
from schemas.calls import Backend, CallResult, Request
from schemas.errors import ResponseError

TOP_LOGPROBS = 20
"""The most that OpenAI gives, and vLLM's default limit."""


class Judge:
    """Any generator as a judge that scores one response at a time.

    The score is the whole number that it writes. Equal scores are common; a pairwise judge tells such
    responses apart.
    """

    def __init__(self, name: str, digest: str, generator: Backend) -> None:
        self.model = name
        self.digest = digest
        self.is_remote = generator.is_remote
        self.price_name = generator.price_name
        self._generator = generator

    def answer(self, requests: Sequence[Request], needed: set[int]) -> Iterator[list[tuple[int, CallResult]]]:
        """The answers of the generator, read as scores."""
        asked = [replace(request, kind="generate") for request in requests]
        for group in self._generator.answer(asked, needed):
            yield [(i, read_verdict(answer, read_score)) for i, answer in group]


class PairJudgeAPI(ChatAPI):
    """A judge behind a chat endpoint that says whether A is better than B.

    Where the endpoint gives log-probabilities the answer is the share of A in the first token, else
    the verdict in its text: 1, 0, or 0.5 for a tie.
    """

    def payload(self, request: Request) -> dict[str, Any]:
        return {**super().payload(request), "logprobs": True, "top_logprobs": TOP_LOGPROBS}

    def read(self, body: dict[str, Any], request: Request) -> CallResult:
        answer = super().read(body, request)
        odds = None if answer.failure else read_letter_odds(first_logprobs(body))
        return read_verdict(answer, read_letter) if odds is None else replace(answer, values=(odds,))


def read_verdict(answer: CallResult, read: Callable[[str], float]) -> CallResult:
    """The answer with the score that `read` finds in its text; the text stays with it for people to read.

    A text without a score counts as a refusal: it was paid for, and the judge would write it again.
    """
    if answer.failure:
        return answer
    try:
        return replace(answer, values=(read(answer.responses[0].text),))
    except ResponseError as error:
        return replace(answer, responses=(), failure="refused", error=f"the judge gave no verdict: {error}")


def first_logprobs(body: dict[str, Any]) -> list[tuple[str, float]]:
    """(token, log-probability) of the likeliest first tokens; none where the endpoint gives none that can be read."""
    try:
        first = body["choices"][0]["logprobs"]["content"][0]
        return [(str(each["token"]), float(each["logprob"])) for each in first["top_logprobs"]]
    except (KeyError, IndexError, TypeError, ValueError):
        return []
