"""Conversations for models that know no system message: its text opens the first user turn."""

from collections.abc import Mapping, Sequence
from typing import Any

SYSTEM_MOVED = "a system message; its text goes into the first user turn"
"""What is said, once, where one is refused."""


def has_system(messages: Sequence[Mapping[str, Any]]) -> bool:
    return any(message["role"] == "system" for message in messages)


def without_system(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The conversation with the text of its system messages before that of its first user turn."""
    texts = [message["content"] for message in messages if message["role"] == "system"]
    rest = [dict(message) for message in messages if message["role"] != "system"]
    at = next((i for i, message in enumerate(rest) if message["role"] == "user"), None)
    if at is None:
        return [{"role": "user", "content": "\n\n".join(texts)}, *rest]
    opened = {**rest[at], "content": "\n\n".join([*texts, rest[at]["content"]])}
    return [*rest[:at], opened, *rest[at + 1 :]]
