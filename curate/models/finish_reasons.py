"""The names that engines give to why a model stopped, in the words that every stage reads."""

import re
from functools import lru_cache
from typing import Any

from schemas.wire import replace_surrogates

NAMES: dict[str, tuple[str, ...]] = {
    "stop": ("end_turn", "eos", "eos_token", "end_of_sequence", "complete", "completed", "stop_sequence", "finish"),
    "length": (
        "max_tokens",
        "max_output_tokens",
        "max_new_tokens",
        "max_length",
        "model_length",
        "context_length",
        "model_context_window_exceeded",
        "token_limit",
        "error_limit",
        "time_limit",
        "incomplete",
        "pause_turn",
    ),
    "content_filter": (
        "content_filtered",
        "content_policy",
        "content_policy_violation",
        "error_toxic",
        "safety",
        "recitation",
        "blocklist",
        "prohibited_content",
        "spii",
        "image_safety",
        "language",
        "refusal",
        "sensitive",
        "guardrail_intervened",
    ),
    "tool_calls": ("tool_call", "tool_use", "function_call", "malformed_function_call", "unexpected_tool_call"),
    "error": (
        "abort",
        "aborted",
        "cancel",
        "cancelled",
        "failed",
        "network_error",
        "insufficient_system_resource",
        "not_finished",
    ),
}
"""OpenAI's word -> what others say for it, in small letters: Anthropic, Gemini, Mistral, Cohere, Bedrock, watsonx,
DeepSeek, Zhipu, Together, TGI and vLLM."""

KNOWN: dict[str, str] = {other: name for name, others in NAMES.items() for other in (*others, name)}


def finish_reason(found: Any) -> str | None:
    """One of the keys of NAMES; a name that no engine is known to use as it is, and None where there is none."""
    return normalize(found) if isinstance(found, str) else None


@lru_cache(maxsize=256)
def normalize(found: str) -> str | None:
    name = re.sub(r"(?<=[a-z])(?=[A-Z])|[- ]", "_", found).lower().removeprefix("finish_reason_")
    if name in ("", "null", "none", "unspecified"):
        return None
    return KNOWN.get(name) or replace_surrogates(found)
