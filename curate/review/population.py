"""All pairs of a build or mix that can be sent for review, with their margins and flags."""

import logging
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from curate.files import nearest_hint
from curate.screen.human import text_key
from curate.store.mixes import PinnedSource, as_pairs
from curate.store.store import Table, load_table
from curate.store.workspace import Workspace, remake
from schemas.errors import UserError
from schemas.stages import LABELED_STAGES, StageName, newest_stage

log = logging.getLogger(__name__)

COLUMNS = ("pair_id", "key", "source", "prompt_group", "margin", "flags", "is_disputed", "is_swapped")

TEXTS = ("pair_id", "messages", "chosen", "rejected")


@dataclass(frozen=True)
class Population:
    """The pairs of a build or mix, each text once; with the dropped ones, of which many say the same, all rows."""

    kind: str
    """`build` or `mix`."""
    rows: pl.DataFrame
    """One row a pair: `pair_id`, `key` (what ids of pairs with the same texts share; with the dropped ones the id
    itself), `source` (its build), `prompt_group`, `margin`, `flags`, `is_disputed` (another scorer prefers the other
    response) and `is_swapped` (reviewers had swapped its label)."""
    texts: pl.LazyFrame
    """`pair_id`, `messages`, `chosen` and `rejected` of these pairs and others."""
    is_embedded: bool
    """Whether its prompts were embedded when it was built."""

    def texts_of(self, pair_ids: pl.Series) -> pl.DataFrame:
        """The texts of pairs, in the order of their ids."""
        found = self.texts.filter(pl.col("pair_id").is_in(pair_ids.implode())).collect()
        return pl.DataFrame({"pair_id": pair_ids}).join(found, on="pair_id", how="left", maintain_order="left")


def read_population(data: Path, name: str, include_dropped: bool) -> Population:
    """The pairs of a build or mix. Raises UserError for a name that is neither, with the nearest one."""
    workspace = Workspace(data)
    builds, mixes = workspace.build_names(), workspace.mix_names()
    if name in builds:
        return build_population(workspace, name, include_dropped)
    if name in mixes:
        if include_dropped:
            raise UserError(f"--include-dropped: mix '{name}' holds no pair that a rule dropped; review its builds")
        return mix_population(workspace, name)
    raise UserError(f"no build or mix '{name}' in {data}{nearest_hint(name, [*builds, *mixes])}")


def build_population(workspace: Workspace, name: str, include_dropped: bool) -> Population:
    """The pairs that no rule dropped, or all.

    Verdicts of reviewers change neither which pairs these are nor how they are labeled, or an audit would no longer
    be about the labels that the build was made with.
    """
    tables = workspace.open_tables(workspace.read_build(name))
    pairs = tables[newest_stage(LABELED_STAGES, tables)].scan()
    verdicts = tables[StageName.SCREEN_PAIRS].scan()
    if not include_dropped:
        # Swapped pairs have no margin any more, and another rule may have met them for it.
        was_kept = pl.col("dropped_by").is_null() | (pl.col("dropped_by") == "human_reject")
        verdicts = verdicts.filter(was_kept | pl.col("pair_id").is_in(swapped_ids(tables)))
    margin = pl.col("score_chosen") - pl.col("score_rejected")
    facts = pairs.select("pair_id", "prompt_group", "scorer", margin=margin)
    rows = verdicts.join(facts, on="pair_id", maintain_order="left").collect()
    rows = rows.with_columns(text_key().alias("key"), source=pl.lit(name), is_swapped=pl.lit(False))
    if include_dropped:
        rows = add_disputes(rows, workspace).with_columns(key="pair_id")
    else:
        kept_first = rows.sort(pl.col("dropped_by").is_not_null(), maintain_order=True)
        rows = add_disputes(kept_first.unique("key", keep="first", maintain_order=True), workspace)
    return Population("build", rows, pairs.select(TEXTS), StageName.MEASURE_EVAL_PROXIMITY in tables)


def mix_population(workspace: Workspace, name: str) -> Population:
    """The rows of a mix, as they are labeled there."""
    mix = workspace.open_mix(name)
    mixed = as_pairs(mix.scan()).with_columns(margin=pl.col("score_chosen") - pl.col("score_rejected"))
    of_sources = [read_source_rows(workspace, source) for source in mix.lock.sources]
    facts = mixed.select("pair_id", "source", "prompt_group", "scorer", "margin")
    rows = facts.join(pl.concat(of_sources), on=["source", "pair_id"], how="left", maintain_order="left").collect()
    rows = add_disputes(rows.with_columns(key=text_key()), workspace)
    return Population("mix", rows, mixed.select(TEXTS), all(source.is_embedded for source in mix.lock.sources))


def read_source_rows(workspace: Workspace, source: PinnedSource) -> pl.LazyFrame:
    """Facts of the pairs of a source of a mix: `source`, `pair_id`, `flags` and `is_swapped`."""
    swapped = swapped_ids({source.pairs.stage: workspace.open_pinned(source.pairs, source.build)})
    screened = workspace.open_pinned(source.screened, source.build).scan()
    return screened.select(
        pl.lit(source.build).alias("source"), "pair_id", "flags", is_swapped=pl.col("pair_id").is_in(swapped)
    )


def swapped_ids(tables: dict[StageName, Table]) -> list[str]:
    """The pairs among the tables of a build that reviewers swapped."""
    if StageName.SWAP_PAIRS not in tables:
        return []
    return [pair_id for pair_id, _ in tables[StageName.SWAP_PAIRS].manifest.config["swaps"]]


def add_disputes(rows: pl.DataFrame, workspace: Workspace) -> pl.DataFrame:
    """The rows with `is_disputed`: a build of the data folder has the same texts, and a margin of the opposite sign
    from another scorer.
    """
    mine = rows.lazy().filter(pl.col("margin").is_not_null()).select("key", "scorer", "margin")
    found = [pl.LazyFrame(schema={"key": pl.String})]
    for name in workspace.build_names():
        keys = workspace.read_build(name).tables
        stage = newest_stage(LABELED_STAGES, keys)
        pairs = load_table(workspace.tables / stage / keys[stage], remake(name))
        if pairs is None:
            # Another build that lost its tables is no reason to stop.
            log.warning("the pairs of build '%s' are gone, so its scorer disputes nothing; %s", name, remake(name))
            continue
        theirs = pairs.scan().select(
            text_key().alias("key"), "scorer", margin=pl.col("score_chosen") - pl.col("score_rejected")
        )
        both = mine.join(theirs, on="key", suffix="_there")
        is_opposite = pl.col("margin").sign() * pl.col("margin_there").sign() < 0
        found.append(both.filter(is_opposite, pl.col("scorer") != pl.col("scorer_there")).select("key"))
    disputed = pl.concat(found).unique().collect()["key"]
    return rows.with_columns(is_disputed=pl.col("key").is_in(disputed.implode())).select(COLUMNS)
