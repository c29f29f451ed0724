import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.models.limits import ConcurrencyLimit, TokenBucket


def fill(slots):
    """Take every free slot."""
    while slots.in_use < slots.limit:
        slots.in_use += 1


def test_slots_double_each_round_trip_until_the_first_overload():
    slots = ConcurrencyLimit(256)
    fill(slots)

    for _ in range(32):
        slots.succeeded()
        fill(slots)

    assert slots.limit == 64


def test_after_an_overload_one_slot_is_added_a_round_trip():
    slots = ConcurrencyLimit(256)
    slots.overloaded(began=time.monotonic())
    fill(slots)
    # halved from 32 to 16, then 16 calls that go through: about one more
    for _ in range(17):
        slots.succeeded()
        fill(slots)

    assert slots.limit == 17


def test_calls_that_began_before_a_cut_do_not_cut_again():
    slots = ConcurrencyLimit(32)
    began = time.monotonic()

    for _ in range(10):
        slots.overloaded(began)

    assert slots.limit == 16


@given(st.lists(st.booleans(), max_size=200), st.integers(1, 64))
def test_slots_stay_between_one_and_the_ceiling(outcomes, ceiling):
    slots = ConcurrencyLimit(ceiling)
    for went_well in outcomes:
        fill(slots)
        if went_well:
            slots.succeeded()
        else:
            slots.overloaded(time.monotonic())

        assert 1 <= slots.limit <= ceiling


def test_no_more_than_the_limit_is_ever_in_flight_and_all_get_their_turn():
    async def run():
        slots, most, done = ConcurrencyLimit(3), 0, 0

        async def call():
            nonlocal most, done
            await slots.enter()
            most = max(most, slots.in_use)
            await asyncio.sleep(0)
            slots.leave()
            done += 1

        await asyncio.gather(*(call() for _ in range(50)))
        return most, done, slots.in_use

    assert asyncio.run(run()) == (3, 50, 0)


def test_a_cancelled_wait_gives_its_place_to_the_next():
    async def run():
        slots = ConcurrencyLimit(1)
        await slots.enter()
        first, second = asyncio.create_task(slots.enter()), asyncio.create_task(slots.enter())
        await asyncio.sleep(0)
        slots.leave()
        first.cancel()
        await asyncio.wait_for(second, 1)
        return slots.in_use

    assert asyncio.run(run()) == 1


def test_a_rate_spreads_what_goes_out():
    async def run():
        rate = TokenBucket(per_minute=600)
        started = time.monotonic()
        # 10 a second: the bucket holds 10, so 15 take at least half a second
        for _ in range(15):
            await rate.take(1)
        return time.monotonic() - started

    assert asyncio.run(run()) == pytest.approx(0.5, abs=0.2)


def test_an_item_larger_than_the_bucket_goes_out_and_is_paid_off():
    async def run():
        rate = TokenBucket(per_minute=6000)
        started = time.monotonic()
        # 100 a second: 130 leave the bucket at -30, so the next 10 wait 0.4 s
        await rate.take(130)
        await rate.take(10)
        return time.monotonic() - started

    assert asyncio.run(run()) == pytest.approx(0.4, abs=0.2)


def test_what_was_not_used_is_given_back():
    async def run():
        rate = TokenBucket(per_minute=6000)
        await rate.take(100)
        rate.give_back(90)
        started = time.monotonic()
        await rate.take(90)
        return time.monotonic() - started

    assert asyncio.run(run()) < 0.2
