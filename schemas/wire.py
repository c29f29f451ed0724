"""Form of what models and endpoints write: JSON of a pair, numbers of any size, and text that UTF-8 can hold."""

import math
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


def read_number(value: Any) -> float:
    """A number of JSON, infinite where it is too large for a float. Raises TypeError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"expected a number, got {type(value).__name__}")
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def replace_surrogates(text: str) -> str:
    """A text that UTF-8 can hold: half a surrogate pair, which JSON allows, becomes a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")
