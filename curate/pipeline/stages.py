"""List of the stages of a build, from its source to the verdicts on its pairs.

A stage is an entry of `MAKING` or `SCREENING` (`STAGES`): build, screening again, forecast, explain and show all
loop over the list. A new stage is a name in `schemas/stages.py` and an entry here.
"""

import math
from dataclasses import fields, replace
from typing import Any

from curate.config import BuildConfig, Thresholds
from curate.generate.contrast import ContrastConfig, write_pairs
from curate.generate.self_sample import SampleConfig, sample_responses
from curate.models.call_options import generator_options
from curate.pipeline.imports import ImportConfig, import_pairs, refuse_pairing
from curate.pipeline.pairing import PairConfig, make_pairs, policy_for
from curate.pipeline.source import flaw_counts, requested_flaws
from curate.pipeline.stage import PAIRS, BuildState, Calls, Input, Stage
from curate.pipeline.validate import refuse_missing_scores
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
from curate.screen.contamination import ContaminationConfig, find_contamination
from curate.screen.cures import cure
from curate.screen.human import (
    collect_human_verdicts,
    human_verdicts_config,
    swap_pairs,
)
from curate.screen.pii import RedactConfig, redact_pairs
from curate.screen.rules import NEEDS_VECTORS, RULES, RulesConfig, guard_config
from curate.screen.screen import FEATURES, SIMILAR, screen_pairs
from curate.screen.similar.lexical import LexicalConfig, find_lexical_duplicates
from curate.screen.similar.semantic import (
    EvalProximityConfig,
    SemanticConfig,
    TopicalityConfig,
    find_semantic_duplicates,
    measure_eval_proximity,
    measure_topicality,
)
from curate.screen.text.measure import MeasureConfig, measure_pairs
from curate.sources.pairs import read_verdicts
from curate.sources.prompts import read_prompts
from curate.sources.rows import RowsConfig
from curate.store.store import NoTable, Table
from schemas.calls import Request
from schemas.errors import Hopeless
from schemas.stages import StageName
from schemas.tables import (
    Candidate,
    Contaminated,
    EvalProximity,
    Measured,
    Pair,
    Probed,
    Prompt,
    RecordedVerdict,
    Score,
    Screened,
    Similar,
    Topicality,
    Verdict,
)

FLOOR = 0.8
"""Smallest cosine that neighbor lists hold, unless a threshold lies under it."""


def make_tables(state: BuildState) -> dict[StageName, Table]:
    """All tables of a build that are not there yet, in the order of `STAGES`."""
    # A file of evaluation prompts that cannot be read is found before anything is asked.
    assert state.benchmarks is not None
    for stage in STAGES:
        if stage == SCREENING[0]:
            refuse_missing_scores(state.cfg, state.pairs)
        if stage.name not in state.tables and stage.applies(state):
            try:
                state.tables[stage.name] = make_table(stage, state)
            except Hopeless as stop:
                raise Hopeless(f"{stop}; {cure(stop.reason)}", stop.reason) from stop
    return state.tables


def make_table(stage: Stage, state: BuildState) -> Table:
    """The table of one stage, made or found."""
    store, cfg, tools = state.session.store, stage.config(state), stage.tools(state)
    if stage.shape == "read":
        return store.read(stage.name, stage.run, cfg, writes=stage.writes)
    inputs = [find_input(name, state) for name in stage.inputs]
    if stage.shape == "whole":
        return store.whole(stage.name, stage.run, cfg, *inputs, writes=stage.writes, **tools)
    parts = [table for table in inputs if isinstance(table, Table)]
    return store.map(stage.name, stage.run, cfg, *parts, writes=stage.writes, **tools)


def find_input(name: Input, state: BuildState) -> Table | NoTable:
    """The table of an input; one without rows where its stage was left out."""
    if name == PAIRS:
        return state.pairs
    return state.tables[name] if name in state.tables else NoTable(BY_NAME[name].writes)


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
    sampling = cfg.temperature, cfg.top_p, cfg.most_tokens, cfg.seed
    return SampleConfig(model.model, model.digest, cfg.num_responses, *sampling, generator_options(cfg))


def contrast_config(state: BuildState) -> ContrastConfig:
    """Config of writing pairs."""
    cfg, model = state.cfg, state.generator
    sampling = cfg.temperature, cfg.top_p, cfg.most_tokens, cfg.seed
    flaws, options = requested_flaws(cfg), generator_options(cfg)
    return ContrastConfig(model.model, model.digest, *sampling, flaws=flaws, options=options, terms=model.terms)


def score_config(state: BuildState) -> ScoreConfig:
    """Config of scoring."""
    return ScoreConfig(state.scorer.model, state.scorer.digest)


def pair_config(cfg: BuildConfig) -> PairConfig:
    """Config of pairing."""
    policy = policy_for(cfg.pairing, cfg.num_responses)
    return PairConfig(policy, cfg.seed, guard_config(cfg), cfg.allow_degenerate_rejected)


def import_config(state: BuildState) -> ImportConfig:
    """Config of reading pairs, with how they are made where the source holds several responses to a prompt."""
    assert state.rows
    rows = {field.name: getattr(state.rows, field.name) for field in fields(RowsConfig)}
    if state.source_format.gives == "pair":
        refuse_pairing(state.cfg)
        return ImportConfig(**rows)
    return ImportConfig(**rows, pairing=pair_config(state.cfg), is_auto=state.cfg.pairing == "auto")


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


MAKING = (
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
        lambda state: replace(pair_config(state.cfg), terms=state.generator.terms),
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
        import_pairs,
        Pair,
        import_config,
        shape="read",
        applies=lambda state: not state.kind.is_generated,
    ),
    Stage(
        StageName.READ_VERDICTS,
        read_verdicts,
        RecordedVerdict,
        lambda state: state.rows,
        shape="read",
        applies=lambda state: bool(state.rows) and not state.kind.is_generated and state.source_format.name == "two",
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
)
"""From the source to scored pairs, in the order they are made."""
SCREENING = (
    Stage(
        StageName.REDACT_PAIRS,
        redact_pairs,
        Pair,
        lambda state: RedactConfig(),
        (PAIRS,),
        applies=lambda state: state.cfg.redact,
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
    ),
    Stage(
        StageName.SWAP_PAIRS,
        swap_pairs,
        Pair,
        lambda state: state.swaps,
        (PAIRS,),
        applies=lambda state: bool(state.swaps.swaps),
    ),
    Stage(
        StageName.MEASURE_PAIRS,
        measure_pairs,
        Measured,
        lambda state: MeasureConfig(),
        (PAIRS,),
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
    ),
    Stage(
        StageName.FIND_LEXICAL_DUPLICATES,
        find_lexical_duplicates,
        Similar,
        lambda state: LexicalConfig(),
        (PAIRS, StageName.MEASURE_PAIRS),
        shape="whole",
        applies=lambda state: looks_at(StageName.FIND_LEXICAL_DUPLICATES, state),
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
    ),
    Stage(
        StageName.SCREEN_PAIRS,
        screen_pairs,
        Screened,
        lambda state: rules_config(state.cfg, state.models.noise),
        (*FEATURES, *SIMILAR),
        shape="whole",
    ),
)
"""Gone through again when a build is screened again, in this order."""
STAGES = (*MAKING, *SCREENING)

BY_NAME = {stage.name: stage for stage in STAGES}
