"""Read the rows of one JSON document, an array or an object around one, a value at a time."""

import json
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import cache
from typing import Any, Literal, TextIO

from curate.sources.row import LONGEST, BadRow, Row, bad_row, is_whole_text

log = logging.getLogger(__name__)

Open = Callable[[], AbstractContextManager[TextIO]]
"""Opens the document, each time from its start."""
Layout = Literal["lines", "values", "array", "object"]

HEAD = 2**20
"""Characters whose layout is that of the whole."""
CHUNK = 2**15
"""Characters read at once; few, for an error of the json module costs as much as all the text before it."""
TELLING = 16
"""What is this near the end of what is read so far may be cut: no literal or escape is longer."""
ROW_LISTS = ("data", "rows", "examples", "instances", "items", "records", "train")
"""Names that the list of rows goes by in an object around it; without one of them the only list of objects is it."""
ROW_KEYS = {"prompt", "instruction", "question", "input", "messages", "conversations", "turns", "chosen", "rejected"}
"""An object with one of these is a row itself, whatever lists it holds."""
TURN_KEYS = ({"role", "content"}, {"from", "value"})

BLANK = re.compile(r"[ \t\n\r]*+")
OBJECTS = re.compile(r"\[[ \t\n\r]*+\{")
SIGNS = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[][{},]', re.DOTALL)
"""Strings, and what holds values together."""


class NotJson(ValueError):
    """The text is no JSON document of rows."""


class JsonText:
    """The text of a document, of which little more than the value being read is in memory."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._text = ""
        self._place = 0
        self._is_ended = False
        self._decode = json.JSONDecoder().raw_decode

    def peek(self) -> str:
        """The next sign that is not blank; empty at the end."""
        while True:
            match = BLANK.match(self._text, self._place)
            self._place = match.end() if match else self._place
            if self._place < len(self._text) or not self._read_more():
                return self._text[self._place : self._place + 1]

    def take(self, signs: str) -> str:
        """The next sign, which must be one of these."""
        sign = self.peek()
        if not sign or sign not in signs:
            raise NotJson(f"expected {' or '.join(signs)}, found {sign or 'the end of the file'}")
        self._place += 1
        return sign

    def value(self) -> tuple[Any, str]:
        """The next value, and its text."""
        self.peek()
        while True:
            try:
                found, end = self._decode(self._text, self._place)
            except json.JSONDecodeError as error:
                is_cut = error.msg.startswith("Unterminated") or error.pos >= len(self._text) - TELLING
                if not (is_cut and self._read_more()):
                    raise NotJson(error.msg) from error
            # a number of very many digits; lists in lists in lists
            except (ValueError, RecursionError) as error:
                raise NotJson(str(error)) from error
            else:
                # a number that ends where the text does may go on
                if end < len(self._text) or not self._read_more():
                    text, self._place = self._text[self._place : end], end
                    return found, text

    def item(self) -> Row | BadRow:
        """The next value as a row; one that cannot be read is passed over, up to what ends it."""
        if self.peek() in {",", "]", "}"}:
            raise NotJson("a value is missing")
        try:
            found, text = self.value()
        except NotJson:
            return bad_row(self._pass_over())
        return found if isinstance(found, dict) and is_whole_text(text) else bad_row(text)

    def items(self) -> Iterator[Row | BadRow]:
        """The values of an array."""
        self.take("[")
        while self.peek() != "]":
            yield self.item()
            if self.take(",]") == "]":
                return
        self.take("]")

    def holds_objects(self) -> bool:
        """Whether the next value is a list that begins with an object."""
        self.peek()
        while len(self._text) - self._place < TELLING and self._read_more():
            pass
        return bool(OBJECTS.match(self._text, self._place))

    def names(self) -> Iterator[str]:
        """The names in an object; the value of each is to be taken before the next."""
        self.take("{")
        while self.peek() != "}":
            if self.peek() != '"':
                raise NotJson(f"expected a name in quotes, found {self.peek() or 'the end of the file'}")
            name, _ = self.value()
            self.take(":")
            yield name
            if self.take(",}") == "}":
                return
        self.take("}")

    def end(self) -> None:
        """Raises NotJson where more follows."""
        if sign := self.peek():
            raise NotJson(f"more follows behind its end, from {sign} on")

    def _pass_over(self) -> str:
        """The text of a value that is no JSON."""
        while True:
            depth = 0
            for match in SIGNS.finditer(self._text, self._place):
                sign = match[0]
                if depth == 0 and sign in {",", "]", "}"}:
                    start, self._place = self._place, match.start()
                    return self._text[start : self._place].rstrip()
                depth += (sign in {"[", "{"}) - (sign in {"]", "}"})
            if not self._read_more():
                raise NotJson("it ends within a value")

    def _read_more(self) -> bool:
        """Read as much again as is left of the text, so that long values take linear time; False at the end."""
        left = self._text[self._place :]
        if len(left) >= LONGEST:
            raise NotJson(f"a value has more than {LONGEST:,} characters")
        more = "" if self._is_ended else self._stream.read(max(CHUNK, min(len(left), LONGEST - len(left))))
        self._text, self._place, self._is_ended = left + more, 0, not more
        return bool(more)


def find_layout(open_text: Open, is_of_lines: bool) -> Layout:
    """How the values of a document lie, as its start shows: one a line, one after another, or all in one.

    `is_of_lines` where its name says that it has one a line, which holds unless the start shows another layout.
    """
    with open_text() as stream:
        text = stream.read(HEAD).lstrip(" \t\r\n")
    if not text.startswith(("[", "{")):
        if is_of_lines:
            return "lines"
        raise NotJson(f"it begins with {text[:20]!r}" if text else "it is blank")
    whole: Layout = "array" if text[0] == "[" else "object"
    try:
        _, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return "lines" if is_of_lines and whole == "object" else whole
    is_one_line = "\n" not in text[:end]
    if not text[end:].strip():
        return "lines" if is_of_lines and whole == "object" and is_one_line else whole
    if is_one_line and not text[end:].partition("\n")[0].strip():
        return "lines"
    return "values" if whole == "object" else whole


def document_rows(layout: Layout, open_text: Open, path: str) -> Iterator[Row | BadRow]:
    """Rows of a document whose values do not lie one a line."""
    match layout:
        case "array":
            return array_rows(open_text)
        case "object":
            return object_rows(open_text, path)
    return value_rows(open_text)


def value_rows(open_text: Open) -> Iterator[Row | BadRow]:
    """The objects of a document that come one after another."""
    with open_text() as stream:
        text = JsonText(stream)
        while text.peek():
            found, raw = text.value()
            yield found if isinstance(found, dict) and is_whole_text(raw) else bad_row(raw)


def array_rows(open_text: Open) -> Iterator[Row | BadRow]:
    """The items of an array."""
    with open_text() as stream:
        text = JsonText(stream)
        yield from text.items()
        text.end()


def object_rows(open_text: Open, path: str) -> Iterator[Row | BadRow]:
    """The items of the list of rows in an object; the object itself where it holds none."""
    with open_text() as stream:
        wanted = find_list(JsonText(stream))
    with open_text() as stream:
        text = JsonText(stream)
        if wanted is None:
            yield text.item()
        else:
            others = []
            for name in text.names():
                if name == wanted:
                    yield from text.items()
                elif holds_rows(text):
                    others.append(name)
            if others:
                warn_once(f"{path}: rows are read from '{wanted}'; not used: {', '.join(others)}")
        text.end()


def find_list(text: JsonText) -> str | None:
    """The key of the list of rows in an object; None where the object is a row itself."""
    found = []
    for name in text.names():
        if name in ROW_KEYS:
            return None
        if name in ROW_LISTS and text.peek() == "[":
            if is_row(next(text.items())) if text.holds_objects() else text.value()[0] == []:
                return name
            raise NotJson(f"'{name}' is a list of other things than rows")
        if holds_rows(text):
            found.append(name)
    if len(found) > 1:
        raise NotJson(f"it holds several lists of objects ({', '.join(found)}); keep one of them, or call it data")
    return found[0] if found else None


def holds_rows(text: JsonText) -> bool:
    """Whether the next value, which is passed over, is a list of objects that may be rows."""
    if not text.holds_objects():
        text.value()
        return False
    items = text.items()
    first = next(items)
    for _ in items:
        pass
    return is_row(first)


def is_row(item: Row | BadRow) -> bool:
    """Whether an item of a list is an object, but no turn of a conversation."""
    return isinstance(item, dict) and not any(keys <= item.keys() for keys in TURN_KEYS)


@cache
def warn_once(text: str) -> None:
    log.warning(text)
