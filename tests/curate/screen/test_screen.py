import math

import polars as pl
import pytest
from scripted import ScriptedModel

from curate.backends.calls import Answer
from curate.screen.screen import ScreenConfig, screen_pairs, threshold_for_a_quarter
from schemas.tables import Screened


@pytest.fixture
def screen(recorder):
    """Screens with an embedder that tells prompts apart by their first word alone."""

    def run(pairs: pl.DataFrame, min_margin: float = 0.0) -> pl.DataFrame:
        words = sorted({messages[-1]["content"].split()[0] for messages in pairs["messages"].to_list()})

        def vector(request):
            word = request.messages[0]["content"].split()[0]
            return Answer(values=tuple(float(word == other) for other in words))

        model = ScriptedModel(vector)
        cfg = ScreenConfig(min_margin, 0.95, model.model, model.digest)
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
        pair_id=["aaaaaaaaaaaaaaaa", "aaaaaaaaaaaaaaaa-2", "bbbbbbbbbbbbbbbb"],
        rejected=["no", "no", "other"],
        score_chosen=[2.0, 2.0, 5.0],
    )

    screened = screen(pairs)

    assert screened["dropped_by"].to_list() == ["near_duplicate_prompt", "duplicate_pair", None]
    assert screened["duplicate_of"].to_list() == ["bbbbbbbbbbbbbbbb", "aaaaaaaaaaaaaaaa", None]
    assert screened["similarity"].to_list() == [1.0, None, None]


def test_a_pair_that_another_rule_dropped_costs_no_other_pair(screen, make_pairs):
    pairs = make_pairs(prompt=["one thing"] * 2, chosen=["", "fine"], score_chosen=[9.0, 2.0])

    assert screen(pairs)["dropped_by"].to_list() == ["empty", None]


def test_the_threshold_for_a_quarter_keeps_at_least_a_quarter():
    margins = [0.1, 0.2, 0.3, 0.4, math.nan]
    screened = pl.DataFrame({"dropped_by": ["low_margin"] * 4 + ["tie"], "margin": margins})

    threshold = threshold_for_a_quarter(screened)

    # The upper quartile of 0.1 to 0.4, taken from above: one of four pairs reaches 0.4.
    assert threshold == 0.4
