"""Whether a response stops without an end."""

import polars as pl

Cut = pl.Enum(["no", "maybe", "yes"])

TAIL = 1000
"""Characters looked at for the last line."""
FENCE = "```"
LIST_OR_CODE = r"^\s*(?:[-*+•|>#$]|\d+[.)]|[a-zA-Z][.)]\s|```)|[{};=<>\\|]|\]\(|://"
"""Lines that need no full stop: list items, headings, tables, code, links."""
OPEN_WORD = (
    r"\b(?:the|an?|and|or|of|to|in|for|with|from|by|at|as|is|are|was|were|be|been|has|have|had|will|would|can|could|"
    r"should|may|might|must|which|who|whose|because|although|if|when|while|than|into|onto|their|your|our|its|my|"
    r"his|every|between|through|during|including|but|about|using)$"
)
"""Words that do not end a sentence."""
UNFINISHED = r"[,(\[{]$|[\w)][ ]?[-\u2013\u2014]$"
BARE = r"(?:^|\s)[^\s#@/]*[\p{L}\p{N}]$"
"""Neither a closing sign nor any other mark, and no hashtag or link."""
ENDS_SENTENCES = r"[\p{L}\p{N})\"”'][.!?](?:\s|$)"
CLOSED_LINE = r"(?m)[.!?:;)\]\"\u201d…][ \t*_]*$"
BARE_LINE = r"(?m)[\p{L}\p{N},][ \t]*$"
CODE_LINE = r"[{}=<>\\|]"
CLOSED_LINES = 3
"""Lines with a closing sign among which one without, at the end, stands out."""
OUTSTANDING = r"(?:^|\s)[^\s#@/]*[\p{L},]$"
OUTSTANDING_WORDS = 4
OPEN_LINE_WORDS = 6
"""Fewest words of a last line that is taken for a sentence."""
BARE_LINE_WORDS = 12
"""Fewest words of a last line that needs a closing sign."""


def endings(column: str, finish: str) -> pl.Expr:
    """`yes` where a response stops without an end, `maybe` where it looks so, else `no`.

    The finish reason comes first: `length` is `yes` and `stop` is `no`. Without one it is `yes` for an open code
    fence, and for a sentence that ends in a comma or in a word like "the", or that is long and ends in nothing.
    """
    text = pl.col(column).str.strip_chars_end()
    line = text.str.slice(-TAIL).str.split("\n").list.last()
    words = line.str.count_matches(r"\S+")
    is_sentence = ~line.str.contains(LIST_OR_CODE)
    is_open = line.str.to_lowercase().str.contains(OPEN_WORD) | line.str.contains(r",$")
    is_bare = line.str.contains(BARE)
    stands_out = (
        line.str.contains(OUTSTANDING)
        & ~line.str.contains(CODE_LINE)
        & (words >= OUTSTANDING_WORDS)
        & (text.str.count_matches(CLOSED_LINE) >= CLOSED_LINES)
        & (text.str.count_matches(BARE_LINE) == 1)
    )
    open_fence = text.str.count_matches(FENCE, literal=True) % 2 == 1
    cut = (
        open_fence
        | stands_out
        | (
            is_sentence
            & (
                (is_open & (words >= OPEN_LINE_WORDS))
                | (is_bare & (words >= BARE_LINE_WORDS) & text.str.contains(ENDS_SENTENCES))
            )
        )
    )
    may_be_cut = is_bare | is_open | line.str.contains(UNFINISHED)
    return (
        pl.when(pl.col(finish) == "length")
        .then(pl.lit("yes"))
        .when(pl.col(finish) == "stop")
        .then(pl.lit("no"))
        .when(cut)
        .then(pl.lit("yes"))
        .when(may_be_cut & (text.str.len_chars() > 0))
        .then(pl.lit("maybe"))
        .otherwise(pl.lit("no"))
        .cast(Cut)
    )
