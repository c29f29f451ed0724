import json
from typing import Any

import polars as pl
import pytest
from scripted import user
from shared_data import DATASETS

from curate.config import Thresholds
from curate.screen.rules import guard_config, guard_rules
from curate.screen.text.guards import hash_prompts, is_empty, response_features
from curate.screen.text.word_runs import read_wording
from schemas.names import GUARDS


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\n\t",
        "\u00a0\u200b\ufeff",
        "<|im_end|>",
        " <|im_start|> <|im_end|>\n",
        "</s>",
        "[INST] [/INST]",
        "\x00",
    ],
)
def test_white_space_and_template_tokens_alone_are_empty(text):
    assert pl.DataFrame({"a": [text]}).select(is_empty("a")).item()


@pytest.mark.parametrize("text", [".", "0", "<b>", "no<|im_end|>", "<| not a token", "👍"])
def test_any_other_sign_is_text(text):
    assert not pl.DataFrame({"a": [text]}).select(is_empty("a")).item()


def features(prompt: str, response: str | None, finish: str | None = None, system: str | None = None) -> dict[str, Any]:
    """The features of one response, without the name of the side."""
    turns = [{"role": "system", "content": system}] if system else []
    prompts = hash_prompts(pl.Series([[*turns, *user(prompt)]]))
    row = response_features(
        "response", prompts, read_wording(pl.Series([response])), pl.Series([finish], dtype=pl.String)
    )
    return {name.removeprefix("response_"): value for name, value in row.row(0, named=True).items()}


def broken(prompt: str, response: str, **given: str) -> list[str]:
    """The guards that a response breaks."""
    row = pl.DataFrame([{f"response_{name}": value for name, value in features(prompt, response, **given).items()}])
    rules = guard_rules("response", guard_config(Thresholds()))
    return [guard for guard, rule in rules.items() if row.select(rule).item()]


ASKED = "Why does water boil at a lower temperature in the mountains?"
ANSWER = "Air pressure falls with height. Water boils when its vapour pressure reaches that of the air."


def test_a_good_answer_breaks_no_guard():
    assert broken(ASKED, ANSWER) == []


def test_no_responses_have_no_features():
    none = pl.Series([], dtype=pl.String)
    messages = pl.Series([], dtype=pl.List(pl.Struct({"role": pl.String, "content": pl.String})))

    assert response_features("chosen", hash_prompts(messages), read_wording(none), none).height == 0


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("", 0), (".", 1), ("Paris", 1), ("Yes.", 2), ("It is.", 3), ("...", 1), ("Go!", 2), ("在山上", 3)],
)
def test_words_and_runs_of_punctuation_are_tokens(text, tokens):
    assert features(ASKED, text)["tokens"] == tokens
    assert ("too_short" in broken(ASKED, text)) == (tokens < 3)


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("法国的首都是哪里。", "巴黎"),
        ("水在高山上沸点更低吗。", "是"),
        ("水在高山上沸点更低吗。", "是。"),
        ("フランスの首都はどこですか。", "パリ"),
        ("水は山で低い温度で沸きますか。", "はい"),
        ("น้ำเดือดที่อุณหภูมิต่ำกว่าบนภูเขาหรือไม่", "ใช่"),
        ("ເມືອງຫຼວງຂອງຝຣັ່ງແມ່ນຫຍັງ", "ແມ່ນ"),
        ("តើទឹកពុះនៅលើភ្នំឬទេ", "បាទ"),
        ("ပြင်သစ်နိုင်ငံ၏ မြို့တော်ကား", "ဟုတ်"),
        ("ཆུ་ཁོལ་གྱི་ཡོད་དམ།", "ཡིན"),
    ],
)
def test_one_word_in_a_script_without_blanks_is_an_answer(prompt, text):
    assert broken(prompt, text) == []


@pytest.mark.parametrize("text", ["", "。", "。。", "・", "ー", "네", "Да", "Oui", "Yes."])
def test_signs_and_words_of_scripts_with_blanks_are_still_too_short(text):
    assert "too_short" in broken(ASKED, text)


@pytest.mark.parametrize(
    "text",
    [
        "Itâ€™s the airâ€™s pressure.",
        "CafÃ© au lait",
        "the temperature is 20Â°",
        "Ð\u009fÑ\u0080Ð\u00b8Ð²ÐµÑ\u0082",
        "nice ðŸ\u02dc€ day",
        "some \ufffd text",
        "\ue000\ue001 bullets",
        "a\x00b and so on",
    ],
)
def test_text_of_another_character_set_is_broken(text):
    assert "broken_encoding" in broken(ASKED, text)


@pytest.mark.parametrize(
    "text",
    [
        "naïve café, Ångström, MAÇÃ, voilà…” \u2013 é”—",
        "Straße “schön”",
        "мир, ελληνικά, עברית, العربية, 漢字, 한국어",
        "tabs\tand\r\nlines",
        "👩‍👩‍👧 family",
        ANSWER * 20 + " \ufffd " + ANSWER * 20,
    ],
)
def test_accents_other_scripts_and_one_stray_sign_are_not_broken(text):
    assert not features(ASKED, text)["broken"]


def test_broken_text_of_the_prompt_may_be_quoted():
    assert not features("What is CafÃ© meant to be?", "CafÃ© is café, read wrongly.")["broken"]
    assert features("What is CafÃ© meant to be?", "CafÃ© is cafÃ© and Ã©tÃ©.")["broken"]


@pytest.mark.parametrize(
    "text",
    [
        f"{ANSWER}<|im_end|>",
        f"<|start_header_id|>assistant<|end_header_id|>\n\n{ANSWER}",
        f"{ANSWER}</s>",
        f"<s> {ANSWER}",
        f"{ANSWER} [/INST]",
        f"{ANSWER}\n\nHuman: And then?",
        f"{ANSWER}\n### Instruction: go on",
        f"```python\nprint(1)\n{ANSWER}<|im_end|>",
    ],
)
def test_template_tokens_and_turn_markers_are_leaks(text):
    assert "leaked_tokens" in broken(ASKED, text)


@pytest.mark.parametrize(
    "text",
    [
        "The old price is <s>20</s> dollars.",
        "Use `<|im_end|>` as the end of a turn.",
        "```\ntokens = ['<|im_end|>', '<pad>']\n```",
        "A || B and <b>bold</b> |> pipe <| here",
        "## Instructions\nHuman: is a species.",
    ],
)
def test_html_and_code_about_tokens_are_no_leaks(text):
    assert not features(ASKED, text)["leaked"]


def test_tokens_of_the_prompt_are_no_leaks():
    assert not features("What does <|im_end|> mean?", "<|im_end|> ends a turn.")["leaked"]


SYSTEM = "You are a careful assistant of the water works and you never speak about prices. Prices are in the annex."


def test_the_beginning_of_the_system_message_is_a_leak():
    told = "My orders are: you are a careful assistant of the water works, and so on."

    assert features(ASKED, told, system=SYSTEM)["leaked"]
    assert not features(ASKED, told)["leaked"]
    assert not features(ASKED, "I am a careful assistant of the water works.", system=SYSTEM)["leaked"]


def test_the_prompt_said_again_is_an_echo():
    assert features(ASKED, ASKED)["echo_share"] == 1
    assert broken(ASKED, ASKED.upper()) == ["prompt_echo"]
    assert features("Go on then", "Go on then.")["echo_share"] == 1


@pytest.mark.parametrize(
    ("prompt", "response"),
    [
        ("Hello!", "Hello!"),
        ("Good morning", "Good morning!"),
        (ASKED, f"{ASKED} {ANSWER}"),
        (f"Which sentence speaks of pressure? {ANSWER} {ASKED} It is a question.", "Air pressure falls with height."),
        ("", ""),
    ],
)
def test_greetings_quotations_and_questions_with_their_answer_are_no_echo(prompt, response):
    assert features(prompt, response)["echo_share"] < 0.9


def test_repetition_is_the_share_of_runs_that_come_again():
    # 16 words have 13 runs of four, of which a, b, c and d begin one each: 9 of 13 come again.
    assert features(ASKED, "a b c d " * 4)["repetition_share"] == pytest.approx(9 / 13)


@pytest.mark.parametrize(
    "text",
    ["ha" * 100, "👍" * 100, "- - " * 50, "0.3" + "3" * 200, "|  " * 100, "the same again and again " * 12, "あ" * 50],
)
def test_loops_of_words_and_of_signs_are_repetition(text):
    assert "repetition" in broken(ASKED, text)


@pytest.mark.parametrize(
    "text",
    [
        "no no no no no",
        "Ha ha ha ha!",
        "-----",
        "https://example.org/a/long/path/that/is/one/word?only=once&more=2",
        ANSWER,
    ],
)
def test_short_or_varied_text_is_no_repetition(text):
    assert features(ASKED, text)["repetition_share"] < 0.3


@pytest.mark.skipif(not DATASETS.exists(), reason="needs the shared datasets")
@pytest.mark.parametrize("guard", [guard for guard in GUARDS if guard != "too_short"])
def test_answers_of_strong_models_hardly_ever_break_a_guard(guard):
    with (DATASETS / "arena_hard_v01_questions.jsonl").open() as lines:
        asked = {row["question_id"]: row["prompt"] for row in map(json.loads, lines)}
    answers = pl.read_parquet(DATASETS / "arena_hard_v01_answers_gpt-4-0314.parquet")
    prompts = hash_prompts(pl.Series([user(asked[question]) for question in answers["question_id"]]))

    finish = pl.Series([None] * answers.height, dtype=pl.String)
    rows = response_features("response", prompts, read_wording(answers["answer"]), finish)

    assert rows.select(guard_rules("response", guard_config(Thresholds()))[guard].mean()).item() <= 0.01
