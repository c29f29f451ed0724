"""Parse conversations from rows of files: message lists of every kind, dialogues as text, JSON in text."""

import ast
import json
import re
import warnings
from collections.abc import Mapping
from itertools import zip_longest
from typing import Any, TypeGuard

from schemas.names import Role, UnpairedReason
from schemas.tool_turns import CallUnread, read_calls

Messages = list[dict[str, str]]

ROLES: dict[str, Role] = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "model", "bot", "ai", "chatbot", "chatgpt"), "assistant"),
    **dict.fromkeys(("tool_call", "function_call"), "tool_call"),
    **dict.fromkeys(("tool", "function", "observation", "ipython", "tool_response"), "tool"),
}
"""Name of a speaker in a file, in small letters -> role."""
SPEAKER, CONTENT = ("role", "from", "speaker"), ("content", "value", "text", "parts")
"""Fields that hold them, in the order they are looked for."""
TEXT_PARTS, THOUGHTS = ("text", "input_text", "output_text"), ("thinking", "reasoning")
TOOL_PARTS = ("tool_use", "tool_result", "tool_call")
"""Kinds of parts of a turn, beside media."""
NOT_LEARNED = ("weight", "train", "loss")
"""Fields of a turn that say with 0 or false that training must not learn it."""

HH_TURN = re.compile(r"(?:\A|\n\n)(Human|Assistant):[ ]?")
HH_TIGHT = re.compile(r"\n[ \t]*Assistant:")
HH_ROLES: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}
MESSAGE_START = re.compile(r"""\s*(?:\[\s*)?\{\s*["'](?:role|from|content|value|messages)["']\s*:""")
STRING_LIST = re.compile(r"""\s*\[\s*["']""")
HEADERS = re.compile(
    r"<\|im_start\|>(?:system|user|assistant)\s|<\|start_header_id\|>\w+<\|end_header_id\|>|\[/INST\]|<<SYS>>"
    r"|<start_of_turn>(?:user|model)\s|<\|turn>(?:user|model|system)\s|<\|start\|>\w+<\|message\|>|<\uff5cAssistant\uff5c>"
    r"|<\|START_OF_TURN_TOKEN\|>|<\|start_of_role\|>|<\|im_user\|>|<\|im_middle\|>"
)
"""What chat templates write before a turn; a text with it was rendered, and would be rendered twice."""
FIRST_TOKENS = re.compile(
    r"\s*(?:<s>|<bos>|<BOS_TOKEN>|<\|begin_of_text\|>|<\uff5cbegin\u2581of\u2581sentence\uff5c>|\[INST\]|\[SYSTEM_PROMPT\]|\[gMASK\]"
    r"|<\|(?:user|assistant|system|prompter|endoftext|startoftext)\|>|\[\|(?:user|assistant|system)\|\])"
)
MARKED_TURNS = (("### Human:", "### Assistant:"), ("### Instruction:", "### Response:"), ("USER:", "ASSISTANT:"))
"""Of templates in plain text: the marks of both sides."""
MEDIA = ("image", "audio", "video", "file", "document")


LONGEST_LITERAL = 1_000_000
"""Its syntax tree takes a hundred times the memory of a text."""


class UnusableRow(Exception):
    """A row that cannot become a prompt or a pair, with the reason it is kept under."""

    def __init__(self, reason: UnpairedReason) -> None:
        super().__init__(reason)
        self.reason = reason


def conversation(value: Any) -> Messages | None:
    """Turns of a text or of a message list, content as it came; None where it is neither.

    A text is one user turn, unless it is a dialogue or JSON of messages. Only the first message may be a system
    message. Raises UnusableRow for an image, and for a text that a chat template rendered or whose structure cannot
    be read.
    """
    messages = marked_conversation(value)
    return messages and [{"role": turn["role"], "content": turn["content"]} for turn in messages]


def marked_conversation(value: Any) -> list[dict[str, Any]] | None:
    """A `conversation` in which a turn that training must not learn has `learn`, which is false."""
    if is_text(value):
        return text_conversation(value)
    if isinstance(value, Mapping) and isinstance(value.get("messages"), list):
        value = value["messages"]
    if not isinstance(value, list | tuple):
        return None
    messages: list[dict[str, Any]] = []
    for turn in value:
        if (read := read_message(turn)) is None:
            return None
        messages += read
    if any(message["role"] == "system" for message in messages[1:]):
        return None
    return messages


def text_conversation(text: str) -> Messages:
    """The turns that a text holds, or the text as one user turn."""
    if (messages := hh_conversation(text)) and any(turn["role"] == "assistant" for turn in messages):
        return messages
    if (found := parse_structure(text)) is not None:
        if not (messages := conversation(found)):
            raise UnusableRow("unread_structure")
        return messages
    if is_rendered(text) or (messages and HH_TIGHT.search(text)):
        raise UnusableRow("unread_structure")
    return [{"role": "user", "content": text}]


def is_rendered(text: str) -> bool:
    """True for a text that a chat template has put together from turns."""
    if HEADERS.search(text) or FIRST_TOKENS.match(text):
        return True
    return any(text.rstrip().endswith(answer) and asked in text for asked, answer in MARKED_TURNS)


def hh_conversation(text: str) -> Messages | None:
    """Turns of "\\n\\nHuman: ...\\n\\nAssistant: ..."; None where `text` does not begin with a human turn.

    Each turn loses its marker, the blank line before the marker and one space after it, and nothing else.
    """
    start = text if text.startswith("\n\n") else text.lstrip()
    if not start.startswith(("Human:", "\n\nHuman:")):
        return None
    _, *parts = HH_TURN.split(start)
    return [
        {"role": HH_ROLES[speaker], "content": content}
        for speaker, content in zip(parts[::2], parts[1::2], strict=True)
    ]


def parse_structure(text: str) -> Any:
    """The messages that a text holds as JSON or as Python writes them; None where it holds none.

    Raises UnusableRow where it begins as messages do and cannot be read.
    """
    if not MESSAGE_START.match(text):
        return None
    for parse in (json.loads, python_literal):
        try:
            found = parse(text.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(found, Mapping):
            found = found.get("messages") or [found]
        is_turns = isinstance(found, list) and all(isinstance(turn, Mapping) and speaker(turn) for turn in found)
        return found if found and is_turns else None
    raise UnusableRow("unread_structure")


def python_literal(text: str) -> Any:
    """A value as Python writes it. Raises ValueError for a text of more than a million characters."""
    if len(text) > LONGEST_LITERAL:
        raise ValueError(f"more than {LONGEST_LITERAL} characters")
    with warnings.catch_warnings(action="ignore"):
        return ast.literal_eval(text)


def string_list(value: Any) -> list[Any] | None:
    """A list of texts, or one that a text holds as JSON; None for anything else."""
    if is_text(value) and STRING_LIST.match(value):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, list) and value and all(isinstance(item, str) for item in value) else None


def check_prompt(messages: Messages | None) -> Messages:
    """The messages of a prompt, which must end in a user turn that says something, or in what a tool gave.

    An assistant turn at its end that says nothing is where the response begins. Raises UnusableRow for other messages.
    """
    if messages and messages[-1]["role"] == "assistant" and not messages[-1]["content"].strip():
        messages = messages[:-1]
    if not messages or messages[-1]["role"] not in ("user", "tool") or not messages[-1]["content"].strip():
        raise UnusableRow("bad_prompt")
    if not any(message["role"] == "user" for message in messages):
        raise UnusableRow("bad_prompt")
    return messages


def check_calls(messages: Messages) -> Messages:
    """The turns without those of the assistant that say nothing before a call, which is a message by itself.

    Raises UnusableRow for a call that is not the JSON of one: no chat template could render it.
    """
    try:
        for turn in messages:
            if turn["role"] == "tool_call":
                read_calls(turn["content"], 0)
    except CallUnread:
        raise UnusableRow("unread_structure") from None
    return [
        turn
        for turn, after in zip_longest(messages, messages[1:])
        if turn["role"] != "assistant" or turn["content"] or not after or after["role"] != "tool_call"
    ]


def up_to_last(role: Role, messages: Messages) -> Messages:
    """`messages` without those after the last one of the role; none where there is no such turn."""
    end = max((i for i, message in enumerate(messages, start=1) if message["role"] == role), default=0)
    return messages[:end]


def read_response(value: Any) -> tuple[Messages, str]:
    """The turns before a response, and its text: from a text, one message or a whole conversation.

    Raises UnusableRow for what is no response, and for a response that calls a tool.
    """
    messages: Messages | None
    if is_text(value):
        found = parse_structure(value)
        messages = conversation(found) if found is not None else hh_conversation(value)
        if not messages or messages[-1]["role"] == "user":
            if found is not None:
                raise UnusableRow("bad_response")
            return [], value
    else:
        is_message = isinstance(value, Mapping) and "messages" not in value
        messages = conversation([value] if is_message else value)
        if isinstance(value, list) and len(value) == 1 and is_text(value[0]):
            return [], value[0]
    if messages and messages[-1]["role"] == "tool_call":
        raise UnusableRow("tool_calls")
    if not messages or messages[-1]["role"] != "assistant":
        raise UnusableRow("bad_response")
    return messages[:-1], messages[-1]["content"]


def join_prompt(prompt: Messages | None, before: tuple[Messages, Messages]) -> Messages:
    """The prompt of a pair, from its own column and from the turns before either response.

    White space around a turn makes no difference, and the sides may carry a system message or earlier turns that the
    column leaves out. Raises UnusableRow where they disagree.
    """
    told = [messages for messages in before if messages]
    if prompt is None:
        if not same_turns(*before):
            raise UnusableRow("prompt_mismatch")
        return check_prompt(before[0])
    if len(told) == 2 and not same_turns(*told):
        raise UnusableRow("prompt_mismatch")
    for messages in told[:1]:
        shared = min(len(messages), len(prompt))
        if not shared or not same_turns(messages[-shared:], prompt[-shared:]):
            raise UnusableRow("prompt_mismatch")
        prompt = [*messages[:-shared], *prompt]
    if any(message["role"] == "system" for message in prompt[1:]):
        raise UnusableRow("prompt_mismatch")
    return prompt


def same_turns(one: Messages, other: Messages) -> bool:
    """True for turns that are equal but for white space."""
    return len(one) == len(other) and all(
        turn["role"] == its["role"]
        and (turn["content"] == its["content"] or turn["content"].split() == its["content"].split())
        for turn, its in zip(one, other, strict=True)
    )


def read_message(turn: Any) -> list[dict[str, Any]] | None:
    """The messages of one turn, more than one where it says something and calls a tool; None where it is no turn."""
    if not isinstance(turn, Mapping) or (role := speaker(turn)) is None:
        return None
    content = next((turn[name] for name in CONTENT if turn.get(name) is not None), None)
    text = read_content(content)
    is_learned = not any(turn[name] in (0, False, "false") for name in NOT_LEARNED if name in turn)
    mark: dict[str, Any] = {} if is_learned or role not in ("assistant", "tool_call") else {"learn": False}
    calls = turn.get("tool_calls") or turn.get("function_call")
    if calls and role == "assistant":
        call = json.dumps(calls, ensure_ascii=False, default=str)
        if not is_text(call):
            return None
        called = {"role": "tool_call", "content": call, **mark}
        return [{"role": role, "content": text, **mark}, called] if text else [called]
    if text is None and role in ("tool", "tool_call") and content is not None:
        text = json.dumps(content, ensure_ascii=False, default=str)
    if text is None or not is_text(text):
        return None
    return [{"role": role, "content": text, **mark}]


def speaker(turn: Mapping[str, Any]) -> Role | None:
    """The role of a turn; None where it names none that is known."""
    name = next((turn[field] for field in SPEAKER if turn.get(field) is not None), None)
    return ROLES.get(name.lower()) if isinstance(name, str) else None


def read_content(content: Any) -> str | None:
    """The text of a turn, from a text or a list of parts; None for anything else, UnusableRow for an image."""
    if isinstance(content, str):
        return content if is_text(content) else None
    if not isinstance(content, list) or not content:
        return None
    texts = []
    for part in content:
        if isinstance(part, str):
            texts.append(part)
            continue
        if not isinstance(part, Mapping):
            return None
        kind = part.get("type") or "text"
        if kind in THOUGHTS:
            continue
        if kind in TOOL_PARTS:
            raise UnusableRow("tool_calls")
        if any(medium in str(kind) for medium in MEDIA):
            raise UnusableRow("image")
        if kind not in TEXT_PARTS or not isinstance(part.get("text"), str):
            return None
        texts.append(part["text"])
    joined = "".join(texts)
    return joined if is_text(joined) else None


def is_text(value: Any) -> TypeGuard[str]:
    """True for a string that can be saved: half a surrogate pair, which JSON allows, is not text."""
    if not isinstance(value, str):
        return False
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
