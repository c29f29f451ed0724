import math

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.pairs import PairConfig, make_pairs
from curate.parts import frame
from schemas.ids import prompt_group, prompt_key
from schemas.tables import Candidate, Pair, Prompt, Score

MESSAGES = [{"role": "user", "content": "Name a colour."}]
PROMPT_ID = prompt_key(MESSAGES)


def tables(*candidates: tuple[str, float | None]) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """One prompt and its candidates as (response, score)."""
    prompts = frame(
        Prompt, [{"prompt_id": PROMPT_ID, "messages": MESSAGES, "group": prompt_group(MESSAGES)}] if candidates else []
    )
    drawn = [
        {
            "candidate_id": f"c{i}",
            "prompt_id": PROMPT_ID,
            "sample_index": i,
            "response": response,
            "finish_reason": "stop",
            "call_id": f"call{i}",
        }
        for i, (response, _) in enumerate(candidates)
    ]
    scores = [
        {
            "candidate_id": f"c{i}",
            "scorer": "scripted",
            "prompt_id": PROMPT_ID,
            "score": score,
            "reason": None if score is not None else "failed",
            "call_id": "x",
        }
        for i, (_, score) in enumerate(candidates)
    ]
    return prompts, frame(Candidate, drawn), frame(Score, scores)


def pair_of(*candidates: tuple[str, float | None]) -> dict[str, object]:
    return make_pairs(*tables(*candidates), PairConfig()).rows.row(0, named=True)


def test_no_prompts_give_no_pairs_and_drop_nothing():
    made = make_pairs(*tables(), PairConfig())

    assert (made.rows.height, made.dropped.height) == (0, 0)
    assert made.rows.schema == Pair.create_empty().schema


def test_an_empty_best_response_is_never_chosen_and_does_not_cost_the_prompt():
    pair = pair_of(("", 9.0), (" \u200b<|im_end|>\n", 8.0), ("red", 2.0), ("blue", 1.0))

    assert (pair["chosen"], pair["rejected"]) == ("red", "blue")


def test_an_empty_worst_response_is_never_rejected():
    pair = pair_of(("red", 2.0), ("blue", 1.0), ("", -5.0))

    assert (pair["chosen"], pair["rejected"]) == ("red", "blue")


def test_equal_scores_make_a_pair_of_equal_scores_for_screening_to_drop():
    pair = pair_of(("red", 1.0), ("blue", 1.0))

    assert (pair["chosen"], pair["rejected"], pair["score_chosen"]) == ("red", "blue", 1.0)


def test_among_equally_good_responses_the_earlier_sample_is_chosen():
    pair = pair_of(("worst", 0.0), ("first best", 3.0), ("second best", 3.0))

    assert pair["chosen"] == "first best"


@pytest.mark.parametrize("score", [None, math.nan, math.inf, -math.inf])
def test_a_score_that_failed_is_set_aside_and_not_read_as_a_low_one(score):
    pair = pair_of(("red", 2.0), ("failed", score), ("blue", 1.0))

    assert (pair["chosen"], pair["rejected"]) == ("red", "blue")


def test_fewer_than_two_scored_responses_drop_the_prompt_as_failed_score():
    made = make_pairs(*tables(("red", 2.0), ("blue", None)), PairConfig())

    assert made.rows.is_empty()
    assert made.dropped["reason"].to_list() == ["failed_score"]


def test_fewer_than_two_responses_with_text_drop_the_prompt_as_empty():
    made = make_pairs(*tables(("red", 2.0), ("", 3.0), ("  ", 1.0)), PairConfig())

    assert made.dropped["reason"].to_list() == ["empty"]


@given(
    st.lists(
        st.tuples(st.sampled_from(["", " ", "a", "b", "c"]), st.none() | st.integers(-3, 3).map(float)), min_size=1
    )
)
def test_every_prompt_becomes_one_pair_or_one_dropped_row_and_chosen_scores_at_least_rejected(candidates):
    made = make_pairs(*tables(*candidates), PairConfig())

    assert made.rows.height + made.dropped.height == 1
    for pair in made.rows.to_dicts():
        assert pair["score_chosen"] >= pair["score_rejected"]
        assert pair["chosen"].strip() and pair["rejected"].strip()
