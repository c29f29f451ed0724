"""What makes a response unusable whatever its score."""

import polars as pl

TEMPLATE_TOKEN = r"<\|[^<>|\n]{1,40}\|>|</?s>|\[/?INST\]|<(?:bos|eos|pad|unk|start_of_turn|end_of_turn)>"
"""Turn and text markers of the chat templates in use: ChatML and Llama 3, Llama 2, Gemma."""

INVISIBLE = r"[\s\p{Cc}\p{Cf}\p{Z}]+"
"""White space, control and zero-width characters."""


def is_empty(column: str) -> pl.Expr:
    """True for a response of nothing but white space, invisible characters and template tokens."""
    return pl.col(column).str.replace_all(TEMPLATE_TOKEN, "").str.replace_all(INVISIBLE, "") == ""
