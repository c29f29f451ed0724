"""Objects as models write them: what is read, what is not, and how many steps it takes."""

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.models.lenient_json import find_objects

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
PLAIN = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\b\f"))
"""Nobody means a backspace or a form feed."""


def read(text):
    """The objects of a text, and whether its end cuts one."""
    found, is_cut = find_objects(text)
    return [each.read() for each in found], is_cut


@pytest.mark.parametrize(
    "text", ["", "{}x{", "{ }", "no object", "[1, 2]", '{"a"}', '{"a": }', "{'a': 1}", '{"a" 1}', "{,}"]
)
def test_what_is_no_object_with_members_is_none(text):
    assert all(members == {} for members in read(text)[0])
    assert not read(text)[1]


@given(st.dictionaries(PLAIN.filter(lambda key: "\\" not in json.dumps(key)), PLAIN, max_size=4), st.booleans())
def test_what_is_json_by_the_letter_is_read_by_the_letter(members, is_ascii):
    text = json.dumps(members, ensure_ascii=is_ascii)

    assert read(text) == ([members], False)


@given(VALUES)
def test_objects_within_others_are_found_by_themselves(value):
    text = json.dumps({"first": value, "last": 1})

    members, _ = read(text)

    assert members[-1]["last"] == 1.0
    assert len(members) == text_of_objects(json.loads(text))


def text_of_objects(value):
    if isinstance(value, dict):
        return 1 + sum(map(text_of_objects, value.values()))
    return sum(map(text_of_objects, value)) if isinstance(value, list) else 0


@pytest.mark.parametrize(
    "text",
    [
        '{"a": "x',
        '{"a": "x\\"',
        '{"a": "x"',
        '{"a": "x",',
        '{"a":',
        '{"a": [1, {"b": 2}',
        '{"a": {"b": 2} ',
        'First {"a": 1}, then {"a": "x',
        '{"',
    ],
)
def test_an_object_that_the_end_cuts_is_told(text):
    assert read(text)[1]


@pytest.mark.parametrize(
    "text", ['{"a": "x" ... }', '{"a": "b"c"}', '{"a": N}', "{really} {", "{", 'f("{") and {"a": 1}']
)
def test_an_object_that_goes_wrong_before_the_end_is_not_cut(text):
    assert not read(text)[1]


@pytest.mark.parametrize(
    ("number", "value"),
    [
        ("1e999", float("inf")),
        ("-1e999", float("-inf")),
        ("9" * 5000, float("inf")),
        ("8/10", "8/10"),
        ("0x1F", "0x1F"),
    ],
)
def test_a_number_of_any_size_is_read(number, value):
    assert read(f'{{"a": {number}}}')[0] == [{"a": value}]


def test_a_key_that_stands_twice_is_marked():
    assert [each.is_ambiguous for each in find_objects('{"a": 1, "b": {"a": 2}, "a": 1} {"a": 1}')[0]] == [
        False,
        True,
        False,
    ]


def lines_run(text):
    """Lines of Python that it takes to read the objects of a text."""
    count = 0

    def trace(frame, event, arg):
        nonlocal count
        count += event == "line"
        return trace

    sys.settrace(trace)
    try:
        for each in find_objects(text)[0]:
            each.read()
    finally:
        sys.settrace(None)
    return count


UNITS = [
    "{",
    "[",
    '"',
    "\\",
    '{"',
    '{"a":',
    '{"a":[',
    '{"a":"{',
    '{"a":"b",',
    '{"x{',
    '{"a":{"',
    "[{",
    '{"{"',
    '{"a":["{",{"',
]


@pytest.mark.parametrize("unit", [*UNITS, '{"a": 1}', '{"a": "\\\\n"}', '{"a":"{"b":"', '{"a":{"b":"{"c":'])
@pytest.mark.parametrize("end", ["", '"}', "]}", "}"])
def test_four_times_the_text_takes_four_times_the_steps(unit, end):
    short, long = (lines_run(unit * times + end) for times in (200, 800))

    assert long <= 4.2 * short
