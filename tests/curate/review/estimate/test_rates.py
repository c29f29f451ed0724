"""The agreement of reviewers with the labels of a dataset, from a stratified sample."""

import math
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.review.estimate.rates import (
    PRIOR,
    Estimate,
    agreement_rates,
    audited_records,
    find_stand_ins,
    reviews_needed,
)
from curate.stats import wilson

STRATA = {"source": pl.String, "band": pl.String, "pairs": pl.UInt32}
AUDITED = {"source": pl.String, "band": pl.String, "agree": pl.Float64}


def strata(*rows: tuple[str, str, int]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=STRATA, orient="row")


def judged(*rows: tuple[str, str, list[float]]) -> pl.DataFrame:
    """Source, band, and how far each of its records agrees."""
    return pl.DataFrame(
        [(source, band, agree) for source, band, agrees in rows for agree in agrees], schema=AUDITED, orient="row"
    )


def test_no_answers_have_no_rate():
    found = agreement_rates(judged(), strata(("s", "low", 10)))

    assert found.overall is None
    assert found.by_source == {"s": None}
    assert found.unanswered == ("s",)
    assert found.borrowed == ()


def test_strata_are_weighted_by_their_pairs():
    # 0.5 * 900 / 1000 + 1.0 * 100 / 1000 = 0.55, though 15 of the 20 judged agree
    table = strata(("s", "low", 900), ("s", "high", 100))
    answers = judged(("s", "low", [1, 0] * 5), ("s", "high", [1] * 10))

    rate = agreement_rates(answers, table).overall

    assert rate is not None
    assert rate.estimate == pytest.approx(0.55)
    assert (rate.records, rate.pairs) == (20, 1000)
    assert rate.low < 0.55 < rate.high
    # the ten of the large stratum say nearly all there is
    assert 10 < rate.n_eff < 14


def test_sources_have_rates_of_their_own():
    table = strata(("one", "low", 50), ("two", "low", 150))
    answers = judged(("one", "low", [1] * 5), ("two", "low", [0] * 5))

    found = agreement_rates(answers, table)

    assert {name: rate and rate.estimate for name, rate in found.by_source.items()} == {"one": 1.0, "two": 0.0}
    assert found.overall is not None and found.overall.estimate == pytest.approx(0.25)


def test_stratum_without_answers_is_told_by_the_nearest_of_its_source():
    table = strata(("s", "a", 10), ("s", "b", 20), ("s", "c", 30), ("s", "d", 40), ("t", "a", 1000))
    answers = judged(("s", "b", [1, 1]), ("s", "d", [0, 0]))

    found = agreement_rates(answers, table)

    # c is as near to b as to d, and the earlier one stands for it: b has 60 of 100 pairs
    assert found.borrowed == (("s", "a", "b"), ("s", "c", "b"))
    assert found.unanswered == ("t",)
    assert found.overall is not None
    assert found.overall.estimate == pytest.approx(0.6)
    assert found.overall.pairs == 100


def test_record_of_an_unknown_stratum_is_an_error():
    with pytest.raises(ValueError, match="lacks"):
        find_stand_ins(judged(("s", "new", [1])), strata(("s", "low", 10)))


@pytest.mark.parametrize(("said", "ends"), [(1.0, (0.84, 1.0)), (0.0, (0.0, 0.16))])
def test_answers_that_are_all_the_same_leave_room_for_others(said, ends):
    rate = agreement_rates(judged(("s", "low", [said] * 20)), strata(("s", "low", 100_000))).overall

    assert rate is not None
    assert rate.estimate == said
    assert (rate.low, rate.high) == pytest.approx(ends, abs=0.01)
    assert rate.n_eff == pytest.approx(20)


def test_equal_rates_in_proportion_are_as_good_as_a_simple_random_sample():
    table = strata(("s", "low", 4000), ("s", "high", 6000))
    answers = judged(("s", "low", [1, 1, 1, 0] * 10), ("s", "high", [1, 1, 1, 0] * 15))

    rate = agreement_rates(answers, table).overall

    assert rate is not None
    assert rate.n_eff == pytest.approx(100, rel=0.002)
    assert (rate.low, rate.high) == pytest.approx(wilson(0.75, 101.0), abs=1e-3)


def test_dataset_that_was_judged_whole_has_an_exact_rate():
    rate = agreement_rates(judged(("s", "low", [1, 1, 1, 0])), strata(("s", "low", 4))).overall

    assert rate is not None
    assert rate.low == rate.estimate == rate.high == 0.75
    # what it would say of a larger dataset is another matter
    assert rate.n_eff == pytest.approx(4, rel=0.05)


def test_half_of_a_dataset_says_more_than_as_many_of_a_large_one():
    answers = judged(("s", "low", [1, 1, 1, 0] * 10))

    half, few = (agreement_rates(answers, strata(("s", "low", pairs))).overall for pairs in (80, 80_000))

    assert half is not None and few is not None
    assert (half.high - half.low) / (few.high - few.low) == pytest.approx(math.sqrt(0.5), abs=0.03)
    assert half.n_eff == few.n_eff


def test_answers_shared_by_two_reviewers_say_more_than_single_ones():
    table = strata(("s", "low", 10_000))

    single = agreement_rates(judged(("s", "low", [1, 0] * 20)), table).overall
    shared = agreement_rates(judged(("s", "low", [0.5] * 40)), table).overall

    assert single is not None and shared is not None
    assert single.estimate == shared.estimate == 0.5
    assert shared.n_eff > 2 * single.n_eff
    # the added answers are single ones, so it never looks certain
    assert shared.n_eff == pytest.approx(40 * (40 + PRIOR) / PRIOR)


def test_one_record_in_each_stratum_has_an_interval():
    table = strata(*(("s", str(i), 100) for i in range(10)))
    answers = judged(*(("s", str(i), [float(i > 0)]) for i in range(10)))

    rate = agreement_rates(answers, table).overall

    assert rate is not None
    assert rate.estimate == pytest.approx(0.9)
    assert 0.5 < rate.low < 0.7


def test_audited_records_are_those_drawn_by_chance_with_the_share_of_their_answers():
    named = pl.DataFrame(
        {
            "record_id": ["2", "1", "1", "3", "4"],
            "sampler": ["random", "random", "random", "suspicious", "gold"],
            "source": ["s"] * 5,
            "band": ["low", "high", "high", "low", "none"],
            "margin": [0.1, 2.0, 2.0, 0.0, None],
            "named": ["equal", "chosen", "rejected", "chosen", "chosen"],
        }
    )

    assert audited_records(named).rows() == [("1", "s", "high", 2.0, 0.5), ("2", "s", "low", 0.1, 0.0)]


PRESENT = Estimate(estimate=0.9, low=0.82, high=0.95, records=80, n_eff=80.0, pairs=100_000)


def test_width_that_is_reached_needs_no_more_reviews():
    assert reviews_needed(replace(PRESENT, low=0.88, high=0.92), 0.05) == 0


def test_reviews_needed_reach_the_width_and_one_less_does_not():
    for width in (0.05, 0.03):
        more = reviews_needed(PRESENT, width)

        assert more is not None
        low, high = wilson(0.9, 1 / (1 / (80 + more) - 1 / 100_000))
        assert (high - low) / 2 <= width
        low, high = wilson(0.9, 1 / (1 / (79 + more) - 1 / 100_000))
        assert (high - low) / 2 > width


def test_design_effect_multiplies_the_reviews_needed():
    simple, clustered = (reviews_needed(replace(PRESENT, n_eff=n), 0.03) for n in (80.0, 40.0))

    assert simple is not None and clustered is not None
    assert (clustered + 80) / (simple + 80) == pytest.approx(2, abs=0.03)


def test_reviews_needed_are_never_more_than_the_pairs():
    assert reviews_needed(replace(PRESENT, pairs=200), 0.001) == 120
    assert reviews_needed(replace(PRESENT, pairs=80), 0.001) is None


bands = st.lists(
    st.tuples(st.integers(1, 500), st.lists(st.sampled_from([0.0, 0.5, 1.0]), max_size=8)), min_size=1, max_size=6
)


@given(bands)
def test_rate_lies_in_its_interval_and_stands_for_every_pair(rows):
    table = strata(*(("s", str(i), max(pairs, len(said))) for i, (pairs, said) in enumerate(rows)))
    answers = judged(*(("s", str(i), said) for i, (_, said) in enumerate(rows)))

    rate = agreement_rates(answers, table).overall

    assert (rate is None) == answers.is_empty()
    if rate is not None:
        assert 0 <= rate.low <= rate.estimate <= rate.high <= 1
        assert rate.pairs == table["pairs"].sum()
        assert rate.n_eff > 0


@given(bands, st.randoms())
def test_rate_does_not_depend_on_the_order_of_the_answers(rows, random):
    table = strata(*(("s", str(i), max(pairs, len(said))) for i, (pairs, said) in enumerate(rows)))
    answers = judged(*(("s", str(i), said) for i, (_, said) in enumerate(rows)))
    order = list(range(answers.height))
    random.shuffle(order)

    one, other = (agreement_rates(frame, table).overall for frame in (answers, answers[order]))

    assert (one is None) == (other is None)
    if one is not None and other is not None:
        assert (one.estimate, one.low, one.high) == pytest.approx((other.estimate, other.low, other.high))


@pytest.mark.parametrize(("records", "rate"), [(60, 0.75), (60, 0.98), (200, 0.9)])
def test_interval_covers_the_rate_of_the_dataset(records, rate):
    draw = np.random.default_rng(30)
    table = strata(*(("s", str(i), 1000) for i in range(5)))
    # from 4 points below the rate to 4 above, or as far as 1 allows
    rates = rate + min(0.04, 1 - rate) * np.linspace(-1, 1, 5)
    covered = 0
    for _ in range(200):
        said = draw.random((5, records // 5)) < rates[:, None]
        found = agreement_rates(
            judged(*(("s", str(i), row.astype(float).tolist()) for i, row in enumerate(said))), table
        ).overall
        assert found is not None
        covered += found.low <= rate <= found.high

    assert 0.9 <= covered / 200 <= 0.995
