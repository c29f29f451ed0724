"""Responses from any OpenAI-compatible chat endpoint: OpenAI, a vLLM or llama.cpp server, a NIM."""

import json
import logging
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from curate.models.chat_message import read_message
from curate.models.endpoint import CallFailed, Endpoint, Refused, Reply
from curate.models.finish_reasons import finish_reason
from curate.models.limits import EndpointConfig
from curate.models.rejected_params import ParametersRefused, adapt, describe_refusal
from curate.models.reply_body import is_broken
from schemas.calls import CallResult, Request, Response
from schemas.errors import ResponseError, UserError
from schemas.tool_turns import CallUnread, api_form, has_tool_turns

log = logging.getLogger(__name__)

CHARACTERS_PER_TOKEN = 4
OUTPUT_OF_A_SCORE = 256
"""Tokens set aside for a call that says nothing of its length."""
MOST_TOKENS = 10**9
"""More than any call has: a count beyond it is a fault of the endpoint."""


class ChatAPI:
    """One model on one endpoint.

    Nothing is sent about seeds: what a server samples is recorded, not repeated.
    """

    path = "/chat/completions"
    is_remote = True

    def __init__(
        self, name: str, url: str, model: str, key_name: str, cfg: EndpointConfig, price_name: str | None = None
    ) -> None:
        """`url` ends in `/v1`; the key is read from the environment variable `key_name` at each call."""
        url = url.rstrip("/")
        self.model = name
        self.digest = url
        self.price_name = price_name
        self.endpoint = Endpoint(name, url, model, key_name, cfg)
        self._remote_model = model
        self._refused: set[str] = set()
        self._is_answered = False
        # OpenAI's newer models refuse `max_tokens`; other servers may not know its successor.
        is_openai = urlsplit(url).hostname == "api.openai.com"
        self._max_tokens_name = "max_completion_tokens" if is_openai else "max_tokens"

    def answer(self, requests: Sequence[Request], needed: set[int]) -> Iterator[list[tuple[int, CallResult]]]:
        """Answers in the order in which they come, those that come together in one group."""
        return self.endpoint.run({i: partial(self._ask, requests[i]) for i in sorted(needed)})

    async def _ask(self, request: Request) -> CallResult:
        """The result of one call: at most n responses, or why there are none."""
        budget = self.endpoint.cfg.budget
        estimate, most_tokens = token_bounds(request)
        most_usd = budget.prices.cost(self.price_name, *most_tokens)
        try:
            reply = await self._post(self.payload(request), estimate, most_usd, added_names(request))
        except Refused as refused:
            return CallResult(failure=refused.failure, error=self.endpoint.without_key(str(refused)))
        cost = None
        try:
            answer = self.read(reply.body, request)
            tokens = answer.input_tokens, answer.output_tokens
            cost = budget.cost(self.price_name, *tokens)
            self.endpoint.used(estimate, sum(tokens))
        finally:
            budget.settle(most_usd, cost)
        whole = None if cost is None or reply.charged is None else cost + reply.charged
        return replace(answer, seconds=reply.seconds, cost_usd=whole)

    async def _post(
        self, body: dict[str, Any], estimate: int, most_usd: float | None, added: Collection[str] = ()
    ) -> Reply:
        """The response to `body`, without what the endpoint refuses of it.

        Later calls go without it only once a call was answered so: an error may name a parameter and be
        about something else. What the user `added` is not left out: an error that names it stops the run before any
        call was answered, and fails the call after that.
        """
        tried: list[str] = []
        while True:
            sent = adapt(body, {*self._refused, *tried})
            try:
                reply = await self.endpoint.post(self.path, sent, estimate, most_usd)
            except ParametersRefused as refused:
                self._refuse_added(added, refused)
                if set(refused.names) <= set(tried) or set(refused.names) & set(added):
                    raise CallFailed(str(refused), 0.0) from refused
                tried += refused.names
            except CallFailed as failed:
                self._refuse_added(added, failed)
                raise
            else:
                self._is_answered = True
                self._leave_out([name for name in tried if name not in self._refused])
                return reply

    def _refuse_added(self, added: Collection[str], error: ParametersRefused | CallFailed) -> None:
        """Raises UserError for an error about a parameter that the user added."""
        if self._is_answered or error.status not in (400, 422):
            return
        problem = str(error)
        if name := next((name for name in added if re.search(rf"\b{re.escape(name)}\b", problem)), None):
            raise UserError(
                f"{self.model}: the endpoint refuses '{name}', which you add to each call; leave it out or give "
                f"another value: {problem}"
            )

    def _leave_out(self, names: Sequence[str]) -> None:
        """Ask without these from here on."""
        self._refused.update(names)
        for refusal in describe_refusal(names):
            log.warning("%s: %s", self.model, refusal)

    def read(self, body: dict[str, Any], request: Request) -> CallResult:
        """An answer from the body of a response; raises ResponseError for one of another form.

        Of several choices those that were filtered, or that call a tool and say nothing, hold no text; when all are
        so, the request was refused.
        """
        try:
            tokens = usage(body)
            responses, refusals = [], []
            for choice in body["choices"][: request.n]:
                if is_broken(choice):
                    # The rest that is missing is asked for again.
                    continue
                message, reason = read_message(choice["message"]), finish_reason(choice.get("finish_reason"))
                if message.refusal or reason == "content_filter":
                    refusals.append(message.refusal or "content filter")
                    responses.append(Response("", "content_filter"))
                elif reason == "tool_calls" and not message.text:
                    refusals.append("the model called a tool and wrote no response")
                    responses.append(Response("", reason))
                else:
                    responses.append(Response(message.text, reason, message.reasoning))
        except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
            raise ResponseError(f"not a chat completion: {show_body(body)}") from error
        if not responses:
            raise ResponseError("the endpoint answered with no choices")
        if len(refusals) == len(responses):
            return CallResult((), (), "refused", refusals[0], *tokens)
        return CallResult(tuple(responses), (), None, None, *tokens)

    def payload(self, request: Request) -> dict[str, Any]:
        """The JSON body of a call."""
        body: dict[str, Any] = {"model": self._remote_model, "messages": sent_messages(request)}
        if request.n > 1:
            body["n"] = request.n
        for name, value in request.sampling.items():
            if name in ("temperature", "top_p", "reasoning_effort"):
                body[name] = value
            elif name == "max_tokens":
                body[self._max_tokens_name] = value
        if request.schema:
            schema = {"name": "response", "schema": request.schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        added: dict[str, Any] = request.sampling.get("extra_body", {})
        return body | added


def show_body(body: dict[str, Any]) -> str:
    """The beginning of a body, for an error to show."""
    try:
        return json.dumps(body)[:200]
    except RecursionError:
        return "a body of too many levels"


def sent_messages(request: Request) -> list[dict[str, Any]]:
    """The conversation as endpoints take it. Raises Refused for a turn that calls a tool and cannot be read."""
    if not has_tool_turns(request.messages):
        return request.messages
    try:
        return api_form(request.messages)
    except CallUnread as error:
        raise Refused("bad_prompt", str(error)) from error


def usage(body: dict[str, Any]) -> tuple[int, int]:
    """Input and output tokens as the endpoint counted them; both 0 where it did not, or not in numbers that can be."""
    counted = body.get("usage")
    found = (
        [counted.get(name) or 0 for name in ("prompt_tokens", "completion_tokens")] if isinstance(counted, dict) else []
    )
    if not found or not all(type(tokens) in (int, float) and 0 <= tokens <= MOST_TOKENS for tokens in found):
        return 0, 0
    return int(found[0]), int(found[1])


def added_names(request: Request) -> list[str]:
    """Names of the parameters that the user added to a call, those of its chat template among them."""
    added: dict[str, Any] = request.sampling.get("extra_body", {})
    template = added.get("chat_template_kwargs")
    names = [*added, *(template if isinstance(template, dict) else ())]
    return [*(name for name in ("reasoning_effort",) if name in request.sampling), *names]


def token_bounds(request: Request) -> tuple[int, tuple[int, int]]:
    """An estimate of all tokens of a call, and the most that it can take in and give out.

    No tokenizer makes more tokens than there are bytes; each message adds a few of its own.
    """
    texts = [message["content"] for message in request.messages]
    texts += [json.dumps(more) for more in (request.schema, request.sampling.get("extra_body")) if more]
    most_input = sum(len(text.encode()) for text in texts) + 16 * (len(texts) + 1)
    most_output = request.n * int(request.sampling.get("max_tokens", OUTPUT_OF_A_SCORE))
    return most_input // CHARACTERS_PER_TOKEN + most_output, (most_input, most_output)
