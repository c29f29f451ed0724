"""Check constraints of a prompt by counting: lengths, words, case, script, JSON, first and last words."""

# ruff: noqa: RUF001  (signs that look like others are what this module tells apart)

import re
from collections.abc import Callable, Iterator
from functools import partial

from curate.screen.text.structure import CODE_BLOCK, LIST_ITEM, is_json
from curate.screen.text.words import UNSPACED, has_quote_text, strip_markup

Rule = Callable[[str], bool | None]
"""True for a response that keeps to the demand, False for one that breaks it, None where counting does not tell."""

LONGEST = 2000
"""Signs of a demand that are read."""
TO_TWELVE = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
NUMBERS = {name: number for number, name in enumerate(TO_TWELVE, start=1)} | {
    "single": 1,
    "fifteen": 15,
    "twenty": 20,
    "thirty": 30,
    "fifty": 50,
    "hundred": 100,
    "a hundred": 100,
}
NUMBER = rf"((?<![\d,])\d[\d,]{{0,8}}|{'|'.join(sorted(NUMBERS, key=len, reverse=True))})"
TIPS = r"(?:tip|reason|step|way|idea|example|fact|benefit|advantage|disadvantage|suggestion)s"
"""What responses give as list items, or in prose, where nobody can count them."""
UNIT = (
    r"(words?|sentences?|paragraphs?|lines?|characters?|bullet points?|bullets|(?:list )?items|"
    rf"numbered (?:steps|points)|{TIPS})"
)
AT_MOST = (
    r"(?:at most|no more than|no longer than|not more than|up to|a maximum of|maximum of|maximum|max\.?|within"
    r"|not exceed(?:ing)?)"
)
BELOW = r"(?:fewer than|less than|under|below)"
AT_LEAST = r"(?:at least|no fewer than|no shorter than|no less than|not less than|a minimum of|minimum of|minimum)"
ABOVE = r"(?:more than|over)"
ABOUT = r"(?:about|around|approximately|roughly|some|circa)"
EXACTLY = r"(?:exactly|precisely|only|just|in|as|of|with|using|to|be|write|give|on)"
COUNT = re.compile(
    rf"(?:(?P<at_most>{AT_MOST})|(?P<below>{BELOW})|(?P<at_least>{AT_LEAST})|(?P<above>{ABOVE})|(?P<about>{ABOUT})"
    rf"|(?P<exactly>{EXACTLY}))[ -](?:a |an |the )?{NUMBER}[ -](?:[a-z]+ )?{UNIT}\b"
    r"(?P<after> or (?:less|fewer|more)| at most| max)?"
)
BARE_COUNT = re.compile(rf"{NUMBER} (?:[a-z]+ )?{UNIT}[.!]?")
RANGE = re.compile(rf"(?:between {NUMBER} and {NUMBER}|{NUMBER} ?(?:to|-) ?{NUMBER}) {UNIT}\b")
HYPHENED = re.compile(rf"\b{NUMBER}-{UNIT}\b")
UNQUALIFIED = re.compile(rf"(?<![-\w.]){NUMBER} (?:[a-z]+ )?(bullet points?|bullets|{TIPS})\b")
NEAR = 0.25
"""How far a response may be from "about" so many."""
NEAR_WORDS = 0.1
"""How far from "in 100 words", which nobody counts to the word; small numbers are meant exactly."""

FORBIDS = r"(?:without|avoid(?:ing)?|do not|don't|never|must not|should not|no)"
TERMS = r"(['\"][^'\"]+['\"](?:,?(?: or| and)? ['\"][^'\"]+['\"])*)"
FORBIDDEN = re.compile(rf"{FORBIDS}(?: \w+){{0,4}}? (?:words?|phrases?|letters?|terms?|names?) {TERMS}")
REQUIRED = re.compile(
    r"(?:include|use|using|mention|contain|containing|with)(?: \w+){0,2}? (?:words?|phrases?|terms?|keywords?) " + TERMS
)
QUOTED = re.compile(r"['\"]([^'\"]+)['\"]")
EDGE = re.compile(
    rf"(?P<forbids>{FORBIDS} (?:you )?)?\b(?P<verb>begin|start|end|finish|close)(?:s|n?ing)?\b[^.'\"]{{0,60}}?"
    r" with(?: \w+){0,3}? ['\"](?P<term>[^'\"]+)['\"]"
)
QUESTION = re.compile(r"\b(?:end|finish|close)(?:s|ing)?\b[^.]{0,60}? with (?:a|one|another) (?:\w+ ){0,2}?question\b")
UPPER = re.compile(
    r"\b(?:all[ -]?caps|upper[ -]?case|(?:in|all|only|with) capital(?:s| letters)|capital letters only)\b"
)
LOWER = re.compile(
    r"\b(?:(?:all |in )?lower[ -]?case|(?:no|without)(?: any)? (?:capitals?|upper[ -]?case)(?: letters)?)\b"
)
NONE_OF = r"\b(?:no|without|avoid|don't use|do not use|never use)(?: \w+){0,2}? "
SIGNS = {
    "commas?": re.compile("[,，、،]"),
    "(?:numbers?|digits?|numerals?)": re.compile(r"\d"),
    "exclamation": re.compile("[!！]"),
    "(?:emojis?|emoticons?)": re.compile("[\u2600-\u27bf\U0001f300-\U0001faff]"),
    "(?:lists?|bullets?|bullet points?)": LIST_ITEM,
    "code": CODE_BLOCK,
}
NO_SIGNS = {re.compile(rf"{NONE_OF}{name}\b"): sign for name, sign in SIGNS.items()}
JSON = re.compile(r"\b(?:in|as|valid|only|a|is|be|return|into) (?:\w+ ){0,2}?json\b")
SCRIPTS = {
    "chinese|mandarin|cantonese": "\u3400-\u4dbf\u4e00-\u9fff",
    "japanese": "\u3040-\u30ff\u4e00-\u9fff",
    "korean": "\uac00-\ud7af\u1100-\u11ff",
    "russian|ukrainian|bulgarian|serbian": "\u0400-\u04ff",
    "greek": "\u0370-\u03ff\u1f00-\u1fff",
    "arabic|persian|farsi|urdu": "\u0600-\u06ff\u0750-\u077f",
    "hebrew": "\u0590-\u05ff",
    "hindi|marathi|nepali|sanskrit": "\u0900-\u097f",
    "bengali": "\u0980-\u09ff",
    "tamil": "\u0b80-\u0bff",
    "thai": "\u0e00-\u0e7f",
    "english|french|german|spanish|italian|portuguese|dutch|swedish|polish|turkish|vietnamese|indonesian": (
        "a-zA-Z\u00c0-\u024f\u1e00-\u1eff"
    ),
}
LANGUAGE = {re.compile(rf"\b(?:in|into|to) (?:\w+ )?(?:{names})\b"): script for names, script in SCRIPTS.items()}
OWN_SCRIPT = 0.5
"""Share of letters in the script of the language; names and code may stand in another."""
LIST_NUMBER = re.compile(r"^[ \t]*\(?\d{1,3}[.)](?=[ \t]+\S)", re.MULTILINE)
ITEM_START = re.compile(r"^([ \t]*)(?:(\(?\d{1,3}[.)])|[-*+•]|[a-zA-Z][.)])[ \t]+\S", re.MULTILINE)
ABBREVIATION = re.compile(
    r"\b(?:(?:dr|mr|mrs|ms|prof|st|mt|vs|cf|no|fig|approx|e\.g|i\.e)\.(?=\s+\S)"
    # These may end a sentence as well, which a capital after them tells.
    r"|(?:etc|inc|ltd|jr|sr|a\.m|p\.m|u\.s|u\.k)\.(?=\s+(?-i:[^A-Z\s])))",
    re.IGNORECASE,
)
SENTENCE_END = re.compile(r"[.!?…]+[\"')\]]*(?=\s|$)|[。！？｡]+|[।॥](?=\s|$)|(?<=[^\s.!?…])[\"')\]]*$")


def constraint_rules(constraint: str) -> Iterator[Rule]:
    """The parts of a demand that can be checked; none where all of it takes judgment."""
    asked = strip_markup(constraint[:LONGEST])
    yield from length_rules(asked)
    if re.search(r"\b(?:one|single)[ -]word\b", asked) and not COUNT.search(asked):
        yield within_count("word", 1, 1)
    forbidden = [term for found in FORBIDDEN.finditer(asked) for term in QUOTED.findall(found.group(1))]
    yield from (lacks_term(term, is_letter="letter" in asked) for term in forbidden)
    if not forbidden:
        for found in REQUIRED.finditer(asked):
            yield from (partial(has_quote_text, term) for term in QUOTED.findall(found.group(1)))
    for found in EDGE.finditer(asked):
        yield at_edge(found["verb"], found["term"], is_wanted=not found["forbids"])
    if QUESTION.search(asked):
        yield lambda text: text.rstrip(" \n\"'*_)").endswith(("?", "？", "؟"))
    if UPPER.search(asked):
        yield lambda text: text == text.upper() and text != text.lower()
    if LOWER.search(asked):
        yield lambda text: text == text.lower() and text != text.upper()
    yield from (is_free_of(sign) for demand, sign in NO_SIGNS.items() if demand.search(asked))
    if JSON.search(asked):
        yield is_json
    yield from (is_in_script(script) for demand, script in LANGUAGE.items() if demand.search(asked))


def lacks_term(term: str, is_letter: bool) -> Rule:
    return lambda text: term not in strip_markup(text) if is_letter else not has_quote_text(term, text)


def is_free_of(sign: re.Pattern[str]) -> Rule:
    return lambda text: not sign.search(text)


def is_in_script(script: str) -> Rule:
    """Another script breaks the demand; the same one may hold another language."""
    return lambda text: None if share_of_script(text, script) >= OWN_SCRIPT else False


def length_rules(asked: str) -> Iterator[Rule]:
    """A rule for each length that is asked for, such as "in at most 50 words"."""
    if BARE_COUNT.fullmatch(asked):
        asked = f"in {asked}"
    for found in RANGE.finditer(asked):
        least, most = (read_number(text) for text in found.groups()[:4] if text)
        yield within_count(found.group(5), least, most)
    for found in COUNT.finditer(asked):
        wanted, unit = read_number(found.group(7)), found.group(8)
        after = found["after"] or ""
        if found["at_most"] or after in (" or less", " or fewer", " at most", " max"):
            yield within_count(unit, 0, wanted)
        elif found["below"]:
            yield within_count(unit, 0, wanted - 1)
        elif found["at_least"] or after == " or more":
            yield within_count(unit, wanted, None)
        elif found["above"]:
            yield within_count(unit, wanted + 1, None)
        else:
            is_exact = found.group(0).startswith(("exactly", "precisely")) or wanted < 20
            slack = NEAR if found["about"] else 0 if is_exact or not unit.startswith(("word", "char")) else NEAR_WORDS
            yield near_count(unit, wanted, slack)
    if not COUNT.search(asked) and not RANGE.search(asked):
        for found in UNQUALIFIED.finditer(asked):
            yield near_count(found.group(2), read_number(found.group(1)), 0)
        for found in HYPHENED.finditer(asked):
            unit = found.group(2)
            yield near_count(unit, read_number(found.group(1)), NEAR_WORDS if unit.startswith(("word", "char")) else 0)


def read_number(text: str) -> int:
    return NUMBERS[text] if text in NUMBERS else int(text.replace(",", ""))


def near_count(unit: str, wanted: int, slack: float) -> Rule:
    return within_count(unit, wanted - int(slack * wanted), wanted + int(slack * wanted))


def within_count(unit: str, least: int, most: int | None) -> Rule:
    """At least so many of `unit` and, where a largest number is given, at most so many."""

    def keeps(text: str) -> bool | None:
        found = count_units(unit, text)
        if not found and re.fullmatch(TIPS, unit):
            return None
        return least <= found and (most is None or found <= most)

    return keeps


def count_units(unit: str, text: str) -> int:
    """How many words, sentences, paragraphs, lines, characters or list items `text` has."""
    text = text.strip()
    if unit.startswith("word"):
        # Han and kana are counted by the sign, other scripts by what stands between blanks.
        signs = re.findall(f"[{UNSPACED}]", text)
        return len(signs) + len([word for word in re.sub(f"[{UNSPACED}]", " ", text).split() if re.search(r"\w", word)])
    if unit.startswith("sentence"):
        return len(SENTENCE_END.findall(ABBREVIATION.sub(" ", LIST_NUMBER.sub("", text))))
    if unit.startswith("paragraph"):
        return len([paragraph for paragraph in re.split(r"\n\s*\n", text) if paragraph.strip()])
    if unit.startswith("line"):
        return len([line for line in text.splitlines() if line.strip()])
    if unit.startswith("char"):
        return len(text)
    return outer_items(text) if re.fullmatch(TIPS, unit) else len(LIST_ITEM.findall(text))


def outer_items(text: str) -> int:
    """Items of a list without what stands under them: the least indented, and of those the numbered ones if any."""
    starts = [(len(indent.expandtabs(4)), bool(number)) for indent, number in ITEM_START.findall(text)]
    outer = [is_numbered for indent, is_numbered in starts if indent == min(starts)[0]]
    return sum(outer) or len(outer)


def at_edge(verb: str, term: str, is_wanted: bool) -> Rule:
    """The response begins or ends with `term`, or does not."""
    if verb in ("begin", "start"):
        return lambda text: strip_markup(text).lstrip("\"'").startswith(term) == is_wanted
    return lambda text: strip_markup(text).rstrip("\"' .!").endswith(term.rstrip(" .!")) == is_wanted


def share_of_script(text: str, script: str) -> float:
    """Share of the letters that are in `script`; 0 where there are no letters."""
    letters = re.findall(r"[^\W\d_]", text)
    return len(re.findall(f"[{script}]", "".join(letters))) / len(letters) if letters else 0.0
