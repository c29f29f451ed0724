"""Pairs in the format of LLaMA-Factory: ShareGPT turns up to the prompt, and one turn for each response."""

from curate.sources.messages import PairText, column, pair_text
from curate.sources.rows import Row

COLUMNS = 'conversations, chosen, rejected ({"from", "value"} turns)'


def recognize(row: Row) -> bool:
    """True for a row with the three columns."""
    return {"conversations", "chosen", "rejected"} <= row.keys()


def parse(row: Row) -> PairText:
    """The conversation as it stands, and the two responses."""
    return pair_text(column(row, "conversations"), column(row, "chosen"), column(row, "rejected"))
