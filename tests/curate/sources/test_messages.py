"""Conversations keep every byte of what was said."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.sources.messages import (
    UnusableRow,
    conversation,
    hh_conversation,
    pair_text,
    prompt_messages,
    read_response,
    up_to_last,
)

SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "Hi"}
ASSISTANT = {"role": "assistant", "content": "Hello"}
MARKS = {"user": "Human", "assistant": "Assistant"}


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
        [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
        [{"role": "user"}],
        [{"role": "tool", "content": "Hi"}],
        [{"role": "human", "content": "Hi"}],
        [{"role": None, "content": "Hi"}],
        [{"role": ["user"], "content": "Hi"}],
        [{"from": "function_call", "value": "{}"}, USER],
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


@pytest.mark.parametrize(("name", "role"), [("human", "user"), ("user", "user"), ("gpt", "assistant")])
def test_sharegpt_names_are_roles(name, role):
    turns = [{"from": "system", "value": "Be brief."}, {"from": name, "value": " Hi "}]

    assert conversation(turns) == [SYSTEM, {"role": role, "content": " Hi "}]


def test_conversation_is_cut_after_its_last_user_turn():
    assert up_to_last("user", [SYSTEM, USER, ASSISTANT, USER, ASSISTANT, ASSISTANT]) == [SYSTEM, USER, ASSISTANT, USER]
    assert up_to_last("user", [SYSTEM, USER]) == [SYSTEM, USER]
    assert up_to_last("user", [SYSTEM, ASSISTANT]) == []
    assert up_to_last("user", []) == []


@pytest.mark.parametrize("text", ["", "Hi", "Human: Hi", "\n\nAssistant: Hello", " \n\nHuman: Hi"])
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


def test_bad_prompt_is_reported_before_a_bad_response():
    assert reason_of(pair_text, None, None, None) == "bad_prompt"
    assert reason_of(pair_text, "Hi", "Hello", None) == "bad_response"


def test_response_may_repeat_the_prompt_but_not_another_one():
    assert pair_text("Hi", [USER, ASSISTANT], "Go").messages == [USER]
    assert reason_of(pair_text, "Hi", [SYSTEM, USER, ASSISTANT], "Go") == "prompt_mismatch"
    assert reason_of(pair_text, "Hi ", "Go", [USER, ASSISTANT]) == "prompt_mismatch"
