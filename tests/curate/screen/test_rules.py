"""The rules as data: what of a measured pair breaks one."""

import math
from dataclasses import fields
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.config import Thresholds
from curate.screen.rules import (
    CONTAMINATED_COVERAGE,
    FLAG_RULES,
    NEEDS_VECTORS,
    RULES,
    GuardConfig,
    RulesConfig,
    first_match,
    guard_config,
    guard_rules,
    parse_quantiles,
    row_rules,
)
from curate.screen.text.measure import MeasureConfig, measure_pairs
from schemas.errors import UserError
from schemas.names import FLAGS, GUARDS, SCREEN_REASONS

ON_SCORES = ("low_margin", "low_z_margin", "low_score", "outside_quantiles")
BESIDE = {
    "has_13gram": pl.Boolean,
    "coverage": pl.Float32,
    "chosen_cos_prompt": pl.Float32,
    "chosen_cos_other_prompt": pl.Float32,
    "rejected_cos_prompt": pl.Float32,
    "rejected_cos_other_prompt": pl.Float32,
    "max_cos_eval": pl.Float32,
    "is_unreliable": pl.Boolean,
    "verdict": pl.String,
    "answers": pl.UInt32,
}


@pytest.fixture
def row(make_pairs):
    """One sound pair as the rules see it, with some columns changed."""
    measured = measure_pairs(make_pairs(prompt=["What is it good for?"]), MeasureConfig()).rows

    def make(**changes: Any) -> pl.DataFrame:
        whole = measured.with_columns(pl.lit(None, dtype=kind).alias(name) for name, kind in BESIDE.items())
        return whole.with_columns(pl.Series(name, [value], dtype=whole.schema[name]) for name, value in changes.items())

    return make


def broken(rows: pl.DataFrame, **thresholds: Any) -> list[str]:
    """Every rule that a pair breaks, in order."""
    rules = row_rules(RulesConfig(**thresholds), rows)
    return [name for name, rule in rules.items() if rows.select(rule.fill_null(False)).item()]


def test_a_sound_pair_breaks_no_rule_even_where_nothing_else_is_known(row):
    assert broken(row()) == []


@pytest.mark.parametrize(
    ("verdict", "expected"), [("accept", []), ("swap", []), ("tie", ["human_reject"]), ("reject", ["human_reject"])]
)
def test_what_people_find_bad_or_equal_is_dropped(row, verdict, expected):
    assert broken(row(verdict=verdict, answers=1)) == expected
    assert broken(row(verdict=verdict, answers=1), skip_rule=("human_reject",)) == []


def test_only_what_would_leave_no_build_cannot_be_skipped():
    assert [rule.name for rule in RULES if not rule.can_skip] == ["failed_score", "empty", "over_quota"]


def test_the_rules_that_need_vectors_come_last_and_the_free_ones_first():
    assert NEEDS_VECTORS == ("off_topic", "semantic_duplicate_prompt", "semantic_duplicate_pair")
    assert [rule.name for rule in RULES] == list(SCREEN_REASONS)


def test_every_threshold_that_a_rule_names_can_be_given():
    known = {field.name for field in fields(Thresholds)}

    assert {rule.threshold for rule in RULES if rule.threshold} <= known


@pytest.mark.parametrize("name", [rule.name for rule in RULES if rule.can_skip])
def test_a_skipped_rule_is_not_there(row, name):
    rows = row(response_similarity=1.0, is_identical=True, chosen_foreign_share=1.0, personal=["email"])
    every = {"drop_personal_data": True, "min_score": 99.0, "margin_quantiles": "0.1:0.9"}

    with_it = row_rules(RulesConfig(**every), rows)
    without = row_rules(RulesConfig(**every, skip_rule=(name,)), rows)

    if name in GUARDS:
        assert name not in broken(rows, **every, skip_rule=(name,))
    assert list(without) == [rule for rule in with_it if rule != name]


def test_rules_come_in_the_order_of_the_reasons(row):
    found = list(row_rules(RulesConfig(min_score=1.0, margin_quantiles="0:1"), row()))

    assert found == [name for name in SCREEN_REASONS if name in found]
    assert len(found) == 20


@pytest.mark.parametrize(
    ("changes", "thresholds", "rule"),
    [
        ({"failed_score": True}, {}, "failed_score"),
        ({"margin": 0.0}, {}, "tie"),
        ({"margin": -0.5}, {"noise": 0.5, "skip_rule": ("low_margin",)}, "tie"),
        ({"is_identical": True}, {}, "identical"),
        ({"margin": 0.99}, {"min_margin": 1.0}, "low_margin"),
        ({"z_margin": 0.99}, {"min_z_margin": 1.0}, "low_z_margin"),
        ({"score_chosen": 0.99}, {"min_score": 1.0}, "low_score"),
        ({"response_similarity": 0.99}, {}, "similar_responses"),
        ({"personal": ["phone"]}, {"drop_personal_data": True}, "personal_data"),
        ({"has_13gram": True, "coverage": 0.1}, {}, "contaminated"),
        ({"has_13gram": False, "coverage": CONTAMINATED_COVERAGE}, {}, "contaminated"),
        ({"chosen_cos_prompt": 0.25, "chosen_cos_other_prompt": 0.75}, {"max_topic_gap": 0.25}, "off_topic"),
        ({"rejected_cos_prompt": 0.25, "rejected_cos_other_prompt": 0.75}, {"max_topic_gap": 0.25}, "off_topic"),
    ],
)
def test_what_goes_over_a_threshold_breaks_the_rule(row, changes, thresholds, rule):
    assert broken(row(**changes), **thresholds) == [rule]


@pytest.mark.parametrize(
    ("changes", "thresholds"),
    [
        ({"margin": 1.0}, {"min_margin": 1.0}),
        ({"margin": None}, {"min_margin": 1.0, "noise": 5.0}),
        ({"z_margin": 1.0}, {"min_z_margin": 1.0}),
        ({"z_margin": None}, {"min_z_margin": 1.0}),
        ({"score_chosen": 1.0}, {"min_score": 1.0}),
        ({"score_chosen": None}, {"min_score": 1.0}),
        ({"response_similarity": 0.75}, {"max_response_similarity": 0.75}),
        ({"personal": ["email"]}, {}),
        ({"personal": []}, {"drop_personal_data": True}),
        ({"has_13gram": False, "coverage": 0.4375}, {}),
        ({"chosen_cos_prompt": 0.25, "chosen_cos_other_prompt": 0.5}, {"max_topic_gap": 0.25}),
        ({"chosen_cos_prompt": 0.25, "chosen_cos_other_prompt": None}, {"max_topic_gap": 0.0}),
        ({"chosen_cos_prompt": None, "chosen_cos_other_prompt": 0.9}, {"max_topic_gap": 0.0}),
        ({"chosen_repetition_share": 0.5}, {"max_repetition": 0.5}),
        ({"chosen_echo_share": 0.5}, {"max_echo": 0.5}),
        ({"chosen_foreign_share": 0.5}, {"max_other_language": 0.5}),
        ({"chosen_tokens": 5}, {"min_tokens": 5}),
        ({"chosen_cut": "maybe"}, {}),
        ({"chosen_tokens": 1, "chosen_is_short_answer": True}, {"min_tokens": 3}),
    ],
)
def test_what_lies_on_a_threshold_or_is_unknown_breaks_no_rule(row, changes, thresholds):
    assert broken(row(**changes), **thresholds) == []


def test_a_margin_that_is_no_number_is_not_kept_by_the_rules_on_margins(row):
    assert broken(row(margin=math.nan, failed_score=True), min_margin=1.0)[0] == "failed_score"


GUARDED = [
    ("empty", "empty", True),
    ("too_short", "tokens", 1),
    ("truncated", "cut", "yes"),
    ("broken_encoding", "broken", True),
    ("leaked_tokens", "leaked", True),
    ("prompt_echo", "echo_share", 1.0),
    ("repetition", "repetition_share", 1.0),
    ("wrong_language", "foreign_share", 1.0),
]


def test_every_guard_has_a_case():
    assert [guard for guard, _, _ in GUARDED] == list(GUARDS)


@pytest.mark.parametrize(("guard", "column", "value"), GUARDED)
def test_a_guard_holds_for_either_side_unless_the_rejected_one_may_break_it(row, guard, column, value):
    chosen, rejected = row(**{f"chosen_{column}": value}), row(**{f"rejected_{column}": value})
    written = rejected.with_columns(flaw=pl.lit("truncation").cast(rejected.schema["flaw"]))

    assert broken(chosen) == broken(rejected) == [guard]
    assert broken(chosen, allow_degenerate_rejected=True) == [guard]
    assert broken(rejected, allow_degenerate_rejected=True) == []
    assert broken(written) == []


def test_a_written_flaw_may_be_off_topic_on_the_rejected_side_alone(row):
    away = {"chosen_cos_prompt": 0.0, "chosen_cos_other_prompt": 0.9}
    flaw = {"flaw": "off_topic"}

    assert broken(row(**flaw, rejected_cos_prompt=0.0, rejected_cos_other_prompt=0.9)) == []
    assert broken(row(**flaw, **away)) == ["off_topic"]


def test_the_guards_go_by_the_thresholds_and_skip_only_what_is_a_guard():
    cfg = Thresholds(
        min_tokens=7,
        max_repetition=0.1,
        max_echo=0.2,
        max_other_language=0.3,
        skip_rule=("tie", "truncated", "off_topic"),
    )

    values = (("max_echo", 0.2), ("max_other_language", 0.3), ("max_repetition", 0.1), ("min_tokens", 7))
    assert guard_config(cfg) == GuardConfig(values, ("truncated",))


def test_the_guards_come_in_the_order_of_their_names_without_those_to_skip():
    assert tuple(guard_rules("chosen", guard_config(Thresholds()))) == GUARDS
    assert tuple(guard_rules("chosen", guard_config(Thresholds(skip_rule=("empty",))))) == GUARDS[1:]


@pytest.mark.parametrize(
    ("changes", "flag"),
    [
        ({"chosen_refuses": True}, "refusal_chosen"),
        ({"rejected_refuses": True}, "refusal_rejected"),
        ({"chosen_cut": "maybe"}, "maybe_truncated"),
        ({"rejected_cut": "maybe"}, "maybe_truncated"),
        ({"is_unreliable": True}, "scorer_unreliable"),
        ({"max_cos_eval": 0.9375}, "near_evaluation"),
        ({"answers": 2}, "needs_review"),
    ],
)
def test_each_flag_has_its_sign(row, changes, flag):
    assert flags(row(**changes)) == [flag]


def flags(rows: pl.DataFrame) -> list[str]:
    return [rule.name for rule in FLAG_RULES if rows.select(rule.value.fill_null(False)).item()]


def test_every_flag_has_a_rule():
    assert [rule.name for rule in FLAG_RULES] == list(FLAGS)


def test_what_is_unknown_or_asked_for_is_not_flagged(row):
    assert flags(row()) == []
    assert flags(row(max_cos_eval=0.875)) == []
    assert flags(row(rejected_cut="maybe", flaw="truncation")) == []


def test_the_first_rule_that_is_true_is_named_and_null_is_not_true():
    rows = pl.DataFrame({"a": [None, False, True, None], "b": [True, True, True, None]})
    rules = {"first": pl.col("a"), "second": pl.col("b")}

    assert rows.select(first_match(rules)).to_series().to_list() == ["second", "second", "first", None]
    assert rows.select(first_match({})).to_series().to_list() == [None]


def dropped(cfg, margin, z_margin=None, score_chosen=None):
    """The names of the rules about scores that each pair breaks."""
    count = len(margin)
    measured = pl.DataFrame(
        {"margin": margin, "z_margin": z_margin or [None] * count, "score_chosen": score_chosen or [None] * count},
        schema={"margin": pl.Float64, "z_margin": pl.Float64, "score_chosen": pl.Float64},
    )
    rules = row_rules(cfg, measured)
    rows = measured.select(rules[name].fill_null(False).alias(name) for name in ON_SCORES if name in rules).to_dicts()
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
