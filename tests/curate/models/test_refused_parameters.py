"""The limits of a run, as the server sees them kept: calls in flight, requests a minute, budget and hours."""

import asyncio
import time
from collections import Counter

import pytest
from misbehaving import answers, fails, hangs, sends

from curate.ledger.ledger import Ledger
from curate.ledger.spend_cap import Budget
from schemas.errors import CapReached, UserError


def test_calls_in_flight_come_down_to_what_the_endpoint_takes(server, runs):
    most = 8
    seen = []

    async def act(call):
        seen.append(server.in_flight)
        if server.in_flight > most:
            await fails(429)(call)
        else:
            await asyncio.sleep(0.01)
            await answers(call)

    server.act = lambda call: act
    texts = [str(i) for i in range(400)]

    found = runs.ask(server, texts, concurrency=64)

    assert [answer.responses[0].text for answer in found.values()] == texts
    assert runs.tally.failed_calls == 0
    assert set(runs.states().values()) == {"answered"}
    assert max(seen[:64]) > most
    # by then the calls are one more than the endpoint takes now and then, to find out
    late = seen[len(seen) // 2 :]
    assert max(late) <= most + 4
    assert sum(late) / len(late) > most / 4


def test_concurrency_is_never_exceeded(server, runs):
    seen = []

    async def act(call):
        seen.append(server.in_flight)
        await asyncio.sleep(0.01)
        await answers(call)

    server.act = lambda call: act

    runs.ask(server, [str(i) for i in range(40)], concurrency=3)

    assert max(seen) == 3


def test_requests_keep_the_limit_a_minute(server, runs):
    began = time.monotonic()

    runs.ask(server, [str(i) for i in range(30)], requests_per_minute=1200)

    # 20 of them within the first second, the other 10 at 20 a second
    assert server.calls[-1].at - began >= 0.45
    assert len(server.calls) == 30


def test_tries_count_towards_the_limit_a_minute(server, runs):
    server.act = lambda call: fails(500)
    began = time.monotonic()

    runs.ask(server, ["a"], requests_per_minute=240)

    # 4 tries at once, the other 2 at 4 a second
    assert len(server.calls) == 6
    assert server.calls[-1].at - began >= 0.45


def test_calls_one_after_another_keep_the_limit_a_minute_too(server, runs):
    """A server that ignores n is asked in rounds, each of one call."""
    server.act = lambda call: sends(200, {"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]})
    began = time.monotonic()

    found = runs.ask(server, ["a"], n=5, requests_per_minute=120)

    # 2 at once, the other 3 at 2 a second
    assert [call.n for call in server.calls] == [5, 4, 3, 2, 1]
    assert len(found["a"].responses) == 5
    assert server.calls[-1].at - began >= 1.45


class PerToken:
    """A millionth of a dollar for a token of input, and a thousandth for one of output."""

    def cost(self, price_name, input_tokens, output_tokens):
        return input_tokens * 1e-6 + output_tokens * 1e-3


CHARGED = 7e-6 + 5e-3
"""USD that the server charges for a completion: 7 tokens in and 5 out."""


def test_what_is_charged_never_exceeds_the_budget_and_the_next_run_goes_on(server, runs):
    texts = [str(i) for i in range(30)]
    recorded = 0
    for _ in range(10):
        server.calls.clear()
        budget = Budget(budget_usd=0.05, prices=PerToken())
        try:
            runs.ask(server, texts, budget=budget, price_name="tiny", concurrency=8)
        except CapReached as stopped:
            assert "--budget 0.05" in str(stopped)
        assert len(server.calls) * CHARGED <= 0.05
        assert budget.spent_usd == pytest.approx(len(server.calls) * CHARGED)
        recorded += len(server.calls)
        assert len(runs.in_state("answered")) == recorded
        if recorded == len(texts):
            break

    assert recorded == len(texts)
    # 0.05 hold six calls, with 16 mills for the most that the next one may cost
    assert len(runs.states()) == 30


def test_a_call_that_timed_out_counts_as_charged_in_full(server, runs):
    server.act = lambda call: hangs if call.number == 0 else answers
    budget = Budget(budget_usd=1.0, prices=PerToken())

    found = runs.ask(server, ["a"], budget=budget, price_name="tiny", timeout_s=0.5)

    assert found["a"].responses[0].text == "A"
    assert budget.spent_usd >= CHARGED + 16e-3
    assert budget.unpriced_calls >= 1
    with Ledger(runs.ledger) as ledger:
        assert ledger.read("SELECT cost_usd FROM calls") == [(None,)]


def test_errors_of_the_endpoint_are_not_counted_as_charged(server, runs):
    server.act = lambda call: fails(500) if call.number < 3 else answers
    budget = Budget(budget_usd=1.0, prices=PerToken())

    runs.ask(server, ["a"], budget=budget, price_name="tiny")

    assert budget.spent_usd == pytest.approx(CHARGED)
    with Ledger(runs.ledger) as ledger:
        assert ledger.read("SELECT cost_usd FROM calls") == [(pytest.approx(CHARGED),)]


def test_a_call_that_keeps_timing_out_stops_at_the_budget(server, runs):
    server.act = lambda call: hangs
    budget = Budget(budget_usd=0.04, prices=PerToken())

    with pytest.raises(CapReached, match="--budget"):
        runs.ask(server, ["a"], budget=budget, price_name="tiny", timeout_s=0.1)

    # each may have cost up to 16 mills and a little: two fit into 40
    assert len(server.calls) == 2
    assert runs.states() == {"a": "failed"}
    with Ledger(runs.ledger) as ledger:
        # what may have been charged is neither forgotten nor taken for nothing
        assert ledger.read("SELECT cost_usd FROM calls") == [(None,)]


def test_no_call_begins_that_could_end_after_max_hours(server, runs):
    async def slow(call):
        await asyncio.sleep(0.6)
        await answers(call)

    server.act = lambda call: slow
    began = time.monotonic()

    with pytest.raises(CapReached, match="--max-hours"):
        runs.ask(server, ["a", "b", "c", "d", "e"], budget=Budget(max_hours=1.5 / 3600), concurrency=1)

    assert 1 <= len(server.calls) <= 2
    assert all(call.at - began < 1.5 for call in server.calls)
    assert len(runs.in_state("answered")) == len(server.calls)

    server.act = lambda call: answers
    runs.ask(server, ["a", "b", "c", "d", "e"])

    assert Counter(server.texts) == dict.fromkeys("abcde", 1)


def test_waiting_for_the_limit_a_minute_counts_towards_max_hours(server, runs):
    with pytest.raises(CapReached, match="--max-hours"):
        # the second call would begin after a minute
        runs.ask(server, ["a", "b"], budget=Budget(max_hours=1.5 / 3600), requests_per_minute=1)

    assert server.texts == ["a"]
    assert runs.states() == {"a": "answered"}


def test_a_run_that_mostly_fails_stops_and_the_next_asks_for_what_failed(server, runs):
    server.act = lambda call: answers if call.text in "abc" else fails(400, "odd")
    texts = [*"abc", *map(str, range(60))]

    with pytest.raises(UserError, match=r"calls to test failed, the last with: HTTP 400: odd"):
        runs.ask(server, texts, max_failed_share=0.5, concurrency=4)

    assert len(server.calls) < 20
    assert runs.in_state("answered") == set("abc")

    server.act = lambda call: answers
    server.calls.clear()
    runs.ask(server, texts)

    assert sorted(server.texts) == sorted(texts[3:])


def test_a_pause_holds_for_calls_that_were_waiting_in_the_rate_limit(server, runs):
    came = []

    def act(call):
        came.append(time.monotonic())
        return fails(429, **{"Retry-After": "1"}) if len(came) == 3 else answers

    server.act = act

    runs.ask(server, [str(i) for i in range(5)], requests_per_minute=120)

    # the third call is told to wait a second, and so does every one after it
    assert all(later - came[2] >= 0.95 for later in came[3:])


def test_time_spent_waiting_for_the_rate_is_no_length_of_a_call(server, runs):
    # At 10 a second 22 calls take 1.2 s after the first 10; a call as long as that would not fit any more.
    budget = Budget(max_hours=2.2 / 3600)
    found = runs.ask(server, [str(i) for i in range(22)], requests_per_minute=600, budget=budget)

    assert len(found) == 22


def test_a_call_that_broke_off_at_a_free_server_cost_nothing(server, runs):
    met = []
    server.act = lambda call: answers if met else met.append(call) or hangs
    budget = Budget()

    runs.ask(server, ["a"], timeout_s=0.3, budget=budget)

    assert (budget.spent_usd, budget.unpriced_calls) == (0.0, 0)
