"""Read prompts of a file or a hub dataset, recognized row by row by the name of a column."""

import logging
from collections.abc import Iterator
from itertools import count
from typing import Any

from curate.sources.fields import PROMPTS, Columns, Fields, prompt_turns
from curate.sources.formats import find_format
from curate.sources.licenses import row_license
from curate.sources.messages import Messages, UnusableRow, check_prompt, up_to_last
from curate.sources.prompt_column import prompt_name
from curate.sources.rows import BadRow, Row, RowsConfig, first_rows, none_usable, raw_rows, raw_text
from curate.store.store import PROMPTS_PER_PART, Part, dropped_row, make_part
from schemas.errors import UserError
from schemas.ids import Occurrences, prompt_group, prompt_key
from schemas.stages import StageName
from schemas.tables import Prompt

log = logging.getLogger(__name__)

STAGE = StageName.READ_PROMPTS
EXAMPLE = '{"prompt": "Why is the sky blue?"}'
CONVERSATIONS = ("messages", "conversations", "conversation")
"""Columns that may go on to the answer."""


def read_prompts(cfg: RowsConfig) -> Iterator[Part]:
    """Parts of `PROMPTS_PER_PART` prompts, the last one shorter; unusable rows come with the prompts they lie among.

    Columns that are not used are named, and later turns that are left out are counted.
    """
    ids, places = Occurrences(), count()
    columns = Columns()
    refuse_other_columns(cfg)
    is_any_usable = False
    later_turns = 0
    rows: list[dict[str, Any]] = []
    dropped: list[dict[str, Any]] = []
    for row in raw_rows(cfg):
        fields = Fields(row if isinstance(row, dict) else {}, cfg.columns)
        try:
            messages = read_prompt(row, fields)
            if any(turn["role"] in ("tool_call", "tool") for turn in messages):
                raise UnusableRow("tool_calls")
            rows.append(prompt_row(messages, row_license(fields, cfg), ids, places))
            later_turns += has_later_turns(fields)
        except UnusableRow as error:
            dropped.append(dropped_row(STAGE, error.reason, raw_text(row)))
        columns.add(fields)
        if len(rows) == PROMPTS_PER_PART:
            yield make_part(Prompt, rows, dropped)
            is_any_usable, rows, dropped = True, [], []
    if not rows and not is_any_usable:
        raise none_usable(cfg, len(dropped), dropped, EXAMPLE)
    if later_turns:
        log.info(
            "%s: %d prompts have later turns, which are left out: they presuppose an answer to the first",
            *(cfg.path, later_turns),
        )
    columns.log_unused(cfg.path)
    if rows or dropped:
        yield make_part(Prompt, rows, dropped)


def refuse_other_columns(cfg: RowsConfig) -> None:
    """Raises UserError where the first rows have no column for a prompt."""
    rows = first_rows(cfg)
    columns = Columns()
    for row in rows:
        fields = Fields(row if isinstance(row, dict) else {}, cfg.columns)
        if holds_prompt(fields):
            return
        columns.add(fields)
    if not columns.seen:
        raise none_usable(cfg, len(rows), [dropped_row(STAGE, "unreadable_row", raw_text(rows[0]))], EXAMPLE)
    raise UserError(
        f"{cfg.path} has no column to take a prompt from: found {', '.join(columns.seen)}; expected "
        f"{', '.join(PROMPTS)}, or another one as --columns prompt=COLUMN"
    )


def holds_prompt(fields: Fields) -> bool:
    """True for a row with a column for a prompt, or with sides that begin with one."""
    return prompt_name(fields) is not None or find_format(fields) is not None


def read_prompt(row: Row | BadRow, fields: Fields | None = None) -> Messages:
    """The conversation of a row, up to its last user turn."""
    if isinstance(row, BadRow):
        raise UnusableRow("unreadable_row")
    fields = fields or Fields(row)
    if name := prompt_name(fields):
        messages = prompt_turns(fields, name)
        return check_prompt(up_to_last("user", messages) if name in CONVERSATIONS else messages)
    if form := find_format(fields):
        return form.read(fields, "").messages
    raise UnusableRow("unreadable_row")


def has_later_turns(fields: Fields) -> bool:
    """True for a row of several user turns of which the first is taken."""
    turns = fields.peek("turns")
    return prompt_name(fields) == "turns" and isinstance(turns, list) and len(turns) > 1


def prompt_row(messages: Messages, license: str, ids: Occurrences, places: Iterator[int]) -> dict[str, Any]:
    return {
        "prompt_id": ids.unique(prompt_key(messages)),
        "place": next(places),
        "messages": messages,
        "prompt_group": prompt_group(messages),
        "license": license,
    }
