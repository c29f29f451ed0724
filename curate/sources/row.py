"""Rows of a source as they are read, and lines that are no rows."""

import json
import pickle
from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]

LONGEST = 2**23
"""Characters of the longest line or value that is read as a row; what is longer is no row of a dataset."""
SHOWN = 10_000
"""Characters that are kept of what is no row."""


@dataclass(frozen=True)
class BadRow:
    """A line or an item that is not a row."""

    raw: str


def bad_row(text: str | bytes) -> BadRow:
    """The start of a text as it came; bytes that are no UTF-8 are shown by their numbers."""
    start = text[:SHOWN]
    if isinstance(start, str):
        start = start.encode("utf-8", "surrogateescape")
    return BadRow(start.decode("utf-8", "backslashreplace"))


def is_whole_text(text: str) -> bool:
    """Whether a text decoded with `surrogateescape` was UTF-8 throughout."""
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def raw_text(row: Row | BadRow) -> str:
    """A row as JSON, or the line in its place; always text that can be saved as UTF-8."""
    text = row.raw if isinstance(row, BadRow) else json.dumps(row, ensure_ascii=False, default=plain)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def pickled(row: Row | BadRow) -> bytes:
    """A row as bytes for `pickle.loads`; one that is nested too deep for that is no row."""
    try:
        return pickle.dumps(row)
    except RecursionError:
        return pickle.dumps(bad_row(raw_text(row)))


def shown_raw(raw: str) -> str:
    """The start of the `raw` of a dropped row: a text without the quotes of its JSON."""
    text: str = json.loads(raw) if raw.startswith('"') else raw
    return text[:200]


def plain(value: Any) -> str:
    """A value that JSON has no word for; of bytes, such as those of an image, only how many they are."""
    return f"{len(value)} bytes" if isinstance(value, bytes) else str(value)
