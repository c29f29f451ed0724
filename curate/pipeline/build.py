"""The pipeline from one source to screened pairs: one function, read top to bottom."""

import json
import logging
import re
import time
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from curate.audit.noise import read_noise
from curate.config import BuildConfig
from curate.files import write_atomically
from curate.ledger.ledger import Ledger
from curate.ledger.prices import Prices
from curate.ledger.recorder import Recorder
from curate.ledger.spend_cap import Budget
from curate.models.limits import EndpointConfig
from curate.models.resolve import resolve_generator, resolve_scorer
from curate.pipeline.pairing import policy_for
from curate.pipeline.rounds import Wanted, build_until, rows_read
from curate.pipeline.stages import Models, flaw_counts, make_tables, requested_flaws, source_rows
from curate.pipeline.summary import count_rows, flaw_rows
from curate.pipeline.validate import GENERATED, refuse_scores, validate_build
from curate.store.store import Store, Table
from curate.store.workspace import NAME, build_path, read_build
from schemas.errors import UserError
from schemas.manifest import FORMAT
from schemas.stages import pairs_stage

log = logging.getLogger(__name__)

PROMPTS_PER_PAIR = 10
"""Most prompts for each pair of `--num-pairs`, unless `--max-prompts` says otherwise."""


@dataclass(frozen=True)
class Built:
    """A build: its tables from source to screen, and who wrote and scored."""

    name: str
    tables: dict[str, Table]
    """Stage -> table, in the order they were made."""
    models: Models
    config: BuildConfig
    calls: int
    """Calls made now."""
    reused_calls: int
    """Calls behind the tables that had been made before."""
    repeated_calls: int
    """Of the calls made now, those for the responses of earlier ones that a smaller `--max-tokens` had cut."""
    cost_usd: float | None
    """Of the calls made now; None where it is not known."""
    seconds: float

    @property
    def pairs(self) -> Table:
        """The table that was screened."""
        return self.tables[pairs_stage(self.tables)]

    @property
    def screened(self) -> Table:
        return self.tables["screen_pairs"]

    def summary(self) -> dict[str, Any]:
        """What `curate build --json` prints; the names are a contract."""
        scorer, counted = self.models.scorer, count_rows(self.tables)
        candidates = self.tables["sample_responses"].rows if "sample_responses" in self.tables else 2 * self.pairs.rows
        return {
            "name": self.name,
            **counted,
            "short": max(0, (self.config.num_pairs or 0) - counted["kept"]),
            "flaws": flaw_rows(self.tables, requested_flaws(self.config)),
            "candidates": candidates,
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
    """Prompts or pairs of one source, all the way to screened pairs; saved as `builds/NAME.json`."""
    started = time.monotonic()
    validate_build(cfg)
    name = build_name(cfg)
    rows = source_rows(cfg)
    with Ledger(cfg.data / "ledger.sqlite") as ledger:
        terms, _ = endpoint_config(cfg)
        models = resolve_models(cfg, terms)
        recorder = Recorder(ledger, terms.allowance, cfg.max_failed_share)
        store = Store(cfg.data, recorder)

        def make(num_rows: int | None) -> dict[str, Table]:
            return make_tables(cfg, replace(rows, num_rows=num_rows), models, store, recorder)

        tables = build_until(wanted_config(cfg, cfg.num_pairs), make) if cfg.num_pairs else make(cfg.num_prompts)
        made = recorder.tally
    built = Built(
        name,
        tables,
        models,
        cfg,
        calls=made.calls,
        # A call that failed in one round and was made again in the next counts twice among those made.
        reused_calls=max(0, sum(table.calls for table in tables.values()) - made.calls),
        repeated_calls=made.repeated_calls,
        cost_usd=None if terms.allowance.unpriced_calls else terms.allowance.spent_usd,
        seconds=time.monotonic() - started,
    )
    save_build(cfg, built)
    summary = built.summary()
    if summary["short"]:
        log.warning("%s", describe_shortage(cfg, built))
    elif short := [row for row in summary["flaws"] or () if row["kept"] < dict(flaw_counts(cfg)).get(row["flaw"], 0)]:
        few = ", ".join(f"{row['kept']} of {dict(flaw_counts(cfg))[row['flaw']]} {row['flaw']}" for row in short)
        log.warning("fewer pairs than wanted of some flaws (%s); pairs of others took their place", few)
    return built


def endpoint_config(cfg: BuildConfig) -> tuple[EndpointConfig, Prices]:
    """How endpoints may be asked in this run, and what they charge."""
    prices = Prices.load(cfg.prices, cfg.data)
    allowance = Budget(cfg.budget, cfg.max_hours, prices)
    return EndpointConfig(cfg.concurrency, cfg.requests_per_minute, cfg.tokens_per_minute, allowance=allowance), prices


def resolve_models(cfg: BuildConfig, terms: EndpointConfig) -> Models:
    """The models of the build, by their names; none is loaded before its first call.

    Raises UserError where a budget is to be kept and the price of a model is not known.
    """
    generator = resolve_generator(cfg.generator, cfg.data, terms) if cfg.source in GENERATED else None
    name = cfg.scorer or ("reward-mini" if cfg.source == "sft" else "")
    scorer = resolve_scorer(name, cfg.data, terms, cfg.rubric) if name else None
    if scorer:
        refuse_scores(cfg, scorer.model, scorer.compares_across_prompts)
    for model in (generator, scorer):
        if cfg.budget is not None and model and terms.allowance.prices.cost(model.price_name, 1, 1) is None:
            raise UserError(
                f"--budget needs the price of {model.price_name}, which is unknown; put it into a file for --prices:"
                f' [models."{model.price_name}"] with input and output in USD per million tokens'
            )
    candidates = cfg.num_responses if cfg.source == "sft" else 2
    noise = read_noise(cfg.data, scorer.model, scorer.digest, candidates) if scorer else None
    if generator:
        log.info("generator %s, scorer %s", generator.model, scorer.model if scorer else "none")
    return Models(generator, scorer, noise)


def wanted_config(cfg: BuildConfig, num_pairs: int) -> Wanted:
    """What `--num-pairs` asks for."""
    return Wanted(num_pairs, pairs_per_prompt(cfg), most_prompts(cfg), flaw_counts(cfg))


def pairs_per_prompt(cfg: BuildConfig) -> int:
    """The most pairs that one prompt can give."""
    return (
        cfg.num_responses - 1 if cfg.source == "sft" and policy_for(cfg.pairing, cfg.num_responses) == "adjacent" else 1
    )


def most_prompts(cfg: BuildConfig) -> int | None:
    """The most prompts that the build may use, where pairs or prompts are counted."""
    if cfg.num_pairs:
        return cfg.max_prompts or PROMPTS_PER_PAIR * cfg.num_pairs
    return cfg.num_prompts


def describe_shortage(cfg: BuildConfig, built: Built) -> str:
    """Why there are fewer pairs than were asked for, and what each rule has cost."""
    rows = rows_read(built.tables)
    end = f"as many as --max-prompts allows ({rows})" if rows == most_prompts(cfg) else "all the source has"
    found = count_rows(built.tables)
    cost = ", ".join(f"{reason} {rows}" for reason, rows in found["dropped"].items()) or "nothing"
    return f"{found['kept']} of {cfg.num_pairs} pairs from {rows} prompts, {end}; dropped by rule: {cost}"


def build_name(cfg: BuildConfig) -> str:
    """The name given, else the source's. A source never takes the name of another one unasked."""
    if cfg.name and not NAME.fullmatch(cfg.name):
        raise UserError(f"--name '{cfg.name}' must be letters, digits, '.', '_' and '-' (at most 64)")
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


def config_json(cfg: BuildConfig) -> dict[str, Any]:
    """The config as a build's record holds it."""
    config = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(cfg).items()}
    del config["data"]
    # A later screening of the build may begin in another folder.
    config["decontaminate"] = [str(Path(name).resolve()) if Path(name).exists() else name for name in cfg.decontaminate]
    return config


def read_config(record: dict[str, Any], data: Path) -> BuildConfig:
    """The config that a build's record holds; what an earlier version did not know has its default."""
    values: dict[str, Any] = {"data": data}
    for field in fields(BuildConfig):
        if (value := record["config"].get(field.name)) is not None:
            values[field.name] = tuple(value) if isinstance(value, list) else value
    if "prices" in values:
        values["prices"] = Path(values["prices"])
    return BuildConfig(**values)


def save_build(cfg: BuildConfig, built: Built) -> None:
    """Write the build's name down, last: it points at tables that are whole."""
    scorer = built.models.scorer
    record = {
        "format": FORMAT,
        "name": built.name,
        "config": config_json(cfg),
        "tables": {stage: table.manifest.key for stage, table in built.tables.items()},
        # How it asks, in full, since the file of a rubric may change: every call can be found again.
        "scorer": {name: getattr(scorer, name) for name in ("model", "digest", "form", "rubric")} if scorer else None,
        "identities": {stage: table.identity for stage, table in built.tables.items()},
        "summary": built.summary(),
    }
    write_atomically(build_path(cfg.data, built.name), json.dumps(record, indent=1, ensure_ascii=False).encode())
