"""Read the body of an HTTP reply: the JSON object of a good one, or its error, whatever form the engine gives it."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from curate.models.finish_reasons import finish_reason
from schemas.visible import visible_line
from schemas.wire import replace_surrogates

LONGEST = 300
"""Characters of an error that are shown."""
MOST_WORDS = 4000
"""Characters of an error that are looked at."""
SHORTEST_SECRET = 16
"""A shorter key is a stand-in such as "EMPTY", and may well occur in a good response."""

HTTP_ERROR = re.compile("[45][0-9][0-9]")
TELLING = {
    *("error", "errors", "message", "msg", "code", "type", "status", "detail", "details", "reason", "reasons"),
    *(
        "error_type",
        "error_code",
        "error_msg",
        "error_message",
        "title",
        "description",
        "innererror",
        "metadata",
        "raw",
    ),
    *("param", "loc", "base_resp", "status_msg", "status_code", "promptfeedback", "blockreason", "finish_reason"),
}
"""Fields of an error that say what it is about. Others may repeat the prompt."""
NAMING = {"param", "loc"}
"""Of these, those that name a parameter."""
DEEPEST = 8
"""Levels of an error that are looked into."""


@dataclass(frozen=True)
class EndpointError:
    """The error that an endpoint answered with."""

    status: int | None
    """HTTP's, or that which the error in a good reply names; None where it names none."""
    message: str
    """Its own words, in one line."""
    words: str
    """All that says what it is about."""
    is_in_answer: bool = False
    """The status of the reply was a good one."""
    may_be_charged: bool = False
    """The model had begun to answer."""

    def __str__(self) -> str:
        if not self.is_in_answer:
            return f"HTTP {self.status}: {self.message}"
        return f"error{f' {self.status}' if self.status else ''} in a reply of HTTP 200: {self.message}"


def mask_key(raw: bytes, key: str) -> bytes:
    """A body without the key, should the endpoint send it back."""
    return raw.replace(key.encode(), b"***") if len(key) >= SHORTEST_SECRET else raw


def json_object(raw: bytes) -> dict[str, Any] | str:
    """The JSON object that a body holds, else a sentence on what it holds."""
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        return f"the endpoint's answer is not JSON: {first_words(raw)}"
    if not isinstance(found, dict):
        return f"the endpoint's answer is not a JSON object: {first_words(raw)}"
    return found


def is_stream(raw: bytes) -> bool:
    """A body of server-sent events."""
    return raw.lstrip()[:6].startswith((b"data:", b"event:", b"id:", b"retry:", b": "))


def first_words(raw: bytes) -> str:
    return visible_line(raw[:200].decode("utf-8", "replace"), 200)


def read_error(status: int, raw: bytes, key: str) -> EndpointError:
    """The error in the body of a bad status; the key is masked wherever it appears, however short it is."""
    text = raw.decode("utf-8", "replace")
    text = text.replace(key, "***") if key else text
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return EndpointError(status, show_line(text), text[:MOST_WORDS])
    return EndpointError(status, sentence(found), words_of(found))


def error_in_answer(found: dict[str, Any]) -> EndpointError | None:
    """The error that the body of a good status holds in place of an answer."""
    choices = found.get("choices")
    if isinstance(choices, list) and choices:
        # Where some of several broke off, the others are an answer.
        if not all(isinstance(choice, dict) and is_broken(choice) for choice in choices):
            return None
        told = (
            found.get("error") or choices[0].get("error") or "the endpoint broke off its answer (finish reason error)"
        )
        return EndpointError(status_of(told), sentence(told), words_of({"error": told}), True, True)
    if found.get("data") or not ("choices" in found or any(found.get(name) for name in HELD_BY_ERRORS)):
        return None
    told = {name: value for name, value in found.items() if name.lower() in TELLING and value}
    message = sentence(told) if told else "the endpoint answered with no choices"
    return EndpointError(status_of(told), message, words_of(told), True)


HELD_BY_ERRORS = ("error", "errors", "detail", "message", "msg", "base_resp", "error_msg", "error_message")


def is_broken(choice: dict[str, Any]) -> bool:
    """A choice that an error ended."""
    return bool(choice.get("error")) or finish_reason(choice.get("finish_reason")) == "error"


def status_of(told: Any) -> int | None:
    """The HTTP status that an error names."""
    if not isinstance(told, dict):
        return None
    inner = told.get("error")
    for fields in (inner if isinstance(inner, dict) else {}, told):
        for name in ("code", "status_code", "status"):
            if HTTP_ERROR.fullmatch(str(fields.get(name))):
                return int(fields[name])
    return None


def message_of(found: Any) -> str:
    """The sentence of an error for people, with its code where that is a word."""
    if isinstance(found, list) and len(found) == 1:
        found = found[0]
    if isinstance(found, dict):
        found = found.get("error") or found.get("base_resp") or found
    if not isinstance(found, dict):
        return str(found)
    told = (found.get(name) for name in ("message", "detail", "msg", "status_msg", "error_msg", "error_message"))
    message = next((text for text in told if text and isinstance(text, str)), None) or str(
        found.get("message") or found
    )
    # What a router was told by the provider behind it.
    raw = found["metadata"].get("raw") if isinstance(found.get("metadata"), dict) else None
    code = found.get("code")
    return " ".join(filter(None, (message, code if isinstance(code, str) else "", raw if isinstance(raw, str) else "")))


def words_of(found: Any) -> str:
    """What an error is about, for the patterns that look for it."""
    return " ".join(telling_words(found))[:MOST_WORDS]


def telling_words(found: Any, is_named: bool = False, depth: int = 0) -> Iterator[str]:
    """The texts of an error that say what it is about; names of parameters stand in quotes."""
    if depth > DEEPEST:
        return
    if isinstance(found, dict):
        for name, value in found.items():
            if name.lower() in TELLING:
                yield from telling_words(value, name in NAMING, depth + 1)
    elif isinstance(found, list):
        for value in found:
            yield from telling_words(value, is_named, depth + 1)
    elif isinstance(found, str | int):
        yield f"'{found}'" if is_named else str(found)


def sentence(found: Any) -> str:
    """An error's own words in one line."""
    try:
        return show_line(message_of(found))
    except RecursionError:
        return "an error that is nested too deep to be read"


def show_line(text: str) -> str:
    return visible_line(replace_surrogates(text), LONGEST) or "no message"
