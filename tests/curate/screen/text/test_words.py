# ruff: noqa: RUF001  (signs that look like others are what is tested)

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.screen.text.words import are_similar, content_words, has_quote_text, share_in, strip_markup, words


@pytest.mark.parametrize(
    ("quote", "text"),
    [
        ("It’s “fine”", 'He said it\'s "fine" then.'),
        ('"The moon is cheese."', "THE  MOON\nis cheese, they say"),
        ("the **moon** is", "The moon is"),
        ("first step — mix", "1. First step - mix"),
        ("Mix ... bake", "Mix the flour, then bake it."),
        ("one\\ntwo", "one\ntwo"),
        ("月亮是奶酪", "我听说月亮是奶酪做的。"),
        ("zero\u200bwidth", "zerowidth"),
        ("x + 1", "so `x + 1` follows"),
        ("5", "take 5, not 6"),
    ],
)
def test_a_quote_is_found_however_it_was_copied(quote, text):
    assert has_quote_text(quote, text)


@pytest.mark.parametrize(
    ("quote", "text"),
    [
        ("", "anything"),
        (" \"'...' ", "anything..."),
        ("art", "a party"),
        ("5", "15 or 1.5 or 5,000"),
        ("bake ... mix", "Mix the flour, then bake it."),
        ("5 + 3", "5 - 3"),
        ("moon", ""),
    ],
)
def test_a_quote_is_whole_words_in_their_order(quote, text):
    assert not has_quote_text(quote, text)


@given(st.text(max_size=100), st.text(alphabet=st.characters(categories=("Lu", "Ll", "Nd")), min_size=1, max_size=20))
def test_any_word_of_a_text_stands_in_it(text, word):
    assert has_quote_text(word, f"{text} {word} {text}")


@given(st.text(max_size=100))
def test_no_text_breaks_the_comparison(text):
    assert strip_markup(strip_markup(text)) is not None
    assert content_words(text) <= frozenset(words(text))


def test_han_is_compared_by_neighboring_signs():
    assert words("我爱猫。2024年") == ["我爱", "爱猫", "2024", "年"]


def test_vowel_signs_do_not_part_a_word():
    assert words("हिन्दी भाषा") == ["हिन्दी", "भाषा"]


def test_function_words_count_only_where_there_is_nothing_else():
    assert content_words("What is the Moon?") == {"moon"}
    assert content_words("What is it?") == {"what", "is", "it"}
    assert content_words("") == frozenset()


def test_share_of_nothing_is_zero():
    assert share_in(frozenset(), frozenset("ab")) == 0.0


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("", "", True),
        ("", "a", False),
        ("abcdefghij" * 2, "abcdefghij" * 2, True),
        # 2 x 19 / (20 + 19) = 0.974 and 2 x 18 / (20 + 18) = 0.947
        ("abcdefghij" * 2, "abcdefghij" + "abcdefghi", True),
        ("abcdefghij" * 2, "abcdefghij" + "abcdefgh", False),
        # 2 x 19 / 40 = 0.95
        ("abcdefghij" * 2, "abcdefghij" + "Xbcdefghij", True),
        ("a" * 3000, "a" * 2990, True),
        ("ab" * 1500, "ba" * 1500, True),
        ("a" * 3000, "b" * 3000, False),
    ],
)
def test_similarity_is_the_share_of_words_in_the_same_order(first, second, expected):
    assert are_similar(list(first), list(second), 0.95) == expected


@given(st.text(alphabet="abc", max_size=30), st.text(alphabet="abc", max_size=30), st.sampled_from([0.5, 0.8, 0.95, 1]))
def test_similarity_is_that_of_the_longest_common_subsequence(first, second, least):
    lengths = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            lengths[i + 1][j + 1] = lengths[i][j] + 1 if a == b else max(lengths[i][j + 1], lengths[i + 1][j])
    common, total = lengths[-1][-1], len(first) + len(second)

    assert are_similar(list(first), list(second), least) == (2 * common >= least * total - 1e-9)
