"""Builds, mixes and runs of a data directory, with their counts."""

from typing import Any

import polars as pl

from curate.config import ShowConfig
from curate.files import nearest_hint
from curate.screen.pii import redact_texts
from curate.store.runs import all_runs
from curate.store.store import open_table
from curate.store.workspace import build_names, mix_names, read_build, read_lock
from schemas.errors import UserError
from schemas.stages import pairs_stage

PAIRS_SHOWN = 20
TEXT_SHOWN = 60


def show_all(cfg: ShowConfig) -> dict[str, Any]:
    """All builds, mixes and runs, in the order of their names."""
    locks = {name: read_lock(cfg.data / "mixes" / f"{name}.lock.json") for name in mix_names(cfg.data)}
    return {
        "builds": [read_build(cfg.data, name)["summary"] for name in build_names(cfg.data)],
        "mixes": [
            {"name": name, **{field: lock[field] for field in ("rows", "train", "heldout", "sha256")}}
            for name, lock in locks.items()
        ],
        "runs": [{"name": run.name, "kind": run.kind, "base": run.base} for run in all_runs(cfg.data)],
    }


def show_one(cfg: ShowConfig) -> dict[str, Any]:
    """One build or mix with the first of its pairs."""
    if cfg.name in build_names(cfg.data):
        built = read_build(cfg.data, cfg.name)
        screened = open_table(cfg.data, "screen_pairs", built["tables"]["screen_pairs"]).scan()
        # Builds of earlier versions have no flags.
        flags = ["flags"] if "flags" in screened.collect_schema() else []
        stage = pairs_stage(built["tables"])
        pairs = open_table(cfg.data, stage, built["tables"][stage]).scan()
        pairs = pairs.with_columns(margin=pl.col("score_chosen") - pl.col("score_rejected"))
        columns = ["pair_id", "dropped_by", *flags, "margin", "prompt", "chosen", "rejected"]
        rows = (
            screened.select("pair_id", "dropped_by", *flags)
            .head(PAIRS_SHOWN)
            .join(pairs, on="pair_id", how="left", maintain_order="left")
        )
        return {**built["summary"], "tables": built["tables"], "pairs": cut_pairs(rows, columns)}
    if cfg.name in mix_names(cfg.data):
        lock = read_lock(cfg.data / "mixes" / f"{cfg.name}.lock.json")
        columns = ["pair_id", "split", "source", "margin", "prompt", "chosen", "rejected"]
        path = cfg.data / "mixes" / f"{cfg.name}.parquet"
        if not path.exists():
            raise UserError(f"{path} is missing; make it again with: curate mix {cfg.name}")
        return {"name": cfg.name, **lock, "pairs": cut_pairs(pl.scan_parquet(path).head(PAIRS_SHOWN), columns)}
    known = [*build_names(cfg.data), *mix_names(cfg.data)]
    raise UserError(f"no build or mix '{cfg.name}'{nearest_hint(cfg.name, known)}")


def cut_pairs(rows: pl.LazyFrame, columns: list[str]) -> list[dict[str, Any]]:
    """Pairs with their texts cut to a line, personal data as its kind."""
    last_turn = pl.col("messages").list.last().struct.field("content")
    texts = {"prompt": last_turn, "chosen": pl.col("chosen"), "rejected": pl.col("rejected")}
    return (
        rows.with_columns(**{name: text.map_batches(redact_texts, pl.String) for name, text in texts.items()})
        .with_columns(one_line(pl.col(name)) for name in texts)
        .select(columns)
        .collect()
        .to_dicts()
    )


def one_line(text: pl.Expr) -> pl.Expr:
    """The start of a text, without line breaks."""
    return text.str.replace_all(r"\s+", " ").str.strip_chars().str.slice(0, TEXT_SHOWN)
