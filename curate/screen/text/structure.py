"""The form of a response: what it is built of, and what is broken in it."""

import json
import re
from collections import Counter

from curate.screen.text.words import content_words, share_in

FENCE = "```"
FENCED = r"(?s)```(?:[^\n`]*\n)?(.*?)```"
"""A code block and its body; this and the next two are read by the regex engine of polars as well."""
CODE = rf"{FENCED}|`[^`\n]+`"
LIST_MARKER = r"(?:[-*+•]|\(?\d{1,3}[.)]|[a-zA-Z][.)])[ \t]+"
CODE_BLOCK = re.compile(FENCED)
INLINE_CODE = re.compile(r"`[^`\n]+`")
LIST_ITEM = re.compile(rf"^[ \t]*{LIST_MARKER}(\S.*)$", re.MULTILINE)
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
ENDPOINT = r"\s*[-+\u2212]?(?:\d+(?:[./]\d+)?|[a-zπ∞]|\\?infty|\\pi|inf)\s*"
HALF_OPEN = re.compile(rf"\[{ENDPOINT},{ENDPOINT}\)|\({ENDPOINT},{ENDPOINT}\]")
"""Intervals such as [0, 1), whose brackets are not meant to match."""
MAY_STAY_OPEN = frozenset(("body", "head", "html", "p", "tbody", "td", "th", "thead", "tr"))
"""HTML leaves it to the writer to close these; who closes some of them closes all."""
BRACKETS = (("(", ")"), ("[", "]"), ("{", "}"))

SAME_CONTENT = 0.5
"""Share of the chosen response's content words in the rejected one that makes it the same content in another form.
Of two good responses to one prompt, one in five share as much."""


def is_json(text: str) -> bool:
    """True for a JSON object or array, alone or as the only code block."""
    blocks = CODE_BLOCK.findall(text)
    body = (blocks[0] if len(blocks) == 1 else text).strip()
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
        "fence": text.count(FENCE) % 2 == 1,
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
    return INLINE_CODE.sub(" ", CODE_BLOCK.sub("\n", text))


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
        "code": bool(CODE_BLOCK.search(text)),
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
