"""Responses from any OpenAI-compatible chat endpoint: OpenAI, a vLLM or llama.cpp server, a NIM."""

import asyncio
import json
import os
import random
import re
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from curate.backends.calls import Answer, Request, Response
from schemas.errors import ResponseError, UserError

CALLS_IN_FLIGHT = 32
TRIES = 6
LONGEST_WAIT_S = 30.0
TIMEOUT_S = 300.0
TRANSIENT = {408, 409, 425, 429, 500, 502, 503, 504, 529}


class ChatAPI:
    """One endpoint and one model on it.

    Nothing is sent about seeds: what a server samples is recorded, not repeated.
    """

    def __init__(self, name: str, url: str, model: str, key_name: str) -> None:
        """`url` ends in `/v1`; the key is read from the environment variable `key_name` at each call."""
        self.model = name
        self.digest = url
        self._url = f"{url.rstrip('/')}/chat/completions"
        self._remote_model = model
        self._key_name = key_name
        self._takes_schema = True
        # OpenAI's newer models refuse `max_tokens`; other servers may not know its successor.
        is_openai = urlsplit(url).hostname == "api.openai.com"
        self._max_tokens_name = "max_completion_tokens" if is_openai else "max_tokens"

    def answer(self, requests: Sequence[Request], needed: set[int]) -> Iterator[list[tuple[int, Answer]]]:
        """Answers in the order in which they come, those that come together in one group."""
        loop = asyncio.new_event_loop()
        pending: set[asyncio.Task[tuple[int, Answer]]] = set()
        session = loop.run_until_complete(self._open())
        try:
            places = asyncio.Semaphore(CALLS_IN_FLIGHT)
            pending = {loop.create_task(self._one(session, places, i, requests[i])) for i in sorted(needed)}
            while pending:
                waiting = asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                done, pending = loop.run_until_complete(waiting)
                # Those that did come are written down before an error of another stops the run.
                if answered := [task.result() for task in done if task.exception() is None]:
                    yield answered
                for task in done:
                    task.result()
        finally:
            loop.run_until_complete(self._close(session, pending))
            loop.close()

    async def _open(self) -> aiohttp.ClientSession:
        connections = aiohttp.TCPConnector(limit=CALLS_IN_FLIGHT)
        return aiohttp.ClientSession(connector=connections, timeout=aiohttp.ClientTimeout(total=TIMEOUT_S))

    async def _close(self, session: aiohttp.ClientSession, pending: set[asyncio.Task[tuple[int, Answer]]]) -> None:
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        await session.close()

    async def _one(
        self, session: aiohttp.ClientSession, places: asyncio.Semaphore, index: int, request: Request
    ) -> tuple[int, Answer]:
        async with places:
            try:
                return index, await self._ask(session, request)
            except ResponseError as error:
                return index, Answer(failure="failed_call", error=self._without_key(str(error)))

    async def _ask(self, session: aiohttp.ClientSession, request: Request) -> Answer:
        """All n responses; a server that gives fewer choices than asked for is asked for the rest."""
        responses: list[Response] = []
        input_tokens = output_tokens = 0
        while len(responses) < request.n:
            try:
                body = await self._post(session, request, request.n - len(responses))
                answer = body if isinstance(body, Answer) else self.read(body)
            except ResponseError:
                if not responses:
                    raise
                break
            if answer.failure and responses:
                # What was paid for is kept: fewer responses are better than none.
                break
            if answer.failure or answer.values:
                return answer
            responses += answer.responses
            input_tokens += answer.input_tokens
            output_tokens += answer.output_tokens
        return Answer(tuple(responses[: request.n]), input_tokens=input_tokens, output_tokens=output_tokens)

    def read(self, body: dict[str, Any]) -> Answer:
        """An answer from the body of a response; raises ResponseError for one of another form."""
        try:
            usage = body.get("usage") or {}
            tokens = int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)
            responses = []
            for choice in body["choices"]:
                refusal = choice["message"].get("refusal")
                if refusal or choice.get("finish_reason") == "content_filter":
                    return Answer((), (), "refused", refusal or "content filter", *tokens)
                responses.append(Response(text_of(choice["message"]["content"]), choice.get("finish_reason")))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ResponseError(f"not a chat completion: {json.dumps(body)[:200]}") from error
        if not responses:
            raise ResponseError("the endpoint answered with no choices")
        return Answer(tuple(responses), (), None, None, *tokens)

    def payload(self, request: Request, n: int) -> dict[str, Any]:
        """The JSON body of a call."""
        body: dict[str, Any] = {"model": self._remote_model, "messages": request.messages}
        if n > 1:
            body["n"] = n
        for name, value in request.sampling.items():
            if name in ("temperature", "top_p"):
                body[name] = value
            elif name == "max_tokens":
                body[self._max_tokens_name] = value
        if request.schema and self._takes_schema:
            schema = {"name": "response", "schema": request.schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return body

    async def _post(self, session: aiohttp.ClientSession, request: Request, n: int) -> dict[str, Any] | Answer:
        """The body of a good response, or what a final refusal means; transient failures are tried again."""
        key = self._key()
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        problem = ""
        for attempt in range(TRIES):
            wait_s = random.uniform(0, min(LONGEST_WAIT_S, 0.5 * 2**attempt))
            try:
                sent = self.payload(request, n)
                async with session.post(self._url, json=sent, headers=headers) as reply:
                    text = await reply.text(errors="replace")
                    if reply.status == 200:
                        return json_object(text)
                    problem = f"HTTP {reply.status}: {error_message(text, key)}"
                    if reply.status not in TRANSIENT or "insufficient_quota" in problem:
                        final = self._refusal(reply.status, problem, "response_format" in sent)
                        if final:
                            return final
                        continue
                    wait_s = max(wait_s, retry_after_s(reply.headers.get("Retry-After")))
            except TimeoutError:
                problem = f"no answer within {TIMEOUT_S:.0f} s"
            except aiohttp.ClientConnectorError as error:
                problem = f"cannot connect to {self.digest} ({error.os_error.strerror or 'no such host'})"
                if attempt == 2:
                    raise UserError(f"{self.model}: {problem}; is the server running?") from error
            except aiohttp.ClientError as error:
                problem = f"the connection broke ({type(error).__name__})"
            await asyncio.sleep(wait_s)
        raise ResponseError(f"{problem}, after {TRIES} tries")

    def _key(self) -> str:
        """The key, without the line break that a file may have left at its end."""
        key = os.environ.get(self._key_name, "").strip()
        if not key.isprintable():
            raise UserError(f"{self._key_name} holds a line break or another sign that no key has; set it again")
        return key

    def _without_key(self, text: str) -> str:
        key = self._key()
        return text.replace(key, "***") if key else text

    def _refusal(self, status: int, problem: str, sent_schema: bool) -> Answer | None:
        """What an error that will not pass by itself means; None: ask again without the JSON schema."""
        lower = problem.lower()
        if status in (401, 403):
            there = "is set" if os.environ.get(self._key_name) else "is not set"
            raise UserError(f"{self.model}: the endpoint refused the key ({self._key_name} {there}): {problem}")
        if status == 404:
            raise UserError(f"{self.model}: {self.digest} does not know the model '{self._remote_model}': {problem}")
        if status == 402 or "insufficient_quota" in lower:
            raise UserError(f"{self.model}: the account has no credit left: {problem}")
        if "context length" in lower or "context_length" in lower or "maximum context" in lower or status == 413:
            return Answer(failure="prompt_too_long", error=problem)
        if "content_policy" in lower or "content_filter" in lower or "content management policy" in lower:
            return Answer(failure="refused", error=problem)
        if sent_schema and re.search(r"response_format|json_schema|structured|grammar|guided", lower):
            self._takes_schema = False
            return None
        raise ResponseError(problem)


def text_of(content: Any) -> str:
    """The text of a choice; half a surrogate pair, which JSON allows and UTF-8 does not, becomes a question mark."""
    if not isinstance(content, str | None):
        raise TypeError(f"expected text, got {type(content).__name__}")
    return (content or "").encode("utf-8", "replace").decode("utf-8")


def json_object(text: str) -> dict[str, Any]:
    """The JSON object that a body holds. Raises ResponseError for anything else."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ResponseError(f"the endpoint's answer is not JSON: {text[:200]}") from error
    if not isinstance(found, dict):
        raise ResponseError(f"the endpoint's answer is not a JSON object: {text[:200]}")
    return found


def retry_after_s(header: str | None) -> float:
    """Seconds a server asks to wait, at most `LONGEST_WAIT_S`; dates are not read."""
    try:
        return min(LONGEST_WAIT_S, max(0.0, float(header or 0)))
    except ValueError:
        return 0.0


def error_message(text: str, key: str) -> str:
    """The endpoint's own words in one line, with the key blotted out wherever it appears."""
    try:
        body = json.loads(text)
        found = body.get("error", body) if isinstance(body, dict) else body
        message = found.get("message", found) if isinstance(found, dict) else found
        code = found.get("code") or "" if isinstance(found, dict) else ""
        text = f"{message} {code}".strip() if isinstance(code, str) else str(message)
    except ValueError:
        pass
    if key:
        text = text.replace(key, "***")
    return " ".join(text.split())[:300] or "no message"
