"""All pairs of a build or mix that people may be asked about, with what is known of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from curate.files import nearest_hint
from curate.screen.human import text_key
from curate.store.store import Table, load_table, open_table
from curate.store.workspace import build_names, mix_names, pinned_table, read_build, read_lock
from schemas.errors import UserError
from schemas.names import FLAGS
from schemas.stages import labeled_stage

COLUMNS = ("pair_id", "key", "source", "prompt_group", "margin", "flags", "is_disputed", "is_swapped")

TEXTS = ("pair_id", "messages", "chosen", "rejected")


@dataclass(frozen=True)
class Population:
    """The pairs of a build or mix, each text once; with the dropped ones, of which many say the same, all rows."""

    kind: str
    """`build` or `mix`."""
    rows: pl.DataFrame
    """One row a pair: `pair_id`, `key` (what ids of pairs with the same texts share;
    with the dropped ones the id itself), `source` (its build), `group`
    (of its prompt), `margin`, `flags`, `is_disputed` (another scorer prefers the other response) and `is_swapped`
    (people had swapped its label)."""
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
    builds, mixes = build_names(data), mix_names(data)
    if name in builds:
        return build_population(data, name, include_dropped)
    if name in mixes:
        if include_dropped:
            raise UserError(f"--include-dropped: mix '{name}' holds no pair that a rule dropped; review its builds")
        return mix_population(data, name)
    raise UserError(f"no build or mix '{name}' in {data}{nearest_hint(name, [*builds, *mixes])}")


def build_population(data: Path, name: str, include_dropped: bool) -> Population:
    """The pairs that no rule dropped, or all.

    What people said changes neither which pairs these are nor how they are labeled, for else an audit would no
    longer speak of the labels that the build was made with.
    """
    built = read_build(data, name)
    tables = {stage: open_table(data, stage, key) for stage, key in built["tables"].items()}
    pairs = tables[labeled_stage(tables)].scan()
    verdicts = screening_rows(tables["screen_pairs"])
    if not include_dropped:
        # Swapped pairs have no margin any more, and another rule may have met them for it.
        was_kept = pl.col("dropped_by").is_null() | (pl.col("dropped_by") == "human_reject")
        verdicts = verdicts.filter(was_kept | pl.col("pair_id").is_in(swapped_ids(tables)))
    margin = pl.col("score_chosen") - pl.col("score_rejected")
    rows = verdicts.join(
        pairs.select("pair_id", "prompt_group", "scorer", margin=margin), on="pair_id", maintain_order="left"
    ).collect()
    added = [text_key().alias("key"), pl.lit(name).alias("source"), pl.lit(False).alias("is_swapped")]
    is_embedded = "measure_eval_proximity" in tables
    if include_dropped:
        every = add_disputes(rows.with_columns(added), data).with_columns(key="pair_id")
        return Population("build", every, pairs.select(TEXTS), is_embedded)
    kept_first = rows.sort(pl.col("dropped_by").is_not_null(), maintain_order=True)
    unique = kept_first.with_columns(added).unique("key", keep="first", maintain_order=True)
    return Population("build", add_disputes(unique, data), pairs.select(TEXTS), is_embedded)


def mix_population(data: Path, name: str) -> Population:
    """The rows of a mix, as they are labeled there."""
    lock = read_lock(data / "mixes" / f"{name}.lock.json")
    path = data / "mixes" / f"{name}.parquet"
    if not path.exists():
        raise UserError(f"{path} is missing; make it again with: curate mix {name}")
    mixed = pl.scan_parquet(path)
    of_sources = [read_source_rows(data, source) for source in lock["sources"]]
    facts = mixed.select("pair_id", "source", "prompt_group", "scorer", "margin")
    rows = facts.join(pl.concat(of_sources), on=["source", "pair_id"], how="left", maintain_order="left").collect()
    is_embedded = all(source.get("embedded") for source in lock["sources"])
    return Population("mix", add_disputes(rows.with_columns(key=text_key()), data), mixed.select(TEXTS), is_embedded)


def read_source_rows(data: Path, source: dict[str, Any]) -> pl.LazyFrame:
    """What a source of a mix says of its pairs: `source`, `pair_id`, `flags` and `is_swapped`."""
    stage, _ = source["pairs"]
    swapped = swapped_ids({stage: pinned_table(data, source["pairs"])})
    return screening_rows(pinned_table(data, source["screened"])).select(
        pl.lit(source["build"]).alias("source"), "pair_id", "flags", is_swapped=pl.col("pair_id").is_in(swapped)
    )


def screening_rows(table: Table) -> pl.LazyFrame:
    """The verdicts of screening; builds of earlier versions have no flags."""
    verdicts = table.scan()
    if "flags" in verdicts.collect_schema():
        return verdicts
    return verdicts.with_columns(flags=pl.lit([], pl.List(pl.Enum(FLAGS))))


def swapped_ids(tables: dict[str, Table]) -> list[str]:
    """The pairs among the tables of a build that people turned round."""
    if "swap_pairs" not in tables:
        return []
    return [pair_id for pair_id, _ in tables["swap_pairs"].manifest.config["swaps"]]


def add_disputes(rows: pl.DataFrame, data: Path) -> pl.DataFrame:
    """The rows with `is_disputed`: a build of the data folder has the same texts, and a margin of the opposite sign
    from another scorer.
    """
    mine = rows.lazy().filter(pl.col("margin").is_not_null()).select("key", "scorer", "margin")
    found = [pl.LazyFrame(schema={"key": pl.String})]
    for name in build_names(data):
        keys = read_build(data, name)["tables"]
        stage = labeled_stage(keys)
        # Another build that lost its tables is no reason to stop.
        if pairs := load_table(data / "tables" / stage / keys[stage]):
            theirs = pairs.scan().select(
                text_key().alias("key"), "scorer", margin=pl.col("score_chosen") - pl.col("score_rejected")
            )
            both = mine.join(theirs, on="key", suffix="_there")
            is_opposite = pl.col("margin").sign() * pl.col("margin_there").sign() < 0
            found.append(both.filter(is_opposite, pl.col("scorer") != pl.col("scorer_there")).select("key"))
    disputed = pl.concat(found).unique().collect()["key"]
    return rows.with_columns(is_disputed=pl.col("key").is_in(disputed.implode())).select(COLUMNS)
