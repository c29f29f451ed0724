"""Scores from a generator that is asked to judge, by the prompts of `curate.models.judge_prompts`."""

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from curate.models.chat_api import ChatAPI
from curate.models.endpoint import CallFailed
from curate.models.judge_prompts import read_letter, read_letter_odds, read_score, thinking_request
from curate.models.reasoning import is_cut_reasoning, read_response
from schemas.calls import Backend, CallResult, Request
from schemas.errors import ResponseError
from schemas.wire import read_number

log = logging.getLogger(__name__)

DRAFT = re.compile(r"[^\w{]*+(?!json\s*\{)\w[^{]*\{")
"""Words before an object: in a text that was cut off they may be reasoning that no mark shows."""
TOP_LOGPROBS = 20
"""The most that OpenAI gives, and vLLM's default limit."""


def read_own_score(text: str, request: Request) -> float:
    """The score that a judge gives, rather than one that stands in what it was asked."""
    return read_score(text, request.text)


class Judge:
    """A model in this process as a judge that scores one response at a time.

    The score is the whole number that it writes. Equal scores are common; a pairwise judge tells such
    responses apart. One that used up its tokens by reasoning is asked again with room for that.
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
        roomy = [thinking_request(request) or request for request in asked]
        cut: dict[int, CallResult] = {}
        for group in self._generator.answer(asked, needed):
            verdicts = {i: read_verdict(answer, read_own_score, asked[i]) for i, answer in group}
            # One that writes on without a verdict would take long to do more of it.
            cut |= {i: verdicts.pop(i) for i, answer in group if roomy[i] is not asked[i] and is_cut(answer)}
            yield list(verdicts.items())
        for group in self._generator.answer(roomy, set(cut)) if cut else ():
            yield [(i, add_up(cut[i], read_verdict(answer, read_own_score, roomy[i]))) for i, answer in group]


class JudgeAPI(ChatAPI):
    """A judge behind a chat endpoint that scores one response at a time.

    One whose limit came before its verdict is asked again with room for reasoning, and from then on at once.
    """

    read_text = staticmethod(read_own_score)
    _thinks = False

    async def _ask(self, request: Request) -> CallResult:
        roomy = thinking_request(request)
        if self._thinks and roomy:
            return await super()._ask(roomy)
        first = await super()._ask(request)
        # A failure of a call is raised; this is one of the answer.
        if not roomy or first.failure != "failed_call":
            return first
        try:
            again = await super()._ask(roomy)
        except CallFailed as failed:
            raise CallFailed(str(failed), sum_costs(first.cost_usd, failed.cost_usd)) from failed
        if not again.failure and not self._thinks:
            self._thinks = True
            log.warning(
                "%s: its verdict and the reasoning before it take more than %d tokens, so it is asked with %d; "
                "--judge-max-tokens sets another limit",
                self.model,
                limit_of(request),
                limit_of(roomy),
            )
        return add_up(first, again)

    def read(self, body: dict[str, Any], request: Request) -> CallResult:
        return read_verdict(super().read(body, request), self.read_text, request)


class PairJudgeAPI(JudgeAPI):
    """A judge behind a chat endpoint that says whether A is better than B.

    Where the endpoint gives log-probabilities the answer is the share of A in the first token, else
    the verdict in its text: 1, 0, or 0.5 for a tie. The first token of a reasoning is no verdict.
    """

    read_text = staticmethod(lambda text, request: read_letter(text))

    def payload(self, request: Request) -> dict[str, Any]:
        return {"logprobs": True, "top_logprobs": TOP_LOGPROBS, **super().payload(request)}

    def read(self, body: dict[str, Any], request: Request) -> CallResult:
        answer = ChatAPI.read(self, body, request)
        verdict = read_verdict(answer, self.read_text, request)
        if answer.failure or verdict.failure == "failed_call":
            return verdict
        odds = read_letter_odds(first_logprobs(body, *read_response(answer.responses[0])))
        return verdict if odds is None else replace(answer, values=(odds,))


def read_verdict(answer: CallResult, read: Callable[[str, Request], float], request: Request) -> CallResult:
    """The answer with the score that `read` finds in its text; the text stays with it for people to read.

    A text without a score counts as a refusal: it was paid for, and the judge would write it again. One that was cut
    off is a failed call, which a larger limit may mend.
    """
    if answer.failure:
        return answer
    response = answer.responses[0]
    text, is_cut = read_response(response)[1], response.finish_reason == "length"
    try:
        if is_cut and DRAFT.match(text):
            raise ResponseError("the verdict may be a draft")
        return replace(answer, values=(read(text, request),))
    except ResponseError as error:
        if not is_cut:
            return replace(answer, responses=(), failure="refused", error=f"the judge gave no verdict: {error}")
        problem = f"the judge was cut off at {limit_of(request):,} tokens before a verdict; raise --judge-max-tokens"
        return replace(answer, responses=(), failure="failed_call", error=problem)


def limit_of(request: Request) -> int:
    return int(request.sampling["max_tokens"])


def is_cut(answer: CallResult) -> bool:
    """The limit came before anything but reasoning."""
    return any(is_cut_reasoning(read_response(each)[1], each.finish_reason) for each in answer.responses)


def add_up(first: CallResult, again: CallResult) -> CallResult:
    """The answer to a judge's second call, with the tokens, time and cost of both."""
    if again.failure == "prompt_too_long":
        # The prompt fitted, but not beside so much room.
        again = replace(again, failure="failed_call", error=f"{first.error}; {again.error}")
    return replace(
        again,
        input_tokens=first.input_tokens + again.input_tokens,
        output_tokens=first.output_tokens + again.output_tokens,
        seconds=first.seconds + again.seconds,
        cost_usd=sum_costs(first.cost_usd, again.cost_usd),
    )


def sum_costs(*costs: float | None) -> float | None:
    """The sum; None where one is not known."""
    known = [cost for cost in costs if cost is not None]
    return sum(known) if len(known) == len(costs) else None


def first_logprobs(body: dict[str, Any], reasoning: str, response: str) -> list[tuple[str, float]]:
    """(token, log-probability) of the likeliest first tokens; none where the endpoint gives none that can be read, and
    where they may begin the reasoning rather than the response."""
    try:
        first = body["choices"][0]["logprobs"]["content"][0]
        if reasoning or not response.lstrip().startswith(first["token"].strip()):
            return []
        return [(str(each["token"]), read_number(each["logprob"])) for each in first["top_logprobs"]]
    except (KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return []
