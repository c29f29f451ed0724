"""The pipeline from one source to screened pairs: one function, read top to bottom."""

import json
import logging
import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from curate.assets import asset
from curate.backends.ledger import Ledger, Recorder
from curate.backends.named import NamedModel, minilm, named_generator, named_scorer
from curate.config import BuildConfig
from curate.generate.contrast import ContrastConfig, write_contrasts
from curate.generate.self_sample import SampleConfig, sample_responses
from curate.pairs import PairConfig, make_pairs
from curate.saved import read_build
from curate.score import ScoreConfig, score_pairs, score_responses
from curate.screen.screen import ScreenConfig, screen_pairs
from curate.sources.pairs import read_pairs
from curate.sources.prompts import read_prompts
from curate.sources.rows import RowsConfig, rows_config
from curate.store import Store, Table, write_atomically
from schemas.errors import UserError
from schemas.manifest import FORMAT
from schemas.names import DROP_REASONS
from schemas.tables import Candidate, Pair, Prompt, Score, Screened

log = logging.getLogger(__name__)

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
GENERATED = ("sft", "gpt")


@dataclass(frozen=True)
class Built:
    """A build: its tables from source to screen, and who wrote and scored."""

    name: str
    tables: dict[str, Table]
    """Stage -> table, in the order they were made."""
    generator: str | None
    scorer: str | None
    calls: int
    """Calls made now."""
    reused_calls: int
    """Calls behind the tables that had been made before."""
    seconds: float

    @property
    def pairs(self) -> Table:
        """The table that was screened."""
        return [table for stage, table in self.tables.items() if stage != "screen_pairs"][-1]

    @property
    def screened(self) -> Table:
        return self.tables["screen_pairs"]

    def counts(self) -> dict[str, int]:
        """Reason -> rows dropped on the whole way, in the order the reasons are met."""
        found: dict[str, int] = {}
        for table in self.tables.values():
            for reason, rows in table.dropped.items():
                found[reason] = found.get(reason, 0) + rows
        screened = self.screened.scan().group_by("dropped_by").len().drop_nulls().collect()
        for reason, rows in screened.rows():
            found[reason] = found.get(reason, 0) + rows
        return {reason: found[reason] for reason in DROP_REASONS if reason in found}

    def summary(self) -> dict[str, Any]:
        """What `curate build --json` prints; the names are a contract."""
        dropped = self.counts()
        kept = self.screened.scan().select(pl.col("dropped_by").null_count()).collect().item()
        candidates = self.tables["sample_responses"].rows if "sample_responses" in self.tables else 2 * self.pairs.rows
        return {
            "name": self.name,
            "rows_in": kept + sum(dropped.values()),
            "kept": kept,
            "dropped": dropped,
            "candidates": candidates,
            "calls": self.calls,
            "reused_calls": self.reused_calls,
            "scorer": self.scorer,
            "generator": self.generator,
            "table": self.screened.manifest.key,
            "seconds": round(self.seconds, 2),
        }


def build(cfg: BuildConfig) -> Built:
    """Prompts or pairs of one source, all the way to screened pairs; saved as `builds/NAME.json`."""
    started = time.monotonic()
    check(cfg)
    name = build_name(cfg)
    is_generated = cfg.source in GENERATED
    rows = (
        source_rows(cfg.prompts, "prompts.jsonl", cfg) if is_generated else source_rows(cfg.source, "pairs.jsonl", cfg)
    )
    tables: dict[str, Table] = {}
    with Ledger(cfg.data / "ledger.sqlite") as ledger:
        recorder = Recorder(ledger)
        store = Store(cfg.data, recorder)
        generator = named_generator(cfg.generator, cfg.data) if is_generated else None
        scorer_name = cfg.scorer or ("reward-mini" if cfg.source == "sft" else "")
        scorer = named_scorer(scorer_name) if scorer_name else None
        if generator:
            log.info("generator %s, scorer %s", generator.model, scorer.model if scorer else "none")
            prompts = tables["read_prompts"] = store.read(read_prompts, rows, writes=Prompt)
        if cfg.source == "sft" and generator and scorer:
            pairs = best_and_worst(cfg, store, recorder, prompts, generator, scorer, tables)
        elif cfg.source == "gpt" and generator:
            asked = contrast_config(cfg, generator)
            pairs = tables["write_contrasts"] = store.map(
                write_contrasts, asked, prompts, writes=Pair, generator=generator, recorder=recorder
            )
        else:
            pairs = tables["read_pairs"] = store.read(read_pairs, rows, writes=Pair)
        if scorer and cfg.source != "sft":
            judged = ScoreConfig(scorer.model, scorer.digest)
            pairs = tables["score_pairs"] = store.map(
                score_pairs, judged, pairs, writes=Pair, scorer=scorer, recorder=recorder
            )
        embedder = minilm()
        rules = ScreenConfig(cfg.min_margin, cfg.max_cosine, embedder.model, embedder.digest)
        tables["screen_pairs"] = store.whole(
            screen_pairs, rules, pairs, writes=Screened, embedder=embedder, recorder=recorder
        )
        made = recorder.tally.calls
    built = Built(
        name,
        tables,
        generator.model if generator else None,
        scorer.model if scorer else None,
        calls=made,
        reused_calls=sum(table.calls for table in tables.values()) - made,
        seconds=time.monotonic() - started,
    )
    save_build(cfg, built)
    return built


def best_and_worst(
    cfg: BuildConfig,
    store: Store,
    recorder: Recorder,
    prompts: Table,
    generator: NamedModel,
    scorer: NamedModel,
    tables: dict[str, Table],
) -> Table:
    """n responses a prompt, a score each, the best against the worst."""
    drawn = SampleConfig(generator.model, generator.digest, cfg.n, cfg.temperature, cfg.top_p, cfg.max_tokens, cfg.seed)
    judged = ScoreConfig(scorer.model, scorer.digest)
    candidates = tables["sample_responses"] = store.map(
        sample_responses, drawn, prompts, writes=Candidate, generator=generator, recorder=recorder
    )
    scores = tables["score_responses"] = store.map(
        score_responses, judged, prompts, candidates, writes=Score, scorer=scorer, recorder=recorder
    )
    pairs = tables["make_pairs"] = store.map(make_pairs, PairConfig(), prompts, candidates, scores, writes=Pair)
    return pairs


def contrast_config(cfg: BuildConfig, generator: NamedModel) -> ContrastConfig:
    return ContrastConfig(generator.model, generator.digest, cfg.temperature, cfg.top_p, cfg.max_tokens, cfg.seed)


def source_rows(spec: str, sample: str, cfg: BuildConfig) -> RowsConfig:
    """The rows of a file, a hub dataset or, for `samples`, what comes with pairwright."""
    path = str(asset("samples", sample)) if spec == "samples" else spec
    return rows_config(path, cfg.num_prompts, cfg.seed)


def check(cfg: BuildConfig) -> None:
    """Refuse what no build can mean, before anything is read or asked."""
    if cfg.source == "sft" and cfg.n < 2:
        raise UserError(f"--n {cfg.n} gives no pair; draw at least 2 responses a prompt")
    if cfg.source == "gpt" and not cfg.generator:
        raise UserError("--source gpt needs --generator, for example openai:gpt-4o-mini or http://HOST:PORT/v1#MODEL")
    if cfg.source not in GENERATED and cfg.generator:
        raise UserError(f"--generator writes responses for --source sft or gpt; '{cfg.source}' holds ready pairs")
    if cfg.num_prompts is not None and cfg.num_prompts < 1:
        raise UserError("--num-prompts must be at least 1")
    if cfg.max_tokens < 1:
        raise UserError(f"--max-tokens {cfg.max_tokens} leaves no room for a response")
    if not 0 <= cfg.temperature <= 2:
        raise UserError(f"--temperature {cfg.temperature} is outside 0 to 2")
    if cfg.source == "sft" and cfg.temperature == 0:
        raise UserError("--temperature 0 draws the same response every time, so there is no pair; use 0.7")
    if not 0 < cfg.top_p <= 1:
        raise UserError(f"--top-p {cfg.top_p} is outside 0 to 1")
    if cfg.min_margin != cfg.min_margin or cfg.min_margin < 0:
        raise UserError(f"--min-margin {cfg.min_margin} must be 0 or more")
    if not 0 < cfg.max_cosine <= 1:
        raise UserError(f"--max-cosine {cfg.max_cosine} is outside 0 to 1")
    if cfg.name and not NAME.fullmatch(cfg.name):
        raise UserError(f"--name '{cfg.name}' must be letters, digits, '.', '_' and '-' (at most 64)")


def build_name(cfg: BuildConfig) -> str:
    """The name given, else the source's. A source never takes the name of another one unasked."""
    own = (*GENERATED, "samples")
    if cfg.name in own and cfg.name != cfg.source:
        raise UserError(f"--name {cfg.name} belongs to --source {cfg.name}; choose another")
    if cfg.name or cfg.source in own:
        return cfg.name or cfg.source
    stem = Path(cfg.source.partition(":")[0]).name.partition(".")[0]
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-_")[:64] or "pairs"
    if name in own:
        return f"{name}-pairs"
    if build_path(cfg.data, name).exists():
        other = read_build(cfg.data, name)["config"]["source"]
        if other != cfg.source:
            raise UserError(f"build '{name}' was made from {other}; give this one a --name")
    return name


def build_path(data: Path, name: str) -> Path:
    return data / "builds" / f"{name}.json"


def save_build(cfg: BuildConfig, built: Built) -> None:
    """Write the build's name down, last: it points at tables that are whole."""
    config = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(cfg).items()}
    del config["data"]
    record = {
        "format": FORMAT,
        "name": built.name,
        "config": config,
        "tables": {stage: table.manifest.key for stage, table in built.tables.items()},
        "identities": {stage: table.identity for stage, table in built.tables.items()},
        "summary": built.summary(),
    }
    write_atomically(build_path(cfg.data, built.name), json.dumps(record, indent=1, ensure_ascii=False).encode())
