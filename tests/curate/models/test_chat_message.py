"""Messages of a choice in any form: what is text is read, and nothing else can break a run."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.models.chat_message import BESIDE, WITHIN, read_message

LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("\ud83d") | st.just("thinking")
FIELDS = st.sampled_from(("content", "refusal", "type", "value", *BESIDE, *WITHIN))
JSON = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(FIELDS, inner, max_size=4))


@given(st.dictionaries(FIELDS, JSON))
def test_any_message_is_text_that_utf8_holds_or_no_text(message):
    try:
        read = read_message(message)
    except TypeError as error:
        assert str(error).startswith("expected text")
        return

    for text in (read.text, read.reasoning, read.refusal):
        text.encode("utf-8")


@given(JSON)
def test_reasoning_of_any_form_never_costs_the_response(value):
    assert read_message({"content": "Fine.", "reasoning": value}).text == "Fine."


def test_reasoning_that_is_sent_under_two_names_is_read_once():
    message = {"content": "Fine.", "reasoning_content": "Hm.", "reasoning": "Hm."}

    assert read_message(message).reasoning == "Hm."


def test_reasoning_nested_beyond_reason_is_left_out():
    value = "deep"
    for _ in range(900):
        value = [value]

    assert read_message({"content": "Fine.", "reasoning": value}).reasoning == ""


@pytest.mark.parametrize("content", [3, True, {"text": 3}, [3], [["Fine."]], [{"type": "image_url"}]])
def test_content_that_is_no_text_is_refused(content):
    with pytest.raises(TypeError, match="expected text"):
        read_message({"content": content})


@pytest.mark.parametrize("message", [{}, {"content": None}, {"content": []}, {"content": ""}])
def test_a_message_without_content_is_empty(message):
    read = read_message(message)

    assert (read.text, read.reasoning, read.refusal) == ("", "", "")
