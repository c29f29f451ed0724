"""Parse conversations from rows of files: text, message lists, ShareGPT turns and HH text."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeGuard

from schemas.names import Role, UnpairedReason

Messages = list[dict[str, str]]

ROLES: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}
SHAREGPT_ROLES: dict[str, Role] = {**ROLES, "human": "user", "gpt": "assistant"}
HH_ROLES: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}

HH_START = "\n\nHuman:"
HH_TURN = re.compile(r"\n\n(Human|Assistant):[ ]?")


class UnusableRow(Exception):
    """A row that cannot become a prompt or a pair, with the reason it is kept under."""

    def __init__(self, reason: UnpairedReason) -> None:
        super().__init__(reason)
        self.reason = reason


class PairText(NamedTuple):
    """A ready pair, whatever its format was."""

    messages: Messages
    chosen: str
    rejected: str


def conversation(value: Any) -> Messages | None:
    """Turns of a text (one user turn) or of a message list, content as it came; None where it is neither.

    A message is {"role", "content"} or {"from", "value"}; only the first may be a system message.
    """
    if is_text(value):
        return [{"role": "user", "content": value}]
    if not isinstance(value, list):
        return None
    messages = [message for turn in value if (message := read_message(turn)) is not None]
    if len(messages) < len(value) or any(message["role"] == "system" for message in messages[1:]):
        return None
    return messages


def hh_conversation(text: str) -> Messages | None:
    """Turns of "\\n\\nHuman: ...\\n\\nAssistant: ..."; None where `text` does not begin with a human turn.

    Each turn loses its marker, the blank line before the marker and one space after it, and nothing else.
    """
    if not text.startswith(HH_START):
        return None
    _, *parts = HH_TURN.split(text)
    return [
        {"role": HH_ROLES[speaker], "content": content}
        for speaker, content in zip(parts[::2], parts[1::2], strict=True)
    ]


def prompt_messages(value: Any) -> Messages:
    """The conversation in `value`, which must end in a user turn that says something."""
    messages = conversation(value)
    if not messages or messages[-1]["role"] != "user" or not messages[-1]["content"].strip():
        raise UnusableRow("bad_prompt")
    return messages


def up_to_last(role: Role, messages: Messages) -> Messages:
    """`messages` without those after the last one of the role; none where there is no such turn."""
    end = max((i for i, message in enumerate(messages, start=1) if message["role"] == role), default=0)
    return messages[:end]


def pair_text(prompt: Any, chosen: Any, rejected: Any) -> PairText:
    """A prompt and two responses; a response that repeats the conversation must repeat this prompt."""
    messages = prompt_messages(prompt)
    (before_chosen, chosen_text), (before_rejected, rejected_text) = read_response(chosen), read_response(rejected)
    if before_chosen not in ([], messages) or before_rejected not in ([], messages):
        raise UnusableRow("prompt_mismatch")
    return PairText(messages, chosen_text, rejected_text)


def read_response(value: Any) -> tuple[Messages, str]:
    """The turns before a response, and its text: from a text, one message or a whole conversation."""
    if is_text(value):
        return [], value
    messages = conversation([value] if isinstance(value, Mapping) else value)
    if not messages or messages[-1]["role"] != "assistant":
        raise UnusableRow("bad_response")
    return messages[:-1], messages[-1]["content"]


def read_message(turn: Any) -> dict[str, str] | None:
    """One message of either form, or None."""
    if not isinstance(turn, Mapping):
        return None
    roles, name, content = (
        (ROLES, turn.get("role"), turn.get("content"))
        if "role" in turn
        else (SHAREGPT_ROLES, turn.get("from"), turn.get("value"))
    )
    if not isinstance(name, str) or name not in roles or not is_text(content):
        return None
    return {"role": roles[name], "content": content}


def is_text(value: Any) -> TypeGuard[str]:
    """True for a string that can be saved: half a surrogate pair, which JSON allows, is not text."""
    if not isinstance(value, str):
        return False
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def column(row: Mapping[str, Any], name: str) -> Any:
    """A column that a row of this format must have."""
    if name not in row:
        raise UnusableRow("unreadable_row")
    return row[name]
