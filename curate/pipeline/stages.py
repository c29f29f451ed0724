"""List of the stages of a build, from its source to the verdicts on its pairs.

A stage is an entry of `STAGES`: build, screening again, forecast, explain and show all loop over the list. A new stage
is a name in `schemas/stages.py` and an entry here.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Literal

import dataframely as dy
import polars as pl

from curate.config import BuildConfig, Thresholds
from curate.generate.contrast import ContrastConfig, write_pairs
from curate.generate.self_sample import SampleConfig, sample_responses
from curate.models.encoder import Encoder, minilm_encoder
from curate.models.resolve import LazyModel
from curate.pipeline.pairing import PairConfig, make_pairs, policy_for
from curate.pipeline.source import SourceKind, flaw_counts, kind_of, requested_flaws
from curate.score.probes import PROBES, ProbesConfig, score_probes
from curate.score.score import (
    Messages,
    ScoreConfig,
    compare_request_for,
    is_pairwise,
    score_pairs,
    score_request_for,
    score_responses,
)
from curate.screen.benchmark_prompts import Benchmark, read_benchmarks
from curate.screen.contamination import ContaminationConfig, find_contamination
from curate.screen.human import (
    SwapConfig,
    all_verdicts,
    collect_human_verdicts,
    human_verdicts_config,
    swap_config,
    swap_pairs,
    verdicts_on,
)
from curate.screen.pii import RedactConfig, redact_pairs
from curate.screen.rules import NEEDS_VECTORS, RULES, RulesConfig, guard_config
from curate.screen.screen import FEATURES, SIMILAR, screen_pairs
from curate.screen.similar.embeddings import make_embed
from curate.screen.similar.lexical import LexicalConfig, find_lexical_duplicates
from curate.screen.similar.semantic import (
    Embed,
    EvalProximityConfig,
    SemanticConfig,
    TopicalityConfig,
    find_semantic_duplicates,
    measure_eval_proximity,
    measure_topicality,
)
from curate.screen.text.measure import MeasureConfig, measure_pairs
from curate.sources.pairs import read_pairs
from curate.sources.prompts import read_prompts
from curate.sources.rows import RowsConfig
from curate.store.session import Session
from curate.store.store import NoTable, Table
from schemas.calls import Request
from schemas.stages import StageName, pairs_stage
from schemas.tables import (
    Candidate,
    Contaminated,
    EvalProximity,
    Measured,
    Pair,
    Probed,
    Prompt,
    Score,
    Screened,
    Similar,
    Topicality,
    Verdict,
)

FLOOR = 0.8
"""Smallest cosine that neighbor lists hold, unless a threshold lies under it."""
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

    def table(self, name: Input) -> Table | NoTable:
        """The table of an input; one without rows where its stage was left out."""
        if name == PAIRS:
            return self.pairs
        return self.tables[name] if name in self.tables else NoTable(BY_NAME[name].writes)


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
    is_screening: bool = False
    """It comes after the pairs are made, and is gone through again when a build is screened again."""

    def make(self, state: BuildState) -> Table:
        """The table of the stage, made or found."""
        store, cfg, tools = state.session.store, self.config(state), self.tools(state)
        if self.shape == "read":
            return store.read(self.name, self.run, cfg, writes=self.writes)
        inputs = [state.table(name) for name in self.inputs]
        if self.shape == "whole":
            return store.whole(self.name, self.run, cfg, *inputs, writes=self.writes, **tools)
        parts = [table for table in inputs if isinstance(table, Table)]
        return store.map(self.name, self.run, cfg, *parts, writes=self.writes, **tools)


def make_tables(state: BuildState) -> dict[StageName, Table]:
    """All tables of a build that are not there yet, in the order of `STAGES`."""
    # A file of evaluation prompts that cannot be read is found before anything is asked.
    assert state.benchmarks is not None
    for stage in STAGES:
        if stage.name not in state.tables and stage.applies(state):
            state.tables[stage.name] = stage.make(state)
    return state.tables


def looks_at(stage: StageName, state: BuildState) -> bool:
    """Whether a rule that is not skipped looks at what the stage makes."""
    return any(rule.stage == stage and rule.name not in state.cfg.skip_rule for rule in RULES)


def asks_generator(state: BuildState) -> dict[str, Any]:
    return {"generator": state.generator, "recorder": state.session.recorder}


def asks_scorer(state: BuildState) -> dict[str, Any]:
    return {"scorer": state.scorer, "recorder": state.session.recorder}


def sample_config(state: BuildState) -> SampleConfig:
    """Config of sampling."""
    cfg, model = state.cfg, state.generator
    return SampleConfig(
        model.model, model.digest, cfg.num_responses, cfg.temperature, cfg.top_p, cfg.max_tokens, cfg.seed
    )


def contrast_config(state: BuildState) -> ContrastConfig:
    """Config of writing pairs."""
    cfg, model, flaws = state.cfg, state.generator, requested_flaws(state.cfg)
    return ContrastConfig(model.model, model.digest, cfg.temperature, cfg.top_p, cfg.max_tokens, cfg.seed, flaws=flaws)


def score_config(state: BuildState) -> ScoreConfig:
    """Config of scoring."""
    return ScoreConfig(state.scorer.model, state.scorer.digest)


def pair_config(cfg: BuildConfig) -> PairConfig:
    """Config of pairing."""
    policy = policy_for(cfg.pairing, cfg.num_responses)
    return PairConfig(policy, cfg.seed, guard_config(cfg), cfg.allow_degenerate_rejected)


def rules_config(cfg: BuildConfig, noise: float | None) -> RulesConfig:
    """The thresholds, noise and quotas of a screening."""
    own = {field.name: getattr(cfg, field.name) for field in fields(Thresholds)}
    # Which files were looked into is in the table of hits; the order of names says nothing.
    own |= {"decontaminate": (), "skip_rule": tuple(sorted(set(cfg.skip_rule)))}
    return RulesConfig(**own, noise=noise or 0.0, keep=cfg.num_pairs, quotas=flaw_counts(cfg))


def contamination_config(state: BuildState) -> ContaminationConfig:
    return ContaminationConfig(tuple((benchmark.name, benchmark.sha256) for benchmark in state.benchmarks))


def semantic_config(state: BuildState) -> SemanticConfig:
    """Config of semantic duplicates; neighbor lists made for one threshold serve every larger one."""
    least = state.cfg.max_cosine
    floor = FLOOR if least >= FLOOR else math.floor(least * 10) / 10
    return SemanticConfig(state.encoder.model, state.encoder.digest, floor)


def eval_proximity_config(state: BuildState) -> EvalProximityConfig:
    digests = tuple(benchmark.sha256 for benchmark in state.benchmarks)
    return EvalProximityConfig(state.encoder.model, state.encoder.digest, digests)


def calls_per_candidates(state: BuildState) -> int:
    """Calls that score all responses to a prompt: of each by itself, or of each two in both orders."""
    n = state.cfg.num_responses
    return n * (n - 1) if is_pairwise(state.scorer) else n


def score_example(state: BuildState, messages: Messages) -> Request:
    """A call for a score of empty responses."""
    if is_pairwise(state.scorer):
        return compare_request_for(state.scorer, messages, "", "")
    return score_request_for(state.scorer, messages, "")


def responses_in_score(state: BuildState) -> int:
    """Responses that one call for a score shows."""
    return 2 if is_pairwise(state.scorer) else 1


STAGES = (
    Stage(
        StageName.READ_PROMPTS,
        read_prompts,
        Prompt,
        lambda state: state.rows,
        shape="read",
        applies=lambda state: state.kind.is_generated,
    ),
    Stage(
        StageName.SAMPLE_RESPONSES,
        sample_responses,
        Candidate,
        sample_config,
        (StageName.READ_PROMPTS,),
        applies=lambda state: state.kind.is_sampled,
        tools=asks_generator,
        calls=Calls("generator", lambda state: 1),
    ),
    Stage(
        StageName.SCORE_RESPONSES,
        score_responses,
        Score,
        score_config,
        (StageName.READ_PROMPTS, StageName.SAMPLE_RESPONSES),
        applies=lambda state: state.kind.is_sampled,
        tools=asks_scorer,
        calls=Calls("scorer", calls_per_candidates, score_example, responses_in_score),
    ),
    Stage(
        StageName.MAKE_PAIRS,
        make_pairs,
        Pair,
        lambda state: pair_config(state.cfg),
        (StageName.READ_PROMPTS, StageName.SAMPLE_RESPONSES, StageName.SCORE_RESPONSES),
        applies=lambda state: state.kind.is_sampled,
    ),
    Stage(
        StageName.WRITE_PAIRS,
        write_pairs,
        Pair,
        contrast_config,
        (StageName.READ_PROMPTS,),
        applies=lambda state: state.kind.is_generated and not state.kind.is_sampled,
        tools=asks_generator,
        calls=Calls("generator", lambda state: 1),
    ),
    Stage(
        StageName.READ_PAIRS,
        read_pairs,
        Pair,
        lambda state: state.rows,
        shape="read",
        applies=lambda state: not state.kind.is_generated,
    ),
    Stage(
        StageName.SCORE_PAIRS,
        score_pairs,
        Pair,
        score_config,
        (PAIRS,),
        applies=lambda state: state.models.scorer is not None and not state.kind.is_sampled,
        tools=asks_scorer,
        calls=Calls("scorer", lambda state: 2, score_example, responses_in_score),
    ),
    Stage(
        StageName.SCORE_PROBES,
        score_probes,
        Probed,
        lambda state: ProbesConfig(state.scorer.model, state.scorer.digest),
        (PAIRS,),
        applies=lambda state: (
            state.models.scorer is not None and not state.cfg.no_probes and not is_pairwise(state.scorer)
        ),
        tools=asks_scorer,
        calls=Calls("scorer", lambda state: len(PROBES), score_example),
    ),
    Stage(
        StageName.REDACT_PAIRS,
        redact_pairs,
        Pair,
        lambda state: RedactConfig(),
        (PAIRS,),
        applies=lambda state: state.cfg.redact,
        is_screening=True,
    ),
    Stage(
        StageName.COLLECT_HUMAN_VERDICTS,
        collect_human_verdicts,
        Verdict,
        lambda state: human_verdicts_config(state.verdicts),
        (PAIRS,),
        shape="whole",
        applies=lambda state: not state.verdicts.is_empty(),
        tools=lambda state: {"verdicts": state.verdicts},
        is_screening=True,
    ),
    Stage(
        StageName.SWAP_PAIRS,
        swap_pairs,
        Pair,
        lambda state: state.swaps,
        (PAIRS,),
        applies=lambda state: bool(state.swaps.swaps),
        is_screening=True,
    ),
    Stage(
        StageName.MEASURE_PAIRS,
        measure_pairs,
        Measured,
        lambda state: MeasureConfig(),
        (PAIRS,),
        is_screening=True,
    ),
    Stage(
        StageName.FIND_CONTAMINATION,
        find_contamination,
        Contaminated,
        contamination_config,
        (PAIRS,),
        shape="whole",
        applies=lambda state: looks_at(StageName.FIND_CONTAMINATION, state),
        tools=lambda state: {"benchmarks": state.benchmarks},
        is_screening=True,
    ),
    Stage(
        StageName.FIND_LEXICAL_DUPLICATES,
        find_lexical_duplicates,
        Similar,
        lambda state: LexicalConfig(),
        (PAIRS, StageName.MEASURE_PAIRS),
        shape="whole",
        applies=lambda state: looks_at(StageName.FIND_LEXICAL_DUPLICATES, state),
        is_screening=True,
    ),
    Stage(
        # Both kinds are looked for where one is wanted, so that leaving one out later is no other table.
        StageName.FIND_SEMANTIC_DUPLICATES,
        find_semantic_duplicates,
        Similar,
        semantic_config,
        (PAIRS, StageName.MEASURE_PAIRS),
        shape="whole",
        applies=lambda state: looks_at(StageName.FIND_SEMANTIC_DUPLICATES, state),
        tools=lambda state: {"embed": state.embed},
        is_screening=True,
    ),
    Stage(
        StageName.MEASURE_TOPICALITY,
        measure_topicality,
        Topicality,
        lambda state: TopicalityConfig(state.encoder.model, state.encoder.digest),
        (PAIRS, StageName.MEASURE_PAIRS),
        shape="whole",
        applies=lambda state: looks_at(StageName.MEASURE_TOPICALITY, state),
        tools=lambda state: {"embed": state.embed},
        is_screening=True,
    ),
    Stage(
        StageName.MEASURE_EVAL_PROXIMITY,
        measure_eval_proximity,
        EvalProximity,
        eval_proximity_config,
        (PAIRS, StageName.MEASURE_PAIRS),
        shape="whole",
        applies=lambda state: any(rule not in state.cfg.skip_rule for rule in NEEDS_VECTORS),
        tools=lambda state: {"embed": state.embed, "benchmarks": state.benchmarks},
        is_screening=True,
    ),
    Stage(
        StageName.SCREEN_PAIRS,
        screen_pairs,
        Screened,
        lambda state: rules_config(state.cfg, state.models.noise),
        (*FEATURES, *SIMILAR),
        shape="whole",
        is_screening=True,
    ),
)
"""In the order they are made."""

BY_NAME = {stage.name: stage for stage in STAGES}
