"""Match the pairs of two sides of a diff and tell how the others differ, by ids and hashes, without texts.

added        only B has it
removed      only A has it
other_sides  B has a pair of the same prompt with another chosen or rejected response, or both, in its place
swapped      chosen and rejected are exchanged
other_text   the same pair with other text, as after --redact
moved        it lies in the other split
other_source it is taken from another build
rescored     its scores are others
"""

import polars as pl

from curate.screen.human import text_key
from curate.screen.text.languages import detect_languages

CHANGES = ("added", "removed", "other_sides", "swapped", "other_text", "moved", "other_source", "rescored")
UNKNOWN = "unknown"
SCORES = ("score_chosen", "score_rejected")
TEXTS = ("chosen_hash", "rejected_hash")
COMPARED = ("key", "prompt", "split", "source", *SCORES, *TEXTS)


def row_facts(pairs: pl.LazyFrame, sample_share: float) -> pl.DataFrame:
    """Ids, scores, lengths and hashes of pairs with `at`, their place, and for a share of them the language.

    Which are in the sample follows from their ids, so that both sides have the same ones.
    """
    key = number_of("pair_id")
    facts = pairs.with_row_index("at").select(
        "at",
        "pair_id",
        "prompt_id",
        *SCORES,
        "split",
        pl.col("source").cast(pl.Categorical),
        pl.col("flaw").cast(pl.String),
        key=key,
        prompt=number_of("prompt_id"),
        **{f"{side}_length": pl.col(side).str.len_chars() for side in ("chosen", "rejected")},
        **{f"{side}_hash": pl.col(side).hash() for side in ("chosen", "rejected")},
        # No text is kept beyond the batch that it is read with.
        language=pl.when(key <= int(min(sample_share, 1.0) * (2**64 - 1)))
        .then("chosen")
        .map_batches(main_languages, pl.String, is_elementwise=True),
    )
    return facts.collect(engine="streaming").sort("at")


def main_languages(texts: pl.Series) -> pl.Series:
    """The language of most of each text, `unknown` where that cannot be told; null for null."""
    found = [text and detect_languages(text) for text in texts]
    told = [None if shares is None else max(shares, key=lambda name: shares[name], default=UNKNOWN) for shares in found]
    return pl.Series(texts.name, told, pl.String)


def number_of(column: str) -> pl.Expr:
    """The digits of an id, of which there are 16, as a number."""
    return text_key(column).str.to_integer(base=16, dtype=pl.UInt64)


def find_changes(a: pl.DataFrame, b: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The pairs that differ, and the pairs that both have.

    Returns `change` (a list), `a` and `b`, the rows of `a` and `b` that it is about, null where a side has none; and
    `a` and `b` of the pairs that both sides have, changed or not.
    """
    left, right = (numbered(rows.select(COMPARED)).with_row_index(name) for name, rows in (("a", a), ("b", b)))
    both = left.join(right, on=["key", "n"], suffix="_b", maintain_order="left")
    changed = both.select("a", "b", change=changes_of_pair()).filter(pl.col("change").list.len() > 0)
    only_a = left.join(both, on="a", how="anti", maintain_order="left")
    only_b = right.join(both, on="b", how="anti", maintain_order="left")
    replaced = match_sides(only_a, only_b)
    removed = only_a.join(replaced, on="a", how="anti", maintain_order="left").select("a", change=pl.lit("removed"))
    added = only_b.join(replaced, on="b", how="anti", maintain_order="left").select("b", change=pl.lit("added"))
    rest = pl.concat([replaced, removed, added], how="diagonal").with_columns(pl.concat_list("change"))
    every = pl.concat([rest.select("a", "b", "change"), changed.with_columns(pl.col("a", "b").cast(rest["a"].dtype))])
    return every, both.select("a", "b")


def numbered(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with `n`, the number of a row among those with the same text."""
    if rows["key"].is_unique().all():
        return rows.with_columns(n=pl.lit(0, pl.UInt32))
    return rows.with_columns(n=pl.int_range(pl.len(), dtype=pl.UInt32).over("key"))


def changes_of_pair() -> pl.Expr:
    """How a pair differs that both sides have."""
    is_swapped = (
        (pl.col("chosen_hash") == pl.col("rejected_hash_b"))
        & (pl.col("rejected_hash") == pl.col("chosen_hash_b"))
        & (pl.col("chosen_hash") != pl.col("rejected_hash"))
    )
    flags = {
        "swapped": is_swapped,
        "other_text": ~is_swapped & pl.any_horizontal(pl.col(name) != pl.col(f"{name}_b") for name in TEXTS),
        "moved": pl.col("split").ne_missing(pl.col("split_b")),
        "other_source": pl.col("source").ne_missing(pl.col("source_b")),
        "rescored": ~is_swapped & pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"{name}_b")) for name in SCORES),
    }
    return pl.concat_list(pl.when(flag).then(pl.lit(name)) for name, flag in flags.items()).list.drop_nulls()


def match_sides(left: pl.DataFrame, right: pl.DataFrame) -> pl.DataFrame:
    """a, b and change of pairs of one prompt that stand for each other, each of them once.

    Those with exchanged sides come first, then those that share a side, then the others in their order.
    """
    left = left.join(right, on="prompt", how="semi", maintain_order="left").select("a", "prompt", *TEXTS)
    right = right.join(left, on="prompt", how="semi", maintain_order="left").select("b", "prompt", *TEXTS)
    steps = [
        ("swapped", ["chosen_hash", "rejected_hash"], ["rejected_hash", "chosen_hash"]),
        ("other_sides", ["chosen_hash"], ["chosen_hash"]),
        ("other_sides", ["rejected_hash"], ["rejected_hash"]),
        ("other_sides", [], []),
    ]
    found = []
    for change, here, there in steps:
        ends = [
            rows.with_columns(rank=pl.int_range(pl.len()).over("prompt", *names))
            for rows, names in ((left, here), (right, there))
        ]
        pairs = ends[0].join(
            ends[1], left_on=["prompt", "rank", *here], right_on=["prompt", "rank", *there], maintain_order="left"
        )
        found.append(pairs.select("a", "b", change=pl.lit(change)))
        left = left.join(pairs, on="a", how="anti", maintain_order="left")
        right = right.join(pairs, on="b", how="anti", maintain_order="left")
    return pl.concat(found)
