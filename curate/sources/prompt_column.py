"""Find the column of a row that holds its prompt."""

from collections.abc import Mapping
from typing import Any

from curate.sources.fields import PROMPTS, Fields, prompt_turns
from curate.sources.messages import Messages, UnusableRow, check_prompt

Names = tuple[str, ...]


def prompt_name(fields: Fields, without: Names = ()) -> str | None:
    """The column of a row's prompt; those that may hold something else count only where they hold a conversation."""
    names = tuple(name for name in fields.layout.present(tuple(PROMPTS)) if name not in without)
    if len(names) > 1:
        # What may be about the prompt is the prompt where nothing else is, or where it holds a conversation.
        names = tuple(name for name in names if name not in ABOUT or is_turns(fields.peek(name)))
    return fields.first(names)


ABOUT = ("input", "context", "history")
"""Columns that another prompt may come with."""


def is_turns(value: Any) -> bool:
    """True for a list of messages."""
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)


def row_prompt(fields: Fields) -> Messages:
    """The prompt of a row that has a column for it."""
    name = prompt_name(fields)
    if name is None:
        raise UnusableRow("bad_prompt")
    return check_prompt(prompt_turns(fields, name))
