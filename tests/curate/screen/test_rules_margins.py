import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.screen.rules import RulesConfig, margin_rules, parse_quantiles
from schemas.errors import UserError


def dropped(cfg, margin, z_margin=None, score_chosen=None):
    """The names of the rules about scores that each pair breaks."""
    count = len(margin)
    measured = pl.DataFrame(
        {"margin": margin, "z_margin": z_margin or [None] * count, "score_chosen": score_chosen or [None] * count},
        schema={"margin": pl.Float64, "z_margin": pl.Float64, "score_chosen": pl.Float64},
    )
    rules = margin_rules(cfg, measured)
    rows = measured.select(rule.fill_null(False).alias(name) for name, rule in rules.items()).to_dicts()
    return [[name for name, is_broken in row.items() if is_broken] for row in rows]


def test_what_lies_on_a_threshold_is_kept_and_so_is_a_pair_without_scores():
    cfg = RulesConfig(min_margin=1.0, min_z_margin=2.0, min_score=3.0)

    found = dropped(cfg, [1.0, 0.9, None, 1.0, 1.0], [2.0, 2.0, None, 1.9, None], [3.0, 3.0, None, 3.0, 2.9])

    assert found == [[], ["low_margin"], [], ["low_z_margin"], ["low_score"]]


def test_a_pair_whose_rejected_response_scores_higher_is_dropped_without_any_threshold():
    assert dropped(RulesConfig(), [-0.1, 0.0, None]) == [["low_margin"], [], []]


def test_margins_on_the_quantiles_are_kept():
    # Of 1 to 11 the quantiles 0.1 and 0.9 lie at places 1 and 9, counted from 0: 2 and 10.
    found = dropped(RulesConfig(margin_quantiles="0.1:0.9"), [float(margin) for margin in range(1, 12)])

    assert [i + 1 for i, names in enumerate(found) if names] == [1, 11]


def test_margins_that_tie_on_a_quantile_are_all_kept():
    assert dropped(RulesConfig(margin_quantiles="0.2:0.8"), [1.0] * 5 + [2.0]) == [[]] * 5 + [["outside_quantiles"]]


def test_quantiles_leave_out_ties_and_pairs_without_margin():
    # Without those up to the noise 1 to 5 are left, whose lower quartile is 2.
    margins = [None, 0.0, 0.5, -0.5, 1.0, 2.0, 3.0, 4.0, 5.0]

    found = dropped(RulesConfig(margin_quantiles="0.25:1", noise=0.5, min_margin=0.0), margins)

    assert [names for margin, names in zip(margins, found, strict=True) if margin in (None, 1.0, 2.0, 5.0)] == [
        [],
        ["outside_quantiles"],
        [],
        [],
    ]


@pytest.mark.parametrize("margins", [[], [None, None], [0.0, 0.0]])
def test_without_any_margin_no_pair_lies_outside_of_the_quantiles(margins):
    assert dropped(RulesConfig(margin_quantiles="0.1:0.9"), margins) == [[] for _ in margins]


@given(st.lists(st.floats(0.01, 1e6), min_size=1), st.floats(0, 0.49), st.floats(0.51, 1))
def test_the_margins_between_the_quantiles_are_kept(margins, low, high):
    found = dropped(RulesConfig(margin_quantiles=f"{low}:{high}"), margins)

    cut = sum(bool(names) for names in found)
    # At most q (n - 1) + 0.5 of n values lie under the one nearest to the quantile q.
    assert cut <= (low + 1 - high) * (len(margins) - 1) + 1
    assert cut < len(margins)


@pytest.mark.parametrize(("text", "ends"), [("0.1:0.9", (0.1, 0.9)), ("0:1", (0.0, 1.0)), (" .5 : 1 ", (0.5, 1.0))])
def test_quantiles_are_two_numbers(text, ends):
    assert parse_quantiles(text) == ends


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("0.1", "is not LOW:HIGH, for example 0.1:0.9"),
        ("0.1:", "is not LOW:HIGH"),
        ("0.1:0.5:0.9", "is not LOW:HIGH"),
        ("10%:90%", "is not LOW:HIGH"),
        ("0.5:0.5", "must be 0 <= LOW < HIGH <= 1"),
        ("0.9:0.1", "must be 0 <= LOW"),
        ("-0.1:0.9", "must be 0 <= LOW"),
        ("0.1:1.1", "must be 0 <= LOW"),
        ("nan:0.9", "must be 0 <= LOW"),
        ("0.1:nan", "must be 0 <= LOW"),
    ],
)
def test_what_is_no_range_of_quantiles_is_the_users_mistake(text, sentence):
    with pytest.raises(UserError) as refused:
        parse_quantiles(text)

    assert sentence in str(refused.value)
