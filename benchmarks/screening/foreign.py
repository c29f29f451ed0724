"""Real passages in other languages than English, out of the data sets themselves."""

import json
import random
import re
from pathlib import Path

from screening.pool import real_pairs

from schemas.ids import short_id

LINES = Path(__file__).with_name("foreign_lines.json")
SHORTEST_LINE = 50
"""Characters of a line that was read; what is shorter tells no language."""
LABEL = re.compile(
    r"^(?:\W*(?:new|now|solve|this|these|instance|problem|case|for|you|solution|is|here|teacher|understand|the"
    r"|example|one|input\d?|output\d?|options|consider|question|answer|text|review|prediction|statement|choice|explanation"
    r"|selitys|ex|q|a|\d)\b\W{0,3})*:\s*",
    re.IGNORECASE,
)
"""The English labels that task collections put before a text."""


def foreign_lines() -> dict[str, list[str]]:
    """Language -> its lines, without labels, sorted."""
    wanted = {name: language for language, names in json.loads(LINES.read_text())["lines"].items() for name in names}
    found: dict[str, set[str]] = {}
    for pair in real_pairs():
        for text in (pair.chosen, pair.rejected, *(message["content"] for message in pair.messages)):
            for line in text.splitlines():
                language = wanted.get(short_id(line.strip())) if len(line) >= SHORTEST_LINE else None
                if language:
                    found.setdefault(language, set()).add(LABEL.sub("", line.strip()))
    return {language: sorted(lines) for language, lines in sorted(found.items())}


def passage(lines: dict[str, list[str]], languages: list[str], letters: int, rng: random.Random) -> str:
    """Lines of one of the languages, in any order, with at least `letters` characters together."""
    enough = [name for name in languages if sum(map(len, lines[name])) >= letters]
    chosen: list[str] = []
    for line in rng.sample(lines[language := rng.choice(enough)], len(lines[language])):
        chosen.append(line)
        if sum(map(len, chosen)) >= letters:
            break
    return "\n".join(chosen)
