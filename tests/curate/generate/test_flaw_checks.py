# ruff: noqa: RUF001  (signs that look like others are what is tested)

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from curate.generate.flaw_checks import CHECKS, Written
from schemas.names import WRITTEN_FLAWS

PROMPT = "How do I make tea? Answer in at most 30 words."
CHOSEN = "Boil fresh water. Warm the pot. Add one spoon of leaves per cup, pour, and wait four minutes."
HIT = {
    "factual": Written(PROMPT, CHOSEN, "Boil water, add leaves, and wait four hours.", "wait four hours"),
    "logic": Written("What is 5 - 3?", "5 - 3 = 2", "5 - 3 = 5 + 3 = 8", "5 - 3 = 5 + 3"),
    "incomplete": Written(PROMPT, CHOSEN, "Boil fresh water. Add one spoon of leaves and pour.", "Warm the pot."),
    "broken_constraint": Written(PROMPT, CHOSEN, "Boil it. " * 20, "Boil it.", "in at most 30 words"),
    "off_topic": Written(
        PROMPT, CHOSEN, "Porcelain was invented in China. Kilns reach high heat.", "Kilns reach high heat."
    ),
    "verbose_padding": Written(
        PROMPT, CHOSEN, f"What a great thing to ask! {CHOSEN} I hope that was of use.", "What a great thing to ask!"
    ),
    "broken_format": Written(PROMPT, "```\nboil\n```", "```\nboil", "boil"),
    "needless_refusal": Written(PROMPT, CHOSEN, "I’m sorry, but I can’t help with boiling things.", ""),
    "truncation": Written(PROMPT, CHOSEN, "Boil fresh water. Warm the pot. Add one spoon of leaves per c", "per c"),
    "unsupported_detail": Written(
        PROMPT, CHOSEN, f"{CHOSEN} In 1906 Kakuzo Okakura proved it.", "In 1906 Kakuzo Okakura proved it."
    ),
}


def test_every_written_flaw_has_a_check():
    assert tuple(CHECKS) == WRITTEN_FLAWS
    assert tuple(HIT) == WRITTEN_FLAWS


@pytest.mark.parametrize("flaw", WRITTEN_FLAWS)
def test_each_check_finds_its_flaw(flaw):
    assert CHECKS[flaw](HIT[flaw])


@pytest.mark.parametrize("flaw", WRITTEN_FLAWS)
@pytest.mark.parametrize("text", ["", " ", CHOSEN, "茶", "```\nboil", "I can't help with that.", "It is made of the"])
def test_identical_texts_have_no_flaw(flaw, text):
    assert not CHECKS[flaw](Written(PROMPT, text, text, text, "in at most 30 words"))


@given(st.sampled_from(WRITTEN_FLAWS), *[st.text(max_size=60)] * 4)
def test_identical_texts_have_no_flaw_whatever_they_say(flaw, prompt, text, quote, constraint):
    assert not CHECKS[flaw](Written(prompt, text, text, quote, constraint))


@given(st.sampled_from(WRITTEN_FLAWS), *[st.text(max_size=60)] * 5)
def test_no_text_breaks_a_check(flaw, prompt, chosen, rejected, quote, constraint):
    assert CHECKS[flaw](Written(prompt, chosen, rejected, quote, constraint)) in (True, False)


WORDS = st.lists(st.text(alphabet="abcdefghijklmnopéß", min_size=2, max_size=9), min_size=3, max_size=30)


@given(WORDS, st.data())
def test_a_text_cut_in_a_word_is_truncated(spoken, data):
    chosen = " ".join(spoken).capitalize() + "."
    inside = [i for i in range(1, len(chosen)) if chosen[i - 1].isalpha() and chosen[i].isalpha()]
    assume(inside)

    rejected = chosen[: data.draw(st.sampled_from(inside))]

    assert CHECKS["truncation"](Written("", chosen, rejected, ""))


@given(st.text(alphabet="天地玄黃宇宙洪荒日月盈昃", min_size=3, max_size=40), st.data())
def test_a_text_without_blanks_cut_between_signs_is_truncated(signs, data):
    chosen = signs + "。"

    rejected = chosen[: data.draw(st.integers(1, len(signs) - 1))]

    assert CHECKS["truncation"](Written("", chosen, rejected, ""))


@given(WORDS, WORDS)
def test_a_text_that_ends_at_a_sentence_is_not_truncated(first, second):
    rejected = " ".join(first) + "."

    assert not CHECKS["truncation"](Written("", f"{rejected} {' '.join(second)}.", rejected, ""))


@pytest.mark.parametrize("quote", ["", "not in it", "Boil fresh water"])
def test_a_quote_that_is_missing_or_in_both_is_no_false_statement(quote):
    assert not CHECKS["factual"](Written(PROMPT, CHOSEN, "Boil fresh water for an hour.", quote))


def test_what_is_left_out_must_be_gone_in_other_words_too():
    rejected = "First warm the pot with care. Boil water and add leaves."

    assert not CHECKS["incomplete"](Written(PROMPT, CHOSEN, rejected, "Warm the pot."))


def test_a_refusal_leaves_out_everything_but_is_not_incomplete():
    assert not CHECKS["incomplete"](Written(PROMPT, CHOSEN, "I can't help with boiling water.", "Warm the pot."))


@pytest.mark.parametrize(
    ("constraint", "rejected", "quote", "expected"),
    [
        ("in at most 30 words", "Boil it.", "Boil it.", False),
        ("in one word", "Boil it. " * 20, "Boil it.", False),
        ("", "Boil it. " * 20, "Boil it.", False),
        ("make tea", "Grind the coffee.", "Grind the coffee", True),
        ("make tea", "Grind the coffee.", "Boil fresh water", False),
    ],
    ids=["kept", "not in the prompt", "none", "by quote", "by a quote that is not there"],
)
def test_a_constraint_stands_in_the_prompt_and_is_broken_by_count_or_by_quote(constraint, rejected, quote, expected):
    assert CHECKS["broken_constraint"](Written(PROMPT, CHOSEN, rejected, quote, constraint)) == expected


def test_a_constraint_that_the_chosen_response_breaks_too_finds_nothing():
    written = Written("Say it in one word.", "It is Paris.", "It is London.", "London", "in one word")

    assert not CHECKS["broken_constraint"](written)


@pytest.mark.parametrize(
    ("constraint", "chosen", "rejected", "expected"),
    [
        ("in Spanish", "La lluvia es agua.", "Rain is water.", True),
        ("in Spanish", "La lluvia es agua.", "雨是水。", True),
        ("in Spanish", "雨是水。", "Rain is water.", False),
        ("5 tips", "- a\n- b\n- c\n- d\n- e", "- a\n- b", True),
        ("5 tips", "- a\n- b\n- c\n- d\n- e", "- f\n- b\n- c\n- d\n- e", False),
        ("5 tips", "Rest, eat, walk, sleep and drink.", "Rest and eat.", True),
        ("in at most 9 words, in Spanish", "La lluvia es agua.", "Rain is water.", True),
    ],
)
def test_where_counting_tells_nothing_the_quote_decides(constraint, chosen, rejected, expected):
    written = Written(f"What is rain? Answer {constraint}.", chosen, rejected, rejected, constraint)

    assert CHECKS["broken_constraint"](written) == expected


@pytest.mark.parametrize(
    ("quote", "expected"),
    [
        ("It takes 17 minutes.", True),
        ("It takes four minutes.", False),
        ("Use about 30 leaves.", False),
        ("as Lu Yu wrote", True),
        ("Everybody loves it.", False),
        ("see https://tea.example/17", True),
        ("据《茶经》记载", True),
        ("见于唐代", False),
    ],
)
def test_details_are_figures_names_and_sources_that_are_new(quote, expected):
    written = Written(PROMPT, CHOSEN, f"{CHOSEN} And {quote}" if quote[0].islower() else f"{CHOSEN} {quote}", quote)

    assert CHECKS["unsupported_detail"](written) == expected


def test_an_answer_in_the_same_words_is_on_topic():
    assert not CHECKS["off_topic"](Written(PROMPT, CHOSEN, "Boil water and pour it on the leaves.", ""))


def test_more_words_without_the_content_are_not_padding():
    rejected = "What a great thing to ask! There is so much to say on this subject, and people have said it all before."

    assert not CHECKS["verbose_padding"](Written(PROMPT, CHOSEN, rejected, "What a great thing to ask!"))


@pytest.mark.parametrize(
    "quote",
    ["Avoid coffee late, since caffeine blocks the sleepiness adenosine brings.", "Wait until 16:30."],
    ids=["another step", "a new figure"],
)
def test_steps_and_details_that_are_added_are_no_padding(quote):
    chosen = "1. Keep the room dark.\n2. Put screens away."

    assert not CHECKS["verbose_padding"](Written(PROMPT, chosen, f"{chosen}\n3. {quote}", quote))


def test_a_list_that_is_said_twice_is_padding():
    chosen = "1. Keep the room dark.\n2. Put screens away."
    filler = "To sum up what was said above, once more:"

    assert CHECKS["verbose_padding"](Written(PROMPT, chosen, f"{chosen}\n\n{filler}\n\n{chosen}", filler))
