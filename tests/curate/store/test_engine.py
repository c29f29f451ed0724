import threading

import pytest

from curate.ledger.spend_cap import Budget
from curate.store.engine import run_in_order
from schemas.errors import UserError


@pytest.mark.parametrize("at_once", [1, 3])
@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_results_come_in_order(count, at_once):
    assert list(run_in_order(lambda i: i * i, count, at_once, Budget())) == [i * i for i in range(count)]


def test_so_many_are_under_way_at_once_and_no_more():
    meet, most = threading.Barrier(3, timeout=5), 0
    lock = threading.Lock()
    running = 0

    def make(i):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        meet.wait()
        with lock:
            running -= 1
        return i

    assert list(run_in_order(make, 9, 3, Budget())) == list(range(9))
    assert most == 3


def test_an_error_stops_the_rest_which_is_waited_for():
    budget, finished, begun = Budget(), [], threading.Event()

    def make(i):
        if i == 0:
            begun.wait(5)
            raise UserError("no more")
        begun.set()
        with pytest.raises(UserError):
            while True:
                budget.raise_stop()
        finished.append(i)

    with pytest.raises(UserError, match="no more"):
        list(run_in_order(make, 10, 3, budget))

    assert sorted(finished) == [1, 2]
