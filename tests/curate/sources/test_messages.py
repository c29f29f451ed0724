"""Conversations keep every byte of what was said."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.sources.messages import (
    UnusableRow,
    check_prompt,
    conversation,
    hh_conversation,
    join_prompt,
    marked_conversation,
    read_response,
    up_to_last,
)
from schemas.names import UNPAIRED_REASONS

SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "Hi"}
ASSISTANT = {"role": "assistant", "content": "Hello"}
MARKS = {"user": "Human", "assistant": "Assistant"}


def prompt_messages(value):
    return check_prompt(conversation(value))


def hh_text(messages) -> str:
    return "".join(f"\n\n{MARKS[message['role']]}: {message['content']}" for message in messages)


def reason_of(function, *arguments) -> str:
    with pytest.raises(UnusableRow) as error:
        function(*arguments)
    return error.value.reason


@pytest.mark.parametrize(
    "value",
    [
        None,
        3,
        "",
        " \n",
        [],
        {},
        {"role": "user", "content": "Hi"},
        ["Hi"],
        [SYSTEM],
        [ASSISTANT],
        [USER, ASSISTANT],
        [USER, SYSTEM, USER],
        [SYSTEM, SYSTEM, USER],
        [USER, ASSISTANT, {"role": "user", "content": "\t"}],
        [{"role": "user", "content": None}],
        [{"role": "user", "content": []}],
        [{"role": "user", "content": [{"type": "text", "text": None}]}],
        [{"role": "user", "content": [{"type": "code", "text": "Hi"}]}],
        [{"role": "user"}],
        [{"role": "tool", "content": "Hi"}],
        [{"role": "narrator", "content": "Hi"}],
        [{"role": None, "content": "Hi"}],
        [{"role": ["user"], "content": "Hi"}],
        "half a pair: \ud800",
    ],
    ids=repr,
)
def test_what_is_no_conversation_ending_in_a_user_turn_is_a_bad_prompt(value):
    assert reason_of(prompt_messages, value) == "bad_prompt"


@pytest.mark.parametrize("text", ["Hi", "  Hi \n", "\u00a0é\r\n", "\n\nHuman: Hi", "\x00"])
def test_text_is_one_user_turn_byte_for_byte(text):
    assert prompt_messages(text) == [{"role": "user", "content": text}]


def test_system_message_and_earlier_turns_stay_whole():
    messages = [SYSTEM, {"role": "user", "content": " a\n"}, {"role": "assistant", "content": ""}, USER]

    assert prompt_messages(messages) == messages


def test_keys_beside_role_and_content_are_left_out():
    assert prompt_messages([{**USER, "name": "Ann", "tool_calls": None}]) == [USER]


@pytest.mark.parametrize(
    ("name", "role"),
    [("human", "user"), ("user", "user"), ("prompter", "user"), ("gpt", "assistant"), ("model", "assistant")],
)
def test_sharegpt_names_are_roles(name, role):
    turns = [{"from": "system", "value": "Be brief."}, {"from": name, "value": " Hi "}]

    assert conversation(turns) == [SYSTEM, {"role": role, "content": " Hi "}]


def test_conversation_is_cut_after_its_last_user_turn():
    assert up_to_last("user", [SYSTEM, USER, ASSISTANT, USER, ASSISTANT, ASSISTANT]) == [SYSTEM, USER, ASSISTANT, USER]
    assert up_to_last("user", [SYSTEM, USER]) == [SYSTEM, USER]
    assert up_to_last("user", [SYSTEM, ASSISTANT]) == []
    assert up_to_last("user", []) == []


@pytest.mark.parametrize("text", ["", "Hi", "Humans: Hi", "\n\nAssistant: Hello", "A Human: Hi"])
def test_hh_text_begins_with_a_human_turn(text):
    assert hh_conversation(text) is None


def test_hh_turn_loses_its_marker_and_one_space_and_nothing_else():
    text = "\n\nHuman:  two spaces \nand\n\na Human: line\n\n\nAssistant:\n\nHuman: \n\nAssistant: end\n"

    assert hh_conversation(text) == [
        {"role": "user", "content": " two spaces \nand\n\na Human: line\n"},
        {"role": "assistant", "content": ""},
        {"role": "user", "content": ""},
        {"role": "assistant", "content": "end\n"},
    ]


hh_contents = st.text(st.sampled_from("ab: \n\tHuman") | st.characters(codec="utf-8")).filter(
    lambda text: "\n\nHuman:" not in text and "\n\nAssistant:" not in text
)


@given(first=hh_contents, rest=st.lists(st.tuples(st.sampled_from(sorted(MARKS)), hh_contents), max_size=6))
def test_hh_text_holds_the_turns_it_was_made_of(first, rest):
    messages = [{"role": role, "content": content} for role, content in [("user", first), *rest]]

    assert hh_conversation(hh_text(messages)) == messages


@pytest.mark.parametrize("value", [None, 3, [], [USER], [ASSISTANT, USER], USER, {"content": "x"}, "\udfff"], ids=repr)
def test_what_is_not_text_or_an_assistant_turn_is_a_bad_response(value):
    assert reason_of(read_response, value) == "bad_response"


@pytest.mark.parametrize("value", ["", " ", "Hello\n"])
def test_text_is_a_response_byte_for_byte_even_when_empty(value):
    assert read_response(value) == ([], value)
    assert read_response({"from": "gpt", "value": value}) == ([], value)
    assert read_response([USER, {"role": "assistant", "content": value}]) == ([USER], value)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("image", "image"),
        ("image_url", "image"),
        ("input_audio", "image"),
        ("video", "image"),
        ("tool_use", "tool_calls"),
    ],
)
def test_part_that_is_no_text_has_a_reason_of_its_own(kind, reason):
    turn = {"role": "user", "content": [{"type": kind}, {"type": "text", "text": "Hi"}]}

    assert reason_of(conversation, [turn]) == reason


def test_text_parts_are_joined_and_thoughts_left_out():
    parts = [{"type": "thinking", "thinking": "Hm"}, {"type": "text", "text": "Hel"}, {"text": "lo"}]

    assert conversation([USER, {"role": "model", "parts": parts}]) == [USER, ASSISTANT]


def test_turn_that_calls_a_tool_is_a_turn_of_its_own():
    calls = [{"id": "c1", "function": {"name": "clock", "arguments": "{}"}}]
    turns = [USER, {"role": "assistant", "content": "Hello", "tool_calls": calls}, {"role": "tool", "content": "noon"}]

    assert [turn["role"] for turn in prompt_messages(turns)] == ["user", "assistant", "tool_call", "tool"]
    assert reason_of(read_response, turns[:2]) == "tool_calls"


def test_only_a_turn_marked_as_not_to_be_learned_says_so():
    turns = [USER, {**ASSISTANT, "weight": 0}, USER, {**ASSISTANT, "train": True}]

    assert [turn.get("learn") for turn in marked_conversation(turns)] == [None, False, None, None]
    assert conversation(turns) == [USER, ASSISTANT, USER, ASSISTANT]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([USER, ASSISTANT]),
        json.dumps({"messages": [USER, ASSISTANT]}),
        repr([USER, ASSISTANT]),
        ' [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]',
        "Human: Hi\n\nAssistant: Hello",
    ],
)
def test_structure_in_a_text_is_parsed(text):
    assert conversation(text) == [USER, ASSISTANT]
    assert read_response(text) == ([USER], "Hello")


@pytest.mark.parametrize(
    "text", ['{"role": "chef", "content": "soup"}', '{"name": "Ann"}', "[1, 2]", "{role: x}", "{'role': 'a\\d'}"]
)
def test_json_that_holds_no_messages_is_text(text):
    assert prompt_messages(text) == [{"role": "user", "content": text}]
    assert read_response(text) == ([], text)


@pytest.mark.parametrize(
    "text",
    [
        '[{"role": "user", "content": "Hi"',
        "<|im_start|>user\nHi<|im_end|>\n",
        "<s>[INST] Hi [/INST]",
        "Be brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi",
        "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n",
        "<|user|>\nHi</s>\n<|assistant|>\n",
        "A chat. USER: Hi ASSISTANT:",
        "### Human: Hi\n### Assistant:",
        "Human: Hi\nAssistant:",
    ],
)
def test_text_that_a_template_rendered_or_that_is_cut_is_no_prompt(text):
    assert reason_of(prompt_messages, text) == "unread_structure"


@pytest.mark.parametrize(
    "text", ["What does <|im_start|> mean?", "Use [INST] and </s> in a table.", "### Human rights"]
)
def test_text_about_templates_is_text(text):
    assert prompt_messages(text) == [{"role": "user", "content": text}]


def test_assistant_turn_without_text_at_the_end_of_a_prompt_is_where_the_response_begins():
    assert prompt_messages("\n\nHuman: Hi\n\nAssistant:") == [USER]


def test_sides_may_carry_what_the_prompt_leaves_out_and_no_other_prompt():
    spaced = {**USER, "content": "Hi \n"}

    assert join_prompt([USER], ([spaced], [])) == [USER]
    assert join_prompt([USER], ([SYSTEM, USER], [SYSTEM, spaced])) == [SYSTEM, USER]
    assert join_prompt([SYSTEM, USER], ([USER], [USER])) == [SYSTEM, USER]
    assert reason_of(join_prompt, [USER], ([{**USER, "content": "Ho"}], [])) == "prompt_mismatch"
    assert reason_of(join_prompt, [USER], ([SYSTEM, USER], [USER])) == "prompt_mismatch"
    assert reason_of(join_prompt, [SYSTEM, USER], ([{**SYSTEM, "content": "Be long."}, USER], [])) == "prompt_mismatch"


@given(
    st.recursive(
        st.none() | st.booleans() | st.text() | st.integers(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["role", "content", "from", "value", "type", "text", "tool_calls"]), inner
            )
        ),
    )
)
def test_any_value_is_messages_or_has_a_reason(value):
    for read in (prompt_messages, read_response):
        try:
            read(value)
        except UnusableRow as error:
            assert error.reason in UNPAIRED_REASONS
