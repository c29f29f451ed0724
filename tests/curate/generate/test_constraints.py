# ruff: noqa: RUF001  (signs that look like others are what is tested)

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.generate.constraints import constraint_rules, count_units


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
        ("Three sentences.", "It is Dr. Who. It is old. It is fun.", "It is Dr. Who. It is old."),
        ("Give me 5 tips", "1. a\n2. b\n3. c\n4. d\n5. e", "1. a\n2. b\n3. c"),
        ("list 3 good reasons", "- a\n- b\n- c", "- a\n- b\n- c\n- d"),
        ("in 4 steps", "1. a\n2. b\n3. c\n4. d", "1. a\n2. b"),
        ("at least 3 reasons", "- a\n- b\n- c\n- d", "- a\n- b"),
        ("List three bullet points", "- a\n- b\n- c", "a, b and c"),
    ],
)
def test_a_demand_that_can_be_counted_is_kept_or_broken(constraint, kept, broken):
    found = list(constraint_rules(constraint))

    assert found
    assert False not in [keeps(kept) for keeps in found]
    assert False in [keeps(broken) for keeps in found]


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
def test_a_demand_that_takes_judgment_gives_no_rule(constraint):
    assert list(constraint_rules(constraint)) == []


@given(st.text(max_size=200), st.text(max_size=200))
def test_no_text_breaks_the_rules(constraint, text):
    for keeps in constraint_rules(constraint):
        assert keeps(text) in (True, False, None)


@pytest.mark.parametrize(
    ("constraint", "text"),
    [
        ("in Spanish", "Rain is water."),
        ("in Russian", "Це кіт."),
        ("5 tips", "Rest, eat, walk, sleep and drink."),
    ],
)
def test_what_counting_cannot_tell_is_neither_kept_nor_broken(constraint, text):
    assert [keeps(text) for keeps in constraint_rules(constraint)] == [None]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Dr. Who is a show. It is old.", 2),
        ("Rain falls, e.g. in Spain, i.e. not here.", 1),
        ("Bring bread, milk, etc. by 5 p.m. today.", 1),
        ("Bring bread, milk, etc. Then rest at 5 p.m.", 2),
        ("1. Boil it.\n2. Pour it.", 2),
        ("It was 1990. It rained.", 2),
    ],
)
def test_a_full_stop_of_an_abbreviation_or_of_a_number_in_a_list_ends_no_sentence(text, sentences):
    assert count_units("sentences", text) == sentences


def test_items_are_counted_without_what_stands_under_them():
    text = "1. **Rest**\n   - at night\n   - at noon\n2. **Eat**\n- bread\n- soup\n3. Walk"

    assert count_units("tips", text) == 3
    assert count_units("tips", "- rest\n  - at night\n- eat") == 2
