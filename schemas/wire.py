"""JSON that models write: a pair, with or without a named flaw."""

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
