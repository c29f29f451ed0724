"""From pairs to verdicts: what is measured once, and the waterfall that can be gone through again."""

import math
from dataclasses import dataclass, fields

import dataframely as dy
import polars as pl

from curate.config import BuildConfig, Thresholds
from curate.files import asset
from curate.generate.contrast import ContrastConfig, write_pairs
from curate.generate.flaws import parse_flaws
from curate.generate.self_sample import SampleConfig, sample_responses
from curate.ledger.recorder import Recorder
from curate.models.encoder import minilm_encoder
from curate.models.resolve import LazyModel
from curate.pipeline.pairing import PairConfig, make_pairs, policy_for
from curate.pipeline.rounds import flaw_quotas
from curate.pipeline.validate import GENERATED
from curate.score.probes import ProbesConfig, score_probes
from curate.score.score import ScoreConfig, is_pairwise, score_pairs, score_responses
from curate.screen.benchmark_prompts import read_benchmarks
from curate.screen.contamination import ContaminationConfig, find_contamination
from curate.screen.human import (
    all_verdicts,
    collect_human_verdicts,
    human_verdicts_config,
    swap_config,
    swap_pairs,
    verdicts_on,
)
from curate.screen.pii import RedactConfig, redact_pairs
from curate.screen.rules import NEEDS_VECTORS, RulesConfig, guard_config
from curate.screen.screen import screen_pairs
from curate.screen.similar.embeddings import make_embed
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
from curate.sources.pairs import read_pairs
from curate.sources.prompts import read_prompts
from curate.sources.rows import RowsConfig, rows_config
from curate.store.store import Store, Table, stage_lines_hidden
from schemas.names import WrittenFlaw
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

NEAR_RULES = ("semantic_duplicate_prompt", "semantic_duplicate_pair")
FLOOR = 0.8
"""Smallest cosine that neighbor lists hold, unless a threshold lies under it."""


@dataclass(frozen=True)
class ScreenContext:
    """What a screening goes by besides its thresholds."""

    noise: float | None = None
    """Of the scorer's margins; None where it was never measured."""
    keep: int | None = None
    quotas: tuple[tuple[str, int], ...] = ()


def screen_tables(
    cfg: Thresholds, pairs: Table, probed: Table | None, beside: ScreenContext, store: Store, recorder: Recorder
) -> dict[str, Table]:
    """Stage -> table, from the pairs with their personal data gone where that is asked for to the verdicts.

    What people said comes first. All but the last table know no threshold, and are read where they are there.
    """
    tables: dict[str, Table] = {}
    if cfg.redact:
        pairs = tables["redact_pairs"] = store.map(redact_pairs, RedactConfig(), pairs, writes=Pair)
    judged = human_verdicts_table(pairs, store)
    if judged.rows:
        tables["collect_human_verdicts"] = judged
        if (swaps := swap_config(judged.scan().collect())).swaps:
            pairs = tables["swap_pairs"] = store.map(swap_pairs, swaps, pairs, writes=Pair)
    measured = tables["measure_pairs"] = store.map(measure_pairs, MeasureConfig(), pairs, writes=Measured)
    contaminated, copies, neighbors, placed, near = (
        empty_table(store, schema) for schema in (Contaminated, Similar, Similar, Topicality, EvalProximity)
    )
    benchmarks = read_benchmarks(cfg.decontaminate)
    if "contaminated" not in cfg.skip_rule:
        asked = ContaminationConfig(tuple((benchmark.name, benchmark.sha256) for benchmark in benchmarks))
        contaminated = tables["find_contamination"] = store.whole(
            find_contamination, asked, pairs, writes=Contaminated, benchmarks=benchmarks
        )
    if "lexical_duplicate" not in cfg.skip_rule:
        copies = tables["find_lexical_duplicates"] = store.whole(
            find_lexical_duplicates, LexicalConfig(), pairs, measured, writes=Similar
        )
    if any(rule not in cfg.skip_rule for rule in NEEDS_VECTORS):
        encoder = minilm_encoder()
        who = (encoder.model, encoder.digest)
        embed = make_embed(encoder, store.data, recorder)
        # Both kinds are looked for where one is wanted, so that leaving one out later is no other table.
        if any(rule not in cfg.skip_rule for rule in NEAR_RULES):
            neighbors = tables["find_semantic_duplicates"] = store.whole(
                find_semantic_duplicates,
                SemanticConfig(*who, neighbor_floor(cfg)),
                pairs,
                measured,
                writes=Similar,
                embed=embed,
            )
        if "off_topic" not in cfg.skip_rule:
            placed = tables["measure_topicality"] = store.whole(
                measure_topicality, TopicalityConfig(*who), pairs, measured, writes=Topicality, embed=embed
            )
        held = EvalProximityConfig(*who, tuple(benchmark.sha256 for benchmark in benchmarks))
        near = tables["measure_eval_proximity"] = store.whole(
            measure_eval_proximity, held, pairs, measured, writes=EvalProximity, embed=embed, benchmarks=benchmarks
        )
    tables["screen_pairs"] = store.whole(
        screen_pairs,
        rules_config(cfg, beside),
        measured,
        contaminated,
        copies,
        neighbors,
        placed,
        near,
        probed or empty_table(store, Probed),
        judged,
        writes=Screened,
    )
    return tables


def human_verdicts_table(pairs: Table, store: Store) -> Table:
    """What people said of these pairs, in all reviews."""
    verdicts = verdicts_on(pairs.scan(), all_verdicts(store.data))
    if verdicts.is_empty():
        return empty_table(store, Verdict)
    return store.whole(
        collect_human_verdicts, human_verdicts_config(verdicts), pairs, writes=Verdict, verdicts=verdicts
    )


def rules_config(cfg: Thresholds, beside: ScreenContext) -> RulesConfig:
    """The thresholds alone, and what comes beside them."""
    own = {field.name: getattr(cfg, field.name) for field in fields(Thresholds)}
    # Which files were looked into is in the table of hits; the order of names says nothing.
    own |= {"decontaminate": (), "skip_rule": tuple(sorted(set(cfg.skip_rule)))}
    return RulesConfig(**own, noise=beside.noise or 0.0, keep=beside.keep, quotas=beside.quotas)


def neighbor_floor(cfg: Thresholds) -> float:
    """The smallest cosine to look for: lists made for one threshold serve every larger one."""
    return FLOOR if cfg.max_cosine >= FLOOR else math.floor(cfg.max_cosine * 10) / 10


@dataclass(frozen=True)
class NoRowsConfig:
    """Which table stays empty."""

    table: str


def empty_table(store: Store, schema: type[dy.Schema]) -> Table:
    """An empty table, in the place of one that was not asked for."""

    def no_rows(cfg: NoRowsConfig) -> pl.DataFrame:
        return schema.create_empty()

    with stage_lines_hidden():
        return store.whole(no_rows, NoRowsConfig(schema.__name__), writes=schema)


@dataclass(frozen=True)
class Models:
    """Who writes and who scores."""

    generator: LazyModel | None
    scorer: LazyModel | None
    noise: float | None
    """Of the scorer's margins; None where it was never measured."""


def make_tables(
    cfg: BuildConfig, rows: RowsConfig, models: Models, store: Store, recorder: Recorder
) -> dict[str, Table]:
    """Every table from the rows of the source to the verdicts on the pairs, in the order they are made."""
    tables: dict[str, Table] = {}
    generator, scorer = models.generator, models.scorer
    if generator:
        prompts = tables["read_prompts"] = store.read(read_prompts, rows, writes=Prompt)
    if cfg.source == "sft" and generator and scorer:
        pairs = sample_and_pair(cfg, store, recorder, prompts, generator, scorer, tables)
    elif cfg.source == "gpt" and generator:
        asked = contrast_config(cfg, generator)
        pairs = tables["write_pairs"] = store.map(
            write_pairs, asked, prompts, writes=Pair, generator=generator, recorder=recorder
        )
    else:
        pairs = tables["read_pairs"] = store.read(read_pairs, rows, writes=Pair)
    if scorer and cfg.source != "sft":
        pairs = tables["score_pairs"] = store.map(
            score_pairs, score_config(scorer), pairs, writes=Pair, scorer=scorer, recorder=recorder
        )
    probed = None
    if scorer and not cfg.no_probes and not is_pairwise(scorer):
        probed = tables["score_probes"] = store.map(
            score_probes,
            ProbesConfig(scorer.model, scorer.digest),
            pairs,
            writes=Probed,
            scorer=scorer,
            recorder=recorder,
        )
    beside = ScreenContext(models.noise, cfg.num_pairs, flaw_counts(cfg))
    return tables | screen_tables(cfg, pairs, probed, beside, store, recorder)


def sample_and_pair(
    cfg: BuildConfig,
    store: Store,
    recorder: Recorder,
    prompts: Table,
    generator: LazyModel,
    scorer: LazyModel,
    tables: dict[str, Table],
) -> Table:
    """n responses a prompt, a score each, and the pairs of the policy."""
    candidates = tables["sample_responses"] = store.map(
        sample_responses,
        sample_config(cfg, generator),
        prompts,
        writes=Candidate,
        generator=generator,
        recorder=recorder,
    )
    scores = tables["score_responses"] = store.map(
        score_responses, score_config(scorer), prompts, candidates, writes=Score, scorer=scorer, recorder=recorder
    )
    pairs = tables["make_pairs"] = store.map(make_pairs, pair_config(cfg), prompts, candidates, scores, writes=Pair)
    return pairs


def requested_flaws(cfg: BuildConfig) -> tuple[tuple[WrittenFlaw, float], ...]:
    """Shares of the flaws that the writer of pairs is asked for; none for other sources."""
    return tuple(parse_flaws(cfg.flaws).items()) if cfg.source == "gpt" else ()


def flaw_counts(cfg: BuildConfig) -> tuple[tuple[str, int], ...]:
    """Flaw -> accepted pairs of it among those of `--num-pairs`."""
    shares = requested_flaws(cfg)
    return flaw_quotas(shares, cfg.num_pairs) if shares and cfg.num_pairs else ()


def sample_config(cfg: BuildConfig, generator: LazyModel) -> SampleConfig:
    """How responses are drawn."""
    return SampleConfig(
        generator.model, generator.digest, cfg.num_responses, cfg.temperature, cfg.top_p, cfg.max_tokens, cfg.seed
    )


def score_config(scorer: LazyModel) -> ScoreConfig:
    """How responses are scored."""
    return ScoreConfig(scorer.model, scorer.digest)


def pair_config(cfg: BuildConfig) -> PairConfig:
    """How candidates are paired."""
    return PairConfig(
        policy_for(cfg.pairing, cfg.num_responses), cfg.seed, guard_config(cfg), cfg.allow_degenerate_rejected
    )


def contrast_config(cfg: BuildConfig, generator: LazyModel) -> ContrastConfig:
    """How pairs are written."""
    return ContrastConfig(
        generator.model,
        generator.digest,
        cfg.temperature,
        cfg.top_p,
        cfg.max_tokens,
        cfg.seed,
        flaws=requested_flaws(cfg),
    )


def source_rows(cfg: BuildConfig) -> RowsConfig:
    """The rows of a file, a hub dataset or, for `samples`, what comes with pairwright."""
    is_generated = cfg.source in GENERATED
    spec, sample = (cfg.prompts, "prompts.jsonl") if is_generated else (cfg.source, "pairs.jsonl")
    path = str(asset("samples", sample)) if spec == "samples" else spec
    return rows_config(path, cfg.num_prompts, cfg.seed)
