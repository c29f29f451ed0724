"""Read the message of a choice: its text, the reasoning beside it, and a refusal, in the forms that engines use."""

from dataclasses import dataclass
from typing import Any

from schemas.wire import replace_surrogates

KINDS = ("text", "refusal", "reasoning")
BESIDE = ("reasoning_content", "reasoning", "thinking", "reasoning_details", "thinking_blocks")
"""Fields of a message with its reasoning: DeepSeek, vLLM and SGLang, OpenRouter and newer vLLM, Ollama, LiteLLM. Some
send the same under two names: the first that holds text counts."""
WITHIN = ("text", "thinking", "reasoning", "reasoning_text", "summary", "content", "parts")
"""Fields of an object within a reasoning that can hold its text; the first that does counts."""
DEEPEST = 8
"""Levels of objects and lists that a reasoning is read to."""


@dataclass(frozen=True)
class ChatMessage:
    """What the message of one choice says."""

    text: str
    reasoning: str
    refusal: str


def read_message(message: dict[str, Any]) -> ChatMessage:
    """The message of a choice. Raises TypeError where its content is not text, as an image is not."""
    content = message.get("content")
    parts = [read_part(part) for part in (content if isinstance(content, list) else [content])]
    text, refusal, reasoning = ("".join(told for kind, told in parts if kind == each) for each in KINDS)
    beside = next(filter(None, (find_text(message.get(name)) for name in BESIDE)), reasoning)
    refusal = str(message.get("refusal") or refusal)
    return ChatMessage(replace_surrogates(text), replace_surrogates(beside), replace_surrogates(refusal))


def read_part(part: Any) -> tuple[str, str]:
    """(one of `KINDS`, text) of a part of a content, or of a content that is no list."""
    if isinstance(part, str | None):
        return "text", part or ""
    if not isinstance(part, dict):
        raise TypeError(f"expected text, got {type(part).__name__}")
    kind = str(part.get("type") or "text")
    if kind == "refusal":
        return "refusal", find_text(part.get("refusal")) or "refusal"
    if "thinking" in kind or "reasoning" in kind:
        return "reasoning", find_text(part)
    text = part.get("text")
    if kind not in ("text", "output_text") or not isinstance(text, str | None):
        raise TypeError(f"expected text, got a part of the type {kind[:80]!r}")
    return "text", text or ""


def find_text(value: Any, depth: int = 0) -> str:
    """The text of a reasoning of any form; empty where none can be read, for the response is good without it."""
    if isinstance(value, str):
        return value
    if depth == DEEPEST:
        return ""
    if isinstance(value, list):
        return "".join(find_text(each, depth + 1) for each in value)
    if isinstance(value, dict):
        return next(filter(None, (find_text(value.get(name), depth + 1) for name in WITHIN)), "")
    return ""
