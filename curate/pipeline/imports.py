"""Read the pairs of a source, and make pairs of the responses of one that holds several to a prompt."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import polars as pl

from curate.config import BuildConfig
from curate.pipeline.pairing import SIGMA_FROM, PairConfig, make_pairs
from curate.sources.pairs import STAGE, Answered, read_pairs
from curate.sources.rows import RowsConfig
from curate.store.store import Part, make_frame
from schemas.errors import UserError
from schemas.ids import prompt_group
from schemas.tables import Prompt


@dataclass(frozen=True)
class ImportConfig(RowsConfig):
    """Rows of a source to read as pairs."""

    pairing: PairConfig | None = None
    """How pairs are made of several responses to a prompt; None for a source of ready pairs."""
    is_auto: bool = False
    """The number of responses of each row decides between `best_worst` and `best_sigma`."""


def import_pairs(cfg: ImportConfig) -> Iterator[Part]:
    """Parts of the pairs of a source."""
    return read_pairs(cfg, partial(pair_responses, cfg=cfg) if cfg.pairing else None)


def pair_responses(answered: list[Answered], cfg: ImportConfig) -> Part:
    """The pairs of responses with scores, in the order of their prompts."""
    assert cfg.pairing
    parts = []
    for policy in ("best_worst", "best_sigma") if cfg.is_auto else (cfg.pairing.policy,):
        chosen = [
            item
            for item in answered
            if not cfg.is_auto or (len(item.found.responses) >= SIGMA_FROM) == (policy == "best_sigma")
        ]
        if chosen:
            parts.append(make_pairs(*response_tables(chosen), replace(cfg.pairing, policy=policy)))
    places = pl.DataFrame({"prompt_id": [item.prompt_id for item in answered]}).with_row_index("place")
    rows, dropped = (
        pl.concat(tables)
        .join(places, on="prompt_id", how="left", maintain_order="left")
        .sort("place", maintain_order=True)
        for tables in ([part.rows for part in parts], [part.dropped for part in parts])
    )
    tools = {item.prompt_id: item.found.tools for item in answered if item.found.tools}
    imported = rows.drop("place").with_columns(
        tools=pl.col("prompt_id").replace_strict(tools, default=None, return_dtype=pl.String),
        origin=pl.lit("real", dtype=rows.schema["origin"]),
        chosen_call=pl.lit(None, dtype=pl.String),
        rejected_call=pl.lit(None, dtype=pl.String),
    )
    return Part(imported, dropped.drop("place").with_columns(stage=pl.lit(str(STAGE))))


def response_tables(answered: list[Answered]) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """The prompts, responses and scores of rows, as the stages of a build make them."""
    prompts = [
        {
            "prompt_id": prompt_id,
            "place": place,
            "messages": found.messages,
            "prompt_group": prompt_group(found.messages),
            "license": found.license,
        }
        for place, (prompt_id, found) in enumerate(answered)
    ]
    rows = [
        (f"{prompt_id}/{i}", prompt_id, i, response, score)
        for prompt_id, found in answered
        for i, (response, score) in enumerate(zip(found.responses, found.scores, strict=True))
    ]
    schema = {
        "candidate_id": pl.String,
        "prompt_id": pl.String,
        "sample_index": pl.UInt32,
        "response": pl.String,
        "score": pl.Float64,
    }
    table = pl.DataFrame(rows, schema=schema, orient="row")
    candidates = table.drop("score").with_columns(
        **{name: pl.lit(None, dtype=pl.String) for name in ("finish_reason", "reasoning")},
        call_id=pl.lit("", dtype=pl.String),
    )
    scores = table.select("candidate_id", "prompt_id", "score", scorer=pl.lit("imported"))
    return make_frame(Prompt, prompts), candidates, scores


def refuse_pairing(cfg: BuildConfig) -> None:
    """Raises UserError for a policy where there is nothing to choose from."""
    if cfg.pairing != "auto":
        raise UserError(
            f"--pairing chooses among several responses to a prompt, and {cfg.source} holds ready pairs; leave it out"
        )
