"""Read what models write: JSON of a pair, any JSON within a text, and text that UTF-8 cannot hold."""

import json
import re
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict


class PairJSON(BaseModel):
    """A chosen and a rejected response to one prompt, written by one model."""

    model_config = ConfigDict(strict=True, extra="ignore")

    chosen: str
    rejected: str


class FlawedPairJSON(PairJSON):
    """A pair with the flaw that was planted in the rejected response."""

    flaw: str
    quote: str
    """Where the flaw shows, copied from the response."""
    constraint: str = ""
    """The demand of the prompt that is broken, copied from it; empty for flaws other than broken_constraint."""


def find_json(text: str) -> Iterator[Any]:
    """Each JSON object in `text`, whatever stands around it; those within another one come after it."""
    decoder = json.JSONDecoder()
    for brace in re.finditer("{", text):
        try:
            yield decoder.raw_decode(text, brace.start())[0]
        except (ValueError, RecursionError):
            continue


def replace_surrogates(text: str) -> str:
    """A text that UTF-8 can hold: half a surrogate pair, which JSON allows, becomes a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")
