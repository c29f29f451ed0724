"""Text that others wrote is shown without a sign that nobody sees."""

import json
import logging
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.flags import VisibleNotes
from schemas.visible import visible, visible_json, visible_line

SIGNS = {
    "escape": "\x1b",
    "one-byte escape": "\x9b",
    "carriage return": "\r",
    "right to left": "\u202e",
    "isolate": "\u2067",
    "mark": "\u200f",
    "Arabic mark": "\u061c",
    "zero-width space": "\u200b",
    "zero-width joiner": "\u200d",
    "word joiner": "\u2060",
    "byte-order mark": "\ufeff",
    "soft hyphen": "\u00ad",
    "line separator": "\u2028",
    "tag": "\U000e0041",
    "variation": "\U000e0100",
}


@pytest.mark.parametrize("sign", SIGNS.values(), ids=SIGNS)
def test_a_hidden_sign_is_shown_as_a_mark(sign):
    assert visible(f"a{sign}b") == "a\ufffdb"
    assert json.loads(visible_json(json.dumps(f"a{sign}b", ensure_ascii=False))) == f"a{sign}b"
    assert sign not in visible_json(json.dumps(f"a{sign}b", ensure_ascii=False))


def test_text_of_any_language_stays_as_it_is():
    text = "Zwölf\n\tмышь 鼠 تاريخ हिन्दी ❤️ 👍"

    assert visible(text) == text


@given(st.text())
def test_no_control_or_format_sign_of_direction_is_left(text):
    shown = visible(text)

    assert len(shown) == len(text)
    assert not {sign for sign in shown if unicodedata.category(sign) == "Cc"} - {"\n", "\t"}
    assert not {sign for sign in shown if unicodedata.bidirectional(sign) in ("LRE", "RLE", "LRO", "RLO", "PDF", "RLI")}


@given(st.text(), st.integers(min_value=1, max_value=50))
def test_a_line_is_one_line_and_no_longer(text, longest):
    assert len(visible_line(text, longest).splitlines()) <= 1
    assert len(visible_line(text, longest)) <= longest


def test_a_note_that_repeats_what_an_endpoint_said_is_shown_without_hidden_signs():
    record = logging.LogRecord("curate", logging.INFO, "", 0, "%s says no", ("a\x1b[31m\u202e",), None)

    assert VisibleNotes().format(record) == "a\ufffd[31m\ufffd says no"
