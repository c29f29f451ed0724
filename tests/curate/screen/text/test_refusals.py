# ruff: noqa: RUF001  (signs that look like others are what is tested)

import polars as pl
import pytest

from curate.screen.text.refusals import find_refusals

ANSWER = "Boil fresh water. Warm the pot. Add one spoon of leaves per cup, pour, and wait four minutes."


def refuses(text: str) -> bool:
    return find_refusals(pl.Series([text])).item()


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I cannot assist with this request.",
        "I am unable to provide instructions for that.",
        "As an AI language model, I do not have opinions.",
        "Sorry, I won't write that story.",
        "*I’m sorry*, I cannot provide that.",
        "Unfortunately, I am not able to open links.",
        "I must decline.",
        "I need to decline.",
        "I respectfully decline to answer.",
        "I'm sorry, but I won't be able to help with that.",
        "I will not be able to assist you.",
        "I don't feel comfortable answering this.",
        "I cannot in good conscience provide this.",
        "I do not think I should answer that.",
        "I'd rather not get into this.",
        "It would be inappropriate for me to answer this.",
        "Unfortunately, this goes against my guidelines.",
        "抱歉，我无法帮助你。",
        "申し訳ありませんが、お手伝いできません。",
        "Es tut mir leid, aber das geht nicht.",
        "Lo siento, no puedo ayudar con eso.",
        "Je ne peux pas vous aider.",
        "Извините, я не могу помочь с этим.",
    ],
)
def test_refusals_are_known_in_several_languages(text):
    assert refuses(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I'm sorry to hear that your cat died. Here is what to do.",
        "I can't believe it is already May! Boil water.",
        "You can't help it: boil water.",
        "I can't recommend this enough: boil water.",
        "I cannot recommend this pot highly enough.",
        "I could not help but smile. Boil water.",
        "I can't tell you how good this is. Boil water.",
        "I'm sorry for your loss. Take your time.",
        "Sales must decline before prices do.",
        f"{ANSWER * 3} I can't help with more than that.",
    ],
)
def test_sympathy_and_late_limits_are_no_refusals(text):
    assert not refuses(text)
