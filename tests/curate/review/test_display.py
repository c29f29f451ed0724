import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.review.display import LONGEST, MOST_MESSAGES, display_messages, display_text


@pytest.mark.parametrize("text", ["", " ", "\n\t "])
def test_nothing_to_see_is_said(text):
    assert display_text(text) == "(empty response)"
    assert display_messages([{"role": "user", "content": text}]) == [{"role": "user", "content": "(empty)"}]


def test_a_text_of_the_longest_length_is_whole():
    assert display_text("x" * LONGEST) == "x" * LONGEST


def test_one_character_more_is_cut_in_the_middle_with_a_count():
    text = "a" * 15_000 + "b" * 5_001

    cut = display_text(text)

    # (20,000 - 100) / 2 = 9,950 characters stay at either end, of 20,001.
    assert cut.startswith("a" * 9_950) and cut.endswith("b" * 5_001)
    assert "[... 101 characters are left out here ...]" in cut


@given(st.integers(0, 3_000_000))
def test_what_is_shown_is_never_longer(length):
    assert 0 < len(display_text("x" * length)) <= LONGEST


def test_a_character_that_no_database_keeps_is_drawn():
    assert display_text("a\0b") == "a␀b"


def test_markup_stays_as_it_was_written():
    assert display_text("<b>**x**</b>") == "<b>**x**</b>"


@pytest.mark.parametrize("messages", [MOST_MESSAGES, MOST_MESSAGES + 1, 5_000])
def test_a_long_conversation_is_cut_in_the_middle(messages):
    turns = [{"role": "user", "content": str(i)} for i in range(messages)]

    found = display_messages(turns)

    assert len(found) <= MOST_MESSAGES
    assert (found == turns) == (messages <= MOST_MESSAGES)
    assert (found[0], found[-1]) == (turns[0], turns[-1])
    if found != turns:
        left_out = messages - len(found) + 1
        assert {"role": "system", "content": f"[... {left_out:,} messages are left out here ...]"} in found
