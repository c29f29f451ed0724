"""Read conversations of a file or a hub dataset, recognized row by row by the names of columns."""

import logging
from collections import Counter
from collections.abc import Iterator
from typing import Any

from curate.sources.fields import Columns, Fields, add_system, prompt_turns, read_tools, refuse_images
from curate.sources.messages import (
    UnusableRow,
    is_text,
    marked_conversation,
    read_response,
    same_turns,
    up_to_last,
)
from curate.sources.prompt_column import prompt_name
from curate.sources.rows import BadRow, Row, RowsConfig, first_rows, raw_rows
from schemas.errors import UserError
from schemas.ids import Occurrences, prompt_key

log = logging.getLogger(__name__)

EXAMPLE = '{"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}'
WHOLE = ("messages", "conversations", "conversation", "text")
"""Columns with a whole conversation."""
RESPONSES = ("response", "completion", "output", "answer")
"""Columns with the response to a prompt in another one."""

MarkedMessages = list[dict[str, Any]]
"""Messages, of which those that are not to be learned have `learn`."""


def read_conversations(cfg: RowsConfig) -> Iterator[tuple[str, MarkedMessages, str | None]]:
    """(id, turns up to the last response, tools as JSON) of every usable row; the others are counted in the log.

    Columns that are not used are named. Raises UserError at the end where there was no usable row.
    """
    refuse_other_columns(cfg)
    ids = Occurrences()
    found = 0
    dropped: Counter[str] = Counter()
    columns = Columns()
    for row in raw_rows(cfg):
        fields = Fields(row if isinstance(row, dict) else {}, cfg.columns)
        try:
            messages, tools = read_conversation(row, fields)
        except UnusableRow as error:
            dropped[error.reason] += 1
            continue
        finally:
            columns.add(fields)
        found += 1
        yield ids.unique(prompt_key(messages)), messages, tools
    if not found:
        raise no_conversation(cfg, dropped.total(), columns)
    if dropped:
        log.info("%s: %d rows unusable: %s", cfg.path, dropped.total(), dict(sorted(dropped.items())))
    columns.log_unused(cfg.path)


def refuse_other_columns(cfg: RowsConfig) -> None:
    """Raises UserError where the first rows have no columns for a conversation."""
    rows = first_rows(cfg)
    columns = Columns()
    for row in rows:
        fields = Fields(row if isinstance(row, dict) else {}, cfg.columns)
        if fields.first(WHOLE) or (fields.first(RESPONSES) and prompt_name(fields, WHOLE)):
            return
        columns.add(fields)
    raise no_conversation(cfg, len(rows), columns)


def no_conversation(cfg: RowsConfig, rows: int, columns: Columns) -> UserError:
    """The error for a source without a usable row."""
    seen = f"they have the columns {', '.join(columns.seen)}" if columns.seen else "none of them is a JSON object"
    return UserError(
        f"{cfg.path} has no usable conversation in {rows} rows: {seen}; expected {' or '.join(WHOLE)}, or a prompt and "
        f"{' or '.join(RESPONSES)}, for example {EXAMPLE}"
    )


def read_conversation(row: Row | BadRow, fields: Fields | None = None) -> tuple[MarkedMessages, str | None]:
    """The turns of a row up to its last response, and its tools."""
    if isinstance(row, BadRow):
        raise UnusableRow("unreadable_row")
    fields = fields or Fields(row)
    refuse_images(fields)
    messages = up_to_last("assistant", read_turns(fields))
    spoken = [turn for turn in messages if turn["role"] != "system"]
    if not spoken or spoken[0]["role"] != "user" or not spoken[0]["content"].strip():
        raise UnusableRow("bad_prompt")
    if any(turn["role"] == "assistant" and not turn["content"].strip() for turn in messages):
        raise UnusableRow("bad_response")
    return messages, read_tools(fields)


def read_turns(fields: Fields) -> MarkedMessages:
    """All turns of a row: of a whole conversation, or of a prompt and a response in columns of their own."""
    response, prompt = fields.first(RESPONSES), prompt_name(fields, WHOLE)
    if response and prompt:
        before = prompt_turns(fields, prompt)
        told, text = read_response(fields.get(response))
        if told and not same_turns(told, before):
            raise UnusableRow("prompt_mismatch")
        return [*before, {"role": "assistant", "content": text}]
    if (whole := fields.first(WHOLE)) is None:
        raise UnusableRow("unreadable_row")
    value = fields.get(whole)
    messages = marked_conversation(value) if isinstance(value, list) or (whole == "text" and is_text(value)) else None
    if not messages:
        raise UnusableRow("bad_prompt")
    return add_system(fields, messages)
