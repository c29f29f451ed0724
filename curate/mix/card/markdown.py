"""Write Markdown around texts of others, which stay texts whatever signs they hold."""

import re
from collections.abc import Iterable, Sequence

from schemas.visible import visible_line

SIGNS = re.compile(r"([\\`*_\[\]<>|~#&$@])")
LONGEST = 200
"""Characters of a name that are shown."""


def plain(text: str) -> str:
    """A text in one line without any markup."""
    return SIGNS.sub(r"\\\1", visible_line(text, LONGEST))


def code(text: str) -> str:
    """A text in one line as code, also within a table."""
    text = visible_line(text, LONGEST) or " "
    ticks = longer_than_runs(text, 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{ticks}{pad}{text}{pad}{ticks}".replace("|", "\\|")


def fenced(language: str, text: str) -> str:
    """A block of code of any content."""
    fence = longer_than_runs(text, 3)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}\n"


def longer_than_runs(text: str, least: int) -> str:
    """Backticks, one more than any run of them in a text has."""
    return "`" * max(least, 1 + max(map(len, re.findall("`+", text)), default=0))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells in Markdown; those that begin with a digit stand to the right."""
    rows = list(rows)
    numeric = [bool(rows) and all(re.match(r"[\d-]", row[i]) for row in rows) for i in range(len(head))]
    ruler = ["---:" if is_numeric else "---" for is_numeric in numeric]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (head, ruler, *rows))


def bullets(sentences: Iterable[str]) -> str:
    return "".join(f"- {sentence}\n" for sentence in sentences)
