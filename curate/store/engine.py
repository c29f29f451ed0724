"""Make several parts at once, in threads, and hand them on in order."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Generator
from typing import Generic, TypeVar

from curate.ledger.spend_cap import LONGEST_WAIT_S, Budget

log = logging.getLogger(__name__)

Result = TypeVar("Result")


class Work(Generic[Result]):
    """One call of `make` in a thread of its own."""

    def __init__(self, make: Callable[[int], Result], index: int, budget: Budget) -> None:
        self._make, self._index, self._budget = make, index, budget
        self._results: list[Result] = []
        self._error: BaseException | None = None
        # Not the end of the thread: a join that Ctrl-C breaks off takes the thread for ended (CPython 3.11).
        self._is_done = threading.Event()
        # A second Ctrl-C leaves the calls in flight alone: the process must then not wait for them.
        threading.Thread(target=self._run, name=f"part {index}", daemon=True).start()

    def _run(self) -> None:
        try:
            self._results.append(self._make(self._index))
        except BaseException as error:
            self._error = error
            self._budget.stop(error)
        finally:
            self._is_done.set()

    def wait(self) -> None:
        while not self._is_done.wait(LONGEST_WAIT_S):
            continue

    def result(self) -> Result:
        """The result of `make`; raises what it raised."""
        self.wait()
        if self._error:
            raise self._error
        return self._results[0]


def run_in_order(
    make: Callable[[int], Result], count: int, at_once: int, budget: Budget
) -> Generator[Result, None, None]:
    """`make(0)`, `make(1)` ... with up to `at_once` of them under way.

    An error in one stops the others: they record the calls that are in flight, make no more, and are
    waited for. So does Ctrl-C; a second one does not wait.
    """
    if at_once == 1:
        yield from map(make, range(count))
        return
    running: deque[Work[Result]] = deque()
    begun = 0
    try:
        for _ in range(count):
            while begun < count and len(running) < at_once:
                running.append(Work(make, begun, budget))
                begun += 1
            result = running[0].result()
            running.popleft()
            yield result
    except BaseException as error:
        budget.stop(error)
        if isinstance(error, KeyboardInterrupt):
            log.info("waiting for the calls in flight; Ctrl-C again leaves them")
        for work in running:
            work.wait()
        raise
