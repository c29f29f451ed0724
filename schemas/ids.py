"""Ids and prompt groups: the same content has the same id on every machine."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

Message = Mapping[str, str]

NOT_WORD = re.compile(r"[\W_]+")


def digest(value: Any) -> str:
    """SHA-256 of `value` as canonical JSON, 64 hexadecimal digits."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def short_id(value: Any) -> str:
    """The first 16 digits of `digest(value)`."""
    return digest(value)[:16]


def normalize(text: str) -> str:
    """Lower-case words of `text` joined by one space: what "the same text" means for groups."""
    return NOT_WORD.sub(" ", text.casefold()).strip()


def prompt_group(messages: Sequence[Message]) -> str:
    """Id of the first user turn, normalized; text with no word in it is compared as it is."""
    first = next(message["content"] for message in messages if message["role"] == "user")
    return short_id(normalize(first) or first)


def pair_key(messages: Sequence[Message], chosen: str, rejected: str) -> str:
    """The id of a pair: its whole text."""
    turns = [[message["role"], message["content"]] for message in messages]
    return short_id([turns, chosen, rejected])


def prompt_key(messages: Sequence[Message]) -> str:
    """The id of a prompt: its whole text."""
    return short_id([[message["role"], message["content"]] for message in messages])


def made_pair_id(prompt_id: str, messages: Sequence[Message], chosen: str, rejected: str) -> str:
    """The id of a pair made for a prompt: the same text for a repeated prompt gets the prompt's number."""
    return pair_key(messages, chosen, rejected) + prompt_id[16:]


class Occurrences:
    """Makes repeated ids unique: the second `k` becomes `k-2`, the third `k-3`."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}

    def unique(self, key: str) -> str:
        """`key` the first time, then with its occurrence number appended."""
        count = self._seen[key] = self._seen.get(key, 0) + 1
        return key if count == 1 else f"{key}-{count}"


def hash_ids(ids: pl.Series, seed: int, purpose: str) -> pl.Series:
    """64-bit hashes of ids, the same on every machine and in every version of every library."""
    salt = f"{seed}:{purpose}:".encode()
    drawn = [int.from_bytes(hashlib.sha256(salt + text.encode()).digest()[:8], "big") for text in ids]
    return pl.Series(drawn, dtype=pl.UInt64)
