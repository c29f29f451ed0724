"""One HTTP endpoint: connections, keys, retries, waits and stops, the same for chat, reward and judge calls."""

import asyncio
import email.utils
import logging
import queue
import random
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import aiohttp

from curate.ledger.spend_cap import LONGEST_WAIT_S
from curate.models.address import Address, HttpReply
from curate.models.limits import ConcurrencyLimit, EndpointConfig, TokenBucket
from curate.models.refusals import CHARGED, GONE, OVERLOAD, TRANSIENT, error_meaning, is_about_access, is_busy
from curate.models.rejected_params import ParametersRefused, refused_parameters
from curate.models.reply_body import EndpointError, error_in_answer, is_stream, json_object, read_error
from schemas.calls import CallResult, Failure
from schemas.errors import CapReached, ResponseError, UserError
from schemas.visible import visible

log = logging.getLogger(__name__)

TRIES = 6
LONGEST_RETRY_AFTER_S = 600.0
SECONDS_BETWEEN_NOTES = 15.0

Job = Callable[[], Awaitable[CallResult]]
Done = queue.SimpleQueue[tuple[int, CallResult | BaseException]]


class Refused(Exception):
    """The endpoint will not answer this request, now or later."""

    def __init__(self, failure: Failure, problem: str) -> None:
        super().__init__(problem)
        self.failure = failure


class CallFailed(ResponseError):
    """No try of a call gave a good response."""

    def __init__(self, problem: str, cost_usd: float | None, status: int | None = None) -> None:
        super().__init__(problem)
        self.cost_usd = cost_usd
        self.status = status


@dataclass
class Try:
    """One try of a call."""

    cost: float | None
    """What it has cost where it gave nothing; None where that is not known."""
    is_last_chance: bool
    """Another failed connection ends the run."""
    problem: str = ""
    is_fault: bool = True
    """It counts among the tries after which the call is given up."""
    most_tries: int = TRIES


class Endpoint:
    """Runs calls to one address on an event loop of its own, for as many threads as want to."""

    def __init__(self, name: str, url: str, model: str, key_name: str, cfg: EndpointConfig) -> None:
        self.cfg = cfg
        self._name = name
        self._url = url
        self._remote_model = model
        self._address = Address(name, url, key_name)
        self._slots = ConcurrencyLimit(cfg.concurrency)
        self._lock = threading.Lock()
        self._users = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._was_reached = False
        self._answered_at = self._noted_at = time.monotonic()
        self._paused_until = 0.0
        self._requests = TokenBucket(cfg.requests_per_minute) if cfg.requests_per_minute else None
        self._tokens = TokenBucket(cfg.tokens_per_minute) if cfg.tokens_per_minute else None

    def run(self, jobs: Mapping[int, Job]) -> Iterator[list[tuple[int, CallResult]]]:
        """Answers in the order in which they come, those that come together in one group.

        A job keeps its slot until the group it is in has been taken: recorded. What stops the run is
        raised after every call under way has come back; so is Ctrl-C, but for a second one.
        """
        done: Done = queue.SimpleQueue()
        with self._running() as loop:
            started = asyncio.run_coroutine_threadsafe(self._start(jobs, done), loop)
            left, taken = len(jobs), 0
            error: BaseException | None = None
            try:
                while left:
                    try:
                        came = [done.get(timeout=LONGEST_WAIT_S)]
                    except queue.Empty:
                        continue
                    except KeyboardInterrupt as interrupt:
                        if isinstance(error, KeyboardInterrupt):
                            raise
                        log.info("waiting for the calls in flight; Ctrl-C again leaves them")
                        self.cfg.budget.stop(interrupt)
                        error = interrupt
                        continue
                    while not done.empty():
                        came.append(done.get())
                    taken = len(came)
                    left -= taken
                    if group := [(i, result) for i, result in came if isinstance(result, CallResult)]:
                        self.cfg.budget.in_flight = self._slots.in_use
                        yield group
                    loop.call_soon_threadsafe(self._leave, taken)
                    taken = 0
                    error = error or next((r for _, r in came if isinstance(r, BaseException)), None)
            finally:
                # Before their slots are free: no call may begin for one who takes no more answers.
                if left:
                    asyncio.run_coroutine_threadsafe(self._cancel(started.result()), loop).result()
                loop.call_soon_threadsafe(self._leave, taken + done.qsize())
            if error:
                raise error

    @contextmanager
    def _running(self) -> Iterator[asyncio.AbstractEventLoop]:
        """The event loop, started by the first and stopped by the last who needs it."""
        with self._lock:
            self._users += 1
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="endpoint", daemon=True)
                self._thread.start()
                asyncio.run_coroutine_threadsafe(self._open(), self._loop).result()
            loop = self._loop
        try:
            yield loop
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    asyncio.run_coroutine_threadsafe(self._session.close(), loop).result()
                    loop.call_soon_threadsafe(loop.stop)
                    self._thread.join()
                    loop.close()
                    self._loop = None

    async def _open(self) -> None:
        # The slots bound the connections, and a slow start must not count as a slow answer.
        connections = aiohttp.TCPConnector(limit=0, ttl_dns_cache=300)
        timeout = aiohttp.ClientTimeout(total=self.cfg.timeout_s)
        self._session = aiohttp.ClientSession(connector=connections, timeout=timeout)
        for rate in filter(None, (self._requests, self._tokens)):
            rate.open()

    async def _start(self, jobs: Mapping[int, Job], done: Done) -> list[asyncio.Task[None]]:
        return [asyncio.create_task(self._one(i, job, done)) for i, job in jobs.items()]

    async def _cancel(self, tasks: list[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _leave(self, slots: int) -> None:
        for _ in range(slots):
            self._slots.leave()

    async def _one(self, i: int, job: Job, done: Done) -> None:
        await self._slots.enter()
        result: CallResult | BaseException
        try:
            self.cfg.budget.check()
            result = await job()
            if result.error:
                result = replace(result, error=visible(self.without_key(result.error)))
        except ResponseError as error:
            cost = error.cost_usd if isinstance(error, CallFailed) else None
            result = CallResult(failure="failed_call", error=visible(self.without_key(str(error))), cost_usd=cost)
        except asyncio.CancelledError:
            self._slots.leave()
            raise
        except BaseException as error:
            # What stops this call stops the run: no other call begins from here on.
            self.cfg.budget.stop(error)
            result = error
        done.put((i, result))

    async def post(self, path: str, body: dict[str, Any], tokens: int, most_usd: float | None) -> "Reply":
        """The JSON object that a good response holds.

        Waits and tries again where that can help. `tokens` is an estimate for the limit a minute, `most_usd`
        the most that one try can cost. Raises Refused, ParametersRefused, ResponseError when it is given up, and
        UserError or CapReached when the run must stop.
        """
        key = self._address.key()
        problem, faults, first_began = "", 0, float("inf")
        charged: float | None = 0.0
        wait_s = 0.0
        for attempt in count():
            try:
                await self._sleep(wait_s)
                await self._admitted(tokens, most_usd)
            except (UserError, CapReached) as stop:
                if charged is not None:
                    raise
                # What may have been charged is written down, although the run ends before another try.
                self.cfg.budget.stop(stop)
                raise CallFailed(f"{problem}; the run ended before another try", None) from stop
            began = time.monotonic()
            first_began = min(first_began, began)
            wait_s = random.uniform(0, min(self.cfg.longest_backoff_s, 0.5 * 2 ** min(attempt, 10)))
            # An endpoint that was there, and is gone or busy for a while, is no fault of the call.
            is_patient = began - first_began < self.cfg.patience_s
            tried = Try(None if most_usd != 0 else 0.0, is_last_chance=faults >= 2)
            found = None
            try:
                found = await self._try(path, body, key, is_patient, tried)
                if found is not None:
                    return Reply(found, time.monotonic() - began, charged)
            finally:
                # A try that broke off after it was sent may have been charged: its reserve stays spent.
                self.cfg.budget.note_duration(time.monotonic() - began)
                if found is None:
                    self.cfg.budget.settle(most_usd, tried.cost)
                    charged = None if tried.cost is None else charged
            problem = tried.problem
            self._note(problem)
            faults += tried.is_fault
            if faults >= tried.most_tries:
                break
        raise CallFailed(f"{problem}, after {attempt + 1} tries", charged)

    async def _try(
        self, path: str, body: dict[str, Any], key: str, is_patient: bool, tried: Try
    ) -> dict[str, Any] | None:
        """One request: the object of a good response, else None with the problem in `tried`."""
        began = time.monotonic()
        try:
            reply = await self._address.post(self._session, path, body, key)
            self._was_reached = True
            if reply.status != 200:
                self._read_error(read_error(reply.status, reply.raw, key), reply, body, began, is_patient, tried)
                return None
            found = json_object(reply.raw)
            if not isinstance(found, dict):
                if is_stream(reply.raw):
                    raise CallFailed("the endpoint streams its answer, although it was asked for it in one piece", None)
                tried.problem = found
            elif error := error_in_answer(found):
                self._read_error(error, reply, body, began, is_patient, tried)
            else:
                self._slots.succeeded()
                self._answered_at = time.monotonic()
                return found
        except TimeoutError:
            self._slots.overloaded(began)
            tried.problem = f"no answer within {self.cfg.timeout_s:g} s"
        except aiohttp.ClientConnectorError as error:
            tried.cost = 0.0
            is_proxy = self._address.is_proxy(error)
            there, what = (self._address.shown_proxy, "it") if is_proxy else (self._url, "the server")
            tried.problem = f"cannot connect to {there} ({connection_problem(error)})"
            tried.is_fault = not self._was_reached
            if not is_patient or (tried.is_fault and tried.is_last_chance):
                raise UserError(f"{self._name}: {tried.problem}; is {what} running?") from error
        except aiohttp.ClientHttpProxyError as error:
            tried.cost = 0.0
            if error.status not in TRANSIENT:
                raise self._address.proxy_refusal(error.status) from error
            tried.problem = f"{self._address.shown_proxy} answers HTTP {error.status}"
        except aiohttp.InvalidURL as error:
            tried.cost = 0.0
            raise UserError(f"{self._name}: {self._url} is no address of a server") from error
        except aiohttp.ClientError as error:
            tried.problem = f"the connection broke ({type(error).__name__})"
        return None

    def _read_error(
        self,
        error: EndpointError,
        reply: HttpReply,
        body: dict[str, Any],
        began: float,
        is_patient: bool,
        tried: Try,
    ) -> None:
        """Slow down after an error that may pass; raises where trying again is of no use."""
        status = error.status or (429 if is_busy(error) else 500)
        if status not in CHARGED and not error.may_be_charged:
            tried.cost = 0.0
        tried.problem = str(error)
        self._refuse(error, body, tried.cost)
        if status in OVERLOAD:
            self._slots.overloaded(began)
        pause_s = retry_after_s(reply.retry_after)
        self._paused_until = max(self._paused_until, time.monotonic() + pause_s)
        tried.is_fault = status != 429 or not is_patient
        tried.most_tries = 2 * TRIES if status in GONE else TRIES

    def _refuse(self, error: EndpointError, body: dict[str, Any], cost: float | None) -> None:
        """Raise the exception for an error that retrying cannot fix."""
        problem = str(error)
        meaning = error_meaning(error, int(body.get("max_tokens") or body.get("max_completion_tokens") or 0))
        if meaning == "no_key":
            raise self._key_refusal(problem)
        if meaning == "unknown_model":
            raise UserError(f"{self._name}: {self._url} does not know the model '{self._remote_model}': {problem}")
        if meaning == "no_credit":
            raise UserError(f"{self._name}: the account has no credit left: {problem}")
        if meaning == "prompt_too_long":
            raise Refused("prompt_too_long", problem)
        if names := refused_parameters(error, body):
            raise ParametersRefused(names, problem, error.status)
        if meaning == "refused":
            raise Refused("refused", problem)
        if is_about_access(error):
            raise self._key_refusal(problem)
        if error.status is not None and error.status not in TRANSIENT:
            raise CallFailed(problem, cost, error.status)

    def _key_refusal(self, problem: str) -> UserError:
        key_name = self._address.key_name
        there = "is set" if self._address.key() else "is not set"
        return UserError(f"{self._name}: the endpoint refused the key ({key_name} {there}): {problem}")

    def _note(self, problem: str) -> None:
        """Log now and then that the endpoint does not answer, while nothing else shows."""
        now = time.monotonic()
        if now - max(self._answered_at, self._noted_at) > SECONDS_BETWEEN_NOTES:
            self._noted_at = now
            log.info("%s: %s; trying again", self._name, self.without_key(problem))

    async def _admitted(self, tokens: int, most_usd: float | None) -> None:
        """Wait out a pause, the limits a minute and reserves of others."""
        budget = self.cfg.budget
        if self._requests:
            await self._unless_stopped(self._requests.take(1))
        if self._tokens:
            await self._unless_stopped(self._tokens.take(tokens))
        while (wait_s := self._paused_until - time.monotonic()) > 0:
            await self._sleep(wait_s)
        # Last, for much may have happened in the meantime.
        budget.check()
        while not budget.reserve(most_usd):
            await self._sleep(0.05)
            budget.check()

    def used(self, estimate: int, tokens: int) -> None:
        """A call for which `estimate` tokens were set aside took `tokens`."""
        if self._tokens and tokens:
            self._tokens.give_back(estimate - tokens)

    async def _sleep(self, seconds: float) -> None:
        if seconds:
            await self._unless_stopped(asyncio.sleep(seconds))

    async def _unless_stopped(self, waiting: Coroutine[Any, Any, None]) -> None:
        """Wait, but not longer than until the run is stopped."""
        task = asyncio.create_task(waiting)
        try:
            while not (await asyncio.wait([task], timeout=0.5))[0]:
                self.cfg.budget.check()
        finally:
            task.cancel()

    def without_key(self, text: str) -> str:
        key = self._address.key()
        return text.replace(key, "***") if key else text


@dataclass(frozen=True)
class Reply:
    """A good response; the reserve that was set aside for it is still to be settled."""

    body: dict[str, Any]
    seconds: float
    charged: float | None
    """USD for the tries before it; None where one broke off that may have been charged."""


def connection_problem(error: aiohttp.ClientConnectorError) -> str:
    """The reason there is no connection."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return str(error.certificate_error)
    return error.os_error.strerror or "no such host"


def retry_after_s(header: str | None) -> float:
    """Seconds that a server asks to wait, given as a number or as a date; at most ten minutes."""
    if not header:
        return 0.0
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(header).timestamp() - time.time()
        except ValueError:
            return 0.0
    return min(LONGEST_RETRY_AFTER_S, max(0.0, seconds)) if seconds == seconds else 0.0
