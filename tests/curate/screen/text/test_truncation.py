# ruff: noqa: RUF001  (signs that look like others are what is tested)

import polars as pl
import pytest

from curate.screen.text.truncation import find_endings, stops_within

ANSWER = "Air pressure falls with height. Water boils when its vapour pressure reaches that of the air."


def ending(text: str) -> str:
    """What is said of one text whose finish reason is unknown."""
    return find_endings(pl.Series([text])).item()


def test_the_finish_reason_comes_before_the_text():
    unfinished = "It is so because the pressure of the"
    texts, finish = pl.Series([ANSWER, unfinished, unfinished]), pl.Series(["length", "stop", None])

    assert find_endings(texts, finish).to_list() == ["yes", "no", "yes"]


def test_no_text_has_no_ending():
    assert find_endings(pl.Series([], dtype=pl.String)).to_list() == []
    assert find_endings(pl.Series([None], dtype=pl.String)).to_list() == ["no"]


@pytest.mark.parametrize(
    "text",
    [
        "```python\nprint(1)\n",
        "Water boils at a lower temperature, because the pressure of the",
        "There are three reasons for it: height, pressure,  weather,",
        "It is so. Water boils when its vapour pressure reaches that of the air around it and vapour can",
        "These help:\n1. Drink water.\n2. Rest a while.\n3. Take the pot from",
        "These help:\n1. Drink a glass of water.\n2. Rest for a while.\n3. Create",
        "Air pressure falls with height. So does the boiling point.\n\nIt is important to be cautious when consider",
        "There are two reasons:\n\n- The air is thin.\n- The pressure falls.\n\nSo in total the",
        "It is made of water and",
        "First mix it. Then bake the dough for",
        "1. Boil the water.\n2. Pour it over the leaves and wait until",
        "8 plants * 1 cup = <<8*1=8>>8 cups of",
    ],
)
def test_open_code_and_open_sentences_are_cut(text):
    assert ending(text) == "yes"


@pytest.mark.parametrize(
    "text",
    [
        "Here are the steps:",
        "He said “",
        "It has three parts (",
        "First mix it. Then put the dough in a warm plac",
        "| a | b |\n| --- | --- |\n| 1 | wat",
        "我喜欢",
    ],
)
def test_other_last_lines_without_a_closing_sign_may_be_cut(text):
    assert ending(text) == "maybe"


@pytest.mark.parametrize(
    "text",
    [
        "",
        ANSWER,
        "It is so. 🎉",
        "Thank you 👍",
        "Good luck :)",
        "He said “no.”",
        "It is *so.*",
        "这是一只猫。",
        "在山上，水在较低的温度下就会沸腾。",
        "यह बिल्ली है।",
        "هل هذه قطة؟",
        "Run this:\n\n```python\nprint(1)\n```",
        '{"a": [1, 2]}',
        "def f(x):\n    return f(x)",
        "| a | b |\n| --- | --- |\n| 1 | 2 |",
        "She has 4 + 5 = 9 eggs left.\nA: 9",
        "First snow of the year is here. What a beautiful sight it is from our office #winter #snow #first",
    ],
)
def test_a_text_that_ends_properly_is_whole(text):
    assert ending(text) == "no"


@pytest.mark.parametrize(
    "text",
    [
        "Paris",
        "These help:\n- water\n- rest\n- a pot of tea",
        "Apples, pears and plums",
        "def f(x):\n    return x",
        "while true; do\n    echo 'GCD:' $a",
        "Best regards,\nJane Doe",
        "The air is thin there. Water boils early.\n\nBest regards,\nThe Mountain Team",
        "The air is thin there. Water boils early.\n\nAnswer: not enough information",
        "The air is thin there. Water boils early.\n\n- height\n- pressure\n- weather",
        "I didn’t catch that. I don’t have a call to make right now, so I just can’t speak right now",
    ],
)
def test_notes_lists_and_code_are_not_surely_cut(text):
    assert ending(text) != "yes"


@pytest.mark.parametrize(
    ("text", "whole", "expected"),
    [
        ("我喜欢", "我喜欢猫。它很可爱。", True),
        ("我喜欢猫。", "我喜欢猫。它很可爱。", False),
        ("Par", "Paris", True),
        ("Paris ", "Paris", False),
        ("Paris", "Paris ", False),
        ("- bread", "- bread\n- milk", False),
        ("Bread", "Bread and milk", True),
        ("", "Bread", False),
    ],
)
def test_the_whole_tells_a_cut_that_leaves_nothing_odd(text, whole, expected):
    assert stops_within(text, whole) == expected
