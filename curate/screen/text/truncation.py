"""Detect responses that stop without an end."""

import polars as pl

from curate.screen.text.structure import FENCE, FENCED, LIST_MARKER

Cut = pl.Enum(["no", "maybe", "yes"])

TAIL = 1000
"""Characters looked at for the last line."""
UNFINISHED = r"[,:=(\[{\u201c\u300c]$|[\w)][ ]?[-\u2013\u2014]$"
BARE = r"(?:^|\s)[^\s#@/]*[\p{L}\p{N}]$"
"""Neither a closing sign nor any other mark, and no hashtag or link."""
OPEN_WORD = (
    r"(?:^|[\s(\"\u201c])(?:the|an?|and|or|of|to|in|for|with|from|by|at|as|is|are|was|were|be|been|has|have|had|will|would|can|could|"
    r"should|may|might|must|which|who|whose|because|although|if|when|while|than|into|onto|their|your|our|its|my|"
    r"his|every|between|through|during|including|but|using|he|she|we|they|"
    r"(?:i|you|he|she|it|we|they|that|there|who|what)['\u2019](?:m|s|d|re|ve|ll))$"
)
"""Words that do not end a sentence."""
LONGEST_OPEN = 16
"""Characters at the end of a line that hold an open word and what stands before it."""
LIST_OR_CODE = r"^\s*(?:[-*+•|>#$]|\d+[.)]|[a-zA-Z][.)]\s|```)|[{};=<>\\|]|\]\(|://"
"""Lines that need no full stop: list items, headings, tables, code, links."""
CODE_SIGN = r"[{}=<>\\|`]|\]\(|://"
LABELED = r"^\W*\w+(?: \w+){0,2}\W*: "
"""`Answer: none of these` is an end."""
LABELED_WORDS = 4
"""Most words of a labeled last line that says nothing of an end."""
SENTENCE_END = r"[\p{L}\p{N})\"”'][.!?](?:\s|$)"
CLOSED_LINE = r"(?m)[.!?:;)\]\"\u201d…][ \t*_]*$"
BARE_LINE = r"(?m)^[^#\n]*[\p{L}\p{N},][ \t]*$"
BARE_ENTRY = rf"(?m)^[ \t]*{LIST_MARKER}[^\n]*[\p{{L}}\p{{N}},][ \t]*$"
IN_SENTENCE = r"(?:^|\s)\p{Ll}[^\s#@/]*[\p{L},]$|\p{L},$"
"""A last word in small letters, which is no name, or a comma."""

OPEN_WORDS = 3
"""Fewest words of a last line that cannot end in an open word."""
BARE_WORDS = 12
"""Fewest words of a last line that needs a closing sign, in a text of two sentences that have one."""
LONG_WORDS = 32
"""The same where one sentence has a closing sign: people leave away the last full stop of a short message."""
OUTSTANDING_WORDS = 4
"""Fewest words of a last line in small letters that needs a closing sign, where other lines have one."""
CLOSED_SHARE = 4
"""Other lines with a closing sign to one without, from which those with one are the rule."""


def find_endings(texts: pl.Series, finish: pl.Series | None = None) -> pl.Series:
    """`yes` where a response stops without an end, `maybe` where it looks so, else `no`.

    The finish reason comes first: `length` is `yes` and `stop` is `no`. Without one it is `yes` for an open code fence
    and for a last line that breaks off, and `maybe` for other last lines without a closing sign.
    """
    texts = texts.str.strip_chars_end()
    rows = pl.DataFrame({"text": texts}).with_columns(finish=pl.lit(finish, dtype=pl.String)).with_row_index("row")
    is_fenced = pl.col("text").str.count_matches(FENCE, literal=True) % 2 == 1
    is_cut = (pl.col("finish") == "length") | (is_fenced & pl.col("finish").ne_missing("stop"))
    told = rows.select(cut=pl.when(is_cut).then(pl.lit("yes")).otherwise(pl.lit("no")))["cut"]
    # Few responses end without a sign, and only those are read line by line.
    line = pl.col("text").str.slice(-TAIL).str.split("\n").list.last()
    is_open = line.str.slice(-LONGEST_OPEN).str.contains(rf"(?i){OPEN_WORD}|,$")
    is_labeled = pl.col("line").str.contains(LABELED) & (pl.col("line").str.count_matches(r"\S+") <= LABELED_WORDS)
    lines = (
        rows.filter(pl.col("finish").is_null() | ~pl.col("finish").is_in(["length", "stop"]), told == "no")
        .filter(pl.col("text").str.contains(rf"{UNFINISHED}|[\p{{L}}\p{{N}}]$"))
        .with_columns(pl.col("text").str.replace_all(FENCED, "\n"), line=line, is_open=is_open)
        .filter(pl.col("line").str.contains(BARE) | pl.col("is_open") | pl.col("line").str.contains(UNFINISHED))
        .filter(~is_labeled | pl.col("is_open"))
    )
    cut = lines.filter(breaks_off() | stands_out())["row"]
    return told.scatter(lines["row"], "maybe").scatter(cut, "yes").cast(Cut)


def stops_within(text: str, whole: str) -> bool:
    """True where `text` is the beginning of `whole` that stops in one of its lines, after a letter or a number.

    The whole tells a cut that leaves nothing odd behind.
    """
    text = text.rstrip()
    rest = whole.rstrip().removeprefix(text) if whole.startswith(text) else ""
    return text[-1:].isalnum() and rest[:1] not in ("", "\n")


def breaks_off() -> pl.Expr:
    """True for the beginning of a sentence: a long last line, or one that ends in a word like "the"."""
    words = pl.col("line").str.count_matches(r"\S+")
    sentences = pl.col("text").str.count_matches(SENTENCE_END)
    needs_sign = ((words >= BARE_WORDS) & (sentences >= 2)) | ((words >= LONG_WORDS) & (sentences >= 1))
    is_bare = pl.col("line").str.contains(BARE) & ~pl.col("line").str.contains(LIST_OR_CODE)
    return (pl.col("is_open") & (words >= OPEN_WORDS)) | (is_bare & needs_sign)


def stands_out() -> pl.Expr:
    """True for a last line without a closing sign where the other lines have one.

    It is a sentence in small letters, or a list item that breaks off in its first words.
    """
    line, words = pl.col("line"), pl.col("line").str.count_matches(r"\S+")
    closed = pl.col("text").str.count_matches(CLOSED_LINE)
    bare = pl.col("text").str.count_matches(BARE_LINE) - line.str.contains(BARE_LINE).cast(pl.UInt32)
    sentences = pl.col("text").str.count_matches(SENTENCE_END)
    are_closed = ((closed >= 2) & (closed >= CLOSED_SHARE * bare)) | ((closed >= 1) & (bare == 0) & (sentences >= 2))
    is_entry = line.str.contains(rf"^\s*{LIST_MARKER}")
    is_alone = pl.col("text").str.count_matches(BARE_ENTRY) == line.str.contains(BARE_ENTRY).cast(pl.UInt32)
    is_sentence = line.str.contains(IN_SENTENCE) & (words >= OUTSTANDING_WORDS) & ~line.str.contains(LABELED)
    is_begun = is_entry & line.str.contains(r"\p{L}$")
    return are_closed & ~line.str.contains(CODE_SIGN) & (~is_entry | is_alone) & (is_sentence | is_begun)
