import math
from typing import Any

import polars as pl
import pytest

from curate.screen.rules import RulesConfig
from curate.screen.screen import screen_pairs
from curate.screen.text.measure import MeasureConfig, measure_pairs
from schemas.names import FLAWS
from schemas.tables import Contaminated, EvalProximity, Probed, Screened, Similar, Topicality, Verdict


@pytest.fixture
def screen():
    """Screens pairs after measuring them; what other tables say is given as their rows."""

    def run(pairs: pl.DataFrame, changes: dict[str, list[Any]] | None = None, **given: Any) -> pl.DataFrame:
        measured = measure_pairs(pairs, MeasureConfig()).rows
        for name, values in (changes or {}).items():
            measured = measured.with_columns(pl.Series(name, values, dtype=measured.schema[name]))
        tables = [
            pl.DataFrame(given.pop(name, []), schema=schema.create_empty().schema, orient="row").lazy()
            for name, schema in (
                ("contaminated", Contaminated),
                ("placed", Topicality),
                ("near", EvalProximity),
                ("probed", Probed),
                ("judged", Verdict),
                ("lexical", Similar),
                ("semantic", Similar),
            )
        ]
        return Screened.validate(screen_pairs(measured.lazy(), *tables, RulesConfig(**given)))

    return run


def dropped(screened: pl.DataFrame) -> list[str | None]:
    return screened["dropped_by"].to_list()


def numbered(count: int) -> list[str]:
    return [f"What is the thing with number {i} about?" for i in range(count)]


def alike(left: int, right: int, kind: str, similarity: float) -> dict[str, Any]:
    return {"left": left, "right": right, "kind": kind, "similarity": similarity}


def test_an_empty_table_is_screened_to_an_empty_table(screen, make_pairs):
    assert screen(make_pairs(chosen=["a"]).head(0)).height == 0


def test_one_pair_is_screened(screen, make_pairs):
    assert dropped(screen(make_pairs(prompt=numbered(1)))) == [None]


def test_pair_on_the_margin_threshold_is_kept(screen, make_pairs):
    pairs = make_pairs(prompt=numbered(3), score_chosen=[1.9, 2.0, None], score_rejected=[1.0, 1.0, None])

    assert dropped(screen(pairs, min_margin=1.0)) == ["low_margin", None, None]


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

    assert dropped(screen(pairs, min_margin=2.0)) == ["failed_score", "empty", "tie", "identical", "low_margin"]


def test_a_negative_margin_is_low_under_the_default_threshold(screen, make_pairs):
    assert dropped(screen(make_pairs(prompt=numbered(1), score_chosen=[1.0], score_rejected=[2.0]))) == ["low_margin"]


@pytest.mark.parametrize(
    ("chosen", "rejected", "reason"),
    [
        ("Yes, it is.", " yes, it  is. ", "identical"),
        ("it\n\nis a b", "it is a b", "identical"),
        ("if x > 0 then", "if x < 0 then", None),
    ],
)
def test_sides_equal_but_for_case_and_spacing_are_identical(screen, make_pairs, chosen, rejected, reason):
    pairs = make_pairs(
        prompt=numbered(1), chosen=[chosen], rejected=[rejected], chosen_finish=["stop"], rejected_finish=["stop"]
    )

    assert dropped(screen(pairs)) == [reason]


def test_a_repeated_pair_is_a_duplicate_and_a_repeated_ready_prompt_a_near_duplicate(screen, make_pairs):
    pairs = make_pairs(
        prompt=["one thing"] * 3,
        prompt_id=["a", "a-2", "a-3"],
        pair_id=["aaaaaaaaaaaaaaaa", "aaaaaaaaaaaaaaaa-2", "bbbbbbbbbbbbbbbb"],
        rejected=["It is of no use.", "it is of  no use.", "It is something other."],
        chosen=["It is good for it."] * 3,
        score_chosen=[2.0, 2.0, 5.0],
    )

    # The chosen response is the same as well, so that the copy is seen before the prompt is.
    assert dropped(screen(pairs)) == ["lexical_duplicate", "duplicate_pair", None]
    assert dropped(screen(pairs, skip_rule=("lexical_duplicate",))) == [
        "semantic_duplicate_prompt",
        "duplicate_pair",
        None,
    ]


def test_pairs_of_one_prompt_stay_beside_each_other_but_not_when_they_say_the_same(screen, make_pairs):
    pairs = make_pairs(
        prompt=["one thing"] * 4,
        prompt_id=["a", "a", "a", "b"],
        pair_id=["aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb", "aaaaaaaaaaaaaaaa.2", "cccccccccccccccc"],
        chosen=["It is good for it.", "It is made of wood.", "It is good for it.", "It can be eaten raw."],
        rejected=["No idea of it.", "No word about it.", "No idea of it.", "Not a clue of it."],
        score_chosen=[3.0, 4.0, 2.0, 3.5],
        origin=["synthetic"] * 4,
    )

    assert dropped(screen(pairs)) == [None, None, "duplicate_pair", "semantic_duplicate_prompt"]


def test_a_prompt_with_several_pairs_falls_whole_to_the_prompt_with_the_best_pair(screen, make_pairs):
    pairs = make_pairs(
        prompt=["one thing", "one thing", "another thing", "another thing"],
        prompt_id=["a", "a", "b", "b"],
        pair_id=["a1", "a2", "b1", "b2"],
        chosen=["It is good for it.", "It is made of wood.", "One can sit on it.", "It can be eaten raw."],
        score_chosen=[3.0, 1.5, 4.0, 1.2],
        origin=["synthetic"] * 4,
    )

    screened = screen(pairs, semantic=[alike(0, 2, "prompt", 0.97)])

    assert dropped(screened) == ["semantic_duplicate_prompt", "semantic_duplicate_prompt", None, None]


@pytest.mark.parametrize(
    ("kind", "rule", "table"),
    [
        ("text", "lexical_duplicate", "lexical"),
        ("prompt", "semantic_duplicate_prompt", "semantic"),
        ("pair", "semantic_duplicate_pair", "semantic"),
    ],
)
def test_of_two_alike_on_the_threshold_the_larger_margin_in_z_stays(screen, make_pairs, kind, rule, table):
    pairs = make_pairs(prompt=numbered(2), score_chosen=[9.0, 2.0], z_chosen=[1.0, 1.5], z_rejected=[-1.0, -1.5])
    least = {"max_jaccard": 0.9, "max_cosine": 0.9}

    assert dropped(screen(pairs, **{table: [alike(0, 1, kind, 0.9)]}, **least)) == [rule, None]
    assert dropped(screen(pairs, **{table: [alike(0, 1, kind, 0.8999)]}, **least)) == [None, None]
    assert dropped(screen(pairs, **{table: [alike(0, 1, kind, 0.9)]}, **least, skip_rule=(rule,))) == [None, None]


def test_as_many_of_a_cluster_stay_as_are_asked_for(screen, make_pairs):
    pairs = make_pairs(prompt=numbered(3), score_chosen=[2.0, 4.0, 3.0])
    near = [alike(0, 1, "prompt", 0.99), alike(1, 2, "prompt", 0.99), alike(0, 2, "prompt", 0.99)]

    assert dropped(screen(pairs, semantic=near)) == ["semantic_duplicate_prompt", None, "semantic_duplicate_prompt"]
    assert dropped(screen(pairs, semantic=near, keep_per_cluster=2)) == ["semantic_duplicate_prompt", None, None]


def test_a_margin_not_larger_than_the_noise_is_a_tie_on_either_side_of_zero(screen, make_pairs):
    pairs = make_pairs(prompt=numbered(5), score_chosen=[1.5, 1.25, 0.5, 0.25, None], score_rejected=[1.0] * 4 + [None])

    assert dropped(screen(pairs, noise=0.5)) == ["tie", "tie", "tie", "low_margin", None]


def test_a_noise_that_was_never_measured_leaves_equal_scores_alone_as_ties(screen, make_pairs):
    pairs = make_pairs(prompt=numbered(2), score_chosen=[1.0, 1.0 + 1e-12], score_rejected=[1.0, 1.0])

    assert dropped(screen(pairs)) == ["tie", None]


def test_a_degenerate_rejected_response_passes_only_where_it_is_allowed_and_a_chosen_one_never(screen, make_pairs):
    pairs = make_pairs(
        prompt=numbered(3),
        chosen=["It is cut in the middle", "It is whole.", ""],
        rejected=["It is whole.", "It is cut in the middle", "It is whole."],
        chosen_finish=["length", "stop", "stop"],
        rejected_finish=["stop", "length", "stop"],
    )

    assert dropped(screen(pairs)) == ["truncated", "truncated", "empty"]
    assert dropped(screen(pairs, allow_degenerate_rejected=True)) == ["truncated", None, "empty"]


def test_a_rejected_response_that_was_written_with_a_flaw_may_look_degenerate(screen, make_pairs):
    pairs = make_pairs(
        prompt=numbered(2),
        rejected=["It is cut in the middle"] * 2,
        rejected_finish=["length"] * 2,
        flaw=["truncation", None],
    )

    assert dropped(screen(pairs)) == [None, "truncated"]


def test_personal_data_flags_and_drops_only_where_that_is_asked_for(screen, make_pairs):
    pairs = make_pairs(prompt=numbered(2), chosen=["Write to jane.doe@gmail.com for it.", "Write to them for it."])

    screened = screen(pairs)

    assert dropped(screened) == [None, None]
    assert screened["flags"].to_list() == [["email"], []]
    assert dropped(screen(pairs, drop_personal_data=True)) == ["personal_data", None]


def test_thirteen_words_or_half_of_an_evaluation_prompt_drop_and_less_does_not(screen, make_pairs):
    ids = ["a", "b", "c"]
    hits = [
        {"pair_id": pair_id, "against": "bench", "prompt": 0, "has_13gram": has_13gram, "coverage": coverage}
        for pair_id, has_13gram, coverage in (("a", True, 0.3), ("b", False, 0.5), ("c", False, 0.49))
    ]

    screened = screen(make_pairs(prompt=numbered(3), pair_id=ids), contaminated=hits)

    assert dropped(screened) == ["contaminated", "contaminated", None]


def test_a_response_nearer_to_another_prompt_is_off_topic_and_one_without_vectors_is_not(screen, make_pairs):
    def place(pair_id: str, own: float | None, other: float | None) -> dict[str, Any]:
        return {
            "pair_id": pair_id,
            "chosen_cos_prompt": own,
            "chosen_cos_other_prompt": other,
            "rejected_cos_prompt": 0.5,
            "rejected_cos_other_prompt": 0.1,
        }

    placed = [place("a", 0.1, 0.7), place("b", 0.5, 0.7), place("c", None, None)]

    screened = screen(make_pairs(prompt=numbered(3), pair_id=["a", "b", "c"]), placed=placed)

    assert dropped(screened) == ["off_topic", None, None]


def test_a_prompt_near_an_evaluation_prompt_is_flagged_and_kept(screen, make_pairs):
    screened = screen(make_pairs(prompt=numbered(1), pair_id=["a"]), near=[{"pair_id": "a", "max_cos_eval": 0.95}])

    assert dropped(screened) == [None]
    assert screened["flags"].to_list() == [["near_evaluation"]]


def test_a_scorer_that_prefers_a_probe_to_both_responses_is_flagged(screen, make_pairs):
    pairs = make_pairs(prompt=numbered(3), pair_id=["a", "b", "c"], score_chosen=[2.0] * 3, score_rejected=[1.0] * 3)
    probed = [
        {"pair_id": pair_id, "probe": "empty", "score": score, "reason": None, "call_id": "x"}
        for pair_id, score in (("a", 2.5), ("b", 2.0), ("c", None))
    ]

    screened = screen(pairs, probed=probed)

    assert screened["flags"].to_list() == [["scorer_unreliable"], [], []]


def test_what_passes_beyond_the_number_to_keep_is_surplus_in_the_order_of_the_prompts(screen, make_pairs):
    chosen = ["It is good for it.", "", "It is made of wood.", "It can be eaten raw."]
    pairs = make_pairs(prompt=numbered(4), chosen=chosen, score_chosen=[2.0, 9.0, 3.0, 9.0])

    assert dropped(screen(pairs, keep=2)) == [None, "empty", None, "over_quota"]
    assert dropped(screen(pairs, keep=3)) == [None, "empty", None, None]
    assert dropped(screen(pairs, keep=9)) == [None, "empty", None, None]


def test_quotas_keep_the_first_of_each_flaw_and_the_first_others_fill_up(screen, make_pairs):
    flaws = [FLAWS[0], FLAWS[0], FLAWS[0], FLAWS[1], None, FLAWS[1]]
    pairs = make_pairs(prompt=numbered(6), flaw=flaws)

    even = screen(pairs, keep=4, quotas=((FLAWS[0], 2), (FLAWS[1], 2)))
    short = screen(pairs, keep=4, quotas=((FLAWS[0], 1), (FLAWS[2], 3)))

    assert dropped(even) == [None, None, "over_quota", None, "over_quota", None]
    # None of the third flaw: one of the first by its quota, then three more from the top.
    assert dropped(short) == [None, None, None, None, "over_quota", "over_quota"]


def test_a_pair_that_another_rule_dropped_costs_no_other_pair(screen, make_pairs):
    pairs = make_pairs(prompt=["one thing"] * 2, chosen=["", "It is fine."], score_chosen=[9.0, 2.0])

    assert dropped(screen(pairs)) == ["empty", None]


def test_a_million_identical_rows_would_be_one(screen, make_pairs):
    pairs = make_pairs(prompt=["one thing"], pair_id=["a"])
    many = pl.concat([pairs] * 2000).with_columns(
        pair_id=pl.concat_str(pl.lit("a-"), pl.int_range(2000).cast(pl.String))
    )

    screened = screen(many)

    assert screened["dropped_by"].null_count() == 1
    assert screened.filter(pl.col("dropped_by").is_null())["pair_id"].item() == "a-0"


def test_margins_that_are_not_numbers_are_dropped_as_failed(screen, make_pairs):
    pairs = make_pairs(prompt=numbered(1), score_chosen=[math.nan], failed_score=[True])

    assert dropped(screen(pairs)) == ["failed_score"]
