"""Text that others wrote, made fit to be shown: no sign that nobody sees, or that a terminal acts on, stays in it."""

import json
import re

HIDDEN = re.compile(
    # control characters but tab and line feed
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"
    # soft hyphen, joiners, zero-width and separating signs, and those that turn the direction of writing
    "\u00ad\u034f\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    # tags and variation selectors, in which a whole text can hide
    "\U000e0000-\U000e01ef]"
)


def visible(text: str) -> str:
    """A text of several lines with U+FFFD for each sign that is hidden."""
    return HIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)


def visible_line(text: str, longest: int) -> str:
    """A text in one line of at most `longest` characters."""
    return visible(" ".join(text[: 20 * longest].split()))[:longest]


def visible_json(text: str) -> str:
    """JSON text that says the same with hidden signs as escapes."""
    return HIDDEN.sub(lambda found: json.dumps(found[0])[1:-1], text)
