"""Read prompts of a file or a hub dataset, recognized row by row by the name of a column."""

from collections.abc import Callable, Iterator
from typing import Any

from curate.sources.messages import Messages, UnusableRow, conversation, is_text, prompt_messages, up_to_last
from curate.sources.rows import BadRow, Row, RowsConfig, none_usable, raw_rows, raw_text
from curate.store.store import PROMPTS_PER_PART, Part, dropped_row, make_part
from schemas.errors import UserError
from schemas.ids import Occurrences, prompt_group, prompt_key
from schemas.stages import StageName
from schemas.tables import Prompt

STAGE = StageName.READ_PROMPTS
EXAMPLE = '{"prompt": "Why is the sky blue?"}'


def read_prompts(cfg: RowsConfig) -> Iterator[Part]:
    """Parts of `PROMPTS_PER_PART` prompts, the last one shorter; unusable rows come with the prompts they lie among."""
    ids = Occurrences()
    columns: list[str] = []
    is_recognized = is_any_usable = False
    rows: list[dict[str, Any]] = []
    dropped: list[dict[str, Any]] = []
    for row in raw_rows(cfg):
        if isinstance(row, dict):
            columns = columns or list(row)
            is_recognized = is_recognized or prompt_column(row) is not None
        try:
            rows.append(prompt_row(read_prompt(row), ids))
        except UnusableRow as error:
            dropped.append(dropped_row(STAGE, error.reason, raw_text(row)))
        if len(rows) == PROMPTS_PER_PART:
            yield make_part(Prompt, rows, dropped)
            is_any_usable, rows, dropped = True, [], []
    if columns and not is_recognized:
        raise UserError(
            f"{cfg.path} has no column to take a prompt from: found {', '.join(columns)}; expected {', '.join(COLUMNS)}"
        )
    if not rows and not is_any_usable:
        raise none_usable(cfg, len(dropped), dropped[0]["raw"], EXAMPLE)
    if rows or dropped:
        yield make_part(Prompt, rows, dropped)


def read_prompt(row: Row | BadRow) -> Messages:
    """The conversation of a row, from the first of `COLUMNS` it has."""
    if isinstance(row, BadRow) or (name := prompt_column(row)) is None:
        raise UnusableRow("unreadable_row")
    return prompt_messages(COLUMNS[name](row))


def prompt_column(row: Row) -> str | None:
    """The column a row's prompt is taken from."""
    return next((name for name in COLUMNS if name in row), None)


def prompt_row(messages: Messages, ids: Occurrences) -> dict[str, Any]:
    prompt_id = ids.unique(prompt_key(messages))
    return {"prompt_id": prompt_id, "messages": messages, "prompt_group": prompt_group(messages)}


def up_to_question(value: Any) -> Any:
    """A conversation up to its last user turn, for one that goes on to the answer."""
    messages = conversation(value)
    return None if messages is None else up_to_last("user", messages)


def read_instruction(row: Row) -> Any:
    """An instruction, and its input after a blank line where it has one."""
    text, given = row["instruction"], row.get("input")
    if given is None or given == "":
        return text
    return f"{text}\n\n{given}" if is_text(text) and is_text(given) else None


def first_turn(row: Row) -> Any:
    """The first of several user turns: the others presuppose answers that the row does not hold."""
    turns = row["turns"]
    return turns[0] if isinstance(turns, list) and turns and is_text(turns[0]) else None


COLUMNS: dict[str, Callable[[Row], Any]] = {
    "prompt": lambda row: row["prompt"],
    "messages": lambda row: up_to_question(row["messages"]),
    "conversations": lambda row: up_to_question(row["conversations"]),
    "instruction": read_instruction,
    "question": lambda row: row["question"],
    "turns": first_turn,
}
"""Column -> what it gives for a prompt, in the order they are looked for."""
