"""Bands, seats and draws of an audit."""

import time

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.review.strata import add_bands, band_edges, band_names, draw_audit, make_strata, rank_for_audit


def frame(sizes: list[int], seed: int = 0) -> pl.DataFrame:
    """One source of one band for each size."""
    numbers = np.random.default_rng(seed).permutation(sum(sizes))
    rows = [(f"s{stratum:02}", "any", 0) for stratum, size in enumerate(sizes) for _ in range(size)]
    schema = {"source": pl.String, "band": pl.String, "place": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row").with_columns(
        number=pl.Series(numbers, dtype=pl.UInt64),
        pair_id=pl.Series([f"p{i}" for i in range(len(rows))], dtype=pl.String),
    )


def margins(*values: float | None, source: str = "real") -> pl.DataFrame:
    sources = pl.Series([source] * len(values), dtype=pl.String)
    return pl.DataFrame({"source": sources, "margin": pl.Series(values, dtype=pl.Float64)})


def test_bands_are_quartiles_of_the_source_alone():
    rows = pl.concat([margins(*range(1, 101)), margins(*range(1001, 1101), source="other")])

    assert band_edges(rows) == {"other": [1025, 1050, 1075], "real": [25, 50, 75]}


def test_a_margin_on_an_edge_lies_under_it():
    rows = add_bands(margins(1, 25, 26, 100), {"real": [25, 50, 75]})

    assert rows["band"].to_list() == ["up to 25", "up to 25", "25 to 50", "above 75"]


def test_pairs_without_margin_are_a_band_of_their_own_after_the_others():
    rows = add_bands(margins(*range(40), None), band_edges(margins(*range(40), None)))

    assert rows["band"][-1] == "none"
    assert rows["place"][-1] > rows["place"][:-1].max()


@pytest.mark.parametrize(
    ("values", "bands"),
    [
        ((0.5,) * 100, {"any"}),
        ((0.5,), {"any"}),
        ((None, None), {"none"}),
        (tuple(range(19)), {"any"}),
        (tuple(range(20)), {"up to 9", "above 9"}),
        # Three quarters are equal: the quartiles fall together.
        ((1.0,) * 75 + (2.0,) * 25, {"up to 1", "above 1"}),
    ],
)
def test_few_or_equal_margins_make_fewer_bands_and_none_is_empty(values, bands):
    rows = margins(*values)

    assert set(add_bands(rows, band_edges(rows))["band"]) == bands


def test_no_pairs_have_no_bands_and_no_strata():
    rows = margins().with_columns(number=pl.Series([], dtype=pl.UInt64))

    turns = rank_for_audit(add_bands(rows, band_edges(rows)))

    assert (draw_audit(turns, 5).height, make_strata(turns, 5).height) == (0, 0)


def test_edges_that_are_close_have_names_that_differ():
    assert band_names([100.001, 100.002]) == ["up to 100.001", "100.001 to 100.002", "above 100.002"]


def test_a_margin_outside_those_drawn_first_falls_into_an_outer_band():
    rows = add_bands(margins(-50, 500), {"real": [25.0]})

    assert rows["band"].to_list() == ["up to 25", "above 25"]


@given(st.lists(st.floats(-1e6, 1e6) | st.none(), max_size=80))
def test_every_pair_has_a_band_and_no_band_is_empty(values):
    rows = margins(*values)
    edges = band_edges(rows)

    found = add_bands(rows, edges)

    assert found["band"].null_count() == 0
    if any(value is not None for value in values):
        assert set(found["band"]) - {"none"} == set(band_names(edges["real"]))


sizes = st.lists(st.integers(1, 60), min_size=1, max_size=12)


@given(sizes, st.integers(0, 200))
def test_the_probabilities_of_all_pairs_add_up_to_the_records(sizes, records):
    turns = rank_for_audit(frame(sizes))
    sample, strata = draw_audit(turns, records), make_strata(turns, records)

    of_all = sum(row["pairs"] * (row["drawn"] / row["pairs"]) for row in strata.iter_rows(named=True))

    assert of_all == pytest.approx(min(records, sum(sizes)))
    assert sample.height == strata["drawn"].sum() == min(records, sum(sizes))
    shares = strata.select("source", share=pl.col("drawn") / pl.col("pairs"))
    joined = sample.join(shares, on="source")
    assert (joined["probability"] == joined["share"]).all()


@given(sizes, st.integers(0, 200))
def test_every_stratum_has_a_record_where_there_are_as_many_and_two_where_there_is_room(sizes, records):
    strata = make_strata(rank_for_audit(frame(sizes)), records)

    if records >= len(sizes):
        assert strata["drawn"].min() >= 1
    if records >= 2 * len(sizes):
        assert (strata["drawn"] >= pl.Series([min(2, size) for size in sizes])).all()
    assert (strata["drawn"] <= strata["pairs"]).all()


@given(sizes, st.integers(0, 100), st.integers(0, 100))
def test_an_extended_audit_is_what_a_larger_one_at_once_is(sizes, records, more):
    turns = rank_for_audit(frame(sizes))

    small, large = draw_audit(turns, records), draw_audit(turns, records + more)

    assert set(small["pair_id"]) <= set(large["pair_id"])
    assert (make_strata(turns, records)["drawn"] <= make_strata(turns, records + more)["drawn"]).all()


@given(sizes, st.integers(1, 100))
def test_a_stratum_gives_its_pairs_with_the_smallest_numbers(sizes, records):
    rows = frame(sizes)
    strata = make_strata(rank_for_audit(rows), records)

    sample = draw_audit(rank_for_audit(rows), records)

    for source, _, _, count in strata.rows():
        smallest = rows.filter(source=source).sort("number").head(count)["pair_id"]
        assert set(smallest) == set(sample.filter(source=source)["pair_id"])


@settings(max_examples=30)
@given(st.lists(st.integers(100, 1000), min_size=2, max_size=10), st.integers(100, 300))
def test_records_are_in_proportion_to_the_pairs(sizes, records):
    strata = make_strata(rank_for_audit(frame(sizes)), records)

    ideal = np.array(sizes) / sum(sizes) * min(records, sum(sizes))
    # Two at least for all of them leaves a little less to the large ones.
    assert np.abs(strata["drawn"].to_numpy() - ideal).max() < 3


def test_the_order_of_the_rows_changes_nothing():
    rows = frame([7, 30, 2])

    one, other = (draw_audit(rank_for_audit(given), 12)["pair_id"].to_list() for given in (rows, rows.reverse()))

    assert one == other


def test_over_many_seeds_each_pair_comes_as_often_as_its_probability_says():
    sizes, records, draws = [5, 20, 3], 9, 2000
    counts = np.zeros(sum(sizes))
    for seed in range(draws):
        sample = draw_audit(rank_for_audit(frame(sizes, seed)), records)
        counts[sample["pair_id"].str.slice(1).cast(pl.Int64).to_numpy()] += 1

    strata = make_strata(rank_for_audit(frame(sizes)), records)
    expected = np.repeat(strata["drawn"].to_numpy() / strata["pairs"].to_numpy(), sizes)
    # Five standard errors of a share of 2,000 draws are at most 0.056.
    assert np.abs(counts / draws - expected).max() < 0.056


def test_a_million_pairs_are_drawn_from_in_seconds():
    rng = np.random.default_rng(0)
    rows = pl.DataFrame({"source": "real", "margin": rng.normal(size=1_000_000), "number": rng.random(1_000_000)})
    started = time.process_time()

    draw_audit(rank_for_audit(add_bands(rows, band_edges(rows))), 80)

    assert time.process_time() - started < 20
