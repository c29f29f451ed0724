"""Recorder: makes model calls through the ledger, counts them and shows progress."""

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from curate.ledger.entries import Entry, PartialResponses, PendingCall, State, call_key, request_rest
from curate.ledger.ledger import Ledger, disk_full_error
from curate.ledger.progress import Progress
from curate.ledger.spend_cap import Budget
from schemas.calls import Backend, CallResult, Request
from schemas.errors import CapReached, Hopeless, UserError

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LOOKS = 0.5
"""Pause before looking again for the answers that another process is waiting for."""

FIRST_CALLS = 20
"""Calls of a stage that show whether anything comes of it."""
MOST_LOST = 15
"""Of these, calls for nothing that stop the run, where one reason has so many."""

WhyLost = Callable[[int, CallResult], str | None]
"""The reason nothing comes of the answer to the request of that number; None where something does."""


def nothing_lost(_: int, __: CallResult) -> None:
    """Something comes of every answer."""


@dataclass
class FirstCalls:
    """What comes of the first calls that a run makes in a stage."""

    begun: int = 0
    lost: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Reason and kind of error -> calls."""


@dataclass
class Tally:
    """Calls of a run so far."""

    calls: int = 0
    """Calls made, failed ones included."""
    reused_calls: int = 0
    repeated_calls: int = 0
    """Of the calls made, those for truncated responses of an earlier call."""
    failed_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def add(self, **counts: int) -> None:
        for name, count in counts.items():
            setattr(self, name, getattr(self, name) + count)


class Recorder:
    """Asks models through the ledger; `for_part` gives one with a tally of its own, for a thread of its own."""

    def __init__(
        self,
        ledger: Ledger,
        budget: Budget | None = None,
        max_failed_share: float = 0.5,
        progress: Progress | None = None,
    ) -> None:
        self.ledger = ledger
        self.budget = budget or Budget()
        self.tally = Tally()
        self.progress = progress or Progress("calls", self.budget)
        self.max_failed_share = max_failed_share
        self._whole: Recorder = self
        self._first: FirstCalls | None = None
        self._first_of_stage: dict[str, FirstCalls] = {}
        self._lock = threading.Lock()

    def for_part(self) -> "Recorder":
        """A recorder whose tally is of one part, and also counts towards this one's."""
        part = Recorder(self.ledger, self.budget, self.max_failed_share, self.progress)
        part._whole, part._lock, part._first = self._whole, self._lock, self._first
        return part

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Show the progress of the calls made inside as that of the stage `name`, and see what comes of the first."""
        self.progress = Progress(name, self.budget)
        self._first = self._first_of_stage.setdefault(name, FirstCalls())
        try:
            yield
        finally:
            self._first = None
            self.progress.close()

    def ask(self, backend: Backend, requests: Sequence[Request], why_lost: WhyLost = nothing_lost) -> list[CallResult]:
        """One answer a request, in order: from the ledger, else from the model, else from the process that asks it.

        Raises Hopeless when more than `max_failed_share` of at least eight calls fail: an endpoint in that state would
        only turn prompts into dropped rows. So it does when nothing comes of `MOST_LOST` of the first `FIRST_CALLS`
        calls of a stage for one reason, unless the share is 1; `why_lost` knows what the stage makes of an answer that
        is no failure. What is recorded does not count, so that a run goes on from it once the cause is mended. Raises
        CapReached when budget or time are used up.
        """
        ids = [call_key(backend, request) for request in requests]
        first = {call_id: i for i, call_id in reversed(list(enumerate(ids)))}
        self.progress.begin(len(first))
        answers: dict[str, CallResult] = {}
        waiting = list(dict.fromkeys(ids))
        while waiting:
            claim = self.ledger.claim(backend, [(call_id, requests[first[call_id]]) for call_id in waiting])
            answers |= claim.answers
            self._count_reused(len(claim.answers))
            held = {first[call_id]: found for call_id, found in claim.held.items()}
            try:
                self._make(backend, requests, held, ids, answers, why_lost)
            except (UserError, CapReached):
                # Every call that was sent has come back, and is recorded.
                self.ledger.forget(claim.held)
                raise
            finally:
                self.ledger.release(claim.held)
            if claim.busy:
                log.debug("waiting for %d calls that are being made elsewhere", len(claim.busy))
                self.budget.check()
                time.sleep(SECONDS_BETWEEN_LOOKS)
            waiting = claim.busy
        return [answers[call_id] for call_id in ids]

    def _make(
        self,
        backend: Backend,
        requests: Sequence[Request],
        held: dict[int, PendingCall],
        ids: Sequence[str],
        answers: dict[str, CallResult],
        why_lost: WhyLost,
    ) -> None:
        """Make the claimed calls, in rounds until each has all its responses; adds to `answers`."""
        asked = list(requests)
        whole = [i for i, found in held.items() if found.is_whole]
        for i in whole:
            found = held.pop(i)
            answers[ids[i]] = found.refusal or CallResult(tuple(slot for slot in found.slots if slot))
            entry = Entry(ids[i], requests[i], "answered", answers[ids[i]], found.slots, found.reused_from)
            answers |= self.ledger.record([entry])
        self._count_reused(len(whole))
        todo = set(held)
        first = self._take_first(held)
        while todo:
            for i in todo:
                asked[i] = request_rest(requests[i], held[i].slots)
            again: set[int] = set()
            left = len(todo)
            began = time.monotonic()
            for group in backend.answer(asked, todo):
                entries = []
                for i, answer in group:
                    state, merged = merge_responses(held[i].slots, answer)
                    answers[ids[i]] = merged
                    entries.append(Entry(ids[i], requests[i], state, merged, held[i].slots, held[i].reused_from))
                    if state == "partial" and not answer.failure:
                        again.add(i)
                late = self.ledger.record(entries)
                answers |= late
                again -= {i for i, _ in group if ids[i] in late}
                left -= len(group)
                self._count_made(backend, [(held[i], answer) for i, answer in group])
                finished = [i for i, _ in group if i in first and i not in again]
                self._look_at_first(backend, requests, {i: answers[ids[i]] for i in finished}, why_lost)
                if self.ledger.is_full:
                    self.budget.stop(disk_full_error(self.ledger.path, "the reserve for answers is in use"))
                if not backend.is_remote:
                    self.budget.note_duration(time.monotonic() - began)
                    if left:
                        self.budget.check()
                    began = time.monotonic()
            # Of an endpoint's calls those under way were waited for.
            self.budget.raise_stop()
            todo = again

    def _count_reused(self, calls: int) -> None:
        with self._lock:
            for recorder in {self, self._whole}:
                recorder.tally.add(reused_calls=calls)
        self.progress.reuse(calls)

    def _count_made(self, backend: Backend, made: Sequence[tuple[PendingCall, CallResult]]) -> None:
        """Count calls, and stop the run when too many fail: those under way are still waited for."""
        failed = [answer for _, answer in made if answer.failure == "failed_call"]
        with self._lock:
            for recorder in {self, self._whole}:
                recorder.tally.add(
                    calls=len(made),
                    repeated_calls=sum(held.reused_from is not None for held, _ in made),
                    failed_calls=len(failed),
                    input_tokens=sum(answer.input_tokens for _, answer in made),
                    output_tokens=sum(answer.output_tokens for _, answer in made),
                )
        calls, bad = self.progress.advance(len(made), len(failed), backend)
        if failed and bad > self.max_failed_share * max(calls, min(8, self.progress.total)):
            problem = f"{bad} of {calls} calls to {backend.model} failed, the last with: {failed[-1].error}"
            problem += "; answered calls are saved, the same command goes on from them"
            self.budget.stop(Hopeless(problem, "failed_call"))

    def _take_first(self, held: Iterable[int]) -> set[int]:
        """Those of the calls that are among the first of the stage, in the order of its rows: what fails fails fast."""
        if self._first is None or self.max_failed_share >= 1:
            return set()
        with self._lock:
            taken = sorted(held)[: FIRST_CALLS - self._first.begun]
            self._first.begun += len(taken)
        return set(taken)

    def _look_at_first(
        self, backend: Backend, requests: Sequence[Request], finished: dict[int, CallResult], why_lost: WhyLost
    ) -> None:
        """Stop the run when nothing comes of most of the first calls of the stage, `finished` being some of them."""
        for i, answer in finished.items():
            reason = call_reason(requests[i], answer) or why_lost(i, answer)
            if reason is None or self._first is None:
                continue
            # What is behind the colon differs from call to call.
            kind = (answer.error or "").partition(":")[0] if reason in ("failed_call", "failed_score") else ""
            with self._lock:
                self._first.lost[reason, kind] += 1
                is_hopeless = self._first.lost[reason, kind] == MOST_LOST
            if is_hopeless:
                last = answer.error or repr(answer.responses[0].text[:80] if answer.responses else answer.values)
                problem = (
                    f"{MOST_LOST} of the first {FIRST_CALLS} calls to {backend.model} came to nothing ({reason}), "
                )
                self.budget.stop(Hopeless(f"{problem}the last with: {last}; all answers are saved", reason))


def call_reason(request: Request, answer: CallResult) -> str | None:
    """The reason nothing comes of a call whatever is made of its answer."""
    if request.kind == "score" and (answer.failure == "refused" or not all(map(math.isfinite, answer.values))):
        return "failed_score"
    return answer.failure


def merge_responses(slots: PartialResponses, answer: CallResult) -> tuple[State, CallResult]:
    """Put the responses of a call into the slots that were open: the state of the whole, and all of it.

    A failure after some responses have come costs only the rest.
    """
    if answer.values or (answer.failure and not any(slots)):
        return ("failed" if answer.failure == "failed_call" else "answered"), answer
    given = iter(answer.responses)
    for position, slot in enumerate(slots):
        if slot is None:
            slots[position] = next(given, None)
    present = tuple(slot for slot in slots if slot)
    is_final = len(present) == len(slots) or answer.failure not in (None, "failed_call")
    merged = replace(answer, responses=present, failure=None, error=None)
    return ("answered" if is_final else "partial"), merged
