"""Formats of rows with preferences: one table from the columns of a row to a pair or to responses with scores."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from curate.sources.fields import Fields
from curate.sources.messages import UnusableRow
from curate.sources.pair_formats import (
    Ready,
    are_two,
    are_two_ranked,
    is_pair,
    is_rejected_beside_messages,
    read_pair,
    read_rejected_beside_messages,
    read_two,
    read_two_ranked,
)
from curate.sources.response_formats import (
    Responses,
    are_lists,
    are_responses,
    is_single,
    read_lists,
    read_responses,
    read_single,
)

Gives = Literal["pair", "responses", "response"]


@dataclass(frozen=True)
class Format:
    """One way in which rows hold preferences."""

    name: str
    columns: str
    """What a row has, in words."""
    gives: Gives
    """A pair, responses of which pairs are made, or one response of a prompt that other rows hold others of."""
    recognize: Callable[[Fields, str], bool]
    """Takes the row and the column asked for with `--preference`."""
    read: Callable[[Fields, str], Ready | Responses]


def read_row(fields: Fields, preference: str = "") -> tuple[Format, Ready | Responses]:
    """The format of a row, and what it holds. Raises UnusableRow for a row of no format or with a fault."""
    form = find_format(fields, preference)
    if form is None:
        raise UnusableRow("unreadable_row")
    return form, form.read(fields, preference)


def find_format(fields: Fields, preference: str = "") -> Format | None:
    """The first format that recognizes a row."""
    return next((form for form in FORMATS if form.recognize(fields, preference)), None)


FORMATS = (
    Format("lists", "a prompt, and lists of texts `chosen` and `rejected`", "responses", are_lists, read_lists),
    Format(
        "messages",
        "`messages` that end in the chosen response, `rejected_response`",
        "pair",
        is_rejected_beside_messages,
        read_rejected_beside_messages,
    ),
    Format(
        "pair",
        "`chosen`, `rejected` (text or messages) and a prompt in `prompt`, `instruction`, `question`, `messages` or "
        "`conversations`, or both sides with their whole conversation",
        "pair",
        is_pair,
        read_pair,
    ),
    Format(
        "ranked",
        "`context` and two `completions`, each with `rank` and `completion` (NeMo-RL)",
        "pair",
        are_two_ranked,
        read_two_ranked,
    ),
    Format(
        "responses",
        "a prompt, and `responses`, `completions` or `answers` with scores or labels",
        "responses",
        are_responses,
        read_responses,
    ),
    Format(
        "two",
        "a prompt, `response_a` and `response_b` (or 0 and 1, 1 and 2), and `winner`, `preference` or a score of each",
        "pair",
        are_two,
        read_two,
    ),
    Format(
        "labeled",
        "a prompt, `completion` or `response`, and `label` or `score`, with several rows of a prompt (KTO)",
        "response",
        is_single,
        read_single,
    ),
)
"""In the order they are tried."""
