"""Calls of tools as chat templates take them: a field of the assistant's message, with the results behind it.

In a row a `tool_call` turn has the JSON of what is called, and a `tool` turn what that gave.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

Message = Mapping[str, Any]

PROBE_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "another_tool",
            "description": "Look up a word.",
            "parameters": {"type": "object", "properties": {"word": {"type": "string", "description": "A word."}}},
        },
    }
]
PROBE = [
    {"role": "user", "content": "a"},
    {"role": "tool_call", "content": '[{"name": "probe_tool", "arguments": {"word": "probe_word"}}]'},
    {"role": "tool", "content": "probe_result"},
    {"role": "assistant", "content": "b"},
]
PROBED = ("probe_tool", "probe_word", "probe_result")
"""What a template that has a place for tools writes of the probe."""


class CallUnread(ValueError):
    """A turn that calls a tool and is not the JSON of a call."""


def has_tool_turns(messages: Sequence[Message]) -> bool:
    """True for a conversation in which a tool is called."""
    return any(turn["role"] in ("tool_call", "tool") for turn in messages)


def template_form(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The turns with each call in the message of the assistant that it ends, and each result under its call's id.

    Such a message is learned where none of its turns says otherwise. Raises CallUnread for a call that cannot be read.
    """
    found: list[dict[str, Any]] = []
    waiting: list[dict[str, Any]] = []
    count = 0
    for turn in messages:
        if turn["role"] == "tool_call":
            calls = read_calls(turn["content"], count)
            count += len(calls)
            waiting += calls
            if not found or found[-1]["role"] != "assistant":
                found.append({"role": "assistant", "content": ""})
            found[-1]["tool_calls"] = [*found[-1].get("tool_calls", ()), *calls]
            if turn.get("learn") is False:
                found[-1]["learn"] = False
        elif turn["role"] == "tool" and waiting:
            call = waiting.pop(0)
            found.append({**turn, "tool_call_id": call["id"], "name": call["function"]["name"]})
        else:
            found.append(dict(turn))
    return found


def api_form(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The turns as endpoints take them: `template_form` with the arguments of a call as JSON text."""
    found = template_form(messages)
    for turn in found:
        for call in turn.get("tool_calls", ()):
            call["function"]["arguments"] = json.dumps(call["function"]["arguments"], ensure_ascii=False)
    return found


def stored_form(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """`template_form` with the turns that call tools as they are, in `tool_call_turns`; the arguments are JSON text.

    An empty text there is an assistant turn without text, before the calls.
    """
    found = api_form(messages)
    at = -1
    before: Message = {"role": "", "content": ""}
    for turn in messages:
        is_call = turn["role"] == "tool_call"
        at += not (is_call and before["role"] in ("assistant", "tool_call"))
        if is_call:
            calls = found[at].setdefault("tool_call_turns", [])
            if before["role"] == "assistant" and not before["content"]:
                calls.append("")
            calls.append(turn["content"])
        before = turn
    return found


def row_form(messages: Sequence[Message]) -> list[dict[str, str]]:
    """The turns of a row from their `stored_form`."""
    found: list[dict[str, str]] = []
    for turn in messages:
        calls = turn.get("tool_call_turns") or ()
        if turn["content"] or not calls:
            found.append({"role": turn["role"], "content": turn["content"]})
        found += [{"role": "tool_call" if call else turn["role"], "content": call} for call in calls]
    return found


def read_calls(text: str, count: int) -> list[dict[str, Any]]:
    """What a turn calls, in the form of OpenAI with the arguments as an object. Raises CallUnread for anything else.

    Ids are numbers after `count`, of the nine signs that the strictest templates ask for.
    """
    try:
        value = read_json(text)
        functions = [call.get("function", call) for call in (value if isinstance(value, list) else [value])]
        return [
            {
                "id": f"call{number:05d}",
                "type": "function",
                "function": {"name": str(function["name"]), "arguments": read_arguments(function)},
            }
            for number, function in enumerate(functions, count + 1)
        ]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CallUnread(f"no call of a tool: {text[:80]!r}") from error


def read_arguments(function: Mapping[str, Any]) -> Any:
    """The arguments of a call: the object where they are its JSON, else as they came."""
    arguments = function.get("arguments", function.get("parameters")) or {}
    if not isinstance(arguments, str):
        return arguments
    try:
        return read_json(arguments)
    except ValueError:
        return arguments


def read_tools(text: str | None) -> list[dict[str, Any]] | None:
    """Tools as templates take them, from a JSON list. Raises ValueError for anything else."""
    if not text:
        return None
    tools = read_json(text)
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise ValueError("tools are no list of objects")
    is_bare = ["name" in tool and "function" not in tool for tool in tools]
    return [{"type": "function", "function": tool} if bare else tool for tool, bare in zip(tools, is_bare, strict=True)]


def read_json(text: str) -> Any:
    """The value of a JSON text, with ? for half of a surrogate pair, which no file and no request can hold.

    Raises ValueError for NaN and Infinity too, which Python takes and no other reader.
    """
    value = json.loads(text, parse_constant=refuse_constant)
    if "\\u" not in text:
        return value
    return json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))


def refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
