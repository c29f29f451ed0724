"""Define a stage of a build: its entry in the list, its calls, and the state of the build it works on."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import dataframely as dy
import polars as pl

from curate.config import BuildConfig
from curate.models.encoder import Encoder, minilm_encoder
from curate.models.resolve import LazyModel
from curate.pipeline.source import SourceKind, kind_of
from curate.score.score import Messages
from curate.screen.benchmark_prompts import Benchmark, read_benchmarks
from curate.screen.human import SwapConfig, all_verdicts, swap_config, verdicts_on
from curate.screen.similar.embeddings import make_embed
from curate.screen.similar.semantic import Embed
from curate.sources.formats import Format
from curate.sources.pairs import find_source_format
from curate.sources.rows import RowsConfig
from curate.store.session import Session
from curate.store.store import Table
from schemas.calls import Request
from schemas.stages import StageName, pairs_stage
from schemas.tables import Verdict

PAIRS: Literal["pairs"] = "pairs"
"""As an input: the pairs as the last stage gave them."""
Input = StageName | Literal["pairs"]


@dataclass(frozen=True)
class Models:
    """The generator and the scorer of a build."""

    generator: LazyModel | None
    scorer: LazyModel | None
    noise: float | None
    """Of the scorer's margins; None where it was never measured."""


@dataclass
class BuildState:
    """A build under way: its config, models and session, and the tables so far."""

    cfg: BuildConfig
    models: Models
    session: Session
    rows: RowsConfig | None = None
    """Of the source; None where the tables from the source to the pairs are there already."""
    tables: dict[StageName, Table] = field(default_factory=dict)
    """In the order they were made."""

    @property
    def kind(self) -> SourceKind:
        return kind_of(self.cfg)

    @property
    def generator(self) -> LazyModel:
        assert self.models.generator
        return self.models.generator

    @property
    def scorer(self) -> LazyModel:
        assert self.models.scorer
        return self.models.scorer

    @property
    def pairs(self) -> Table:
        """The pairs as the last stage gave them."""
        return self.tables[pairs_stage(self.tables)]

    @cached_property
    def source_format(self) -> Format:
        """The format of a file or a hub dataset of pairs."""
        assert self.rows
        return find_source_format(self.rows)

    @cached_property
    def benchmarks(self) -> tuple[Benchmark, ...]:
        """The evaluation prompts that no pair may hold."""
        return read_benchmarks(self.cfg.decontaminate)

    @cached_property
    def verdicts(self) -> pl.DataFrame:
        """The verdicts of reviewers on these pairs, in all reviews."""
        return verdicts_on(self.pairs.scan(), all_verdicts(self.session.workspace.data))

    @cached_property
    def swaps(self) -> SwapConfig:
        """The labels that reviewers swapped."""
        judged = self.tables.get(StageName.COLLECT_HUMAN_VERDICTS)
        return swap_config(judged.scan().collect() if judged else Verdict.create_empty())

    @cached_property
    def encoder(self) -> Encoder:
        return minilm_encoder()

    @property
    def embed(self) -> Embed:
        """Makes vectors of texts, each text once for all builds of the data folder."""
        return make_embed(self.encoder, self.session.workspace.vectors, self.session.recorder)


@dataclass(frozen=True)
class Calls:
    """The calls of a stage, for forecasts."""

    model: Literal["generator", "scorer"]
    per_prompt: Callable[[BuildState], int]
    """Calls for each prompt that reaches the stage."""
    example: Callable[[BuildState, Messages], Request] | None = None
    """A call about a prompt with empty responses in place of those that are not there yet; None where a stage takes
    nothing but rows of the source."""
    responses: Callable[[BuildState], int] = lambda state: 0
    """Responses, each up to `max_tokens`, that stand in such a call."""


NO_CALLS = Calls("generator", lambda state: 0)
"""Of a stage that asks no model."""


@dataclass(frozen=True)
class Stage:
    """One entry of the list."""

    name: StageName
    run: Callable[..., Any]
    """The function that makes its rows."""
    writes: type[dy.Schema]
    config: Callable[[BuildState], Any]
    """The config that decides its rows."""
    inputs: tuple[Input, ...] = ()
    """Stages whose tables it takes, or `PAIRS`."""
    shape: Literal["read", "map", "whole"] = "map"
    """How `Store` runs it: from a source, part by part, or over all rows."""
    applies: Callable[[BuildState], bool] = lambda state: True
    """Whether a build has it."""
    tools: Callable[[BuildState], dict[str, Any]] = lambda state: {}
    """What it works with besides, which changes no row."""
    calls: Calls = NO_CALLS
