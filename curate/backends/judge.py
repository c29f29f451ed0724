"""Scores from a generator that is asked to judge; what it is asked is in `curate.rubrics`."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from curate.backends.calls import Answer, Backend, Request
from curate.backends.chat_api import ChatAPI
from curate.backends.limits import Terms
from curate.rubrics import read_letter, read_letter_odds, read_score
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

    def answer(self, requests: Sequence[Request], needed: set[int]) -> Iterator[list[tuple[int, Answer]]]:
        """What the generator answers, read as scores."""
        asked = [replace(request, kind="generate") for request in requests]
        for group in self._generator.answer(asked, needed):
            yield [(i, judged(answer, read_score)) for i, answer in group]


class PairJudgeAPI(ChatAPI):
    """A judge behind a chat endpoint that says whether A is better than B.

    Where the endpoint gives log-probabilities the answer is the share of A in the first token, else
    what the text says: 1, 0, or 0.5 for a tie.
    """

    _takes_logprobs = True

    def payload(self, request: Request) -> dict[str, Any]:
        asked = {"logprobs": True, "top_logprobs": TOP_LOGPROBS} if self._takes_logprobs else {}
        return {**super().payload(request), **asked}

    def read(self, body: dict[str, Any], request: Request) -> Answer:
        answer = super().read(body, request)
        odds = None if answer.failure else read_letter_odds(first_logprobs(body))
        return judged(answer, read_letter) if odds is None else replace(answer, values=(odds,))

    async def _ask(self, request: Request) -> Answer:
        """As any call, and again without log-probabilities where the endpoint refuses to give them."""
        try:
            return await super()._ask(request)
        except ResponseError as error:
            if "logprobs" not in str(error).lower():
                raise
            self._takes_logprobs = False
            return await super()._ask(request)


def managed_pair_judge(name: str, model: str, data: Path, terms: Terms) -> Backend:
    """`judge-pairs:vllm:MODEL`, on a server of ours."""
    from curate.backends.vllm_server import managed

    return managed(PairJudgeAPI, name, model, data, terms, "generate")


def judged(answer: Answer, read: Callable[[str], float]) -> Answer:
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
    """(token, log-probability) of the likeliest first tokens; none where the endpoint gives none.

    Raises ResponseError for log-probabilities of another form.
    """
    given = body["choices"][0].get("logprobs")
    if not given:
        return []
    try:
        content = given["content"] or [{"top_logprobs": []}]
        return [(str(each["token"]), float(each["logprob"])) for each in content[0]["top_logprobs"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ResponseError(f"logprobs of an unknown form: {json.dumps(given)[:200]}") from error
