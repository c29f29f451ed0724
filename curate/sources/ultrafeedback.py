"""Pairs in the format of UltraFeedback-binarized and TRL: prompt, chosen, rejected as text or message lists."""

from curate.sources.messages import PairText, UnusableRow, column, pair_text, read_response
from curate.sources.rows import Row

COLUMNS = "prompt, chosen, rejected (text or message lists; lists that hold the whole conversation need no prompt)"


def recognize(row: Row) -> bool:
    """True for a row with a prompt, or with a conversation on either side."""
    sides = (row.get("chosen"), row.get("rejected"))
    return {"chosen", "rejected"} <= row.keys() and ("prompt" in row or any(isinstance(side, list) for side in sides))


def parse(row: Row) -> PairText:
    """The prompt given, or the conversation that both sides begin with, and the last assistant turn of each."""
    chosen, rejected = column(row, "chosen"), column(row, "rejected")
    if "prompt" in row:
        return pair_text(row["prompt"], chosen, rejected)
    if isinstance(chosen, str) and isinstance(rejected, str):
        raise UnusableRow("unreadable_row")
    before_chosen, before_rejected = read_response(chosen)[0], read_response(rejected)[0]
    if before_chosen != before_rejected:
        raise UnusableRow("prompt_mismatch")
    return pair_text(before_chosen, chosen, rejected)
