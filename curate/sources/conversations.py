"""Read conversations of a file or a hub dataset, recognized row by row by the names of columns."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from curate.sources.messages import Messages, UnusableRow, column, conversation, is_text, up_to_last
from curate.sources.rows import BadRow, Row, RowsConfig, raw_rows
from schemas.errors import UserError
from schemas.ids import Occurrences, prompt_key

log = logging.getLogger(__name__)

EXAMPLE = '{"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}'


def read_conversations(cfg: RowsConfig) -> Iterator[tuple[str, Messages]]:
    """(id, turns up to the last response) of every usable row; the others are counted in the log.

    Raises UserError at the end where there was none.
    """
    ids = Occurrences()
    found = 0
    dropped: Counter[str] = Counter()
    columns: list[str] = []
    for row in raw_rows(cfg):
        if isinstance(row, dict):
            columns = columns or list(row)
        try:
            messages = read_conversation(row)
        except UnusableRow as error:
            dropped[error.reason] += 1
            continue
        found += 1
        yield ids.unique(prompt_key(messages)), messages
    if not found:
        seen = f"the first has the columns {', '.join(columns)}" if columns else "none of them is a JSON object"
        expected = ", ".join(" and ".join(form) for form in FORMS)
        raise UserError(
            f"{cfg.path} has no usable conversation in {dropped.total()} rows: {seen}; expected {expected}, "
            f"for example {EXAMPLE}"
        )
    if dropped:
        log.info("%s: %d rows unusable: %s", cfg.path, dropped.total(), dict(sorted(dropped.items())))


def read_conversation(row: Row | BadRow) -> Messages:
    """The turns of a row up to its last response."""
    if isinstance(row, BadRow) or (form := next((form for form in FORMS if row.keys() >= set(form)), None)) is None:
        raise UnusableRow("unreadable_row")
    messages = up_to_last("assistant", FORMS[form](row))
    spoken = [turn for turn in messages if turn["role"] != "system"]
    if not spoken or spoken[0]["role"] != "user" or not spoken[0]["content"].strip():
        raise UnusableRow("bad_prompt")
    if any(turn["role"] == "assistant" and not turn["content"].strip() for turn in messages):
        raise UnusableRow("bad_response")
    return messages


def read_turns(value: Any) -> Messages:
    """A list of messages of either kind."""
    messages = conversation(value) if isinstance(value, list) else None
    if not messages:
        raise UnusableRow("bad_prompt")
    return messages


def read_exchange(row: Row) -> Messages:
    """One column with the prompt, text or messages, and one with the response."""
    prompt = conversation(row["prompt"])
    if not prompt:
        raise UnusableRow("bad_prompt")
    return [*prompt, read_turn("assistant", row["response"])]


def read_instruction(row: Row) -> Messages:
    """One exchange; an input, where there is one, is a second paragraph of the instruction."""
    instruction, context = column(row, "instruction"), row.get("input")
    if not is_text(instruction):
        raise UnusableRow("bad_prompt")
    if is_text(context) and context.strip():
        instruction = f"{instruction}\n\n{context}"
    system = [read_turn("system", row["system"])] if is_text(row.get("system")) and row["system"].strip() else []
    return [*system, {"role": "user", "content": instruction}, read_turn("assistant", row["output"])]


def read_turn(role: str, content: Any) -> dict[str, str]:
    """One message; a content that is no text makes the row unusable."""
    if not is_text(content):
        raise UnusableRow("bad_response")
    return {"role": role, "content": content}


FORMS: dict[tuple[str, ...], Callable[[Row], Messages]] = {
    ("messages",): lambda row: read_turns(row["messages"]),
    ("conversations",): lambda row: read_turns(row["conversations"]),
    ("prompt", "response"): read_exchange,
    ("instruction", "output"): read_instruction,
}
"""Columns -> how they are read, in the order they are tried."""
