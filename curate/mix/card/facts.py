"""Gather what the card of a mix says beside its counts: where its rows come from, and how they were screened.

Facts are gathered once, when a mix is published, and lie in its lock: they hold no time, no path and no address.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import polars as pl

from curate.config import Thresholds
from curate.mix.choose import ChosenRows
from curate.mix.public_names import public_model, public_source
from curate.pipeline.source import KINDS
from curate.screen.human import text_key
from curate.store.mixes import PinnedSource
from curate.store.reviews import read_answers, read_asked, review_names
from curate.store.store import Table
from curate.store.workspace import BuildRecord, Workspace
from schemas.names import FLAGS, FLAWS, VERDICTS
from schemas.stages import StageName

LENGTHS = ("chosen_tokens", "rejected_tokens")


def gather_facts(workspace: Workspace, pinned: Sequence[PinnedSource], chosen: ChosenRows) -> dict[str, Any]:
    """The facts of a mix, as JSON: `sources`, each by the name of its build, and what is counted over all rows."""
    sources: dict[str, Any] = {}
    measured: list[pl.DataFrame] = []
    for source in pinned:
        record = workspace.read_build(source.build)
        tables = workspace.open_tables(record)
        rows = chosen.rows.filter(pl.col("source") == source.build)
        measured.append(measured_rows(rows["at"], tables[source.pairs.stage], tables[StageName.MEASURE_PAIRS]))
        judged = workspace.open_pinned(source.judged, source.build) if source.judged else None
        sources[source.build] = {
            **origin_facts(record, tables),
            **screening_facts(record, tables),
            "review": review_facts(judged, workspace.data) if judged else None,
            "scorers": count_values(measured[-1]["scorer"]),
        }
    return {"sources": sources, **row_facts(chosen.rows, pl.concat(measured))}


def measured_rows(at: pl.Series, pairs: Table, measured: Table) -> pl.DataFrame:
    """Origin, flaw, scorer and lengths of the rows at these places; lengths in words and punctuation marks."""
    told = pairs.scan().select("scorer", pl.col("origin", "flaw").cast(pl.String)).collect()
    public = {name: public_model(name) for name in told["scorer"].drop_nulls().unique()}
    told = told.with_columns(pl.col("scorer").replace(public))
    return pl.concat([told, measured.scan().select(LENGTHS).collect()], how="horizontal")[at]


def origin_facts(record: BuildRecord, tables: Mapping[StageName, Table]) -> dict[str, Any]:
    """Where the rows of a build come from, and which models wrote and scored them."""
    kind, scorer = KINDS.get(record.config["source"]), record.scorer
    read = tables[StageName.READ_PROMPTS if kind else StageName.READ_PAIRS].manifest.config
    asked = tables.get(StageName.SAMPLE_RESPONSES) or tables.get(StageName.WRITE_PAIRS)
    return {
        "made": ("sampled" if kind.is_sampled else "written") if kind else "imported",
        "from": public_source(record.config["prompts" if kind else "source"]),
        "from_sha256": read["sha256"],
        "generator": asked and model_facts(asked.manifest.config),
        "scorer": scorer and model_facts(scorer),
        "noise": record.summary["noise"],
        "is_probed": StageName.SCORE_PROBES in tables,
    }


def model_facts(told: Mapping[str, Any]) -> dict[str, str]:
    return {"model": public_model(told["model"]), "digest": told["digest"]}


def screening_facts(record: BuildRecord, tables: Mapping[StageName, Table]) -> dict[str, Any]:
    """Rows in, dropped by reason and kept, and the thresholds and evaluation prompts they were screened by."""
    thresholds = {field.name: record.config[field.name] for field in fields(Thresholds)}
    thresholds["decontaminate"] = [public_source(spec) for spec in thresholds["decontaminate"]]
    contamination = tables.get(StageName.FIND_CONTAMINATION)
    checked = contamination.manifest.config["benchmarks"] if contamination else []
    return {
        **{name: record.summary[name] for name in ("rows_in", "dropped", "kept")},
        "thresholds": thresholds,
        "checked_against": [{"name": public_source(name), "sha256": sha256} for name, sha256 in checked],
    }


def review_facts(judged: Table, data: Path) -> dict[str, Any]:
    """The verdicts of reviewers on pairs of a build, dropped ones among them, and on those drawn at random."""
    rows = judged.scan().select(pl.col("verdict").cast(pl.String), key=text_key()).collect()
    key, names = text_key("record_id").alias("key"), review_names(data)
    asked = pl.concat(read_asked(data, name).filter(sampler="random").select(key) for name in names)
    answers = pl.concat(read_answers(data, name).filter(status="submitted").select(key, "reviewer") for name in names)
    drawn = rows.join(asked, on="key", how="semi")
    return {
        "judged": rows.height,
        "reviewers": answers.join(rows, on="key", how="semi")["reviewer"].n_unique(),
        "verdicts": count_values(rows["verdict"], VERDICTS),
        "split": rows["verdict"].null_count(),
        "random": count_values(drawn["verdict"], VERDICTS),
        "random_split": drawn["verdict"].null_count(),
    }


def row_facts(rows: pl.DataFrame, measured: pl.DataFrame) -> dict[str, Any]:
    """What is counted over all rows of a mix."""
    chosen, rejected = (measured[name] for name in LENGTHS)
    return {
        "origins": count_values(measured["origin"]),
        "flaws": count_values(measured["flaw"], FLAWS),
        "flags": count_values(rows["flags"].explode(), FLAGS),
        "judged": rows.filter(pl.col("answers") > 0).height,
        "lengths": {"chosen": quantiles(chosen), "rejected": quantiles(rejected)},
        "chosen_longer": int((chosen > rejected).sum()),
    }


def quantiles(lengths: pl.Series) -> dict[str, int]:
    """The 5th percentile, the median and the 95th percentile, each a value that occurs."""
    shares = {"low": 0.05, "median": 0.5, "high": 0.95}
    return {name: int(lengths.quantile(share, "nearest") or 0) for name, share in shares.items()}


def count_values(values: pl.Series, names: Sequence[str] | None = None) -> dict[str, int]:
    """Value -> how often it occurs, nulls not counted; in the order of `names`, else sorted."""
    found: dict[str, int] = dict(values.drop_nulls().cast(pl.String).value_counts().rows())
    return {name: found[name] for name in names or sorted(found) if name in found}
