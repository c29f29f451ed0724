import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.mix.draw import (
    LENGTH_STRATA,
    balance_strata,
    cap_groups,
    length_strata,
    order_rows,
    random_count,
    random_share,
    reach_ratio,
)
from curate.mix.recipe import Recipe, Source
from schemas.errors import UserError

seeds = st.integers(0, 3)


def rows_of(count, **columns):
    """Rows of a source, unless a column says otherwise."""
    whole = {
        "pair_id": [f"{i:016x}" for i in range(count)],
        "at": range(count),
        "source": ["sft"] * count,
        **columns,
    }
    return pl.DataFrame(whole)


def ids(rows):
    return rows["pair_id"].to_list()


@given(st.integers(0, 60), st.integers(0, 70), st.integers(0, 70), st.floats(0.01, 1), seeds)
def test_a_larger_count_contains_the_smaller_and_a_share_is_a_count(rows, one, two, share, seed):
    pairs = rows_of(rows)
    small, large = sorted((one, two))

    assert set(ids(random_count(pairs, small, seed))) <= set(ids(random_count(pairs, large, seed)))
    assert random_count(pairs, large, seed).height == min(large, rows)
    assert ids(random_share(pairs, share, seed)) == ids(random_count(pairs, round(share * rows), seed))


@given(st.permutations(range(12)), st.integers(1, 12), seeds)
def test_the_order_of_the_rows_decides_nothing(order, count, seed):
    pairs = rows_of(12, prompt_group=["g"] * 12)

    assert ids(random_count(pairs[order], count, seed)) == ids(random_count(pairs, count, seed))
    assert set(ids(cap_groups(pairs[order], count, seed))) == set(ids(cap_groups(pairs, count, seed)))


@given(st.lists(st.integers(0, 5), max_size=40), st.integers(1, 6), st.integers(1, 6), seeds)
def test_a_cap_leaves_so_many_pairs_of_each_group_in_their_order(groups, one, two, seed):
    pairs = rows_of(len(groups), prompt_group=[str(group) for group in groups]).cast({"prompt_group": pl.String})
    small, large = sorted((one, two))

    capped = cap_groups(pairs, small, seed)

    assert capped["at"].is_sorted()
    assert set(ids(capped)) <= set(ids(cap_groups(pairs, large, seed)))
    assert dict(capped["prompt_group"].value_counts().rows()) == {
        str(group): min(small, groups.count(group)) for group in set(groups)
    }


def recipe_of(seed=0, **fields):
    return Recipe("v1", seed, 0.1, (Source("sft", 1.0),), **fields)


def origins(real, synthetic):
    return rows_of(real + synthetic, origin=["real"] * real + ["synthetic"] * synthetic)


def counted(rows):
    counts = dict(rows["origin"].value_counts().rows())
    return counts.get("real", 0), counts.get("synthetic", 0)


@given(st.integers(1, 40), st.integers(1, 40), st.floats(0.01, 5), st.floats(0.01, 5), seeds)
def test_add_keeps_all_real_pairs_and_at_most_the_ratio_of_synthetic_ones(real, synthetic, one, two, seed):
    train = origins(real, synthetic)
    small, large = sorted((one, two))

    fewer, more = (reach_ratio(train, recipe_of(seed, ratio=ratio)) for ratio in (small, large))

    assert counted(fewer) == (real, min(synthetic, round(small * real)))
    assert set(ids(fewer)) <= set(ids(more))
    assert fewer["at"].is_sorted()


@given(st.integers(1, 40), st.floats(0.01, 5), st.floats(0.01, 5), seeds)
def test_replace_keeps_the_number_of_rows_and_draws_both_sides_by_hash(real, one, two, seed):
    train = origins(real, real)
    small, large = sorted((one, two))

    fewer, more = (reach_ratio(train, recipe_of(seed, ratio=ratio, mode="replace")) for ratio in (small, large))

    assert counted(fewer)[1] == round(real * small / (1 + small))
    assert fewer.height == more.height == real
    synthetic, kept = (pl.col("origin") == origin for origin in ("synthetic", "real"))
    assert set(ids(fewer.filter(synthetic))) <= set(ids(more.filter(synthetic)))
    assert set(ids(fewer.filter(kept))) >= set(ids(more.filter(kept)))


@pytest.mark.parametrize(
    ("real", "synthetic", "fields", "problem"),
    [
        (0, 3, {"ratio": 1.0}, "has no real training pair"),
        (3, 0, {"ratio": 1.0}, "has no synthetic training pair"),
        (8, 3, {"ratio": 1.0, "mode": "replace"}, "needs 4 synthetic training pairs for ratio 1 in 8 rows, and has 3"),
        (3, 8, {"ratio": 1.0, "mode": "replace", "rows": 8}, "needs 4 real training pairs .* and has 3"),
    ],
)
def test_a_ratio_that_cannot_be_reached_is_refused_with_what_there_is(real, synthetic, fields, problem):
    with pytest.raises(UserError, match=problem):
        reach_ratio(origins(real, synthetic), recipe_of(**fields))


def test_given_rows_are_the_rows_of_replace():
    assert counted(reach_ratio(origins(30, 30), recipe_of(ratio=0.25, mode="replace", rows=20))) == (16, 4)


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9000)), min_size=1, max_size=60),
    st.sampled_from([("length",), ("source",), ("length", "source")]),
    seeds,
)
def test_strata_are_equal_and_the_smallest_is_whole(rows, strata, seed):
    train = rows_of(len(rows), source=[source for source, _ in rows], length=[length for _, length in rows])
    named = train.with_columns(stratum=length_strata(train["length"]) if "length" in strata else pl.lit(0))
    keys = ["stratum", *(["source"] if "source" in strata else [])]

    balanced = balance_strata(train, strata, seed)

    sizes = named.group_by(keys).len()["len"].to_list()
    kept = named.join(balanced.select("pair_id"), on="pair_id", how="semi").group_by(keys).len()["len"].to_list()
    assert kept == [min(sizes)] * len(sizes)
    assert balanced.columns == train.columns
    assert balanced["at"].is_sorted()


def test_edges_of_length_lie_in_equal_ratios():
    # the 5% and 95% quantiles are 16 and 256, so the edges are 32, 64 and 128
    lengths = pl.Series([1, *[16] * 8, 32, 33, 64, 65, 128, 129, *[256] * 4, 9999])

    assert length_strata(lengths).to_list() == [0] * 10 + [1] * 2 + [2] * 2 + [3] * 6


def test_lengths_that_are_all_equal_are_one_stratum():
    assert length_strata(pl.Series([7] * 5)).n_unique() == 1
    assert length_strata(pl.Series([0] * 5)).n_unique() == 1
    assert length_strata(pl.Series(range(1, 1000))).n_unique() == LENGTH_STRATA


@given(st.lists(st.sampled_from("abc"), max_size=40), st.sets(st.sampled_from("abcd")), seeds)
def test_a_preserved_source_keeps_its_order_and_the_places_of_its_rows(names, preserved, seed):
    rows = rows_of(len(names), source=names).cast({"source": pl.String, "pair_id": pl.String})

    ordered, shuffled = order_rows(rows, preserved, seed), order_rows(rows, (), seed)

    assert ordered["source"].to_list() == shuffled["source"].to_list()
    assert sorted(ids(ordered)) == sorted(ids(rows))
    for name in set(names):
        own = ordered.filter(source=name)["at"].to_list()
        assert own == (sorted(own) if name in preserved else shuffled.filter(source=name)["at"].to_list())
