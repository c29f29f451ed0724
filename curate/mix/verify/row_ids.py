"""Ids of the rows of a mix from their texts, a row group at a time: what `schemas.ids` gives, by columns."""

import hashlib
from json.encoder import encode_basestring as quote

import polars as pl
import pyarrow as pa

from curate.store.mixes import plain_turns
from schemas.ids import normalize, short_id

OFTEN = ("\\", '"', "\n")
"""What JSON writes otherwise and texts are full of; the sign that it writes before others comes first."""
SELDOM = [sign for sign in map(chr, range(32)) if sign not in OFTEN]
ESCAPED = {sign: quote(sign)[1:-1] for sign in (*OFTEN, *SELDOM)}
WORDS_OF_ASCII = bytes(code if code < 128 and chr(code).isalnum() else ord(" ") for code in range(256))


def plain_rows(group: pa.Table) -> pl.DataFrame:
    """Rows of a mix with their prompts as turns of our own."""
    rows = pl.DataFrame(group)
    return plain_turns(rows.lazy()).collect()


def text_ids(rows: pl.DataFrame) -> pl.DataFrame:
    """`prompt_key`, `group_key`, `pair_key`, and `turned_key`, which the pair has with its sides exchanged.

    `rows` have prompt, and chosen and rejected as texts. The group is null where no user speaks.
    """
    turns = rows.select("prompt").with_row_index("row").explode("prompt", empty_as_null=True).unnest("prompt")
    role, content = (json_strings(turns[name].fill_null("")) for name in ("role", "content"))
    asked = turns.filter(pl.col("role") == "user").group_by("row", maintain_order=True).agg(pl.col("content").first())
    told = (
        turns.select("row", turn=pl.concat_str(pl.lit("["), role, pl.lit(","), content, pl.lit("]")))
        .group_by("row", maintain_order=True)
        .agg(pl.col("turn").str.join(","))
        .join(asked, on="row", how="left", maintain_order="left")
    )
    prompts = [f"[{turns}]" for turns in told["turn"]]
    sides = [json_strings(rows[name]) for name in ("chosen", "rejected")]
    return pl.DataFrame(
        {
            "prompt_key": [hash_text(prompt) for prompt in prompts],
            "group_key": [None if text is None else group_id(text) for text in told["content"]],
            "pair_key": pair_keys(prompts, *sides),
            "turned_key": pair_keys(prompts, *reversed(sides)),
        },
        schema_overrides={"group_key": pl.String},
    )


def pair_keys(prompts: list[str], first: pl.Series, second: pl.Series) -> list[str]:
    return [hash_text(f"[{prompt},{one},{two}]") for prompt, one, two in zip(prompts, first, second, strict=True)]


def json_strings(texts: pl.Series) -> pl.Series:
    """The texts as JSON writes them, without escapes that it can do without."""
    for sign in OFTEN:
        texts = texts.str.replace_all(sign, ESCAPED[sign], literal=True)
    if texts.str.contains(r"[\x00-\x1f]").any():
        texts = texts.str.replace_many(SELDOM, [ESCAPED[sign] for sign in SELDOM])
    return '"' + texts + '"'


def hash_text(text: str) -> str:
    """The `short_id` of the value that this is the JSON of."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def group_id(text: str) -> str:
    """The `prompt_group` of a conversation with this first turn of the user."""
    if not text.isascii():
        return short_id(normalize(text) or text)
    words = b" ".join(text.lower().encode().translate(WORDS_OF_ASCII).split()).decode()
    return hash_text(f'"{words}"') if words else short_id(text)
