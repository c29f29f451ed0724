"""What faults are made of, and the ways in which a pair is changed."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from screening.pool import RealPair

from curate.sources.messages import Messages

Side = Literal["chosen", "rejected"]


@dataclass(frozen=True)
class World:
    """What faults are made of beside the pair itself."""

    pairs: list[RealPair]
    evaluation: list[str]
    """Evaluation prompts in English."""
    published: list[RealPair]
    """Pairs that were published with an evaluation prompt."""
    foreign: dict[str, list[str]]
    """Language -> lines."""

    def others(self, pair: RealPair, is_same_source: bool) -> list[RealPair]:
        """Pairs of the same source, or of the others."""
        return [o for o in self.pairs if o is not pair and (o.source == pair.source) == is_same_source]


Plant = Callable[[RealPair, random.Random, World], RealPair | None]
"""The pair with the fault; None where this pair cannot carry it."""


def a_side(rng: random.Random) -> Side:
    return "chosen" if rng.random() < 0.5 else "rejected"


def with_response(pair: RealPair, side: Side, text: str) -> RealPair:
    """The pair with another response on one side."""
    return replace(pair, chosen=text) if side == "chosen" else replace(pair, rejected=text)


def on_a_side(pair: RealPair, text: str, rng: random.Random) -> RealPair:
    """`text` in place of the chosen or the rejected response."""
    return with_response(pair, a_side(rng), text)


def edited_prompt(pair: RealPair, change: Callable[[str], str]) -> RealPair:
    """The pair with its last turn changed."""
    *before, last = pair.messages
    messages: Messages = [*before, {**last, "content": change(last["content"])}]
    return replace(pair, messages=messages)
