"""Make several parts at once, in threads, and hand them on in order."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, wait
from typing import Any, TypeVar

from curate.ledger.spend_cap import LONGEST_WAIT_S, Budget

log = logging.getLogger(__name__)

Result = TypeVar("Result")


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
    running: deque[Future[Result]] = deque()
    begun = 0
    try:
        for _ in range(count):
            while begun < count and len(running) < at_once:
                running.append(begin(make, begun, budget))
                begun += 1
            wait_for([running[0]])
            result = running[0].result()
            running.popleft()
            yield result
    except BaseException as error:
        budget.stop(error)
        if isinstance(error, KeyboardInterrupt):
            log.info("waiting for the calls in flight; Ctrl-C again leaves them")
        wait_for(running)
        raise


def begin(make: Callable[[int], Result], index: int, budget: Budget) -> Future[Result]:
    """The result of `make(index)`, once a thread of its own has it; an error stops the budget."""
    made: Future[Result] = Future()

    def run() -> None:
        try:
            made.set_result(make(index))
        except BaseException as error:
            budget.stop(error)
            made.set_exception(error)

    # A second Ctrl-C leaves the calls in flight alone: the process must then not wait for them.
    threading.Thread(target=run, name=f"part {index}", daemon=True).start()
    return made


def wait_for(parts: Iterable[Future[Any]]) -> None:
    """Wait for all of these, with no wait that has no end."""
    while wait(parts, LONGEST_WAIT_S).not_done:
        continue
