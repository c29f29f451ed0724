import re
import unicodedata

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.screen.text.ngrams import CHANGEABLE, hash_words, join_texts

TEXTS = st.lists(st.none() | st.text(alphabet="ab ä.\n漢\x00", max_size=12), max_size=6)


def words_of(text: str | None) -> list[int]:
    return hash_words(pl.Series([text], dtype=pl.String)).hashes.tolist()


def test_no_texts_have_no_words_and_no_runs():
    words = hash_words(pl.Series([], dtype=pl.String))

    assert (words.counts.tolist(), words.ngrams(3).counts.tolist()) == ([], [])


@pytest.mark.parametrize("text", [None, "", " \n", "...", "👍"])
def test_text_without_a_letter_or_digit_has_no_words(text):
    assert words_of(text) == []


def test_case_and_compatible_form_do_not_matter():
    assert words_of("\uff26\uff29\uff2e\uff25 Words") == words_of("fine words")
    assert words_of("re\u0301sume\u0301") == words_of("résumé")


def test_where_no_blanks_are_written_a_sign_is_a_word():
    assert len(words_of("水在山上")) == 4
    assert len(words_of("water在山")) == 3


def test_runs_do_not_cross_texts():
    two = hash_words(pl.Series(["a b", "c d"])).ngrams(3)

    assert two.counts.tolist() == [0, 0]


@given(TEXTS, st.integers(1, 4))
def test_runs_of_each_text_are_those_it_has_by_itself(texts, n):
    together = hash_words(pl.Series(texts, dtype=pl.String)).ngrams(n)

    for i, text in enumerate(texts):
        alone = hash_words(pl.Series([text], dtype=pl.String)).ngrams(n)
        assert together.hashes[together.starts[i] : together.starts[i + 1]].tolist() == alone.hashes.tolist()
    assert together.owners().tolist() == [i for i, count in enumerate(together.counts) for _ in range(count)]


@given(st.lists(st.sampled_from("abc"), max_size=8), st.lists(st.sampled_from("abc"), max_size=8), st.integers(1, 3))
def test_equal_runs_have_equal_hashes_and_others_do_not(left, right, n):
    texts = hash_words(pl.Series([" ".join(left), " ".join(right)], dtype=pl.String)).ngrams(n)
    runs = [tuple(words[i : i + n]) for words in (left, right) for i in range(len(words) - n + 1)]

    assert len(set(runs)) == len(set(texts.hashes.tolist())) == len(set(zip(runs, texts.hashes.tolist(), strict=True)))


def test_reading_words_leaves_the_texts_as_they_are():
    texts = pl.Series(["Itâ€\u2122s", "x\u2122", None])

    hash_words(texts)

    assert texts.to_list() == ["Itâ€\u2122s", "x\u2122", None]


def test_signs_that_are_passed_over_have_no_other_compatible_form():
    unchanged = [chr(point) for point in range(0x3000) if not re.search(CHANGEABLE, chr(point))]

    text = "".join(unchanged)

    assert unicodedata.normalize("NFKC", text) == text


@given(TEXTS, TEXTS)
def test_shared_runs_are_those_in_the_sets_of_both_texts(left, right):
    count = min(len(left), len(right))
    one, other = (hash_words(pl.Series(texts[:count], dtype=pl.String)).ngrams(2) for texts in (left, right))

    shared = one.distinct().shared(other.distinct())

    sets = [
        [set(grams.hashes[grams.starts[i] : grams.starts[i + 1]].tolist()) for i in range(count)]
        for grams in (one, other)
    ]
    assert shared.tolist() == [len(a & b) for a, b in zip(*sets, strict=True)]
    assert one.halves().distinct().shared(other.halves().distinct()).tolist() == shared.tolist()


@given(TEXTS, st.data())
def test_taken_texts_keep_their_words(texts, data):
    words = hash_words(pl.Series(texts, dtype=pl.String))
    rows = np.array(data.draw(st.lists(st.integers(0, len(texts) - 1), max_size=5) if texts else st.just([])), int)

    taken = words.take(rows)

    for place, row in enumerate(rows):
        own, found = (
            all_of.hashes[all_of.starts[i] : all_of.starts[i + 1]] for all_of, i in ((words, row), (taken, place))
        )
        assert found.tolist() == own.tolist()
    together = join_texts([taken, words])
    assert together.counts.tolist() == [*taken.counts.tolist(), *words.counts.tolist()]
