"""Files of preferences, prompts and conversations that users of other tools reported, through a whole build."""

import json
import logging
from pathlib import Path

import polars as pl
import pytest

from curate.config import BuildConfig
from curate.pipeline.build import Built, build
from curate.sources.conversations import read_conversations
from curate.sources.prompts import read_prompts
from curate.sources.rows import rows_config
from schemas.errors import UserError
from schemas.stages import StageName

BAKER = "You are a baker. Answer in one plain sentence and never use lists."
SKIPPED = ("off_topic", "semantic_duplicate_prompt", "semantic_duplicate_pair", "contaminated")


@pytest.fixture
def built(tmp_path):
    """A build of a file; rules that embed texts are left out."""

    def make(path: Path, **flags) -> Built:
        return build(BuildConfig(source=str(path), data=tmp_path / "data", skip_rule=SKIPPED, name="b", **flags))

    return make


def rows_of(made: Built) -> list[dict]:
    return made.pairs.scan().collect().to_dicts()


def reasons(made: Built) -> dict[str, int]:
    return {reason: rows for reason, rows in made.counts.dropped.items() if rows}


@pytest.mark.parametrize(
    ("name", "kept", "dropped"),
    [
        ("alpaca_dpo", 2, {}),
        ("axolotl_messages", 1, {}),
        ("content_parts_image", 1, {"image": 1}),
        ("developer_role", 2, {}),
        ("diverge_early", 1, {"prompt_mismatch": 1}),
        ("flat_system_column", 2, {}),
        ("hh_no_leading_newlines", 1, {}),
        ("hh_prompt_flat", 2, {}),
        ("kto_label", 1, {}),
        ("nan_scores", 1, {"failed_score": 1}),
        ("nested_json_strings", 2, {}),
        ("null_columns", 1, {"bad_prompt": 1, "bad_response": 1}),
        ("orca_system_question", 2, {}),
        ("prompt_text_system_in_sides", 2, {}),
        ("prompt_whitespace", 2, {}),
        ("saferlhf", 1, {}),
        ("scores_as_text", 2, {}),
        ("sharegpt_system_tools", 1, {}),
        ("tool_role", 2, {}),
        ("trailing_user", 1, {"bad_response": 1}),
    ],
)
def test_reported_file_is_read_as_expected(case, built, name, kept, dropped):
    made = built(case(name) / "in.jsonl")

    assert (made.counts.kept, reasons(made)) == (kept, dropped)
    for row in rows_of(made):
        assert row["messages"][-1]["role"] in ("user", "tool")
        assert not any(mark in row["chosen"] for mark in ('"role"', "Human:", "[{"))


@pytest.mark.parametrize("name", ["images_column_flat", "templated_prompt"])
def test_reported_file_without_a_usable_row_is_refused_by_reason(case, built, name):
    reason = {"images_column_flat": "image 1", "templated_prompt": "unread_structure 2"}[name]

    with pytest.raises(UserError, match=reason):
        built(case(name) / "in.jsonl")


@pytest.mark.parametrize(
    "name", ["flat_system_column", "orca_system_question", "sharegpt_system_tools", "developer_role"]
)
def test_system_text_belongs_to_the_prompt(case, built, name):
    first_turns = [row["messages"][0] for row in rows_of(built(case(name) / "in.jsonl"))]

    assert {"role": "system", "content": BAKER} in first_turns


def test_tools_of_a_reported_file_are_kept(case, built):
    (row,) = rows_of(built(case("sharegpt_system_tools") / "in.jsonl"))

    assert json.loads(row["tools"]) == [{"name": "oven_temperature"}]


def test_responses_with_scores_make_a_pair(case, built):
    made = built(case("responses_list") / "in.jsonl")

    (row,) = rows_of(made)
    assert row["score_chosen"] > row["score_rejected"]


@pytest.mark.parametrize(("name", "prompts"), [("prompts_arena_hard_turns", 1), ("prompts_mtbench_second_turn", 1)])
def test_prompts_of_several_turns_give_the_first_and_say_so(case, caplog, name, prompts):
    caplog.set_level(logging.INFO)

    parts = list(read_prompts(rows_config(str(case(name) / "in.jsonl"), None, 30)))

    assert sum(part.rows.height for part in parts) >= prompts
    assert not any(part.dropped.height for part in parts)
    assert ("have later turns, which are left out" in caplog.text) == (name == "prompts_mtbench_second_turn")


def conversations_of(path: Path) -> list[list[dict]]:
    return [messages for _, messages, _ in read_conversations(rows_config(str(path), None, 30))]


def test_reported_conversations_are_read(case):
    (history,) = conversations_of(case("sft_history_column") / "in.jsonl")
    (completion,) = conversations_of(case("sft_prompt_completion") / "in.jsonl")
    (weighted,) = conversations_of(case("sft_turn_weight") / "in.jsonl")

    assert [turn["role"] for turn in history] == ["system", "user", "assistant", "user", "assistant"]
    assert [turn["role"] for turn in completion] == ["user", "assistant"]
    assert [turn.get("learn") for turn in weighted] == [None, False, None, None]


@pytest.mark.parametrize("turn", [{"weight": 0}, {"train": False}, {"loss": False}, {"weight": 0.0}], ids=str)
def test_turn_that_is_not_to_be_learned_is_marked(tmp_path, turn):
    turns = [
        {"from": "human", "value": "Which is it?"},
        {"from": "gpt", "value": "The wind.", **turn},
        {"from": "human", "value": "Sure?"},
        {"from": "gpt", "value": "The moon.", "weight": 1},
    ]
    (tmp_path / "in.jsonl").write_text(json.dumps({"conversations": turns}))

    (messages,) = conversations_of(tmp_path / "in.jsonl")

    assert [message.get("learn", True) for message in messages] == [True, False, True, True]


def test_threshold_on_scores_that_no_pair_has_is_refused(tmp_path, built):
    path = tmp_path / "in.jsonl"
    path.write_text('{"prompt": "Why?", "chosen": "It is the moon, mostly.", "rejected": "It is only the wind."}')

    for flags, message in (
        ({"min_margin": 1.0}, "--min-margin needs scores, and no pair has one; name a --scorer"),
        ({"min_score": 1.0}, "--min-score needs scores"),
        ({"margin_quantiles": "0.1:0.9"}, "--margin-quantiles needs scores"),
        ({"min_z_margin": 1.0}, "no pair has a z score: use --min-margin"),
        ({"pairing": "adjacent"}, "holds ready pairs; leave it out"),
    ):
        with pytest.raises(UserError, match=message):
            built(path, **flags)


def test_pairs_of_one_row_are_no_duplicates_of_each_other_and_equal_rows_are(tmp_path, built):
    responses = [f"The {word} pulls the sea twice a day." for word in ("moon", "sun", "wind", "rain")]
    row = {"prompt": "What moves the sea?", "responses": responses, "scores": [4, 3, 2, 1]}
    path = tmp_path / "in.jsonl"
    path.write_text("\n".join([json.dumps(row)] * 2))

    made = built(path, pairing="adjacent", max_response_similarity=1.0)

    assert made.counts.kept == 3
    assert reasons(made) == {"duplicate_pair": 3}


def test_votes_are_a_table_of_the_build(tmp_path, built):
    path = tmp_path / "in.jsonl"
    row = {"prompt": "Why?", "response_0": "It is the moon, mostly.", "response_1": "It is only the wind."}
    path.write_text(json.dumps({**row, "better_response_id": 0, "safer_response_id": 1}))

    made = built(path, min_margin=1.0)

    votes = made.tables[StageName.READ_VERDICTS].scan().select("judge", "verdict").collect()
    assert votes.rows() == [("better_response_id", "chosen"), ("safer_response_id", "rejected")]
    assert isinstance(made.pairs.scan(), pl.LazyFrame) and made.counts.kept == 1
