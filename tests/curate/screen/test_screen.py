import math
from typing import Any

import polars as pl
import pytest
from scripted import ScriptedModel

from curate.backends.calls import Answer
from curate.screen.screen import ScreenConfig, screen_pairs, threshold_for_a_quarter
from schemas.names import FLAWS
from schemas.tables import Screened


@pytest.fixture
def screen(recorder):
    """Screens with an embedder that tells prompts apart by their first word alone."""

    def run(pairs: pl.DataFrame, min_margin: float = 0.0, **rules: Any) -> pl.DataFrame:
        words = sorted({messages[-1]["content"].split()[0] for messages in pairs["messages"].to_list()})

        def vector(request):
            word = request.messages[0]["content"].split()[0]
            return Answer(values=tuple(float(word == other) for other in words))

        model = ScriptedModel(vector)
        cfg = ScreenConfig(min_margin, 0.95, model.model, model.digest, **rules)
        return Screened.validate(screen_pairs(pairs.lazy(), cfg, embedder=model, recorder=recorder))

    return run


def numbered(count: int) -> list[str]:
    return [f"word{i} is what this is about" for i in range(count)]


def test_an_empty_table_is_screened_to_an_empty_table(screen, make_pairs):
    assert screen(make_pairs(chosen=["a"]).head(0)).height == 0


def test_pair_on_the_margin_threshold_is_kept(screen, make_pairs):
    pairs = make_pairs(prompt=numbered(3), score_chosen=[1.9, 2.0, None], score_rejected=[1.0, 1.0, None])

    screened = screen(pairs, min_margin=1.0)

    assert screened["dropped_by"].to_list() == ["low_margin", None, None]


def test_the_first_matching_rule_names_the_reason(screen, make_pairs):
    # Each row also breaks every rule after the one it is named by.
    pairs = make_pairs(
        prompt=["same prompt"] * 5,
        pair_id=["a", "b", "c", "d", "e"],
        failed_score=[True, False, False, False, False],
        chosen=["", "", "x", "x", "x"],
        rejected=["", "", "x", "X ", "y"],
        score_chosen=[None, 1.0, 1.0, 1.5, 1.5],
        score_rejected=[None, 1.0, 1.0, 1.0, 1.0],
    )

    screened = screen(pairs, min_margin=2.0)

    assert screened["dropped_by"].to_list() == ["failed_score", "empty", "tie", "identical", "low_margin"]


def test_a_negative_margin_is_low_under_the_default_threshold(screen, make_pairs):
    screened = screen(make_pairs(prompt=numbered(1), score_chosen=[1.0], score_rejected=[2.0]))

    assert screened["dropped_by"].to_list() == ["low_margin"]


@pytest.mark.parametrize(
    ("chosen", "rejected", "reason"),
    [("Yes.", " yes. ", "identical"), ("a\n\nb", "a b", "identical"), ("x > 0", "x < 0", None), ("3.5", "35", None)],
)
def test_sides_equal_but_for_case_and_spacing_are_identical(screen, make_pairs, chosen, rejected, reason):
    screened = screen(make_pairs(prompt=numbered(1), chosen=[chosen], rejected=[rejected]))

    assert screened["dropped_by"].to_list() == [reason]


def test_a_repeated_pair_is_a_duplicate_and_a_repeated_prompt_a_near_duplicate(screen, make_pairs):
    pairs = make_pairs(
        prompt=["one thing"] * 3,
        prompt_id=["a", "a-2", "a-3"],
        pair_id=["aaaaaaaaaaaaaaaa", "aaaaaaaaaaaaaaaa-2", "bbbbbbbbbbbbbbbb"],
        rejected=["no", "no", "other"],
        score_chosen=[2.0, 2.0, 5.0],
    )

    screened = screen(pairs)

    assert screened["dropped_by"].to_list() == ["near_duplicate_prompt", "duplicate_pair", None]
    assert screened["duplicate_of"].to_list() == ["bbbbbbbbbbbbbbbb", "aaaaaaaaaaaaaaaa", None]
    assert screened["similarity"].to_list() == [1.0, None, None]


def test_pairs_of_one_prompt_stay_beside_each_other_but_not_when_they_say_the_same(screen, make_pairs):
    pairs = make_pairs(
        prompt=["one thing"] * 4,
        prompt_id=["a", "a", "a", "b"],
        pair_id=["aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb", "aaaaaaaaaaaaaaaa.2", "cccccccccccccccc"],
        score_chosen=[3.0, 4.0, 2.0, 3.5],
        origin=["synthetic"] * 4,
    )

    screened = screen(pairs)

    assert screened["dropped_by"].to_list() == [None, None, "duplicate_pair", "near_duplicate_prompt"]
    assert screened["duplicate_of"].to_list() == [None, None, "aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb"]


def test_a_ready_pair_that_repeats_a_prompt_is_a_near_duplicate_of_the_better_one(screen, make_pairs):
    screened = screen(make_pairs(prompt=["one thing"] * 2, prompt_id=["a", "a"], score_chosen=[3.0, 4.0]))

    assert screened["dropped_by"].to_list() == ["near_duplicate_prompt", None]


def test_a_margin_not_larger_than_the_noise_is_a_tie_on_either_side_of_zero(screen, make_pairs):
    pairs = make_pairs(prompt=numbered(5), score_chosen=[1.5, 1.25, 0.5, 0.25, None], score_rejected=[1.0] * 4 + [None])

    screened = screen(pairs, noise=0.5)

    assert screened["dropped_by"].to_list() == ["tie", "tie", "tie", "low_margin", None]


def test_a_noise_that_was_never_measured_leaves_equal_scores_alone_as_ties(screen, make_pairs):
    pairs = make_pairs(prompt=numbered(2), score_chosen=[1.0, 1.0 + 1e-12], score_rejected=[1.0, 1.0])

    assert screen(pairs)["dropped_by"].to_list() == ["tie", None]


def test_what_passes_beyond_the_number_to_keep_is_surplus_in_the_order_of_the_prompts(screen, make_pairs):
    pairs = make_pairs(prompt=numbered(4), chosen=["a", "", "c", "d"], score_chosen=[2.0, 9.0, 3.0, 9.0])

    assert screen(pairs, keep=2)["dropped_by"].to_list() == [None, "empty", None, "surplus"]
    assert screen(pairs, keep=3)["dropped_by"].to_list() == [None, "empty", None, None]
    assert screen(pairs, keep=9)["dropped_by"].to_list() == [None, "empty", None, None]


def test_quotas_keep_the_first_of_each_flaw_and_the_first_others_fill_up(screen, make_pairs):
    flaws = [FLAWS[0], FLAWS[0], FLAWS[0], FLAWS[1], None, FLAWS[1]]
    pairs = make_pairs(prompt=numbered(6), flaw=flaws)

    even = screen(pairs, keep=4, quotas=((FLAWS[0], 2), (FLAWS[1], 2)))
    short = screen(pairs, keep=4, quotas=((FLAWS[0], 1), (FLAWS[2], 3)))

    assert even["dropped_by"].to_list() == [None, None, "surplus", None, "surplus", None]
    # None of the third flaw: one of the first by its quota, then three more from the top.
    assert short["dropped_by"].to_list() == [None, None, None, None, "surplus", "surplus"]


def test_a_pair_that_another_rule_dropped_costs_no_other_pair(screen, make_pairs):
    pairs = make_pairs(prompt=["one thing"] * 2, chosen=["", "fine"], score_chosen=[9.0, 2.0])

    assert screen(pairs)["dropped_by"].to_list() == ["empty", None]


def test_the_threshold_for_a_quarter_keeps_at_least_a_quarter():
    margins = [0.1, 0.2, 0.3, 0.4, math.nan]
    screened = pl.DataFrame({"dropped_by": ["low_margin"] * 4 + ["tie"], "margin": margins})

    threshold = threshold_for_a_quarter(screened)

    # The upper quartile of 0.1 to 0.4, taken from above: one of four pairs reaches 0.4.
    assert threshold == 0.4
