"""Share of a response in a language that its prompt neither is in nor asks for."""

from functools import lru_cache

import numpy as np
import polars as pl
import pycld2  # type: ignore[import-untyped]

from curate.screen.arrays import Mask
from curate.screen.text.ngrams import HashedWords
from curate.screen.text.structure import CODE
from curate.screen.text.word_runs import WordSet, sum_by_text

ENGLISH = WordSet(
    """the of and to is that you it for was on are with as be this have from or had by but not what all were we when
    your can there an which their will about how them these would has could been did its who they he she his her i
    my our if than should because into where while each also""".split()  # noqa: SIM905
)
"""Words that hold English together and are rare in other languages."""
ENGLISH_SHARE = 0.15
"""A text with this share of such words is English: prose has about twice as many, and no other language half."""

NAMES = (
    r"(?i)\b(?:translat\w*|tradu[cz]\w*|übersetz\w*|vertaal\w*|bilingual|multilingual|linguistic\w*|"
    r"(?:foreign|other|another|different|native|target|source|second|official|human|local|indigenous|any) languages?|"
    r"languages? other than|"
    r"afrikaans|albanian|amharic|arabic|armenian|basque|bengali|bosnian|bulgarian|burmese|"
    r"catalan|cantonese|chinese|croatian|czech|danish|dutch|english|esperanto|estonian|farsi|"
    r"finnish|filipino|french|galician|"
    r"georgian|german|greek|gujarati|hausa|hawaiian|hebrew|hindi|hungarian|icelandic|indonesian|irish|italian|"
    r"japanese|kannada|kazakh|khmer|korean|kurdish|lao|latin|latvian|lithuanian|malay|malayalam|mandarin|maori|"
    r"marathi|mongolian|nepali|norwegian|pashto|persian|polish|portuguese|punjabi|romanian|russian|sanskrit|serbian|"
    r"sinhala|slovak|slovene|slovenian|somali|spanish|swahili|swedish|tagalog|tamil|telugu|thai|tibetan|turkish|"
    r"ukrainian|urdu|uzbek|vietnamese|welsh|xhosa|yiddish|yoruba|zulu|"
    r"español|inglés|français|anglais|deutsch\w*|englisch\w*|italiano|inglese|português|inglês)\b"
    r"|翻译|翻譯|翻訳|번역|перев[её]?[дс]\w*|ترجم|英语|英文|中文|日本語|한국어|영어|русск\w*|английск\w*"
)
"""What a prompt says when it asks for another language or is about one."""
NAMES_WITHIN = NAMES.replace(r"\b", "")
"""The same within words as well: a sieve, for word boundaries take many times as long as all the rest."""

NOT_PROSE = CODE + r"|```.*\z|https?://\S+|(?m-s)^.*(?:[{}=<>\\_]|[a-z0-9]\(|;$).*$"
"""Code, also in an open fence, links, and lines that look like code."""
SAMPLE = 1500
"""Characters of prose that are looked at: of the beginning of a response and of the end of a prompt."""
ENOUGH_LETTERS = 40
"""Fewer letters say nothing of a language that is written in an alphabet."""
SIGN = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
ENOUGH_SIGNS = 8
"""Fewer signs say nothing where a sign is a word or a syllable."""
PROMPT_SHARE = 10
"""A language with this percentage of a prompt may be answered in."""

KIN = {
    language: group[0]
    for group in (
        ("no", "nn", "nb", "da", "sv"),
        ("hr", "bs", "sr", "sr-ME", "sl", "mk", "bg"),
        ("id", "ms", "jw", "su"),
        ("pt", "gl", "es", "ca", "oc", "it"),
        ("cs", "sk"),
        ("zh", "zh-Hant", "ja"),
        ("ru", "uk", "be"),
        ("hi", "mr", "ne", "bh", "sa"),
        ("en", "sco", "xx-Qaai"),
        ("de", "lb", "nl", "af", "fy"),
    )
    for language in group
}
"""Languages that are taken for each other in short texts, each with the first of them."""


def are_english(words: HashedWords) -> Mask:
    """(texts,) True where the words alone show that a text is English."""
    found = sum_by_text(words, ENGLISH.holds(words.hashes)).astype(np.int64)
    return (found >= 2) & (found >= ENGLISH_SHARE * words.counts)


def foreign_shares(
    prompts: pl.Series, responses: pl.Series, asked_in_english: Mask, answered_in_english: Mask
) -> pl.Series:
    """Share of each response in languages that its prompt neither is in nor asks for, 0 where that cannot be told.

    A prompt that names a language, speaks of translation or holds two languages allows any.
    """
    rows = np.flatnonzero(~(asked_in_english & answered_in_english))
    shares = np.zeros(len(responses), dtype=np.float32)
    asked = pl.DataFrame(
        {
            "row": rows,
            "prompt": prompts.gather(rows),
            "response": responses.gather(rows),
            "in_english": asked_in_english[rows],
        }
    )
    is_plain = has_enough("prompt") | pl.col("in_english")
    # The cheapest sieve first: most short texts fall through it.
    looked_at = (
        asked.filter(is_plain, has_enough("response"))
        .pipe(lambda rows: rows.filter(~name_languages(rows["prompt"])))
        .with_columns(strip_code(pl.col("prompt").str.slice(-2 * SAMPLE)), strip_code(pl.col("response")))
        .filter(is_plain, has_enough("response"))
    )
    for row, prompt, response, in_english in looked_at.iter_rows():
        shares[row] = foreign_share(prompt, response, in_english)
    return pl.Series(shares)


def name_languages(prompts: pl.Series) -> pl.Series:
    """True for a prompt that asks for another language or is about one."""
    rows = prompts.str.contains(NAMES_WITHIN).arg_true()
    named = rows.filter(prompts.gather(rows).str.contains(NAMES))
    return pl.Series(np.isin(np.arange(len(prompts)), named.to_numpy()))


def strip_code(text: pl.Expr) -> pl.Expr:
    """The first `SAMPLE` characters that are neither code nor control signs."""
    begin = text.str.slice(0, 2 * SAMPLE).str.replace_all(NOT_PROSE, " ").str.slice(0, SAMPLE)
    return begin.str.replace_all(r"[\p{Cc}\p{Cn}\p{Co}]+", " ")


def has_enough(column: str) -> pl.Expr:
    """True for a text with letters enough to tell its language."""
    letters = pl.col(column).str.count_matches(r"\p{L}")
    return (letters >= ENOUGH_LETTERS) | (pl.col(column).str.count_matches(SIGN) >= ENOUGH_SIGNS)


def foreign_share(prompt: str, response: str, in_english: bool) -> float:
    """Share of one response in languages that do not stand in the prompt."""
    spoken = detect_languages(response)
    if not spoken:
        return 0.0
    allowed = {language for language, percent in detect_languages(prompt).items() if percent >= PROMPT_SHARE}
    if not allowed and in_english:
        allowed = {"en"}
    if len(allowed) != 1:
        return 0.0
    return sum(percent for language, percent in spoken.items() if language not in allowed) / 100


# Both responses of a pair are held against its prompt.
@lru_cache(maxsize=4096)
def detect_languages(text: str) -> dict[str, int]:
    """Language -> percentage of the text; none where that cannot be told."""
    is_reliable, _, found = pycld2.detect(text.encode())[:3]
    shares: dict[str, int] = {}
    for _, code, percent, _ in found if is_reliable else ():
        if code != "un":
            shares[KIN.get(code, code)] = shares.get(KIN.get(code, code), 0) + percent
    return shares
