"""Build screened pairs from one source: one function, read top to bottom.

built = build(BuildConfig(source="sft", num_prompts=24))
print(built.counts.kept)
"""

import logging
import os
import re
import socket
import time
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from curate.audit.noise import read_noise, refuse_lost_noise
from curate.config import BuildConfig
from curate.files import Damaged
from curate.flags import command_line
from curate.ledger.prices import Prices
from curate.ledger.spend_cap import Budget
from curate.models.call_options import generator_options, judge_options
from curate.models.limits import EndpointConfig
from curate.models.resolve import resolve_generator, resolve_scorer
from curate.pipeline.rounds import Wanted, build_until, rows_read
from curate.pipeline.source import KINDS, flaw_counts, kind_of, most_prompts, requested_flaws, source_rows
from curate.pipeline.stage import BuildState, Models
from curate.pipeline.stages import MAKING, make_tables, rules_config
from curate.pipeline.summary import FlawCount, RowCounts, count_flaws, count_rows, largest_loss
from curate.pipeline.thresholds import keep_thresholds
from curate.pipeline.validate import refuse_scores, validate_build
from curate.sources.rows import RowsConfig
from curate.store.session import Session, open_session
from curate.store.store import Table
from curate.store.unfinished import UnfinishedBuild, forget_unfinished, noted_when_stopped, save_unfinished
from curate.store.workspace import BuildRecord, Workspace, check_name
from schemas.errors import UserError
from schemas.stages import StageName, pairs_stage

log = logging.getLogger(__name__)

SCORER_FIELDS = ("model", "digest", "form", "rubric", "options")
"""What the record of a build holds of its scorer: all that the key of a call needs."""


@dataclass(frozen=True)
class Built:
    """A build: its tables from source to screen, and who wrote and scored."""

    name: str
    tables: dict[StageName, Table]
    """Stage -> table, in the order they were made."""
    models: Models
    config: BuildConfig
    counts: RowCounts
    hint: str | None
    """The largest cause of lost rows and what to do, where no pair is kept or it cost more than half of the rows."""
    flaws: list[FlawCount] | None
    """How the flaws that were asked for came out; None where none was."""
    calls: int
    """Calls made now."""
    reused_calls: int
    """Calls behind the tables that had been made before."""
    repeated_calls: int
    """Of the calls made now, those for responses that a smaller `--max-tokens` had truncated."""
    cost_usd: float | None
    """Of the calls made now; None where it is not known."""
    seconds: float

    @property
    def pairs(self) -> Table:
        """The table that was screened."""
        return self.tables[pairs_stage(self.tables)]

    @property
    def screened(self) -> Table:
        return self.tables[StageName.SCREEN_PAIRS]

    @property
    def candidates(self) -> int:
        """Responses that the pairs were made of."""
        drawn = self.tables.get(StageName.SAMPLE_RESPONSES)
        return drawn.rows if drawn else 2 * self.pairs.rows

    @property
    def short(self) -> int:
        """Pairs that `--num-pairs` asked for and that there are not."""
        return max(0, (self.config.num_pairs or 0) - self.counts.kept)

    def summary(self) -> dict[str, Any]:
        """The JSON object of `curate build --json`; the names are a contract."""
        scorer = self.models.scorer
        return {
            "name": self.name,
            **asdict(self.counts),
            "short": self.short,
            "hint": self.hint,
            "flaws": None if self.flaws is None else [asdict(flaw) for flaw in self.flaws],
            "candidates": self.candidates,
            "calls": self.calls,
            "reused_calls": self.reused_calls,
            "repeated_calls": self.repeated_calls,
            "cost_usd": None if self.cost_usd is None else round(self.cost_usd, 6),
            "scorer": scorer.model if scorer else None,
            "scores_compare_across_prompts": scorer.compares_across_prompts if scorer else None,
            "noise": self.models.noise,
            "generator": self.models.generator.model if self.models.generator else None,
            "table": self.screened.manifest.key,
            "seconds": round(self.seconds, 2),
        }


def build(cfg: BuildConfig) -> Built:
    """Make screened pairs from the prompts or pairs of one source; saved as `builds/NAME.json`.

    Raises UserError for an invalid config, and CapReached where budget or time end first.
    """
    started = time.monotonic()
    cfg = as_screened(cfg)
    validate_build(cfg)
    workspace = Workspace(cfg.data)
    name = build_name(cfg, workspace)
    rows = source_rows(cfg)
    endpoints = endpoint_config(cfg, Prices.load(cfg.prices, workspace.prices))
    with open_session(cfg.data, endpoints.budget, cfg.max_failed_share) as session:
        models = resolve_models(cfg, endpoints, session)
        if before := last_record(workspace, name, models):
            refuse_lost_noise(workspace, before)
        with noted_when_stopped(workspace, name):
            tables = make_rounds(cfg, rows, models, session, partial(note_begun, name))
        made = session.recorder.tally
    counts = count_rows(tables)
    built = Built(
        name,
        tables,
        models,
        cfg,
        counts,
        largest_loss(counts, tables, rules_config(cfg, models.noise)),
        count_flaws(tables, requested_flaws(cfg)),
        calls=made.calls,
        # A call that failed in one round and was made again in the next counts twice among those made.
        reused_calls=max(0, sum(table.calls for table in tables.values()) - made.calls),
        repeated_calls=made.repeated_calls,
        cost_usd=None if endpoints.budget.unpriced_calls else endpoints.budget.spent_usd,
        seconds=time.monotonic() - started,
    )
    workspace.save_build(record_of(built, last_screening(cfg, workspace) is not None))
    forget_unfinished(workspace, name)
    if built.short:
        log.warning("%s", describe_shortage(built))
    elif short := [row for row in built.flaws or () if row.kept < dict(flaw_counts(cfg)).get(row.flaw, 0)]:
        few = ", ".join(f"{row.kept} of {dict(flaw_counts(cfg))[row.flaw]} {row.flaw}" for row in short)
        log.warning("fewer pairs than wanted of some flaws (%s); pairs of others took their place", few)
    return built


def saved_record(workspace: Workspace, name: str) -> BuildRecord | None:
    """The record of the build under this name; None where there is none, or a damaged one, which is written again."""
    try:
        return workspace.read_build(name) if name in workspace.build_names() else None
    except Damaged as error:
        log.warning("%s; made again", error.found)
        return None


def last_record(workspace: Workspace, name: str, models: Models) -> BuildRecord | None:
    """The record of the build under this name, where it had the same scorer."""
    record = saved_record(workspace, name)
    is_same = record and record.scorer and models.scorer and record.scorer["digest"] == models.scorer.digest
    return record if is_same else None


def make_rounds(
    cfg: BuildConfig,
    rows: RowsConfig,
    models: Models,
    session: Session,
    begun: Callable[[BuildState, StageName, str], None] = lambda state, stage, key: None,
) -> dict[StageName, Table]:
    """The tables of a build, in rounds where pairs are to be accepted; `begun` is told of each that begins."""

    def make(num_rows: int | None) -> dict[StageName, Table]:
        state = BuildState(cfg, models, session, replace(rows, num_rows=num_rows))
        session.store.begun = partial(begun, state)
        return make_tables(state)

    return build_until(wanted_config(cfg, cfg.num_pairs), make) if cfg.num_pairs else make(cfg.num_prompts)


def endpoint_config(cfg: BuildConfig, prices: Prices) -> EndpointConfig:
    """Limits, prices and spend cap of the endpoints of this run."""
    budget = Budget(cfg.budget, cfg.max_hours, prices)
    return EndpointConfig(cfg.concurrency, cfg.requests_per_minute, cfg.tokens_per_minute, budget=budget)


def resolve_models(cfg: BuildConfig, endpoints: EndpointConfig, session: Session) -> Models:
    """The models of the build, by their names; none is loaded before its first call.

    Raises UserError where a budget is to be kept and the price of a model is not known.
    """
    kind = kind_of(cfg)
    options = generator_options(cfg)
    generator = resolve_generator(cfg.generator, cfg.data, endpoints, options) if kind.is_generated else None
    name = cfg.scorer or kind.default_scorer
    scorer = resolve_scorer(name, cfg.data, endpoints, cfg.rubric, judge_options(cfg)) if name else None
    if scorer:
        refuse_scores(cfg, scorer.model, scorer.compares_across_prompts)
    for model in (generator, scorer):
        if cfg.budget is not None and model and endpoints.budget.prices.cost(model.price_name, 1, 1) is None:
            raise UserError(
                f"--budget needs the price of {model.price_name}, which is unknown; put it into a file for --prices:"
                f' [models."{model.price_name}"] with input and output in USD per million tokens'
            )
    noise = read_noise(session.workspace, scorer.model, scorer.digest, kind.scored_together(cfg)) if scorer else None
    if generator:
        log.info("generator %s, scorer %s", generator.model, scorer.model if scorer else "none")
    return Models(generator, scorer, noise)


def wanted_config(cfg: BuildConfig, num_pairs: int) -> Wanted:
    """The pairs that `--num-pairs` asks for, of all and of each flaw."""
    return Wanted(num_pairs, kind_of(cfg).pairs_per_prompt(cfg), most_prompts(cfg), flaw_counts(cfg))


def describe_shortage(built: Built) -> str:
    """The reason there are fewer pairs than were asked for, and the rows each rule dropped."""
    rows = rows_read(built.tables)
    end = f"as many as --max-prompts allows ({rows})" if rows == most_prompts(built.config) else "all the source has"
    cost = ", ".join(f"{reason} {rows}" for reason, rows in built.counts.dropped.items()) or "nothing"
    return f"{built.counts.kept} of {built.config.num_pairs} pairs from {rows} prompts, {end}; dropped by rule: {cost}"


def build_name(cfg: BuildConfig, workspace: Workspace) -> str:
    """The name given, else the source's. A source never takes the name of another one unasked."""
    own = (*KINDS, "samples")
    if cfg.name in own and cfg.name != cfg.source:
        raise UserError(f"--name {cfg.name} belongs to --source {cfg.name}; choose another")
    name = cfg.name or (cfg.source if cfg.source in own else name_of_file(cfg.source))
    check_name("--name", name, (*own, *workspace.build_names(), *workspace.mix_names()))
    if not cfg.name and name not in own and name in workspace.build_names():
        other = workspace.read_build(name).config["source"]
        if other != cfg.source:
            raise UserError(f"build '{name}' was made from {other}; give this one a --name")
    return name


def name_of_file(source: str) -> str:
    """The name of a build from the stem of a file, or the last part of the name of a dataset."""
    stem = Path(source.partition(":")[0]).name.partition(".")[0]
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-_")[:64] or "pairs"
    return f"{name}-pairs" if name in (*KINDS, "samples") else name


def config_json(cfg: BuildConfig) -> dict[str, Any]:
    """The config as a build's record holds it."""
    config = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(cfg).items()}
    del config["data"]
    # A later screening of the build may begin in another folder.
    config["decontaminate"] = [str(Path(name).resolve()) if Path(name).exists() else name for name in cfg.decontaminate]
    return config


def recorded_config(record: BuildRecord, data: Path) -> BuildConfig:
    """The config that a build's record holds."""
    values: dict[str, Any] = {"data": data}
    for field in fields(BuildConfig):
        if (value := record.config.get(field.name)) is not None:
            values[field.name] = tuple(value) if isinstance(value, list) else value
    if "prices" in values:
        values["prices"] = Path(values["prices"])
    return BuildConfig(**values)


def last_screening(cfg: BuildConfig, workspace: Workspace) -> BuildRecord | None:
    """The record of the build, where it was made of the same source and screened again since."""
    name = build_name(cfg, workspace)
    record = saved_record(workspace, name)
    return record if record and record.is_rescreened and record.config["source"] == cfg.source else None


def as_screened(cfg: BuildConfig, given: Collection[str] | None = None) -> BuildConfig:
    """The config with the thresholds of the build's last screening, where there was one.

    `given` are the fields that were asked for by name. Raises UserError where one of them differs from the screening,
    and for flags that contradict each other.
    """
    validate_build(cfg)
    record = last_screening(cfg, Workspace(cfg.data))
    if record is None:
        return cfg
    return replace(cfg, **keep_thresholds(record.name, config_json(cfg), record.config, given))


def record_of(built: Built, is_rescreened: bool) -> BuildRecord:
    """The record of a build, written last: it points at tables that are whole."""
    return BuildRecord(
        name=built.name,
        config=config_json(built.config),
        tables={stage: table.manifest.key for stage, table in built.tables.items()},
        identities={stage: table.identity for stage, table in built.tables.items()},
        scorer=scorer_json(built.models),
        summary=built.summary(),
        is_rescreened=is_rescreened,
    )


def scorer_json(models: Models) -> dict[str, Any] | None:
    """How the scorer asks, as a build's record holds it."""
    scorer = models.scorer
    return {name: getattr(scorer, name) for name in SCORER_FIELDS} if scorer else None


def note_begun(name: str, state: BuildState, stage: StageName, key: str) -> None:
    """Write down where the build stands, which begins to make a table."""
    whole = {made: table.manifest.key for made, table in state.tables.items()}
    to_come = [each.name for each in MAKING if each.applies(state) and each.name not in (*whole, stage)]
    unfinished = UnfinishedBuild(
        name=name,
        config=config_json(state.cfg),
        scorer=scorer_json(state.models),
        command=command_line("curate build", state.cfg),
        process=f"{socket.gethostname()}:{os.getpid()}",
        tables=whole,
        stage=stage,
        key=key,
        to_come=tuple(to_come),
    )
    save_unfinished(state.session.workspace, unfinished)
