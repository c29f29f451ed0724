"""Words of a response and quotes from it, in any script.

These words are read and compared one text at a time: a contraction is one word, and of scripts without blanks a word is
two neighboring signs. `ngrams` hashes the words of whole columns: there an apostrophe parts words, and a sign is one.
"""

# ruff: noqa: RUF001  (signs that look like others are what this module tells apart)

import re
import unicodedata
from collections import Counter

UNSPACED = (
    "\u3005-\u3007\u0e00-\u0edf\u1000-\u109f\u1780-\u17ff\u3040-\u30ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
)
"""Scripts without blanks between words: Thai, Lao, Burmese, Khmer, kana and Han, as re and polars both read it."""
MARKS = "\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0900-\u0963\u0966-\u0dff"
"""Accents, points and vowel signs, which `\\w` leaves out though they stand inside words."""
SPACED = rf"(?:(?![{UNSPACED}])(?:[^\W_]|[{MARKS}]))"
WORD = re.compile(rf"[{UNSPACED}]+|{SPACED}+(?:'{SPACED}+)*")
IS_UNSPACED = re.compile(f"[{UNSPACED}]")

# Function words say nothing of the subject: two texts on anything share them.
STOPWORDS = frozenset(
    """a about above after again all also am an and any are aren't as at be because been before being below between both
    but by can can't could did didn't do does doesn't doing don't down during each even few for from further get had
    has have having he her here hers him his how however i i'd i'll i'm i've if in into is isn't it it's its just let
    let's like made make many may me might more most much must my no nor not of off on once one only or other our out
    over own same she should so some such than that that's the their them then there these they this those through to
    too under until up upon us use very was we were what when where which while who whom why will with within without
    won't would yes yet you you're your yours""".split()  # noqa: SIM905
)

APOSTROPHES = "‘’‚‛′`´"
SAME_SIGNS = str.maketrans(
    dict.fromkeys(APOSTROPHES, "'") | dict.fromkeys("“”„‟″«»「」『』", '"') | dict.fromkeys("‐‑‒–—―−", "-")
)
INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060-\u2064\ufeff]")
LINE_MARKER = re.compile(r"^[ \t]*(?:[-*+•]|#{1,6}|>)[ \t]+", re.MULTILINE)
EMPHASIS = re.compile(r"`+|\*\*|__|(?<!\w)[*_]|[*_](?!\w)")
QUOTE_ENDS = " .,;:!?\"'。、，；：！？"
ELLIPSIS = re.compile(r"\s*\[?\.{3,}\]?\s*")
NUMBER_ENDS = (r"(?<!\d[.,])", r"(?![.,]\d)")


def strip_markup(text: str) -> str:
    """`text` without what copying changes: case, kinds of quotes and dashes, Markdown signs, line breaks."""
    text = EMPHASIS.sub("", LINE_MARKER.sub("", INVISIBLE.sub("", text)))
    text = unicodedata.normalize("NFKC", text.translate(SAME_SIGNS)).replace("\\n", " ")
    return " ".join(text.casefold().split())


def has_quote_text(quote: str, text: str) -> bool:
    """True if `quote` stands in `text` as whole words; `...` in it may leave something out."""
    sought, within = strip_markup(quote).strip(QUOTE_ENDS), strip_markup(text)
    if not sought:
        return False
    if whole_words(sought).search(within):
        return True
    parts = [part.strip(QUOTE_ENDS) for part in ELLIPSIS.split(sought)]
    start = 0
    for part in parts:
        found = whole_words(part).search(within, start) if len(parts) > 1 and part else None
        if not found:
            return False
        start = found.end()
    return True


def whole_words(text: str) -> re.Pattern[str]:
    """`text` where no word or number goes on before or after it: "5" does not stand in "1.5"."""
    before, after = "", ""
    if re.match(SPACED, text[0]):
        before = f"(?<!{SPACED})" + (NUMBER_ENDS[0] if text[0].isdigit() else "")
    if re.match(SPACED, text[-1]):
        after = f"(?!{SPACED})" + (NUMBER_ENDS[1] if text[-1].isdigit() else "")
    return re.compile(before + re.escape(text) + after)


def words(text: str) -> list[str]:
    """The words in order, lower case; pairs of neighbors for scripts without blanks."""
    text = unicodedata.normalize("NFKC", INVISIBLE.sub("", text).translate(SAME_SIGNS)).casefold()
    found: list[str] = []
    for word in WORD.findall(text):
        if len(word) > 1 and IS_UNSPACED.match(word):
            found += [word[i : i + 2] for i in range(len(word) - 1)]
        else:
            found.append(word)
    return found


def content_words(text: str) -> frozenset[str]:
    """The words that say something of the subject; all words where there are none such."""
    found = frozenset(words(text))
    return found - STOPWORDS or found


def are_similar(first: list[str], second: list[str], least: float) -> bool:
    """True if 2·L / (words of both) is at least `least`, with L words in common in the same order.

    The greedy search of E. W. Myers, An O(ND) difference algorithm (1986), given up at the first word too many.
    """
    most = int((1 - least) * (len(first) + len(second)) + 1e-9)
    if len(first) + len(second) - 2 * (Counter(first) & Counter(second)).total() > most:
        return False
    reached = {1: 0}
    for edits in range(most + 1):
        for diagonal in range(-edits, edits + 1, 2):
            is_below = diagonal == -edits or (diagonal != edits and reached[diagonal - 1] < reached[diagonal + 1])
            x = reached[diagonal + 1] if is_below else reached[diagonal - 1] + 1
            while x < len(first) and x - diagonal < len(second) and first[x] == second[x - diagonal]:
                x += 1
            reached[diagonal] = x
            if x >= len(first) and x - diagonal >= len(second):
                return True
    return False


def share_in(part: frozenset[str], whole: frozenset[str]) -> float:
    """Share of `part` that is in `whole`; 0 for an empty part."""
    return len(part & whole) / len(part) if part else 0.0
