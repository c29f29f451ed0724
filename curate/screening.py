"""From pairs to verdicts: what is measured once, and the waterfall that can be gone through again."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from itertools import chain
from pathlib import Path

import dataframely as dy
import polars as pl

from curate.backends.minilm import Encoder, minilm_encoder
from curate.backends.recorder import Recorder
from curate.config import Thresholds
from curate.review.judged import all_verdicts, judge_pairs, judged_config, swap_config, swap_pairs, verdicts_on
from curate.rounds import stage_lines_hidden
from curate.screen.benchmark_prompts import read_benchmarks
from curate.screen.contamination import ContaminationConfig, find_contamination
from curate.screen.copies import CopiesConfig, find_copies
from curate.screen.measure import MeasureConfig, measure_pairs
from curate.screen.nearness import (
    Embed,
    EvaluationConfig,
    NearConfig,
    PlaceConfig,
    find_neighbours,
    near_evaluation,
    place_pairs,
)
from curate.screen.personal import RedactConfig, redact_pairs
from curate.screen.rules import NEEDS_VECTORS, RulesConfig
from curate.screen.screen import screen_pairs
from curate.screen.vectors import Vectors, embed_texts
from curate.store import Store, Table
from schemas.tables import Alike, Contaminated, Measured, NearEvaluation, Pair, Placed, Probed, Screened, Verdict

NEAR_RULES = ("near_duplicate_prompt", "near_duplicate_pair")
FLOOR = 0.8
"""Smallest cosine that neighbour lists hold, unless a threshold lies under it."""


@dataclass(frozen=True)
class Beside:
    """What a screening goes by besides its thresholds."""

    noise: float | None = None
    """Of the scorer's margins; None where it was never measured."""
    keep: int | None = None
    quotas: tuple[tuple[str, int], ...] = ()


def screened_tables(
    cfg: Thresholds, pairs: Table, probed: Table | None, beside: Beside, store: Store, recorder: Recorder
) -> dict[str, Table]:
    """Stage -> table, from the pairs with their personal data gone where that is asked for to the verdicts.

    What people said comes first. All but the last table know no threshold, and are read where they are there.
    """
    tables: dict[str, Table] = {}
    if cfg.redact:
        pairs = tables["redact_pairs"] = store.map(redact_pairs, RedactConfig(), pairs, writes=Pair)
    judged = judged_table(pairs, store)
    if judged.rows:
        tables["judge_pairs"] = judged
        if (swaps := swap_config(judged.scan().collect())).swaps:
            pairs = tables["swap_pairs"] = store.map(swap_pairs, swaps, pairs, writes=Pair)
    measured = tables["measure_pairs"] = store.map(measure_pairs, MeasureConfig(), pairs, writes=Measured)
    contaminated, copies, neighbours, placed, near = (
        no_rows_of(store, schema) for schema in (Contaminated, Alike, Alike, Placed, NearEvaluation)
    )
    benchmarks = read_benchmarks(cfg.against)
    if "contaminated" not in cfg.skip:
        asked = ContaminationConfig(tuple((benchmark.name, benchmark.sha256) for benchmark in benchmarks))
        contaminated = tables["find_contamination"] = store.whole(
            find_contamination, asked, pairs, writes=Contaminated, benchmarks=benchmarks
        )
    if "near_copy" not in cfg.skip:
        copies = tables["find_copies"] = store.whole(find_copies, CopiesConfig(), pairs, measured, writes=Alike)
    if any(rule not in cfg.skip for rule in NEEDS_VECTORS):
        encoder = minilm_encoder()
        who = (encoder.model, encoder.digest)
        embed = embedded_by(encoder, store.data, recorder)
        # Both kinds are looked for where one is wanted, so that leaving one out later is no other table.
        if any(rule not in cfg.skip for rule in NEAR_RULES):
            neighbours = tables["find_neighbours"] = store.whole(
                find_neighbours, NearConfig(*who, least_cosine(cfg)), pairs, measured, writes=Alike, embed=embed
            )
        if "off_topic" not in cfg.skip:
            placed = tables["place_pairs"] = store.whole(
                place_pairs, PlaceConfig(*who), pairs, measured, writes=Placed, embed=embed
            )
        held = EvaluationConfig(*who, tuple(benchmark.sha256 for benchmark in benchmarks))
        near = tables["near_evaluation"] = store.whole(
            near_evaluation, held, pairs, measured, writes=NearEvaluation, embed=embed, benchmarks=benchmarks
        )
    tables["screen_pairs"] = store.whole(
        screen_pairs,
        rules_of(cfg, beside),
        measured,
        contaminated,
        copies,
        neighbours,
        placed,
        near,
        probed or no_rows_of(store, Probed),
        judged,
        writes=Screened,
    )
    return tables


def judged_table(pairs: Table, store: Store) -> Table:
    """What people said of these pairs, in all reviews."""
    verdicts = verdicts_on(pairs.scan(), all_verdicts(store.data))
    if verdicts.is_empty():
        return no_rows_of(store, Verdict)
    return store.whole(judge_pairs, judged_config(verdicts), pairs, writes=Verdict, verdicts=verdicts)


def embedded_by(encoder: Encoder, data: Path, recorder: Recorder | None = None) -> Embed:
    """Makes the vectors of texts, each text once for all builds of the data folder; a recorder shows how far it is."""

    def embed(blocks: Iterable[pl.Series], texts: int) -> Vectors:
        if recorder:
            recorder.progress.begin(texts, "texts")

        def made(texts: int) -> None:
            if recorder:
                recorder.progress.advance(texts, 0, None)

        return embed_texts(chain.from_iterable(blocks), data / "vectors", encoder, made)

    return embed


def rules_of(cfg: Thresholds, beside: Beside) -> RulesConfig:
    """The thresholds alone, and what comes beside them."""
    own = {field.name: getattr(cfg, field.name) for field in fields(Thresholds)}
    # Which files were looked into is in the table of hits; the order of names says nothing.
    own |= {"against": (), "skip": tuple(sorted(set(cfg.skip)))}
    return RulesConfig(**own, noise=beside.noise or 0.0, keep=beside.keep, quotas=beside.quotas)


def least_cosine(cfg: Thresholds) -> float:
    """The smallest cosine to look for: lists made for one threshold serve every larger one."""
    return FLOOR if cfg.max_cosine >= FLOOR else math.floor(cfg.max_cosine * 10) / 10


@dataclass(frozen=True)
class NoRowsConfig:
    """Which table stays empty."""

    table: str


def no_rows_of(store: Store, schema: type[dy.Schema]) -> Table:
    """An empty table, in the place of one that was not asked for."""

    def no_rows(cfg: NoRowsConfig) -> pl.DataFrame:
        return schema.create_empty()

    with stage_lines_hidden():
        return store.whole(no_rows, NoRowsConfig(schema.__name__), writes=schema)
