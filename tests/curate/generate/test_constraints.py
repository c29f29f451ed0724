# ruff: noqa: RUF001  (signs that look like others are what is tested)

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.generate.constraints import rules


@pytest.mark.parametrize(
    ("constraint", "kept", "broken"),
    [
        ("in at most 5 words", "It is a cat.", "It is a very small cat."),
        ("in 3 words or less", "A cat", "It is a cat."),
        ("fewer than four words", "A small cat", "It is a cat."),
        ("at least three sentences", "A. B. C.", "A. B."),
        ("in exactly two sentences", "One is here. Two is there!", "Only one."),
        ("in 2-3 sentences", "One. Two.", "One. Two. Three. Four."),
        ("between 2 and 4 words", "two words", "one"),
        ("a four-line poem", "a\nb\nc\nd", "a\nb\nc"),
        ("with one word", "Paris", "It is Paris"),
        ("One word only.", "Paris.", "It is Paris."),
        ("in about 20 words", "w " * 23, "w " * 30),
        ("in 100 words", "w " * 95, "w " * 80),
        ("no more than 10 characters", "1234567890", "12345678901"),
        ("as a list of three bullet points", "- a\n- b\n- c", "- a\n- b"),
        ("two paragraphs long, so in two paragraphs", "a\n\nb", "a"),
        ("in valid JSON", '{"a": 1}', "a: 1"),
        ("IN ALL CAPS", "IT IS SO.", "It is so."),
        ("use only lowercase letters: all lowercase", "it is so.", "It is so."),
        ("without using the word 'blue'", "The sea is bluer.", "The sea is blue."),
        ("Don’t use the words “sea” or “sky”", "Water and air", "Water and sky"),
        ("without the letter 'e'", "It is a dog", "She"),
        ("include the word 'whale'", "A whale swims.", "A fish swims."),
        ("Start your answer with 'Aye'", "Aye, it is.", "It is, aye."),
        ("don't start with 'Sure'", "It is.", "Sure, it is."),
        ("End your answer with the phrase 'over and out'", "It is. Over and out.", "It is."),
        ("Always end your answer with a question", "It is. Is it?", "It is."),
        ("Don't use any numbers", "five", "5"),
        ("no commas", "a and b", "a, b"),
        ("answer in Chinese", "这是一只猫。", "It is a cat."),
        ("translate it into Russian", "Это кот.", "It is a cat."),
        ("in English please", "It is a cat.", "这是一只猫。"),
        ("in three Chinese words, so in at most 3 words", "一只猫", "这是一只猫"),
    ],
)
def test_a_demand_that_can_be_counted_is_kept_or_broken(constraint, kept, broken):
    found = list(rules(constraint))

    assert found
    assert all(keeps(kept) for keeps in found)
    assert not all(keeps(broken) for keeps in found)


@pytest.mark.parametrize(
    "constraint",
    [
        "",
        "be polite",
        "Name three uses for old newspapers",
        "call me Captain in each reply",
        "for a child",
        "in one day",
    ],
)
def test_a_demand_that_takes_judgement_gives_no_rule(constraint):
    assert list(rules(constraint)) == []


@given(st.text(max_size=200), st.text(max_size=200))
def test_no_text_breaks_the_rules(constraint, text):
    for keeps in rules(constraint):
        assert keeps(text) in (True, False)
