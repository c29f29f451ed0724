"""Pairs in the format of hh-rlhf: two whole dialogues as text, alike up to the last assistant turn."""

from curate.sources.messages import HH_START, PairText, UnusableRow, column, hh_conversation, is_text, pair_text
from curate.sources.rows import Row

COLUMNS = 'chosen, rejected (text with "\\n\\nHuman: " and "\\n\\nAssistant: " turns)'


def recognize(row: Row) -> bool:
    """True for a row without a prompt in which either side is a dialogue."""
    sides = (row.get("chosen"), row.get("rejected"))
    return "prompt" not in row and any(isinstance(side, str) and side.startswith(HH_START) for side in sides)


def parse(row: Row) -> PairText:
    """The last assistant turn of each side, and the turns before it, which must be the same on both."""
    sides = (column(row, "chosen"), column(row, "rejected"))
    if not all(is_text(side) for side in sides):
        raise UnusableRow("bad_response")
    chosen, rejected = (hh_conversation(side) for side in sides)
    if chosen is None or rejected is None:
        raise UnusableRow("bad_prompt")
    if chosen[:-1] != rejected[:-1]:
        raise UnusableRow("prompt_mismatch")
    return pair_text(chosen[:-1], chosen, rejected)
