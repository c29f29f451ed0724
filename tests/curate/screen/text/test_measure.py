import json
import math

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shared_data import DATASETS

from curate.screen.text.measure import MeasureConfig, measure_pairs, normalize_case
from curate.store.store import make_frame
from schemas.tables import Measured, Pair

STEPS = (
    "Janet's ducks lay 16 eggs a day and she eats 3 of them for breakfast, which leaves 16 - 3 = 13 eggs. She bakes "
    "with 4 eggs, so 13 - 4 = 9 eggs are left, and these she sells at the market for $2 each: 9 * 2 = 18 dollars. "
    "She does so every day of the week, whatever the weather is, and has done it for many years."
)


def measured(pairs: pl.DataFrame) -> pl.DataFrame:
    return measure_pairs(pairs, MeasureConfig()).rows


def alike(make_pairs, chosen: str, rejected: str) -> float:
    return float(measured(make_pairs(chosen=[chosen], rejected=[rejected]))["response_similarity"][0])


def test_no_pairs_have_no_measures(make_pairs):
    rows = measured(make_pairs(chosen=["a"]).clear())

    assert rows.height == 0
    assert rows.schema == Measured.create_empty().schema


def test_one_row_a_pair_in_the_same_order(make_pairs):
    pairs = make_pairs(chosen=["One answer.", "", "Another one."])

    assert measured(pairs)["pair_id"].to_list() == pairs["pair_id"].to_list()


def test_margins_are_differences_and_null_where_a_score_is_missing(make_pairs):
    pairs = make_pairs(
        score_chosen=[3.0, None, 1.0],
        score_rejected=[1.0, 1.0, math.nan],
        z_chosen=[1.5, None, 0.0],
        z_rejected=[-1.0, 0.0, None],
    )

    rows = measured(pairs)

    assert rows["margin"].to_list()[:2] == [2.0, None]
    assert rows["z_margin"].to_list() == [2.5, None, None]


def test_hashes_stay_the_same_in_every_version(make_pairs):
    rows = measured(make_pairs(prompt=["Name a colour."], chosen=["Red."], rejected=["Dog."]))

    # xxh3_64 of "user\0name a colour.\0", then with "red.\0" and "dog.\0" after it.
    assert rows.select("prompt_hash", "chosen_hash", "pair_hash").row(0) == (
        10846847923052335570,
        5887671521325033148,
        15184203212915502765,
    )


def test_case_form_and_spacing_do_not_change_a_hash(make_pairs):
    rows = measured(
        make_pairs(
            prompt=["Name a  colour.", "name a\ncolour. "], chosen=["\uff32\uff25\uff24!", "red!"], rejected=["x", "X"]
        )
    )

    assert rows.select("prompt_hash", "chosen_hash", "pair_hash").n_unique() == 1


@pytest.mark.parametrize(
    ("chosen", "rejected"), [(["ab", "a"], ["c", "bc"]), (["a\0b", "a"], ["c", "b\0c"]), (["", "a"], ["a", ""])]
)
def test_text_that_moves_to_the_other_side_changes_the_hash(make_pairs, chosen, rejected):
    rows = measured(make_pairs(prompt=["Same?", "Same?"], chosen=chosen, rejected=rejected))

    assert rows["prompt_hash"].n_unique() == 1
    assert rows["pair_hash"].n_unique() == 2


def test_turns_and_roles_are_part_of_the_prompt_hash(make_pairs):
    said = [
        [{"role": "user", "content": "a b"}],
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}],
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": ""}, {"role": "user", "content": "b c"}],
        [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}],
    ]
    pairs = pl.concat(make_pairs(chosen=["x"]).with_columns(messages=pl.Series([turns])) for turns in said)

    assert measured(pairs)["prompt_hash"].n_unique() == len(said)


def test_only_case_and_spacing_apart_is_identical(make_pairs):
    rows = measured(make_pairs(chosen=["Red  it is", "f(x)"], rejected=["red it is\n", "f[x]"]))

    assert rows["is_identical"].to_list() == [True, False]
    assert rows["response_similarity"].to_list() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("there", "instead"),
    [("16 eggs", "17 eggs"), ("eats 3", "does not eat 3"), ("13 - 4", "13 + 4"), ("$2", "$3"), ("many", "no")],
)
def test_one_digit_operator_or_word_of_meaning_keeps_responses_apart(make_pairs, there, instead):
    assert there in STEPS
    assert alike(make_pairs, STEPS, STEPS.replace(there, instead, 1)) < 0.91


@pytest.mark.parametrize(
    ("there", "instead"),
    [("every day of the week,", "every day of the week"), ("She does so", "She really does so"), (". ", ".\n\n")],
)
def test_punctuation_spacing_and_fillers_of_a_long_text_do_not_keep_responses_apart(make_pairs, there, instead):
    assert there in STEPS
    assert alike(make_pairs, STEPS, STEPS.replace(there, instead)) > 0.98


def test_a_filler_is_much_of_a_short_text(make_pairs):
    # One word of four is a filler that the other lacks.
    assert alike(make_pairs, "a spider blocks path", "spider blocks path") == 0.75


@pytest.mark.parametrize("texts", [("", "Paris."), ("👍", "👎"), ("...", "!!!"), ("a", "b")])
def test_texts_without_words_in_common_are_not_alike(make_pairs, texts):
    assert alike(make_pairs, *texts) == 0


def test_words_in_another_order_are_not_the_same(make_pairs):
    assert alike(make_pairs, "the dog bites the man in the park", "the man bites the dog in the park") < 0.5


def test_features_of_a_row_do_not_depend_on_the_rows_around_it(make_pairs):
    pairs = make_pairs(
        prompt=["Why?", "Wie geht es dir heute, mein lieber alter Freund?", "Say it again."],
        chosen=["Because so it is, and ", "Sehr gut", "again " * 40],
        rejected=["Ã©tÃ© Ã©tÃ©", "", "Say it again."],
    )

    assert measured(pairs).equals(pl.concat(measured(pairs[i]) for i in range(3)))


@given(st.lists(st.tuples(st.text(max_size=40), st.text(max_size=40)), max_size=4))
def test_any_text_can_be_measured(texts):
    row = {
        "prompt_id": "p",
        "prompt_group": "g",
        "messages": [{"role": "user", "content": "Why is that so?"}],
        "origin": "real",
    }
    pairs = make_frame(
        Pair,
        [
            {**row, "pair_id": str(i), "chosen": chosen, "rejected": rejected, "failed_score": False}
            for i, (chosen, rejected) in enumerate(texts)
        ],
    )

    rows = measured(pairs)

    assert rows.height == len(texts)
    for column in ("response_similarity", "chosen_echo_share", "chosen_repetition_share", "chosen_foreign_share"):
        assert rows[column].is_between(0, 1).all()


@pytest.mark.parametrize("unit", ["word ", "a", "👍", "مرحبا ", "漢", "\n", "<|", "`", "[", "1,", "\u202e", "```\n"])
def test_a_text_of_a_megabyte_is_measured(make_pairs, unit):
    text = unit * (1_000_000 // len(unit))

    row = measured(make_pairs(prompt=[text], chosen=[text], rejected=["No."])).row(0, named=True)

    assert row["chosen_repetition_share"] > 0.9 or row["chosen_empty"]


@given(st.text(alphabet="aB \n\t\x00\u00a0ﬁÄ."))
def test_plain_text_is_plain_already_and_holds_no_null_character(text):
    once = normalize_case(pl.Series([text]))

    assert normalize_case(once).equals(once)
    assert "\0" not in once[0] and "  " not in once[0]


@pytest.mark.skipif(not DATASETS.exists(), reason="needs the shared datasets")
def test_solutions_of_gsm8k_that_differ_are_hardly_ever_alike(make_pairs):
    with (DATASETS / "gsm8k_4solutions.jsonl").open() as lines:
        rows = [json.loads(line) for line in lines]
    pairs = make_pairs(
        prompt=[row["prompt"] for row in rows],
        chosen=[row["responses"][0] for row in rows],
        rejected=[row["responses"][1] for row in rows],
    )

    apart = measured(pairs).filter(~pl.col("is_identical"))

    assert (apart["response_similarity"] > 0.98).mean() < 0.005
