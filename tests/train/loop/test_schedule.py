"""Every row has its turn once an epoch, and training is looked at often enough."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.loop.schedule import Schedule, check_steps


def epoch_of(schedule, epoch):
    steps = schedule.steps() // schedule.epochs
    return [schedule.rows(epoch * steps + step) for step in range(1, steps + 1)]


def test_one_row_is_a_step_of_its_own():
    schedule = Schedule(1, 4, 3, 30)

    assert [schedule.rows(step) for step in range(1, schedule.steps() + 1)] == [[0], [0], [0]]


def test_every_epoch_has_all_rows_in_an_order_of_its_own():
    epochs = [epoch_of(Schedule(10, 4, 2, 30), epoch) for epoch in (0, 1)]

    assert [len(step) for step in epochs[0]] == [4, 4, 2]
    assert all(sorted(row for step in steps for row in step) == list(range(10)) for steps in epochs)
    assert epochs[0] != epochs[1]
    assert epochs == [epoch_of(Schedule(10, 4, 2, 30), epoch) for epoch in (0, 1)]


def test_another_seed_is_another_order():
    assert Schedule(100, 100, 1, 30).rows(1) != Schedule(100, 100, 1, 31).rows(1)


@given(count=st.integers(1, 60), size=st.integers(1, 70), epochs=st.integers(1, 4), seed=st.integers(0, 2**32 - 1))
def test_every_row_is_in_one_step_of_each_epoch_whatever_the_sizes(count, size, epochs, seed):
    schedule = Schedule(count, size, epochs, seed)

    for epoch in range(epochs):
        steps = epoch_of(schedule, epoch)
        assert sorted(row for step in steps for row in step) == list(range(count))
        assert all(len(step) == size for step in steps[:-1])
        assert 1 <= len(steps[-1]) <= size


def test_steps_can_be_asked_for_in_any_order():
    schedule = Schedule(9, 2, 3, 30)
    forward = [schedule.rows(step) for step in range(1, schedule.steps() + 1)]

    backward = [schedule.rows(step) for step in range(schedule.steps(), 0, -1)]

    assert backward[::-1] == forward


@pytest.mark.parametrize(("steps", "epochs", "checks"), [(16, 1, 8), (100, 3, 24), (3, 1, 3), (1, 1, 1)])
def test_checks_come_each_eighth_of_an_epoch_and_at_the_end(steps, epochs, checks):
    found = check_steps(steps, epochs)

    assert len(found) == checks
    assert max(found) == steps
    assert min(found) >= 1
