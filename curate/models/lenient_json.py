"""Read JSON as models write it: raw line breaks, lone backslashes and trailing commas, in one pass over the text.

A model that writes LaTeX into JSON often forgets to escape its backslashes: by the letter of JSON "\\frac" is then a
form feed and "\\nabla" a line break. Such a backslash is kept as written, while other line breaks stay what they are.
"""

import json
import re
from dataclasses import dataclass, field
from typing import Any, Literal

TOKEN = re.compile(
    r"[\s\ufeff]*+(?:(?P<mark>[{}\[\]:,])"
    r'|"(?P<string>[^"\\]*+(?:\\[\s\S][^"\\]*+)*+)"'
    r"|(?P<scalar>[-+]?\.?\d[\w.+/-]*+|-?(?:true|false|null|True|False|None|NaN|Infinity)\b))"
)
REST = re.compile(r"[\s\ufeff]*+(?:(\")|\Z)")
"""What follows the last token of a text that ends within an object: nothing, or a string without an end."""
CONSTANTS = {"true": True, "True": True, "false": False, "False": False, "null": None, "None": None}

ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{4}|[A-Za-z]+|[\s\S])")
COMMAND = re.compile(
    r"\\(?:(?:nabla|neq(?!\s{0,3}[=(:.])|not(?:in|ag)?|nonumber|newline|natural|n[lg]eq|nsu[bp]seteq|ne(?:ar|sw)row|nwarrow"
    r"|n(?:left|right|Left|Right)(?:right)?arrow"
    r"|rho|right\w*|rangle|r(?:floor|ceil|vert|Vert|brace|brack|group)"
    r"|times|theta|tau|tilde|triangle\w*|therefore|tanh|tiny|thicksim|thickapprox)(?![A-Za-z])"
    r"|(?:text\w*|tag|tfrac|tbinom|norm|newcommand|newenvironment|renewcommand|ref|rule|root)\*?(?=[{\[]))"
)
"""Names of LaTeX that begin with the letter of an escape, and are no word of any text without it."""
LIKELY_COMMAND = re.compile(
    r"\\(?:ne|neq|neg|nu|nexists|nmid|nparallel|nsim|ncong|nless|ngtr|nsubset|nprec|nsucc|to|top|tan|rm|root)(?![A-Za-z])"
)
"""Names that may be a line break and a word as well: LaTeX in a formula, or where the writer does not escape."""
STRAY = re.compile(r"\\(?![\"\\/bfnrtu'])|\\u(?![0-9a-fA-F]{4})|\\[bf]")
"""A backslash that no writer who escapes leaves behind."""
LEGAL = re.compile(r"\\(?:[\"/nrt]|u[0-9a-fA-F]{4})")
"""A backspace and a form feed are legal too, but nobody means them."""
SENTENCE_END = frozenset(".!?:;")
ESCAPED_COMMAND = re.compile(r"\\\\[A-Za-z]")

Kind = Literal["string", "scalar", "nested"]


@dataclass(slots=True)
class FoundObject:
    """An object of a text, from `start` to `end`; objects within it are found by themselves."""

    start: int
    end: int = 0
    members: dict[str, tuple[Kind, str]] = field(default_factory=dict)
    """Key -> the kind of its value, and the value as written."""
    is_ambiguous: bool = False
    """A key stands in it twice."""

    def read(self) -> dict[str, Any]:
        """Texts, numbers (as float), booleans and nulls by key; an object or a list within is an empty list."""
        written = [raw for kind, raw in self.members.values() if kind == "string" and "\\" in raw]
        is_unescaped = any(map(has_stray_backslash, written))
        has_rows = is_unescaped and not any(map(ESCAPED_COMMAND.search, written))
        return {
            key: read_string(raw, is_unescaped, has_rows)
            if kind == "string"
            else read_scalar(raw)
            if kind == "scalar"
            else []
            for key, (kind, raw) in self.members.items()
        }


def find_objects(text: str) -> tuple[list[FoundObject], bool]:
    """Every object of `text` in the order in which they end, and whether the end of the text cuts one.

    Linear in the text: what fails is tried again only from braces that stood in what it took for strings, and a sign
    is in or out of a string, so that no more than two tries come past it.
    """
    found: list[FoundObject] = []
    seen: set[int] = set()
    is_cut = False
    start = text.find("{")
    while start >= 0:
        end = start + 1
        if start not in seen:
            end, ends_within = read_object(text, start, found, seen)
            is_cut |= ends_within
        start = text.find("{", end)
    return found, is_cut


def read_object(text: str, start: int, found: list[FoundObject], seen: set[int]) -> tuple[int, bool]:
    """Add the object at `start` and those within it to `found`: where to look on, and whether the text ends within it.

    Braces that were met go to `seen`: what fails within an object fails by itself as well.
    """
    open_ones: list[FoundObject | None] = []
    keys: list[str] = []
    wants = "value"
    at = start
    while token := TOKEN.match(text, at):
        at = token.end()
        mark = token["mark"]
        top = open_ones[-1] if open_ones else None
        if wants == "key" and token["string"] is not None:
            keys[-1] = token["string"]
            wants = "colon"
        elif wants == "colon" and mark == ":":
            wants = "value"
        elif wants == "value" and mark not in ("}", "]", ":", ","):
            if top:
                top.is_ambiguous |= keys[-1] in top.members
                top.members[keys[-1]] = read_kind(token)
            wants = {"{": "key", "[": "value"}.get(mark, "comma")
            if mark:
                open_ones.append(FoundObject(at - 1) if mark == "{" else None)
                keys.append("")
            if mark == "{":
                seen.add(at - 1)
        elif wants == "comma" and mark == ",":
            wants = "key" if top else "value"
        elif (mark == "}" and top and wants in ("key", "comma")) or (mark == "]" and not top and wants != "colon"):
            open_ones.pop()
            keys.pop()
            wants = "comma"
            if top:
                top.end = at
                found.append(top)
            if not open_ones:
                return at, False
        else:
            return start + 1, False
    rest = REST.match(text, at)
    return start + 1, bool(rest and (rest[1] or keys[0]))


def read_kind(token: re.Match[str]) -> tuple[Kind, str]:
    if token["string"] is not None:
        return "string", token["string"]
    return ("nested", "") if token["mark"] else ("scalar", token["scalar"])


def read_scalar(raw: str) -> float | bool | str | None:
    """A number of any size, infinite where it is too large for one; what is none, such as 8/10, stays text."""
    if raw in CONSTANTS:
        return CONSTANTS[raw]
    try:
        return float(raw)
    except ValueError:
        return raw


def read_string(raw: str, is_unescaped: bool, has_rows: bool) -> str:
    """The text of a JSON string, with its lone backslashes.

    `is_unescaped` where its writer is known to leave backslashes unescaped; `has_rows` where two of them, which end a
    row of a table, are then meant as two.
    """
    if "\\" not in raw:
        return raw

    def mend(found: re.Match[str]) -> str:
        escape, at = found[0], found.start()
        if escape == "\\\\":
            return escape * 2 if has_rows else escape
        is_lone = not LEGAL.match(escape)
        if escape[1] in "nrt":
            is_likely = is_unescaped and raw[at - 1 : at] not in SENTENCE_END
            is_lone = bool(COMMAND.match(raw, at) or (is_likely and LIKELY_COMMAND.match(raw, at)))
        return f"\\{escape}" if is_lone else escape

    return str(json.loads(f'"{ESCAPE.sub(mend, raw)}"', strict=False))


def has_stray_backslash(raw: str) -> bool:
    """The writer of a string leaves backslashes unescaped: one that JSON does not know, or a command of LaTeX."""
    single = raw.replace("\\\\", "")
    formulas = single.split("$")[1:-1:2]
    return bool(STRAY.search(single) or COMMAND.search(single) or any(map(LIKELY_COMMAND.search, formulas)))
