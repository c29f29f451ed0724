"""Look up the columns of a row by plain names, and note which of them were used."""

import json
import logging
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from curate.files import asset
from curate.sources.messages import (
    Messages,
    UnusableRow,
    conversation,
    is_text,
    read_content,
    same_turns,
    string_list,
)
from schemas.errors import UserError

Found = TypeVar("Found")

log = logging.getLogger(__name__)

SYSTEM = ("system", "system_prompt", "system_message")
TOOLS = ("tools", "functions")
IMAGES = ("images", "image", "videos", "video", "audios", "audio")
NUMBER = re.compile(r"\s*[+-]?(?:\d{1,400}(?:\.\d{0,400})?|\.\d{1,400})(?:[eE][+-]?\d{1,4})?\s*")


class Fields:
    """The columns of one row.

    Names are compared in small letters and with `_` for signs: `Chosen-Rating` is `chosen_rating`. A name may be
    given to another column (`--columns`).
    """

    def __init__(self, row: Mapping[str, Any], renamed: tuple[tuple[str, str], ...] = ()) -> None:
        self.row = row
        self.used: set[str] = set()
        """Columns whose value was asked for."""
        self.layout = find_layout(tuple(row), renamed)
        self._columns = self.layout.columns

    def __contains__(self, name: str) -> bool:
        return name in self._columns

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def get(self, name: str) -> Any:
        """The value of a column; None where the row has none of that name."""
        column = self._columns.get(name)
        if column is None:
            return None
        self.used.add(column)
        return self.row[column]

    def first(self, names: tuple[str, ...]) -> str | None:
        """The first of `names` that is a column, one with a value before one without."""
        found = self.layout.present(names)
        return next((name for name in found if self.row[self._columns[name]] is not None), found[0] if found else None)

    def column(self, name: str) -> str:
        """The column's own name."""
        return self._columns[name]

    def note(self, name: str) -> None:
        """Count a column as used, where the row has one of that name."""
        if name in self._columns:
            self.used.add(self._columns[name])

    def peek(self, name: str) -> Any:
        """The value of a column, which does not count as used by this."""
        return self.row[self._columns[name]] if name in self._columns else None


@dataclass
class Columns:
    """The columns of a source, in their order, and those that were used."""

    seen: dict[str, None] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    def add(self, fields: Fields) -> None:
        """Count the columns of one row."""
        if fields.row.keys() - self.seen.keys():
            self.seen |= dict.fromkeys(fields.row)
        self.used |= fields.used

    def log_unused(self, path: str) -> None:
        """Name the columns that nothing was taken from, but for a file that comes with pairwright."""
        unused = [column for column in self.seen if column not in self.used]
        if unused and Path(path).parent != asset("samples"):
            log.info("%s: columns not used: %s", path, ", ".join(unused))


@dataclass
class Layout:
    """The columns that rows have; what follows from their names alone is worked out once."""

    columns: dict[str, str]
    """Plain name -> column."""
    _known: dict[Any, Any] = field(default_factory=dict)

    def present(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Those of `names` that are columns."""
        if names not in self._known:
            self._known[names] = tuple(name for name in names if name in self.columns)
        found: tuple[str, ...] = self._known[names]
        return found

    def once(self, find: Callable[[Mapping[str, str]], Found]) -> Found:
        """What `find` gives for the names of the columns."""
        if find not in self._known:
            self._known[find] = find(self.columns)
        found: Found = self._known[find]
        return found


def plain_name(column: str) -> str:
    """The name of a column as names are compared."""
    return re.sub(r"[\W_]+", "_", column.strip().lower())


@lru_cache(maxsize=256)
def find_layout(columns: tuple[str, ...], renamed: tuple[tuple[str, str], ...]) -> Layout:
    """The layout of rows with these columns."""
    plain: dict[str, str] = {}
    for column in columns:
        plain.setdefault(plain_name(column), column)
    return Layout({**plain, **{name: column for name, column in renamed if column in columns}})


def parse_columns(text: str) -> tuple[tuple[str, str], ...]:
    """`prompt=q,chosen=a` as pairs of a name and the column that is read for it."""
    pairs = [tuple(part.strip() for part in item.split("=", 1)) for item in text.split(",") if item.strip()]
    names: list[tuple[str, str]] = []
    for pair in pairs:
        if len(pair) != 2 or not all(pair):
            raise UserError(f"--columns {text}: expected NAME=COLUMN, as in prompt=q,chosen=a,rejected=b")
        names.append((plain_name(pair[0]), pair[1]))
    return tuple(sorted(names))


def number(value: Any) -> float | None:
    """A number, or one that a text writes, as a finite float; None for anything else."""
    if isinstance(value, str) and NUMBER.fullmatch(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def with_input(fields: Fields) -> Any:
    """An instruction, and its input after a blank line where it has one."""
    text, given = fields.get("instruction"), fields.get("input")
    if given is None or given == "":
        return text
    return f"{text}\n\n{given}" if is_text(text) and is_text(given) else None


def question_text(fields: Fields) -> Any:
    """A question, which may come with more about it."""
    value = fields.get("question")
    return value.get("full_text") if isinstance(value, dict) else value


PROMPTS: dict[str, Callable[[Fields], Any]] = {
    "prompt": lambda fields: fields.get("prompt"),
    "messages": lambda fields: fields.get("messages"),
    "conversations": lambda fields: fields.get("conversations"),
    "conversation": lambda fields: fields.get("conversation"),
    "instruction": with_input,
    "question": question_text,
    "query": lambda fields: fields.get("query"),
    "input": lambda fields: fields.get("input"),
    "context": lambda fields: fields.get("context"),
    "history": lambda fields: fields.get("history"),
    "turns": lambda fields: first_turn(fields.get("turns")),
    "user_input": lambda fields: fields.get("user_input"),
    "post": lambda fields: fields.get("post"),
}
"""Column -> what it gives for a prompt, in the order they are looked for."""


def first_turn(turns: Any) -> Any:
    """The first of several user turns, texts or {"content"}: the others presuppose answers that the row lacks."""
    first = turns[0] if isinstance(turns, list) and turns else None
    if isinstance(first, dict):
        return read_content(first.get("content"))
    return first if is_text(first) else None


def prompt_turns(fields: Fields, name: str) -> Messages:
    """The turns that a column of `PROMPTS` gives, with the row's system text and earlier turns before them.

    Raises UnusableRow for a row with pictures, and for a system text that the turns contradict.
    """
    refuse_images(fields)
    given = PROMPTS[name](fields)
    if (single := string_list(given)) is not None and len(single) == 1:
        given = single[0]
    messages = conversation(given)
    if not messages:
        raise UnusableRow("bad_prompt")
    if name != "history" and "history" in fields:
        messages = [*read_history(fields.get("history")), *messages]
    return add_system(fields, messages)


def add_system(fields: Fields, messages: Messages) -> Messages:
    """The messages after the row's system text, where it has one that they do not begin with."""
    if (name := fields.first(SYSTEM)) is None or not (text := fields.get(name)):
        return messages
    if not is_text(text):
        raise UnusableRow("bad_prompt")
    system = [{"role": "system", "content": text}] if text.strip() else []
    if messages and messages[0]["role"] == "system":
        if system and not same_turns(system, messages[:1]):
            raise UnusableRow("prompt_mismatch")
        return messages
    return [*system, *messages]


def read_history(value: Any) -> Messages:
    """Earlier turns: messages, or pairs of a question and its answer; none from an empty column."""
    if not value:
        return []
    if isinstance(value, list) and all(isinstance(turn, list | tuple) and len(turn) == 2 for turn in value):
        roles = ("user", "assistant")
        value = [{"role": role, "content": text} for turn in value for role, text in zip(roles, turn, strict=True)]
    messages = conversation(value) if isinstance(value, list) else None
    if messages is None:
        raise UnusableRow("bad_prompt")
    return messages


def read_tools(fields: Fields) -> str | None:
    """The tools that a conversation may call, as a JSON list; None for none. Raises UnusableRow for anything else."""
    name = fields.first(TOOLS)
    given = fields.peek("input")
    # OpenAI's form of preferences has them beside the messages of the prompt.
    value = fields.get(name) if name else given.get("tools") if isinstance(given, Mapping) else None
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise UnusableRow("bad_prompt") from None
    if not value:
        return None
    if not isinstance(value, list):
        raise UnusableRow("bad_prompt")
    try:
        text = json.dumps(value, ensure_ascii=False, default=str, allow_nan=False)
    except ValueError:
        raise UnusableRow("bad_prompt") from None
    if not is_text(text):
        raise UnusableRow("bad_prompt")
    return text


def refuse_images(fields: Fields) -> None:
    """Raises UnusableRow for a row with pictures, sounds or videos."""
    for name in fields.layout.present(IMAGES):
        found = fields.get(name)
        if any(item is not None for item in found) if isinstance(found, list) else found:
            # without a prompt there is no pair, pictures or not
            has_prompt = "prompt" not in fields or fields.peek("prompt") is not None
            raise UnusableRow("image" if has_prompt else "bad_prompt")
