"""The JSON object that a model was asked for, in the text that it wrote."""

import re
from collections.abc import Callable
from itertools import islice
from typing import Any, TypeVar

from curate.models.lenient_json import FoundObject, find_objects
from schemas.errors import ResponseError

Read = TypeVar("Read")

BEFORE_ALL = re.compile(r"\s*+(?:(?:```|~~~)[ \t]*+\w*+)?\s*+")
AFTER_ALL = re.compile(r"\s*+(?:```|~~~)?\s*+")
"""What may stand around an object that is the whole answer: a fence."""
PLACEHOLDER = re.compile(r"(?=\s*+[.…])[.…\s]++|<[^<>]*+>|one sentence")
MOST_DISTRUSTED = 100
"""Objects that are looked up in the judged text; an answer with more of them is no answer."""


class AnswerCut(ResponseError):
    """A text that ends within the object that was asked for."""


def read_answer(
    response: str, keys: frozenset[str], read: Callable[[dict[str, Any]], Read | None], judged: str = ""
) -> Read:
    """What `read` makes of the last object with these keys in a response.

    `read` gives None for an object that is passed over. An object that shows the form only, or that stands word for
    word in the text that was judged, counts only if it is the whole answer. Raises ResponseError when none is left, and
    where the text or the object leaves doubt.
    """
    objects, is_cut = find_objects(response)
    wanted = f"expected a JSON object with {', '.join(map(repr, sorted(keys)))}"
    if is_cut:
        raise AnswerCut(f"{wanted}, got a text that ends within an object: {response[:80]!r}")
    fitting = (found for found in reversed(objects) if keys <= found.members.keys())
    known = squash(judged)
    for found in islice(fitting, MOST_DISTRUSTED):
        members = found.read()
        if not is_whole(response, found) and (is_form(members) or squash(response[found.start : found.end]) in known):
            continue
        if found.is_ambiguous:
            raise ResponseError(f"{wanted}, got one with a key twice: {response[found.start : found.end][:80]!r}")
        if (answer := read(members)) is not None:
            return answer
    raise ResponseError(f"{wanted}, got {response[:80]!r}")


def is_whole(response: str, found: FoundObject) -> bool:
    """Nothing but a fence stands around the object."""
    return bool(BEFORE_ALL.fullmatch(response, 0, found.start) and AFTER_ALL.fullmatch(response, found.end))


def is_form(members: dict[str, Any]) -> bool:
    """Every text of the object only holds a place, as in {"reason": "...", "score": 5}."""
    texts = [value for value in members.values() if isinstance(value, str)]
    return bool(texts) and all(map(is_placeholder, texts))


def is_placeholder(text: str) -> bool:
    return bool(PLACEHOLDER.fullmatch(text))


def squash(text: str) -> str:
    """The text without white space and backslashes, which quoting changes."""
    return re.sub(r"[\s\\]+", "", text)
