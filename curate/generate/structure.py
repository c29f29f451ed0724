"""Structure of a response: its ending, its broken markup, and the forms it is made of."""

# ruff: noqa: RUF001  (signs that look like others are what this module tells apart)

import json
import re
import unicodedata
from collections import Counter

from curate.generate.words import STOPWORDS, content_words, share_in, words

FENCE = re.compile(r"^[ \t]*(?:```|~~~)", re.MULTILINE)
FENCED = re.compile(r"^[ \t]*(```+|~~~+)([^\n`]*)\n(.*?)^[ \t]*\1[ \t]*$", re.MULTILINE | re.DOTALL)
INLINE_CODE = re.compile(r"`[^`\n]+`")
LIST_ITEM = re.compile(r"^[ \t]*(?:[-*+•]|\(?\d{1,3}[.)]|[a-zA-Z][.)])[ \t]+(\S.*)$", re.MULTILINE)
TABLE_ROW = re.compile(r"^[ \t]*\|.*$", re.MULTILINE)
TABLE_RULE = re.compile(r"[ \t]*\|?(?:[ \t]*:?-+:?[ \t]*\|)+(?:[ \t]*:?-+:?[ \t]*)?")
CELL_END = re.compile(r"(?<!\\)\|")
BOLD = re.compile(r"(?<!\w)\*\*(?=\S)|(?<=\S)\*\*(?!\w)")
OPEN_LINK = re.compile(r"\[[^\[\]\n]+\]\((?![^()\n]*(?:\([^()\n]*\)[^()\n]*)*\))")
TAG = re.compile(
    r"<(/?)(a|article|b|body|button|code|div|em|form|h[1-6]|head|html|i|main|nav|ol|p|pre|script|section|select|span|"
    r"strong|style|table|tbody|td|th|thead|title|tr|u|ul)(?:\s[^<>]*)?>",
    re.IGNORECASE,
)
LITERAL_BREAK = re.compile(r"\\n(?!abla|eq|e\b|earrow|u\b|ot|i\b|mid|ewline|ewcommand|olimits|atural|ormalsize)")
EMOTICON = re.compile(r"[:;=8xX][-']?[()\[\]DPp|]")
ENUMERATED = re.compile(r"(?<![(\w])\w{1,3}\)")
ENDPOINT = r"\s*[-+−]?(?:\d+(?:[./]\d+)?|[a-zπ∞]|\\?infty|\\pi|inf)\s*"
HALF_OPEN = re.compile(rf"\[{ENDPOINT},{ENDPOINT}\)|\({ENDPOINT},{ENDPOINT}\]")
"""Intervals such as [0, 1), whose brackets are not meant to match."""
MAY_STAY_OPEN = frozenset(("body", "head", "html", "p", "tbody", "td", "th", "thead", "tr"))
"""HTML leaves it to the writer to close these; who closes some of them closes all."""
BRACKETS = (("(", ")"), ("[", "]"), ("{", "}"))

ENDS = frozenset(".!?…。！？｡．؟۔।॥։።")
CLOSERS = "\"'”’»›)]}」』】）*_~`"
"""What may follow the end of a sentence."""
GOING_ON = frozenset(STOPWORDS - {"yes", "no", "yet", "too", "it", "this", "that", "not", "so", "once", "more", "you"})
"""Words that no sentence without a full stop ends with either."""
SHORTEST_PROSE = 5
"""Words of a last line that is read as a sentence; a shorter one can be a title, a name or a result."""
SAME_CONTENT = 0.5
"""Share of the chosen response's content words in the rejected one that makes it the same content in another form.
Of two good responses to one prompt, one in five share as much."""
EMOJI = frozenset(("So", "Sk", "Mn", "Cf"))
"""Unicode categories of emoji and what joins them."""


def is_cut(text: str, whole: str = "") -> bool:
    """True for a text that stops in the middle: of a code block, a table row, a sentence or a word.

    Where `whole` begins with the text, truncation that leaves no other sign is found too.
    """
    text = text.rstrip()
    if not text:
        return False
    if len(FENCE.findall(text)) % 2:
        return True
    follows = whole.rstrip()[len(text) :] if whole.startswith(text) else ""
    if follows and text[-1].isalnum() and follows[0].isalnum():
        return True
    last = text.splitlines()[-1].strip()
    if FENCE.match(last) or is_json(text):
        return False
    if last.startswith("|"):
        return not last.endswith("|") or len(CELL_END.findall(last)) < len(CELL_END.findall(TABLE_ROW.findall(text)[0]))
    if ends_a_sentence(text):
        return False
    if text[-1] in ",;:-–—([{/&+=" or opens_quote(last):
        return True
    # What goes on after a word of `whole` was cut from a sentence, unless a line ends there.
    if follows and "\n" not in follows[: len(follows) - len(follows.lstrip())]:
        return True
    spoken = words(last)
    if spoken and spoken[-1] in GOING_ON:
        return True
    items = [item.strip() for item in LIST_ITEM.findall(text)]
    if items and last.endswith(items[-1]):
        # Items without full stops end a list as well as others do.
        return sum(ends_a_sentence(item) for item in items[:-1]) * 2 > len(items[:-1])
    return len(spoken) >= SHORTEST_PROSE and ("\n" not in text.strip() or ends_a_sentence(text_above(text)))


def ends_a_sentence(text: str) -> bool:
    """True if the last sign, apart from quotes, brackets and emoji that close it, ends a sentence."""
    if EMOTICON.fullmatch(text[-2:]) or EMOTICON.fullmatch(text[-3:]):
        return True
    end = len(text)
    is_symbol = False
    while end and (text[end - 1] in CLOSERS or text[end - 1].isspace() or unicodedata.category(text[end - 1]) in EMOJI):
        is_symbol |= unicodedata.category(text[end - 1]) == "So"
        end -= 1
    return is_symbol or (end > 0 and text[end - 1] in ENDS)


def text_above(text: str) -> str:
    """The text above its last line, without blank lines."""
    return text.rstrip().rpartition("\n")[0].rstrip()


def opens_quote(line: str) -> bool:
    return line.count("“") > line.count("”") or line.count("「") > line.count("」") or line.count('"') % 2 == 1


def is_json(text: str) -> bool:
    """True for a JSON object or array, alone or as the only code block."""
    blocks = FENCED.findall(text)
    body = (blocks[0][2] if len(blocks) == 1 else text).strip()
    if not body.startswith(("{", "[")):
        return False
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return False
    return True


def find_broken(text: str) -> set[str]:
    """What is malformed in `text` by itself."""
    prose = without_code(text)
    tags = Counter((name.lower(), bool(closes)) for closes, name in TAG.findall(text))
    unlisted = ENUMERATED.sub("", EMOTICON.sub("", HALF_OPEN.sub("", text)))
    rows = TABLE_ROW.findall(prose)
    found = {
        "fence": len(FENCE.findall(text)) % 2 == 1,
        "bold": any(len(BOLD.findall(paragraph)) % 2 for paragraph in prose.split("\n\n")),
        "link": bool(OPEN_LINK.search(prose)),
        "tag": any(
            tags[name, False] != tags[name, True] and (name not in MAY_STAY_OPEN or tags[name, True])
            for name, _ in list(tags)
        ),
        "bracket": any(unlisted.count(opening) != unlisted.count(closing) for opening, closing in BRACKETS),
        "escape": bool(LITERAL_BREAK.search(prose)),
        "table": len(rows) > 1 and not is_table(rows),
    }
    return {name for name, is_found in found.items() if is_found}


def without_code(text: str) -> str:
    return INLINE_CODE.sub(" ", FENCED.sub("\n", text))


def is_table(rows: list[str]) -> bool:
    """True for Markdown rows with a rule under the first and equally many cells."""
    cells = {len(CELL_END.findall(row)) for row in rows}
    return len(rows) > 1 and bool(TABLE_RULE.fullmatch(rows[1])) and len(cells) == 1


def list_forms(text: str) -> set[str]:
    """The forms that carry the content of `text`."""
    prose = without_code(text)
    lines = [line for line in text.splitlines() if line.strip()]
    commas = {line.count(",") for line in lines}
    found = {
        "json": is_json(text),
        "table": is_table(TABLE_ROW.findall(prose)),
        "list": len(LIST_ITEM.findall(prose)) >= 3,
        "code": bool(FENCED.search(text)),
        "csv": len(lines) >= 3 and len(commas) == 1 and commas != {0},
        "lines": len(lines) >= 3,
    }
    return {name for name, is_found in found.items() if is_found}


def broken_form(chosen: str, rejected: str) -> bool:
    """True if only the rejected response is malformed, or if it has lost the form of the same content."""
    if find_broken(rejected) - find_broken(chosen):
        return True
    had, has = list_forms(chosen), list_forms(rejected)
    if "json" in had and "json" not in has:
        return True
    # Content that is spread over lines in any way has kept its lines.
    lost = had - has - ({"lines"} if has or "\n" in rejected.strip() else set())
    return bool(lost) and share_in(content_words(chosen), content_words(rejected)) >= SAME_CONTENT
