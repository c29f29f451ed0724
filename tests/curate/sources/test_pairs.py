"""Pairs of every format come out alike, and a row that is no pair is kept with a reason."""

import json

import polars as pl
import pytest
from shared_data import DATASETS

from curate.sources.pairs import PAIRS_PER_PART, read_pairs
from curate.sources.rows import rows_config
from schemas.errors import UserError
from schemas.ids import pair_key, prompt_key
from schemas.tables import Dropped, Pair

needs_datasets = pytest.mark.skipif(not DATASETS.exists(), reason="the datasets are not on this machine")

SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "Hi"}
FLAT = {"prompt": "Hi", "chosen": "Hello", "rejected": "Go"}
HH = {"chosen": "\n\nHuman: Hi\n\nAssistant: Hello", "rejected": "\n\nHuman: Hi\n\nAssistant: Go"}
SHAREGPT = {
    "conversations": [{"from": "human", "value": "Hi"}],
    "chosen": {"from": "gpt", "value": "Hello"},
    "rejected": {"from": "gpt", "value": "Go"},
}
NAN, INF = float("nan"), float("inf")


def said(text: str) -> dict:
    return {"role": "assistant", "content": text}


IMPLICIT = {"chosen": [USER, said("Hello")], "rejected": [USER, said("Go")]}


@pytest.fixture
def pairs_of(tmp_path):
    """Rows of `Pair` and of `Dropped` made from rows, or from lines of text."""

    def read(*rows):
        path = tmp_path / "rows.jsonl"
        path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
        return read_all(path)

    return read


def read_all(path):
    parts = list(read_pairs(rows_config(str(path), None, 30)))
    for rows, dropped in parts:
        Pair.validate(rows)
        Dropped.validate(dropped)
    return pl.concat(part.rows for part in parts), pl.concat(part.dropped for part in parts)


def test_file_of_other_columns_is_refused_with_every_known_format(pairs_of):
    with pytest.raises(
        UserError,
        match=r"rows\.jsonl holds no pairs .*found prompt, response; expected .*`chosen`, `rejected` .*; name other",
    ):
        pairs_of("{", {"prompt": "Hi", "response": "Hello"})


def test_two_texts_that_are_no_dialogues_are_not_a_known_format(pairs_of):
    with pytest.raises(UserError, match="holds no pairs of a known format: found chosen, rejected"):
        pairs_of({"chosen": "Hello", "rejected": "Go"})


@pytest.mark.parametrize("row", ['{"prompt', {**FLAT, "prompt": None}, {**FLAT, "rejected": None}])
def test_file_of_bad_rows_only_is_refused_with_the_first_of_them(pairs_of, row):
    with pytest.raises(UserError, match=r"none of the 1 rows .*rows\.jsonl.* the first is '{.*should look like {"):
        pairs_of(row)


@pytest.mark.parametrize(
    "row",
    [
        FLAT,
        {"prompt": [USER], "chosen": "Hello", "rejected": "Go"},
        {"prompt": [USER], "chosen": [said("Hello")], "rejected": [said("Go")]},
        {"prompt": "Hi", **IMPLICIT},
        IMPLICIT,
        HH,
        SHAREGPT,
        {**SHAREGPT, "chosen": "Hello", "rejected": said("Go")},
    ],
    ids=repr,
)
def test_every_format_gives_the_same_pair(pairs_of, row):
    pairs, dropped = pairs_of(row)

    assert dropped.is_empty()
    assert pairs.drop("prompt_group").to_dicts() == [
        {
            "pair_id": pair_key([USER], "Hello", "Go"),
            "prompt_id": prompt_key([USER]),
            "messages": [USER],
            "chosen": "Hello",
            "rejected": "Go",
            "score_chosen": None,
            "score_rejected": None,
            "z_chosen": None,
            "z_rejected": None,
            "failed_score": False,
            "scorer": None,
            "origin": "real",
            "flaw": None,
            "chosen_call": None,
            "rejected_call": None,
            "chosen_finish": None,
            "rejected_finish": None,
            "chosen_reasoning": None,
            "rejected_reasoning": None,
            "tools": None,
            "license": "unknown",
            "is_heldout": False,
        }
    ]


@pytest.mark.parametrize(
    ("good", "bad", "reason"),
    [
        (FLAT, '{"prompt": "Hi", "cho', "unreadable_row"),
        (FLAT, {"prompt": "Hi", "chosen": "Hello"}, "unreadable_row"),
        (FLAT, {"chosen": "Hello", "rejected": "Go"}, "unreadable_row"),
        (FLAT, {**FLAT, "prompt": None}, "bad_prompt"),
        (FLAT, {**FLAT, "prompt": 3}, "bad_prompt"),
        (FLAT, {**FLAT, "prompt": " "}, "bad_prompt"),
        (FLAT, {**FLAT, "prompt": [USER, said("Hello")]}, "bad_prompt"),
        (FLAT, {**FLAT, "chosen": None}, "bad_response"),
        (FLAT, {**FLAT, "rejected": 3}, "bad_response"),
        (FLAT, {**FLAT, "rejected": "half: \ud800"}, "bad_response"),
        (FLAT, {**FLAT, "chosen": [USER]}, "bad_response"),
        (FLAT, {**FLAT, "chosen": [{**USER, "content": "Hi!"}, said("Hello")]}, "prompt_mismatch"),
        (IMPLICIT, {**IMPLICIT, "chosen": None}, "bad_response"),
        (IMPLICIT, {**IMPLICIT, "chosen": [SYSTEM, USER, said("Hello")]}, "prompt_mismatch"),
        (IMPLICIT, {**IMPLICIT, "chosen": [said("Hello")]}, "prompt_mismatch"),
        (IMPLICIT, {**IMPLICIT, "images": ["a.png"]}, "image"),
        (FLAT, {**FLAT, "system": "Be brief.", "prompt": [{**SYSTEM, "content": "Be long."}, USER]}, "prompt_mismatch"),
        (IMPLICIT, {"chosen": [said("Hello")], "rejected": [said("Go")]}, "bad_prompt"),
        (HH, {"chosen": HH["chosen"]}, "unreadable_row"),
        (HH, {**HH, "rejected": None}, "bad_response"),
        (HH, {**HH, "rejected": "Go"}, "prompt_mismatch"),
        (HH, {"chosen": "\n\nHuman: Hi", "rejected": "\n\nHuman: Hi"}, "bad_prompt"),
        (HH, {"chosen": HH["chosen"], "rejected": "\n\nHuman: Hi!\n\nAssistant: Go"}, "prompt_mismatch"),
        (SHAREGPT, {"chosen": SHAREGPT["chosen"], "rejected": SHAREGPT["rejected"]}, "bad_prompt"),
        (SHAREGPT, {**SHAREGPT, "conversations": []}, "bad_prompt"),
        (SHAREGPT, {**SHAREGPT, "chosen": {"from": "human", "value": "Hi"}}, "bad_response"),
        (SHAREGPT, {**SHAREGPT, "chosen": {"from": "gpt", "value": None}}, "bad_response"),
    ],
    ids=repr,
)
def test_row_that_is_no_pair_is_dropped_with_its_reason_and_text(pairs_of, good, bad, reason):
    pairs, dropped = pairs_of(good, good, bad)

    assert pairs.height == 2
    assert dropped.select("stage", "prompt_id", "reason").rows() == [("read_pairs", None, reason)]
    assert json.loads(dropped["raw"][0]) == bad


@pytest.mark.parametrize(
    "row",
    [
        {**FLAT, "chosen": ""},
        {**HH, "chosen": "\n\nHuman: Hi\n\nAssistant:"},
        {**SHAREGPT, "chosen": {"from": "gpt", "value": ""}},
    ],
    ids=repr,
)
def test_empty_response_is_left_to_screening(pairs_of, row):
    pairs, dropped = pairs_of(row)

    assert pairs["chosen"].to_list() == [""]
    assert dropped.is_empty()


@pytest.mark.parametrize(
    ("given", "chosen", "rejected", "failed", "scorer"),
    [
        ({}, None, None, False, None),
        ({"score_chosen": None, "score_rejected": None}, None, None, False, None),
        ({"score_chosen": 8, "score_rejected": 2.5}, 8.0, 2.5, False, "imported"),
        ({"score_chosen": 0, "score_rejected": -1}, 0.0, -1.0, False, "imported"),
        ({"score_chosen": 8.0}, 8.0, None, True, "imported"),
        ({"score_chosen": None, "score_rejected": 2.5}, None, 2.5, True, "imported"),
        ({"score_chosen": NAN, "score_rejected": 2.5}, None, 2.5, True, "imported"),
        ({"score_chosen": 8.0, "score_rejected": -INF}, 8.0, None, True, "imported"),
        ({"score_chosen": NAN, "score_rejected": INF}, None, None, True, "imported"),
        ({"score_chosen": "8.5", "score_rejected": True}, 8.5, None, True, "imported"),
        ({"score_chosen": "good", "score_rejected": "1e999"}, None, None, True, "imported"),
        ({"chosen-rating": 5, "rejected-rating": " 3 "}, 5.0, 3.0, False, "imported"),
        ({"chosen_score": 5, "rejected_score": 3}, 5.0, 3.0, False, "imported"),
        ({"rating_chosen": 5, "rating_rejected": 3}, 5.0, 3.0, False, "imported"),
        ({"score_chosen": 10**400, "score_rejected": 2.5}, None, 2.5, True, "imported"),
    ],
)
def test_score_that_is_no_finite_number_is_null_and_failed(pairs_of, given, chosen, rejected, failed, scorer):
    pairs, _ = pairs_of({**FLAT, **given})

    assert pairs.select("score_chosen", "score_rejected", "failed_score", "scorer").row(0) == (
        chosen,
        rejected,
        failed,
        scorer,
    )


@pytest.mark.parametrize(
    ("flaw", "kept"), [("truncation", "truncation"), ("boring", None), (None, None), (["truncation"], None)]
)
def test_flaw_is_kept_where_it_is_a_known_one(pairs_of, flaw, kept):
    pairs, _ = pairs_of({**FLAT, "flaw": flaw})

    assert pairs["flaw"].to_list() == [kept]


def test_repeated_pair_and_repeated_prompt_have_ids_of_their_own(pairs_of):
    pairs, _ = pairs_of(FLAT, FLAT, {**FLAT, "rejected": "Leave"})

    key = pair_key([USER], "Hello", "Go")
    assert sorted(pairs.filter(rejected="Go")["pair_id"]) == [key, f"{key}-2"]
    assert pairs["prompt_id"].n_unique() == 3
    assert pairs["prompt_id"].str.slice(0, 16).n_unique() == 1


def test_ids_are_unique_across_parts_and_parts_are_full_but_for_the_last(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join([json.dumps(FLAT)] * (PAIRS_PER_PART + 1)))

    parts = list(read_pairs(rows_config(str(path), None, 30)))

    assert [part.rows.height for part in parts] == [PAIRS_PER_PART, 1]
    assert pl.concat(part.rows for part in parts)["pair_id"].is_unique().all()


def test_scores_of_a_parquet_decimal_column_are_numbers(tmp_path):
    row = {**FLAT, "score_chosen": 8.5, "score_rejected": 2.5}
    frame = pl.DataFrame([row]).with_columns(pl.col("score_chosen", "score_rejected").cast(pl.Decimal(3, 1)))
    frame.write_parquet(tmp_path / "rows.parquet")

    pairs, _ = read_all(tmp_path / "rows.parquet")

    assert pairs.select("score_chosen", "score_rejected").row(0) == (8.5, 2.5)


@needs_datasets
def test_ultrafeedback_has_74_ties_and_3_identical_pairs():
    pairs, dropped = read_all(DATASETS / "ultrafeedback_pairs.parquet")

    assert (pairs.height, dropped.height) == (614, 0)
    assert pairs.filter(pl.col("score_chosen") == pl.col("score_rejected")).height == 74
    assert pairs.filter(pl.col("chosen") == pl.col("rejected")).height == 3
    assert not pairs["failed_score"].any()


@needs_datasets
def test_hh_harmless_has_2_mismatched_prompts_and_2_empty_chosen_responses():
    pairs, dropped = read_all(DATASETS / "hh_harmless_pairs.jsonl.gz")

    assert pairs.height == 1388
    assert dropped["reason"].to_list() == ["prompt_mismatch"] * 2
    assert pairs.filter(chosen="").height == 2
    assert pairs["scorer"].null_count() == 1388


@needs_datasets
def test_llamafactory_has_80_system_messages_and_106_multi_turn_prompts():
    pairs, dropped = read_all(DATASETS / "llamafactory_dpo_en.json")

    roles = [[message["role"] for message in messages] for messages in pairs["messages"]]
    assert (pairs.height, dropped.height) == (300, 0)
    assert sum("system" in turns for turns in roles) == 80
    assert sum(turns.count("user") > 1 for turns in roles) == 106
    assert pairs.height - pairs["prompt_id"].str.slice(0, 16).n_unique() == 5
