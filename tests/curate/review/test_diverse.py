"""Records that are unlike each other."""

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from curate.review.diverse import draw_pool, has_small_margin, pick_farthest_first, spread_over_groups

NOTHING = np.empty((0, 2), np.float32)


def directions(*degrees: float) -> np.ndarray:
    angles = np.radians(np.array(degrees))
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_the_next_one_is_the_farthest_from_all_before_it():
    assert pick_farthest_first(directions(0, 10, 170, 90), NOTHING, 3).tolist() == [0, 2, 3]


def test_what_is_taken_already_keeps_its_like_out():
    assert pick_farthest_first(directions(0, 10, 170, 90), directions(1, 172), 2).tolist() == [3, 1]


def test_a_text_without_vector_comes_last():
    vectors = directions(0, 0, 0)
    vectors[1] = np.nan

    assert pick_farthest_first(vectors, np.full((1, 2), np.nan, np.float32), 3).tolist() == [0, 2, 1]


def test_where_all_are_wanted_all_come_and_none_twice():
    assert sorted(pick_farthest_first(directions(5, 5, 5), NOTHING, 7).tolist()) == [0, 1, 2]
    assert pick_farthest_first(NOTHING, directions(1), 2).tolist() == []


@given(st.lists(st.floats(0, 360), min_size=1, max_size=20), st.integers(1, 20))
def test_no_vector_is_chosen_twice(degrees, records):
    chosen = pick_farthest_first(directions(*degrees), NOTHING, records).tolist()

    assert len(set(chosen)) == len(chosen) == min(records, len(degrees))


def test_a_margin_is_small_in_the_lower_half_of_its_source_or_where_it_is_missing():
    rows = pl.DataFrame({"source": ["a"] * 4 + ["b"], "margin": [4.0, 1.0, 2.0, 3.0, None]})

    assert rows.select(has_small_margin()).to_series().to_list() == [False, True, True, False, True]


def test_the_pool_has_pairs_of_small_margin_alone_while_these_last():
    rows = pl.DataFrame({"is_small": [True] * 30 + [False] * 70, "number": range(99, -1, -1)})

    assert draw_pool(rows, 2)["is_small"].to_list() == [True] * 20
    assert draw_pool(rows, 20)["is_small"].to_list() == [True] * 30
    assert draw_pool(rows, 40)["is_small"].to_list() == [True] * 30 + [False] * 10
    assert draw_pool(rows, 2)["number"].is_sorted()


def test_the_pool_of_a_large_dataset_is_bounded():
    rows = pl.DataFrame({"is_small": [True] * 20_000, "number": range(20_000)})

    assert (draw_pool(rows, 900).height, draw_pool(rows, 6_000).height) == (5_000, 6_000)


def test_each_group_comes_once_before_any_comes_twice():
    rows = pl.DataFrame({"prompt_group": ["a", "a", "a", "b", "c", "b"]})

    assert spread_over_groups(rows, 4)["prompt_group"].to_list() == ["a", "b", "c", "a"]
    assert spread_over_groups(rows, 9)["prompt_group"].to_list() == ["a", "b", "c", "a", "b", "a"]
