import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.ledger.spend_cap import Budget
from schemas.errors import CapReached, UserError


class OneCentAToken:
    def cost(self, price_name, input_tokens, output_tokens):
        return 0.01 * (input_tokens + output_tokens)


def test_without_caps_everything_is_allowed_and_counted():
    budget = Budget(prices=OneCentAToken())

    assert budget.reserve(1e9)
    budget.settle(1e9, 0.5)

    assert budget.spent_usd == 0.5
    budget.check()


def test_a_call_that_could_cross_the_budget_waits_for_the_others_and_then_stops_the_run():
    budget = Budget(budget_usd=1.0)
    assert budget.reserve(0.7)

    assert not budget.reserve(0.7)
    budget.settle(0.7, 0.6)
    with pytest.raises(CapReached, match=r"stopped at 0.6000 USD, before the call that could cross --budget 1 "):
        budget.reserve(0.7)


def test_a_call_that_cost_less_than_it_could_leaves_room():
    budget = Budget(budget_usd=1.0)

    for _ in range(10):
        assert budget.reserve(0.9)
        budget.settle(0.9, 0.01)

    assert budget.spent_usd == pytest.approx(0.1)


def test_a_call_of_unknown_cost_keeps_its_reserve_spent():
    budget = Budget(budget_usd=1.0)
    budget.reserve(0.4)

    budget.settle(0.4, None)

    assert (budget.spent_usd, budget.unpriced_calls) == (0.4, 1)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=60))
def test_the_budget_is_never_crossed(calls):
    budget = Budget(budget_usd=2.0)
    under_way = []
    for most, share in calls:
        try:
            if budget.reserve(most):
                under_way.append((most, share))
            elif under_way:
                first = under_way.pop(0)
                budget.settle(first[0], first[0] * first[1])
        except CapReached:
            break
    for most, share in under_way:
        budget.settle(most, most * share)

    assert budget.spent_usd <= 2.0 + 1e-9


def test_an_endpoint_that_counts_no_tokens_has_no_known_cost():
    budget = Budget(prices=OneCentAToken())

    assert budget.cost("openai:x", 0, 0) is None
    assert budget.cost(None, 0, 0) == 0.0
    assert Budget().cost("openai:x", 5, 5) is None
    assert Budget().cost(None, 5, 5) == 0.0


def test_no_call_begins_that_would_end_after_the_hours_are_over():
    budget = Budget(max_hours=1)
    budget.note_duration(1800)
    budget.check()

    budget.note_duration(3601)
    with pytest.raises(CapReached, match=r"could cross --max-hours 1; everything so far is saved"):
        budget.check()


def test_the_first_reason_to_stop_is_the_one_that_is_told():
    budget = Budget()
    budget.stop(UserError("first"))
    budget.stop(UserError("second"))

    with pytest.raises(UserError, match="first"):
        budget.check()
