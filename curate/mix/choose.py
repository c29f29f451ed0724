"""Choose the rows of a mix: what was screened, in shares, without near-duplicates, in order and split.

Shares, order and split come from hashes of the seed and of ids, never from row numbers. So a larger share contains the
smaller one, and a prompt group held out under a seed and a `heldout_share` stays held out in every later mix with both.
The exceptions are a mix so small that nothing would be held out, of which one group is taken all the same, and rows
that their source holds out, as the test rows of a published mix: their groups are never trained on.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from curate.mix.leakage import Similarities, duplicates_between, find_similar, similar_to_heldout
from curate.mix.recipe import Recipe, format_sources
from curate.models.encoder import minilm_encoder
from curate.screen.human import text_key
from curate.screen.similar.embeddings import make_embed
from curate.store.mixes import PinnedSource
from curate.store.workspace import Workspace
from schemas.errors import UserError
from schemas.ids import hash_ids
from schemas.tables import Verdict

log = logging.getLogger(__name__)

SCORES = ("score_chosen", "score_rejected", "z_chosen", "z_rejected")


@dataclass(frozen=True)
class ChosenRows:
    """The rows of a mix, without their texts."""

    rows: pl.DataFrame
    """In training order: source, pair_id, `at` (the place among the pairs of the source, from 0), prompt_group, split,
    license, flags, verdict and answers."""
    kept: dict[str, int]
    """Source -> pairs that passed screening."""
    duplicates_between_sources: int
    like_heldout: int
    """Training rows left out because a held-out row is like them."""

    def counts(self, column: str) -> dict[str, int]:
        """Value of a column -> rows."""
        return dict(self.rows[column].value_counts().sort(column).rows())


def choose_rows(recipe: Recipe, pinned: Sequence[PinnedSource], workspace: Workspace) -> ChosenRows:
    """The rows of a recipe from the tables of its sources. Raises UserError where there is no training pair."""
    kept = {source.build: kept_pairs(recipe, source, workspace) for source in pinned}
    together = pl.concat(
        [
            random_share(kept[source.build], source.share, recipe.seed).with_columns(source=pl.lit(source.build))
            for source in pinned
        ]
    )
    # The same pair from two builds is one pair, whatever its number there; the source named first has it.
    unique = together.filter(text_key().is_first_distinct())
    if unique.is_empty():
        judged = f" and was judged by {recipe.min_verdicts} people" if recipe.min_verdicts else ""
        raise UserError(
            f"mix '{recipe.name}' would be empty: no pair of {format_sources(recipe)} passed screening{judged}"
        )
    found = mix_similarities(unique, pinned, workspace)
    unique = unique.join(duplicates_between(found), on=["source", "pair_id"], how="anti", maintain_order="left")
    ordered = unique.sort(hash_ids(unique["pair_id"], recipe.seed, "order"), "pair_id").join(
        split_groups(unique, recipe), on="prompt_group", how="left", maintain_order="left"
    )
    leaked = similar_to_heldout(found, ordered.select("source", "pair_id", "split"))
    ordered = ordered.join(leaked, on=["source", "pair_id"], how="anti", maintain_order="left")
    if "train" not in ordered["split"]:
        raise UserError(
            f"mix '{recipe.name}' would have no training pair: all its prompts are held out, or like one that is; "
            "lower --heldout-share"
        )
    return ChosenRows(
        ordered,
        {name: rows.height for name, rows in kept.items()},
        duplicates_between_sources=together.height - unique.height,
        like_heldout=leaked.height,
    )


def kept_pairs(recipe: Recipe, source: PinnedSource, workspace: Workspace) -> pl.DataFrame:
    """The pairs of a source that passed screening and were judged as often as the recipe asks, in its order."""
    pairs = workspace.open_pinned(source.pairs, source.build)
    screened = workspace.open_pinned(source.screened, source.build).scan()
    judged = workspace.open_pinned(source.judged, source.build).scan() if source.judged else verdicts_of_nobody()
    facts = pairs.scan().select("pair_id", "prompt_group", "license", "is_heldout").with_row_index("at")
    rows = (
        screened.filter(pl.col("dropped_by").is_null())
        .select("pair_id", pl.col("flags").cast(pl.List(pl.String)))
        .join(facts, on="pair_id", maintain_order="left")
        .join(
            judged.select("pair_id", pl.col("verdict").cast(pl.String), "answers"),
            on="pair_id",
            how="left",
            maintain_order="left",
        )
        .with_columns(pl.col("answers").fill_null(0))
    )
    if recipe.min_verdicts:
        rows = rows.filter(pl.col("verdict").is_not_null(), pl.col("answers") >= recipe.min_verdicts)
    return rows.collect()


def verdicts_of_nobody() -> pl.LazyFrame:
    return Verdict.create_empty().lazy()


def mix_similarities(rows: pl.DataFrame, pinned: Sequence[PinnedSource], workspace: Workspace) -> Similarities:
    """The near-duplicates among the rows of a mix.

    Vectors are used where all builds have them, so that mixing embeds next to nothing.
    """
    tables = [(workspace.open_pinned(source.pairs, source.build), source.build) for source in pinned]
    scans = [table.scan().with_columns(source=pl.lit(name)) for table, name in tables]
    columns = ["source", "pair_id", "messages", "chosen", "rejected", *SCORES]
    pairs = pl.concat([scan.select(columns) for scan in scans]).join(
        rows.lazy().select("source", "pair_id"), on=["source", "pair_id"], how="semi", maintain_order="left"
    )
    if all(source.is_embedded for source in pinned):
        return find_similar(pairs, make_embed(minilm_encoder(), workspace.vectors))
    log.info("mix: near-duplicates between builds are found by wording alone: not all of the builds were embedded")
    return find_similar(pairs, None)


def random_share(ids: pl.DataFrame, share: float, seed: int) -> pl.DataFrame:
    """The `share` of the pairs with the smallest hashes, rounded to whole pairs; a larger share contains it."""
    return ids.sort(hash_ids(ids["pair_id"], seed, "share"), "pair_id").head(round(share * ids.height))


def split_groups(pairs: pl.DataFrame, recipe: Recipe) -> pl.DataFrame:
    """Group -> `train` or `heldout`, by the group's hash alone, or because a source holds out a row of it.

    With two groups or more, the one with the smallest hash is always held out, so that a small mix has
    something to check against.
    """
    groups = pairs.group_by("prompt_group").agg(pl.col("is_heldout").any()).sort("prompt_group")
    ranks = hash_ids(groups["prompt_group"], recipe.seed, "heldout")
    is_heldout = groups["is_heldout"] | (ranks < int(recipe.heldout_share * 2**64))
    if recipe.heldout_share and groups.height > 1:
        is_heldout |= ranks == ranks.min()
    names = pl.when(pl.col("is_heldout")).then(pl.lit("heldout")).otherwise(pl.lit("train"))
    return groups.with_columns(is_heldout=is_heldout).select("prompt_group", split=names)
