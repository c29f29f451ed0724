"""Records of the formats that pairs are exported in, from one row each."""

import json
from typing import Any

from curate.mix.export.rows import ExportRow, Messages
from curate.sources.messages import UnusableRow, read_response, text_conversation
from schemas.tool_turns import api_form, read_calls, read_tools, stored_form

Record = dict[str, Any]

FACTS = (
    *("prompt_id", "prompt_group", "pair_id", "source", "score_chosen", "score_rejected", "scorer", "origin", "flaw"),
    "license",
)
REASONING = ("reasoning_chosen", "reasoning_rejected")
SIDES = ("chosen", "rejected")

AXOLOTL_DUMMY = "[[dummy_message]]"
"""What axolotl renders before a response, which it then looks for in the rendered text."""


class Unheld(Exception):
    """A row that a format cannot hold."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def as_messages(text: str) -> Messages:
    """A response as a list of one message."""
    return [{"role": "assistant", "content": text}]


def facts(row: ExportRow) -> Record:
    """The ids, scores and origin of a row, in the order of `FACTS`."""
    return {
        "prompt_id": row.prompt_id,
        "prompt_group": row.prompt_group,
        "pair_id": row.pair_id,
        "source": row.source,
        "score_chosen": row.score_chosen,
        "score_rejected": row.score_rejected,
        "scorer": row.scorer,
        "origin": row.origin,
        "flaw": row.flaw,
        "license": row.license,
    }


def tool_list(row: ExportRow) -> list[dict[str, Any]] | None:
    """The tools of a row as chat templates take them. Raises Unheld for what is no list of tools."""
    try:
        return read_tools(row.tools)
    except ValueError as error:
        raise Unheld("unread_tool_call") from error


def tool_text(row: ExportRow) -> str | None:
    """The same as JSON text."""
    tools = tool_list(row)
    return None if tools is None else dump(tools)


def dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def trl(row: ExportRow) -> list[Record]:
    prompt = stored_form(row.prompt)
    sides = {"chosen": as_messages(row.chosen), "rejected": as_messages(row.rejected)}
    return [{"prompt": prompt, **sides, "tools": tool_text(row), **facts(row)}]


def trl_implicit(row: ExportRow) -> list[Record]:
    prompt = stored_form(row.prompt)
    sides = {"chosen": [*prompt, *as_messages(row.chosen)], "rejected": [*prompt, *as_messages(row.rejected)]}
    return [{**sides, "tools": tool_text(row), **facts(row)}]


def kto(row: ExportRow) -> list[Record]:
    prompt, tools = stored_form(row.prompt), tool_text(row)
    return [
        {"prompt": prompt, "completion": as_messages(text), "label": label, "tools": tools, "pair_id": row.pair_id}
        for text, label in ((row.chosen, True), (row.rejected, False))
    ]


def h4(row: ExportRow) -> list[Record]:
    chosen, rejected = ([*row.prompt, *as_messages(text)] for text in (row.chosen, row.rejected))
    return [
        {
            "prompt": row.prompt[-1]["content"],
            "prompt_id": row.prompt_id,
            "chosen": chosen,
            "rejected": rejected,
            "messages": chosen,
            "score_chosen": row.score_chosen,
            "score_rejected": row.score_rejected,
        }
    ]


def orpo(row: ExportRow) -> list[Record]:
    # The system text stands in a column of its own: the tool takes the lists for turns of both sides alone.
    sides = {"chosen": [*row.turns, *as_messages(row.chosen)], "rejected": [*row.turns, *as_messages(row.rejected)]}
    return [{"system": row.system, **sides, "pair_id": row.pair_id}]


def axolotl(row: ExportRow) -> list[Record]:
    # The tool looks for a response in the text it renders, where templates have trimmed it.
    texts = [text.strip() for text in (row.chosen, row.rejected)]
    if any(text in AXOLOTL_DUMMY for text in texts):
        raise Unheld("unfindable_response")
    chosen, rejected = (as_messages(text)[0] for text in texts)
    return [{"messages": row.prompt, "chosen": chosen, "rejected": rejected, "pair_id": row.pair_id}]


SPEAKERS = {
    "system": "system",
    "user": "human",
    "assistant": "gpt",
    "tool_call": "function_call",
    "tool": "observation",
}
"""Role -> how ShareGPT names it."""


def spoken(turns: Messages) -> list[Record]:
    """Turns as ShareGPT has them, a call as the list of what is called."""
    found = []
    for turn in turns:
        value = turn["content"]
        if turn["role"] == "tool_call":
            value = dump([call["function"] for call in read_calls(value, 0)])
        found.append({"from": SPEAKERS[turn["role"]], "value": value})
    return found


def sharegpt(row: ExportRow) -> list[Record]:
    return [{"conversations": spoken(row.prompt), **spoken_sides(row), "tools": tool_text(row) or ""}]


def llamafactory(row: ExportRow) -> list[Record]:
    columns = {"system": row.system, "tools": tool_text(row) or "", "pair_id": row.pair_id}
    return [{"conversations": spoken(row.turns), **spoken_sides(row), **columns}]


def spoken_sides(row: ExportRow) -> Record:
    return {"chosen": spoken(as_messages(row.chosen))[0], "rejected": spoken(as_messages(row.rejected))[0]}


def alpaca(row: ExportRow) -> list[Record]:
    texts = [turn["content"] for turn in row.turns]
    history = [[asked, told] for asked, told in zip(texts[:-1:2], texts[1::2], strict=True)]
    record = {"instruction": texts[-1], "input": "", "chosen": row.chosen, "rejected": row.rejected}
    return [{**record, "system": row.system, "history": history, "pair_id": row.pair_id}]


def openai(row: ExportRow) -> list[Record]:
    given: Record = {"messages": api_form(row.prompt)}
    if tools := tool_list(row):
        given |= {"tools": tools, "parallel_tool_calls": True}
    return [
        {"input": given, "preferred_output": as_messages(row.chosen), "non_preferred_output": as_messages(row.rejected)}
    ]


def nemo_rl(row: ExportRow) -> list[Record]:
    completions = [
        {"rank": rank, "completion": as_messages(text)} for rank, text in enumerate((row.chosen, row.rejected))
    ]
    return [{"context": row.prompt, "completions": completions}]


def ultrafeedback(row: ExportRow) -> list[Record]:
    sides = ((row.chosen, row.score_chosen), (row.rejected, row.score_rejected))
    completions = [{"response": text, "overall_score": score} for text, score in sides]
    return [{"source": row.source, "instruction": row.turns[-1]["content"], "completions": completions}]


def jsonl(row: ExportRow) -> list[Record]:
    sides = {"prompt": row.prompt, "chosen": as_messages(row.chosen), "rejected": as_messages(row.rejected)}
    return [{**sides, "tools": row.tools, **facts(row), **reasoning(row)}]


def csv(row: ExportRow) -> list[Record]:
    asked = row.turns[-1:]
    is_one = len(row.turns) == 1 and asked[0]["role"] == "user" and is_plain_question(asked[0]["content"])
    return [
        {
            "system": row.system if is_one else "",
            "prompt": asked[0]["content"] if is_one else dump(row.prompt),
            "chosen": plain_response(row.chosen),
            "rejected": plain_response(row.rejected),
            "tools": row.tools,
            **facts(row),
            **reasoning(row),
        }
    ]


def reasoning(row: ExportRow) -> Record:
    return {"reasoning_chosen": row.reasoning_chosen, "reasoning_rejected": row.reasoning_rejected}


def is_plain_question(text: str) -> bool:
    """Whether a cell with this text is read as one turn of the user with it."""
    try:
        return text_conversation(text) == [{"role": "user", "content": text}]
    except UnusableRow:
        return False


def plain_response(text: str) -> str:
    """The cell of a response: its text, as JSON of a message where a reader would take it for something else."""
    try:
        is_plain = bool(text) and read_response(text) == ([], text)
    except UnusableRow:
        is_plain = False
    return text if is_plain else dump(as_messages(text))
