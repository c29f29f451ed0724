"""Choose the rows of a mix: what was screened and meets the recipe, without near-duplicates, in order and split.

Shares, order and split come from hashes of the seed and of ids, never from row numbers. So a larger share contains the
smaller one, and a prompt group held out under a seed and a `heldout_share` stays held out in every later mix with both.
The exceptions are a mix so small that nothing would be held out, of which one group is taken all the same, and rows
that their source holds out, as the test rows of a published mix: their groups are never trained on.

Of each source come first the pairs that reviewers judged as often as asked, that meet its condition, its cap, and its
share or count. Then repeats between sources fall, then training rows like a held-out one, and last what ratio or
balance leave out. Those two are about training rows alone: held-out rows measure, and are not cut.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from curate.mix.draw import balance_strata, cap_groups, order_rows, random_count, random_share, reach_ratio
from curate.mix.leakage import Similarities, duplicates_between, find_similar, similar_to_heldout
from curate.mix.recipe import Recipe, Source, format_sources
from curate.mix.where import Condition
from curate.models.encoder import minilm_encoder
from curate.screen.human import text_key
from curate.screen.similar.embeddings import make_embed
from curate.store.mixes import PinnedSource
from curate.store.store import Table
from curate.store.workspace import Workspace
from schemas.errors import UserError
from schemas.ids import hash_ids
from schemas.tables import Verdict

log = logging.getLogger(__name__)

SCORES = ("score_chosen", "score_rejected", "z_chosen", "z_rejected")
KEYS = ["source", "pair_id"]


@dataclass(frozen=True)
class ChosenRows:
    """The rows of a mix, without their texts."""

    rows: pl.DataFrame
    """In training order: source, pair_id, `at` (the place among the pairs of the source, from 0), prompt_group, split,
    license, origin, flags, verdict and answers."""
    kept: dict[str, int]
    """Source -> pairs that passed screening."""
    left_out: dict[str, dict[str, int]]
    """Source -> reason -> pairs that passed screening and are not in the mix."""
    duplicates_between_sources: int
    like_heldout: int
    """Training rows left out because a held-out row is like them."""

    def counts(self, column: str) -> dict[str, int]:
        """Value of a column -> rows."""
        return dict(self.rows[column].value_counts().sort(column).rows())


def choose_rows(recipe: Recipe, pinned: Sequence[PinnedSource], workspace: Workspace) -> ChosenRows:
    """The rows of a recipe from the tables of its sources. Raises UserError where there is no training pair."""
    conditions = {source.build: Condition(source.where, source.build) for source in recipe.sources if source.where}
    kept: dict[str, int] = {}
    left_out: dict[str, dict[str, int]] = {}
    drawn = []
    for source, tables in zip(recipe.sources, pinned, strict=True):
        rows = kept_pairs(tables, workspace, needs_length="length" in recipe.balance)
        kept[source.build] = rows.height
        left_out[source.build] = {}
        pairs = workspace.open_pinned(tables.pairs, tables.build)
        drawn.append(draw_source(recipe, source, rows, pairs, conditions.get(source.build), left_out[source.build]))
    together = pl.concat(drawn)
    if together.is_empty():
        raise UserError(
            f"mix '{recipe.name}' would be empty: no pair of {format_sources(recipe)} passed screening and was judged "
            f"by {recipe.min_verdicts} people"
        )
    # The same pair from two builds is one pair, whatever its number there; the source named first has it.
    unique = together.filter(text_key().is_first_distinct())
    found = mix_similarities(unique, pinned, workspace)
    unique = unique.join(duplicates_between(found), on=KEYS, how="anti", maintain_order="left")
    count_lost("duplicate_between_sources", together, unique, left_out)
    preserved = [source.build for source in recipe.sources if source.order == "preserved"]
    ordered = order_rows(unique, preserved, recipe.seed).join(
        split_groups(unique, recipe, heldout_groups(pinned, workspace)),
        on="prompt_group",
        how="left",
        maintain_order="left",
    )
    leaked = similar_to_heldout(found, ordered.select(*KEYS, "split"))
    whole = ordered.join(leaked, on=KEYS, how="anti", maintain_order="left")
    count_lost("like_heldout", ordered, whole, left_out)
    if "train" not in whole["split"]:
        raise UserError(
            f"mix '{recipe.name}' would have no training pair: all its prompts are held out, or like one that is; "
            "lower --heldout-share"
        )
    return ChosenRows(
        cut_train(whole, recipe, left_out).drop("length", strict=False),
        kept,
        left_out,
        duplicates_between_sources=together.height - unique.height,
        like_heldout=leaked.height,
    )


def draw_source(
    recipe: Recipe,
    source: Source,
    rows: pl.DataFrame,
    pairs: Table,
    condition: Condition | None,
    left_out: dict[str, int],
) -> pl.DataFrame:
    """What a recipe takes of the kept pairs of a source; what it does not take is counted in `left_out`.

    Raises UserError where nothing is left, or less than the count.
    """
    name = source.build
    if rows.is_empty():
        raise UserError(f"source {name} would be empty: no pair of build '{name}' passed screening; leave it out")

    def lose(reason: str, after: pl.DataFrame) -> pl.DataFrame:
        if after.height < rows.height:
            left_out[reason] = rows.height - after.height
        return after

    if recipe.min_verdicts:
        is_judged = pl.col("verdict").is_not_null() & (pl.col("answers") >= recipe.min_verdicts)
        rows = lose("too_few_verdicts", rows.filter(is_judged))
        if rows.is_empty():
            return rows.with_columns(source=pl.lit(name))
    if condition:
        met = condition.met(with_facts(pairs, rows))
        rows = lose("where", rows.filter(pl.col("pair_id").is_in(met.implode())))
        if rows.is_empty():
            raise UserError(f"source {name} would be empty: none of its {left_out['where']} pairs meets its where")
    if source.cap is not None:
        rows = lose("cap", cap_groups(rows, source.cap, recipe.seed))
    if source.count is None:
        taken = random_share(rows, source.share, recipe.seed)
        if taken.is_empty():
            raise UserError(f"source {name}: a share of {source.share:g} of its {rows.height} pairs is no pair")
        return lose("share", taken).with_columns(source=pl.lit(name))
    if source.count > rows.height:
        narrowed = " and ".join(reason for reason in ("where", "cap") if reason in left_out)
        raise UserError(
            f"source {name}: a count of {source.count} is more than the {rows.height} pairs there are"
            f"{f' after {narrowed}' if narrowed else ''}; lower it, or leave it out to take them all"
        )
    return lose("count", random_count(rows, source.count, recipe.seed)).with_columns(source=pl.lit(name))


def with_facts(pairs: Table, rows: pl.DataFrame) -> pl.LazyFrame:
    """These rows of the pairs of a source with flags, verdict and answers."""
    facts = rows.lazy().select("pair_id", "flags", "verdict", "answers")
    return pairs.scan().join(facts, on="pair_id", how="inner", maintain_order="left")


def cut_train(rows: pl.DataFrame, recipe: Recipe, left_out: Mapping[str, dict[str, int]]) -> pl.DataFrame:
    """The rows without the training rows that ratio or balance leave out."""
    train = rows.filter(pl.col("split") == "train")
    if recipe.ratio is not None:
        reason, taken = "ratio", reach_ratio(train, recipe)
    elif recipe.balance:
        reason, taken = "balance", balance_strata(train, recipe.balance, recipe.seed)
    else:
        return rows
    lost = train.join(taken, on=KEYS, how="anti")
    kept = rows.join(lost, on=KEYS, how="anti", maintain_order="left")
    count_lost(reason, rows, kept, left_out)
    return kept


def count_lost(reason: str, before: pl.DataFrame, after: pl.DataFrame, left_out: Mapping[str, dict[str, int]]) -> None:
    """Count the rows of each source that were left out for a reason."""
    still = dict(after["source"].value_counts().rows())
    for name, rows in before["source"].value_counts().rows():
        if lost := rows - still.get(name, 0):
            left_out[name][reason] = lost


def kept_pairs(source: PinnedSource, workspace: Workspace, needs_length: bool) -> pl.DataFrame:
    """The pairs of a source that passed screening, in its order."""
    pairs = workspace.open_pinned(source.pairs, source.build)
    screened = workspace.open_pinned(source.screened, source.build).scan()
    judged = workspace.open_pinned(source.judged, source.build).scan() if source.judged else verdicts_of_nobody()
    facts: list[str | pl.Expr] = ["pair_id", "prompt_group", "license", pl.col("origin").cast(pl.String)]
    length = [pl.col("chosen").str.len_chars().alias("length")] if needs_length else []
    rows = (
        screened.filter(pl.col("dropped_by").is_null())
        .select("pair_id", pl.col("flags").cast(pl.List(pl.String)))
        .join(
            pairs.scan().select(*facts, *length).with_row_index("at"),
            on="pair_id",
            maintain_order="left",
        )
        .join(
            judged.select("pair_id", pl.col("verdict").cast(pl.String), "answers"),
            on="pair_id",
            how="left",
            maintain_order="left",
        )
        .with_columns(pl.col("answers").fill_null(0))
    )
    return rows.collect()


def verdicts_of_nobody() -> pl.LazyFrame:
    return Verdict.create_empty().lazy()


def mix_similarities(rows: pl.DataFrame, pinned: Sequence[PinnedSource], workspace: Workspace) -> Similarities:
    """The near-duplicates among the rows of a mix.

    Vectors are used where all builds have them, so that mixing embeds next to nothing.
    """
    tables = [(workspace.open_pinned(source.pairs, source.build), source.build) for source in pinned]
    scans = [table.scan().with_columns(source=pl.lit(name)) for table, name in tables]
    columns = [*KEYS, "messages", "chosen", "rejected", *SCORES]
    pairs = pl.concat([scan.select(columns) for scan in scans]).join(
        rows.lazy().select(KEYS), on=KEYS, how="semi", maintain_order="left"
    )
    if all(source.is_embedded for source in pinned):
        return find_similar(pairs, make_embed(minilm_encoder(), workspace.vectors))
    log.info("mix: near-duplicates between builds are found by wording alone: not all of the builds were embedded")
    return find_similar(pairs, None)


def heldout_groups(pinned: Sequence[PinnedSource], workspace: Workspace) -> pl.Series:
    """The groups of all rows that a source holds out: another source may have the same rows, and not know."""
    pairs = [workspace.open_pinned(source.pairs, source.build).scan() for source in pinned]
    held = [each.filter("is_heldout").select("prompt_group") for each in pairs]
    return pl.concat(held).unique().collect()["prompt_group"]


def split_groups(pairs: pl.DataFrame, recipe: Recipe, heldout: pl.Series) -> pl.DataFrame:
    """Group -> `train` or `heldout`, by the group's hash alone, or because a source holds out a row of it.

    `heldout` are the groups of which a source holds out a row, whether or not the recipe takes that row. With two
    groups or more, the one with the smallest hash is always held out, so that a small mix has something to check
    against.
    """
    groups = pairs.select(pl.col("prompt_group").unique().sort()).with_columns(
        is_heldout=pl.col("prompt_group").is_in(heldout.implode())
    )
    ranks = hash_ids(groups["prompt_group"], recipe.seed, "heldout")
    is_heldout = groups["is_heldout"] | (ranks < int(recipe.heldout_share * 2**64))
    if recipe.heldout_share and groups.height > 1:
        is_heldout |= ranks == ranks.min()
    names = pl.when(pl.col("is_heldout")).then(pl.lit("heldout")).otherwise(pl.lit("train"))
    return groups.with_columns(is_heldout=is_heldout).select("prompt_group", split=names)
