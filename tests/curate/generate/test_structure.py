import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.generate.structure import broken_form, find_broken, is_cut, is_json, list_forms

WHOLE = [
    "",
    "Paris",
    "Paris.",
    "It is so. 🎉",
    "Good luck :)",
    "He said “no.”",
    "It is *so.*",
    "这是一只猫。",
    "これは猫です。",
    "यह बिल्ली है।",
    "هل هذه قطة؟",
    "Run this:\n\n```python\nprint(1)\n```",
    '{"a": [1, 2]}',
    "| a | b |\n| --- | --- |\n| 1 | 2 |",
    "Buy these:\n\n- bread\n- milk\n- a dozen eggs",
    "1. Boil the water.\n2. Pour it.",
    "Best wishes,\nAnna",
]
CUT = [
    "It is made of water and",
    "The first step, which takes an hour, is to heat the",
    "Run this:\n\n```python\nprint(1)",
    "First mix it. Then bake the dough for",
    "| a | b |\n| --- | --- |\n| 1 | ",
    "Here are the steps:",
    "He said “no",
    "It has three parts (",
    "1. Boil the water.\n2. Pour it over the leaves and wait until",
    "First mix it. Then put the dough in a warm plac",
]


@pytest.mark.parametrize("text", WHOLE)
def test_a_text_that_ends_properly_is_not_cut(text):
    assert not is_cut(text)


@pytest.mark.parametrize("text", CUT)
def test_a_text_that_stops_in_the_middle_is_cut(text):
    assert is_cut(text)


@pytest.mark.parametrize(
    ("text", "whole", "expected"),
    [
        ("我喜欢", "我喜欢猫。它很可爱。", True),
        ("我喜欢猫。", "我喜欢猫。它很可爱。", False),
        ("Par", "Paris", True),
        ("Paris", "Paris", False),
        ("Paris ", "Paris", False),
        ("Paris", "Paris ", False),
        ("- bread", "- bread\n- milk", False),
        ("Bread", "Bread and milk", True),
    ],
)
def test_the_whole_tells_a_cut_that_leaves_nothing_odd(text, whole, expected):
    assert is_cut(text, whole) == expected


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", set()),
        ("a) one b) two :)", set()),
        ("2 ** 3 and 2**3", set()),
        ("see [this](https://en.wikipedia.org/wiki/A_(b)) page", set()),
        ("`**` and ```", set()),
        (r"$\nabla f \neq 0$", set()),
        ("```\nprint(1)", {"fence"}),
        ("this is **bold", {"bold"}),
        ("see [this](https://example.org", {"link", "bracket"}),
        ("<b>bold", {"tag"}),
        ("<p>one<br>two</p>", set()),
        ("<p>one", set()),
        ("<p>one</p><p>two", {"tag"}),
        ("one</p>", {"tag"}),
        ("all in [0, 1) and (-1, \\infty] but (a, b]", set()),
        ("[0.5, 2) and (3", {"bracket"}),
        ("[see this, or that)", {"bracket"}),
        ("f(x", {"bracket"}),
        (r"one\ntwo", {"escape"}),
        ("| a | b |\n| --- | --- |\n| 1 |", {"table"}),
        ("| a | b |\n| 1 | 2 |", {"table"}),
    ],
)
def test_what_is_malformed_is_named(text, found):
    assert find_broken(text) == found


@pytest.mark.parametrize("text", ['{"a": 1}', "[]", '```json\n{"a": 1}\n```', "Here:\n```json\n[1]\n```\nDone."])
def test_json_may_stand_in_a_code_block(text):
    assert is_json(text)


@pytest.mark.parametrize("text", ["", "1", '"a"', '{"a": 1', "{'a': 1}", "{" * 10_000, "see {x}"])
def test_other_text_is_no_json(text):
    assert not is_json(text)


def test_a_list_run_together_has_lost_its_form_only_with_the_same_content():
    chosen = "- red apples\n- green pears\n- yellow plums"

    assert list_forms(chosen) == {"list", "lines"}
    assert broken_form(chosen, "red apples green pears yellow plums")
    assert not broken_form(chosen, "Eat whatever fruit is in season.")


def test_json_that_no_longer_parses_is_broken():
    assert broken_form('{"a": "b"}', '{"a": "b",}')
    assert not broken_form('{"a": "b"}', '{"a": "c"}')


def test_a_chosen_response_that_is_as_malformed_leaves_nothing_to_find():
    assert not broken_form("this is **bold", "that is **bold")


@given(st.text(max_size=200))
def test_no_text_breaks_the_checks_and_identical_texts_differ_in_no_form(text):
    is_cut(text)

    assert not broken_form(text, text)
