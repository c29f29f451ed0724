"""Wins, losses and ties are counted as by hand, and what was not judged is never a loss."""

import random

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.winrate import add_outcomes, count_wins, outcome_points, refuse_equal_responses
from schemas.errors import UserError

score = st.none() | st.integers(-3, 3).map(float) | st.sampled_from([float("nan"), float("inf"), float("-inf")])


def test_equal_scores_are_ties_and_count_half(make_paired):
    paired = make_paired([2.0, 1.0, 0.5, 0.5], [1.0, 2.0, 0.5, 0.5])

    judged = add_outcomes(paired)
    counts = count_wins(judged)

    assert judged["outcome"].to_list() == ["win", "loss", "tie", "tie"]
    assert (counts.n, counts.wins, counts.losses, counts.ties) == (4, 1, 1, 2)
    # (1 + 2/2) / 4 and 1/4
    assert (counts.win_rate, counts.win_rate_strict) == (0.5, 0.25)
    assert outcome_points(judged) == [1.0, 0.0, 0.5, 0.5]


def test_a_missing_score_is_unjudged_and_never_a_loss(make_paired):
    judged = add_outcomes(make_paired([None, 1.0, None, 2.0, float("nan")], [1.0, None, None, 1.0, 0.0]))
    counts = count_wins(judged)

    assert judged["outcome"].to_list() == ["unjudged"] * 3 + ["win", "unjudged"]
    assert counts.unjudged == {"baseline: failed_score": 1, "both: failed_score": 1, "run: failed_score": 2}
    assert (counts.n, counts.win_rate) == (1, 1.0)


def test_a_reason_given_before_judging_is_kept(make_paired):
    counts = count_wins(add_outcomes(make_paired([None, 1.0], [None, 0.0], unjudged=["run: failed_call", None])))

    assert counts.unjudged == {"run: failed_call": 1}


@pytest.mark.parametrize("scores", [[], [None, None]])
def test_nothing_judged_has_no_win_rate(make_paired, scores):
    counts = count_wins(add_outcomes(make_paired(scores, scores)))

    assert (counts.n, counts.win_rate, counts.win_rate_strict, counts.mean_length_run) == (0, None, None, None)
    assert sum(counts.unjudged.values()) == len(scores)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(score, score), max_size=30))
def test_every_prompt_is_counted_once_and_swapping_the_sides_mirrors_the_rate(scores):
    schema = {"response_run": pl.String, "response_baseline": pl.String, "score_run": pl.Float64}
    schema |= {"score_baseline": pl.Float64, "unjudged": pl.String}
    rows = [("r", "b", run, baseline, None) for run, baseline in scores]
    swapped = [("b", "r", baseline, run, None) for run, baseline in scores]

    counts, mirrored = (
        count_wins(add_outcomes(pl.DataFrame(side, schema=schema, orient="row"))) for side in (rows, swapped)
    )

    assert counts.wins + counts.losses + counts.ties == counts.n
    assert counts.n + sum(counts.unjudged.values()) == len(scores)
    assert (counts.wins, counts.losses, counts.ties) == (mirrored.losses, mirrored.wins, mirrored.ties)
    if counts.n:
        assert counts.win_rate == pytest.approx(1 - mirrored.win_rate)


def test_lengths_are_in_characters_and_of_judged_prompts_only(make_paired):
    paired = make_paired(
        [1.0, 0.0, None], [0.0, 1.0, 1.0], response_run=["äöü", "a", "unjudged"], response_baseline=["a", "abcde", "x"]
    )

    counts = count_wins(add_outcomes(paired))

    # (3 + 1) / 2 and (1 + 5) / 2
    assert (counts.mean_length_run, counts.mean_length_baseline) == (2.0, 3.0)


def test_the_longer_response_wins_only_where_there_is_a_winner_and_a_longer_one(make_paired):
    paired = make_paired(
        [1.0, 0.0, 0.0, 1.0, 1.0],
        [0.0, 1.0, 1.0, 1.0, 0.0],
        response_run=["long", "long", "s", "long", "same"],
        response_baseline=["s", "s", "long", "s", "same"],
    )

    counts = count_wins(add_outcomes(paired))

    # rows 1 and 3 are won by the longer one, row 2 by the shorter; row 4 is a tie, row 5 of equal length
    assert (counts.longer_won, counts.decided_by_length) == (2, 3)


def test_responses_without_text_are_counted_on_their_side(make_paired):
    paired = make_paired(
        [1.0, 1.0, None], [0.0, 0.0, None], response_run=["", " \n", None], response_baseline=["x", "<|im_end|>", "y"]
    )

    counts = count_wins(add_outcomes(paired))

    assert (counts.degenerate_run, counts.degenerate_baseline) == (2, 1)


def test_a_random_table_counts_as_a_loop_does(make_paired):
    draw = random.Random(3)
    run, baseline = ([draw.randrange(4) + 0.0 for _ in range(500)] for _ in range(2))

    counts = count_wins(add_outcomes(make_paired(run, baseline)))

    assert counts.wins == sum(a > b for a, b in zip(run, baseline, strict=True))
    assert counts.ties == sum(a == b for a, b in zip(run, baseline, strict=True))


def test_responses_that_are_all_equal_stop_the_evaluation(make_paired):
    paired = make_paired([None] * 3, [None] * 3, response_run=["a", "b", None], response_baseline=["a", "b", "c"])

    with pytest.raises(UserError, match=r"changes no response.*all 2 prompts"):
        refuse_equal_responses(paired, "policy", "base")


@pytest.mark.parametrize("said", [["a", "other"], [None, None]])
def test_one_response_that_differs_is_enough_and_none_at_all_is_no_sameness(make_paired, said):
    refuse_equal_responses(
        make_paired([None] * 2, [None] * 2, response_run=said, response_baseline=["a", "b"]), "policy", "base"
    )
