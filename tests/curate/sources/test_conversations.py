"""Conversations of every form are read up to their last response."""

from dataclasses import replace

import pytest

from curate.sources.conversations import read_conversation, read_conversations
from curate.sources.fields import parse_columns
from curate.sources.messages import UnusableRow
from curate.sources.rows import rows_config
from schemas.errors import UserError

TURNS = [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Good day."}]
SHAREGPT = [{"from": "human", "value": "Hello?"}, {"from": "gpt", "value": "Good day."}]


@pytest.mark.parametrize(
    "row",
    [
        {"messages": TURNS},
        {"messages": [*TURNS, {"role": "user", "content": "Bye."}]},
        {"conversations": SHAREGPT},
        {"prompt": "Hello?", "response": "Good day."},
        {"prompt": TURNS[:1], "response": "Good day."},
        {"instruction": "Hello?", "input": "", "output": "Good day."},
    ],
)
def test_a_conversation_is_read_up_to_its_last_response(row):
    assert read_conversation(row) == (TURNS, None)


def test_an_input_and_a_system_text_join_the_instruction():
    row = {"system": "Be kind.", "instruction": "Translate.", "input": "Guten Tag", "output": "Good day."}

    assert read_conversation(row)[0] == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Translate.\n\nGuten Tag"},
        {"role": "assistant", "content": "Good day."},
    ]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"words": "Hello?"}, "unreadable_row"),
        ({"text": "Hello?"}, "bad_prompt"),
        ({"messages": TURNS, "images": ["a.png"]}, "image"),
        ({"prompt": "Hello?", "completion": [{"role": "assistant", "tool_calls": [{"id": "c"}]}]}, "tool_calls"),
        ({"messages": TURNS[:1]}, "bad_prompt"),
        ({"messages": TURNS[1:]}, "bad_prompt"),
        ({"messages": None}, "bad_prompt"),
        ({"prompt": "Hello?", "response": None}, "bad_response"),
        ({"prompt": "Hello?", "response": " "}, "bad_response"),
        ({"instruction": 3, "output": "Good day."}, "bad_prompt"),
    ],
)
def test_a_row_that_is_no_conversation_has_its_reason(row, reason):
    with pytest.raises(UnusableRow) as unusable:
        read_conversation(row)

    assert unusable.value.reason == reason


def test_columns_name_others(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"q": "Hello?", "a": "Good day.", "id": 7}')
    columns = parse_columns("prompt=q,response=a")

    ((_, messages, tools),) = read_conversations(replace(rows_config(str(path), None, None), columns=columns))

    assert (messages, tools) == (TURNS, None)


def test_file_without_a_conversation_names_its_columns(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"q": "Hello?", "a": "Good day."}')

    with pytest.raises(UserError, match="no usable conversation in 1 rows: they have the columns q, a; expected"):
        list(read_conversations(rows_config(str(path), None, None)))
