"""Near-duplicates between the builds of a mix, and between its training and held-out rows."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.config import Thresholds
from curate.screen.similar.greedy import keep_order, kept_rows, round_threshold
from curate.screen.similar.lexical import LexicalConfig, find_lexical_duplicates
from curate.screen.similar.semantic import Embed, SemanticConfig, find_semantic_duplicates
from curate.screen.text.measure import normalize_case, text_hashes

TEXT_OF = {"text": "chosen_hash", "pair": "chosen_hash", "prompt": "prompt_hash"}
"""Kind of likeness -> the text that is compared."""

ROWS_PER_BLOCK = 4096
LIMITS = Thresholds()
"""A mix goes by the default thresholds: those of its builds may differ."""


@dataclass(frozen=True)
class Similarities:
    """The rows of a mix, and which of their texts are alike."""

    rows: pl.DataFrame
    """row, source, pair_id, prompt_hash, chosen_hash and place, 0 for the row that is kept before all others."""
    edges: pl.DataFrame
    """`Similar` between rows, as far as it reaches the thresholds."""


def find_similar(pairs: pl.LazyFrame, embed: Embed | None) -> Similarities:
    """Similar rows of `pairs`, which have the columns of `Pair` and `source`; without vectors by wording alone."""
    hashes = [
        block.select(
            "source",
            "pair_id",
            z_margin=pl.col("z_chosen") - pl.col("z_rejected"),
            margin=pl.col("score_chosen") - pl.col("score_rejected"),
        ).hstack(text_hashes(block["messages"], normalize_case(block["chosen"]), normalize_case(block["rejected"])))
        for block in pairs.collect_batches(chunk_size=ROWS_PER_BLOCK, maintain_order=True)
    ]
    rows = pl.concat(hashes).with_row_index("row")
    found = find_lexical_duplicates(pairs, rows.lazy(), LexicalConfig()).filter(
        pl.col("similarity") >= round_threshold(LIMITS.max_jaccard)
    )
    if embed:
        near = SemanticConfig("", "", LIMITS.max_cosine)
        found = pl.concat([found, find_semantic_duplicates(pairs, rows.lazy(), near, embed=embed)])
    return Similarities(rows.with_columns(place=pl.Series(mix_order(rows))), found)


def mix_order(rows: pl.DataFrame) -> NDArray[np.int64]:
    """The order of keeping: by margin in z where all rows have one, else by source, the one named first coming first.

    Raw margins of unlike scorers do not compare.
    """
    order = keep_order(rows)
    if rows["z_margin"].null_count():
        source = pl.col("row").min().over("source")
        placed = rows.select("row", source=source, place=pl.Series(order)).sort("source", "place")["row"].to_numpy()
        order[placed] = np.arange(rows.height)
    return order


def duplicates_between(found: Similarities) -> pl.DataFrame:
    """source and pair_id of the rows that say in prompt and chosen response what a better row of another build says.

    Rows of one build that are alike were left to its own screening. The same prompt with another response is no
    repeat.
    """
    rows, fallen = found.rows, []
    for kind in ("text", "pair"):
        nodes = (
            rows.group_by("source", text=TEXT_OF[kind]).agg(pl.col("place").min()).sort("place").with_row_index("node")
        )
        linked = link_builds(nodes, found, kind)
        kept = kept_rows(np.arange(nodes.height), np.arange(nodes.height), linked, 1)
        lost = nodes.filter(~pl.Series(kept, dtype=pl.Boolean)).select("source", pl.col("text").alias(TEXT_OF[kind]))
        fallen.append(rows.join(lost, on=["source", TEXT_OF[kind]], how="semi").select("source", "pair_id"))
        rows = rows.join(fallen[-1], on=["source", "pair_id"], how="anti")
    return pl.concat(fallen)


def link_builds(nodes: pl.DataFrame, found: Similarities, kind: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Edges between nodes of different builds: with the same text, or with texts that are alike."""
    same = nodes.select(one="text", other="text").unique()
    near = pl.concat([same, similar_texts(found, kind)])
    joined = near.join(nodes.select(one="text", left="node", first="source"), on="one").join(
        nodes.select(other="text", right="node", second="source"), on="other"
    )
    between = joined.filter(pl.col("first") != pl.col("second"))
    return between["left"].to_numpy().astype(np.int64), between["right"].to_numpy().astype(np.int64)


def similar_texts(found: Similarities, kind: str) -> pl.DataFrame:
    """`one` and `other`: the hashes of two texts that are alike."""
    texts = found.rows.select("row", text=TEXT_OF[kind])
    ends = found.edges.filter(pl.col("kind") == kind).select("left", "right")
    for side, name in (("left", "one"), ("right", "other")):
        ends = ends.join(texts.rename({"row": side, "text": name}), on=side)
    return ends.select("one", "other")


def similar_to_heldout(found: Similarities, split: pl.DataFrame) -> pl.DataFrame:
    """source and pair_id of the training rows that are like a held-out row by any kind of likeness.

    `split` is source, pair_id and split of all rows of the mix.
    """
    rows = found.rows.join(split, on=["source", "pair_id"])
    heldout, train = (rows.filter(pl.col("split") == name) for name in ("heldout", "train"))
    leaked = []
    for kind, text in TEXT_OF.items():
        alike = similar_texts(found, kind)
        either_way = [alike, alike.select(one="other", other="one"), heldout.select(one=text, other=text)]
        texts = pl.concat(either_way).join(heldout, left_on="other", right_on=text, how="semi")
        leaked.append(train.join(texts, left_on=text, right_on="one", how="semi"))
    return pl.concat(leaked).select("source", "pair_id").unique().sort("source", "pair_id")
