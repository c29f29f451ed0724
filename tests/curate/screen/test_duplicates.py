import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from curate.screen.duplicates import near_prompts, same_text


def rows(margins, ids=None, prompts=None):
    """Pairs, each of a prompt of its own where not said otherwise."""
    ids = ids or [f"p{i}" for i in range(len(margins))]
    schema = {"pair_id": pl.String, "prompt_id": pl.String, "margin": pl.Float64}
    return pl.DataFrame({"pair_id": ids, "prompt_id": prompts or ids, "margin": margins}, schema=schema)


def at_angles(*degrees):
    radians = np.radians(np.array(degrees, dtype=np.float64))
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


def test_no_pairs_have_no_duplicates():
    assert near_prompts(rows([]), np.zeros((0, 0), np.float32), 0.95) == {}


def test_of_two_alike_the_larger_margin_stays():
    assert near_prompts(rows([1.0, 2.0]), at_angles(0, 1), 0.95).keys() == {"p0"}


def test_of_two_alike_with_equal_margins_the_smaller_id_stays():
    assert near_prompts(rows([1.0, 1.0], ["b", "a"]), at_angles(0, 1), 0.95).keys() == {"b"}


def test_a_pair_without_a_margin_goes_before_one_with_a_margin():
    assert near_prompts(rows([None, -5.0]), at_angles(0, 1), 0.95).keys() == {"p0"}


def test_a_chain_does_not_delete_the_pair_that_is_unlike_the_one_kept():
    # cos 15 degrees is 0.966 and cos 30 degrees 0.866: each is like its neighbour only.
    found = near_prompts(rows([3.0, 2.0, 1.0]), at_angles(0, 15, 30), 0.95)

    assert found.keys() == {"p1"}


def test_the_cosine_on_the_threshold_is_a_duplicate():
    vectors = np.array([[1.0, 0.0], [0.5, np.sqrt(0.75)]], dtype=np.float32)

    assert near_prompts(rows([2.0, 1.0]), vectors, 0.5).keys() == {"p1"}


def test_the_same_text_is_kept_once_with_the_larger_margin():
    pairs = rows([1.0, 2.0, 3.0], ["aaaaaaaaaaaaaaaa", "aaaaaaaaaaaaaaaa-2", "bbbbbbbbbbbbbbbb"])

    assert same_text(pairs.with_columns(text_key=pl.col("pair_id").str.slice(0, 16))) == {
        "aaaaaaaaaaaaaaaa": "aaaaaaaaaaaaaaaa-2"
    }


def test_pairs_of_one_prompt_are_never_near_duplicates_of_each_other():
    assert near_prompts(rows([1.0, 2.0], prompts=["a", "a"]), at_angles(0), 0.95) == {}


def test_a_prompt_falls_with_all_its_pairs_to_the_best_pair_of_the_prompt_with_the_largest_margin():
    pairs = rows([1.0, 2.0, 3.0, 0.5], ["a1", "b1", "a2", "b2"], ["a", "b", "a", "b"])

    assert near_prompts(pairs, at_angles(0, 0), 0.95) == {"b1": ("a2", 1.0), "b2": ("a2", 1.0)}


def test_the_margin_that_counts_is_the_largest_of_the_prompt():
    pairs = rows([2.0, 1.0, 3.0], ["a1", "b1", "b2"], ["a", "b", "b"])

    assert near_prompts(pairs, at_angles(0, 0), 0.95).keys() == {"a1"}


@given(st.lists(st.tuples(st.integers(0, 8), st.none() | st.integers(-2, 2).map(float)), max_size=40))
def test_every_dropped_pair_is_like_a_kept_one_and_no_two_kept_prompts_are_alike(points):
    # Prompt k lies at 12·k degrees: cos 12 is 0.978, cos 24 is 0.914.
    pairs = rows([margin for _, margin in points], None, [str(place) for place, _ in points])
    angles = {pair_id: 12 * place for pair_id, (place, _) in zip(pairs["pair_id"], points, strict=True)}
    prompts = dict.fromkeys(place for place, _ in points)

    found = near_prompts(pairs, at_angles(*(12 * place for place in prompts)), 0.95)

    for pair_id, (other, _) in found.items():
        assert other not in found
        assert abs(angles[pair_id] - angles[other]) == 12
    kept = {angles[pair_id] for pair_id in angles if pair_id not in found}
    assert not any(angle + 12 in kept for angle in kept)
    assert not kept & {angles[pair_id] for pair_id in found}


@given(st.lists(st.tuples(st.integers(0, 359), st.none() | st.integers(-2, 2).map(float)), max_size=40))
def test_every_dropped_pair_is_like_a_kept_one_and_no_two_kept_ones_are_alike(points):
    pairs, vectors = rows([margin for _, margin in points]), at_angles(*(angle for angle, _ in points))

    found = near_prompts(pairs, vectors, 0.95)

    index = {pair_id: i for i, pair_id in enumerate(pairs["pair_id"])}
    kept = [i for pair_id, i in index.items() if pair_id not in found]
    for pair_id, (other, cosine) in found.items():
        assert other not in found
        assert cosine >= 0.95
        assert vectors[index[pair_id]] @ vectors[index[other]] >= 0.949
    alike = vectors[kept] @ vectors[kept].T if kept else np.zeros((0, 0))
    assert (alike - 2 * np.eye(len(kept)) < 0.9501).all()
