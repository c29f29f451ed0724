import numpy as np
import polars as pl
import pytest

from curate.screen.text.languages import are_english, foreign_shares
from curate.screen.text.ngrams import hash_words

ENGLISH = "Why does water boil at a lower temperature in the mountains, and what does that mean for cooking?"
ANSWERS = {
    "English": "Air pressure falls with height, so the water needs less heat before it boils and food takes longer.",
    "Spanish": "El agua hierve a menor temperatura en la montaña porque la presión del aire disminuye con la altura.",
    "French": "L'eau bout à une température plus basse en montagne parce que la pression de l'air diminue vite.",
    "German": "Im Gebirge kocht Wasser bei einer niedrigeren Temperatur, weil der Luftdruck mit der Höhe abnimmt.",
    "Russian": "\u0412 \u0433\u043e\u0440\u0430\u0445 вода кипит при более "
    "низкой температуре, потому что давление воздуха падает.",
    "Chinese": "在山上\uff0c由于气压随高度降低\uff0c水在较低的温度下就会沸腾。因此食物需要更长的时间才能煮熟。",
    "Japanese": "山の上では高さとともに気圧が下がるため、水はより低い温度で沸騰します。料理に時間がかかります。",
    "Korean": "산에서는 높이에 따라 기압이 낮아지기 때문에 물이 더 낮은 온도에서 끓습니다.",
    "Arabic": "يغلي الماء في الجبال عند درجة حرارة أقل لأن ضغط الهواء ينخفض مع الارتفاع.",
    "Hindi": "पहाड़ों पर पानी कम तापमान पर उबलता है क्योंकि ऊँचाई के साथ हवा का दबाव घटता है और खाना देर से पकता है।",
}
OTHERS = [language for language in ANSWERS if language != "English"]


def share(prompt: str | None, response: str) -> float:
    prompts, responses = pl.Series([prompt], dtype=pl.String), pl.Series([response])
    english = [are_english(hash_words(texts)) for texts in (prompts, responses)]
    return float(foreign_shares(prompts, responses, english[0], english[1])[0])


@pytest.mark.parametrize(
    "response", ["", "Sí.", "123 + 456", "👍👍👍", "\x00\x01", "\ufffe" * 50, "\U0010ffff" * 50, "Ω"]
)
def test_too_little_text_says_nothing(response):
    assert share(ENGLISH, response) == 0


@pytest.mark.parametrize("prompt", [None, "", "👍", "x = 1", "Ok", "你好"])
def test_prompt_without_text_allows_any_language(prompt):
    assert share(prompt, ANSWERS["Spanish"]) == 0


def test_no_rows_give_no_shares():
    none = np.zeros(0, dtype=np.bool_)
    texts = pl.Series([], dtype=pl.String)

    assert foreign_shares(texts, texts, none, none).to_list() == []


@pytest.mark.parametrize("language", OTHERS)
def test_another_language_than_that_of_the_prompt_is_foreign(language):
    assert share(ENGLISH, ANSWERS[language]) > 0.9


@pytest.mark.parametrize("language", OTHERS)
def test_english_answer_to_another_language_is_foreign(language):
    assert share(ANSWERS[language], ANSWERS["English"] + " " + ANSWERS["English"]) > 0.9


@pytest.mark.parametrize("language", list(ANSWERS))
def test_the_language_of_the_prompt_is_not_foreign(language):
    assert share(ANSWERS[language], ANSWERS[language]) == 0


def test_short_english_prompt_is_known_by_its_words():
    assert share("How can I rob a casino?", ANSWERS["Russian"]) > 0.9


@pytest.mark.parametrize(
    "prompt",
    [
        "Translate the sentence: water boils at a lower temperature in the mountains.",
        "How does one say in Spanish that water boils at a lower temperature?",
        "Answer in a language other than this one, whichever one you like best of all.",
        "Traduce al inglés la frase siguiente, por favor, y explica las palabras difíciles.",
        f"What does this mean? {ANSWERS['German']} {ENGLISH}",
    ],
)
@pytest.mark.parametrize("language", ["English", "Spanish", "Chinese"])
def test_prompt_about_languages_or_in_two_of_them_allows_any(prompt, language):
    assert share(prompt, ANSWERS[language]) == 0


def test_code_is_in_no_language():
    code = "def fibonacci(n):\n    if n <= 1:\n        return n\n    return fibonacci(n - 1) + fibonacci(n - 2)\n" * 3

    assert share("Write a function that gives the number of the series.", code) == 0
    assert share("Write a function that gives the number of the series.", f"```python\n{code}```") == 0


def test_share_of_a_mixed_answer_lies_between():
    mixed = " ".join([ANSWERS["English"], *[ANSWERS["Spanish"]] * 3])

    assert 0.5 < share(ENGLISH, mixed) < 0.9


def test_kindred_languages_are_taken_for_each_other():
    danish = "Vandet koger ved en lavere temperatur i bjergene, fordi lufttrykket falder med højden over havet."
    norwegian = "Vannet koker ved en lavere temperatur i fjellet fordi lufttrykket synker med høyden over havet."

    assert share(danish, norwegian) == 0
