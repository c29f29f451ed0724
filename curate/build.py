"""The pipeline from one source to screened pairs: one function, read top to bottom."""

import json
import logging
import re
import time
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from curate.assets import asset
from curate.backends.allowance import Allowance
from curate.backends.ledger import Ledger
from curate.backends.limits import Terms
from curate.backends.named import NamedModel, named_generator, named_scorer
from curate.backends.recorder import Recorder
from curate.config import BuildConfig
from curate.counts import counts, flaw_rows
from curate.generate.contrast import ContrastConfig, write_contrasts
from curate.generate.flaws import parse_flaws
from curate.generate.self_sample import SampleConfig, sample_responses
from curate.noise import read_noise
from curate.pairs import PairConfig, make_pairs, policy_for
from curate.prices import Prices
from curate.probes import ProbesConfig, score_probes
from curate.refusals import GENERATED, check, refuse_scores
from curate.rounds import Wanted, flaw_quotas, rows_read, until_enough
from curate.saved import pairs_stage, read_build
from curate.score import ScoreConfig, is_pairwise, score_pairs, score_responses
from curate.screen.rules import guard_config
from curate.screening import Beside, screened_tables
from curate.sources.pairs import read_pairs
from curate.sources.prompts import read_prompts
from curate.sources.rows import RowsConfig, rows_config
from curate.store import Store, Table, write_atomically
from schemas.errors import UserError
from schemas.manifest import FORMAT
from schemas.names import WrittenFlaw
from schemas.tables import Candidate, Pair, Probed, Prompt, Score

log = logging.getLogger(__name__)

PROMPTS_PER_PAIR = 10
"""Most prompts for each pair of `--num-pairs`, unless `--max-prompts` says otherwise."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Models:
    """Who writes and who scores."""

    generator: NamedModel | None
    scorer: NamedModel | None
    noise: float | None
    """Of the scorer's margins; None where it was never measured."""


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
        scorer, counted = self.models.scorer, counts(self.tables)
        candidates = self.tables["sample_responses"].rows if "sample_responses" in self.tables else 2 * self.pairs.rows
        return {
            "name": self.name,
            **counted,
            "short": max(0, (self.config.num_pairs or 0) - counted["kept"]),
            "flaws": flaw_rows(self.tables, asked_flaws(self.config)),
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
    check(cfg)
    name = build_name(cfg)
    rows = source_rows(cfg)
    with Ledger(cfg.data / "ledger.sqlite") as ledger:
        terms, _ = read_terms(cfg)
        models = named_models(cfg, terms)
        recorder = Recorder(ledger, terms.allowance, cfg.max_failed)
        store = Store(cfg.data, recorder)

        def make(num_rows: int | None) -> dict[str, Table]:
            return screened_pairs(cfg, replace(rows, num_rows=num_rows), models, store, recorder)

        tables = until_enough(wanted_pairs(cfg, cfg.num_pairs), make) if cfg.num_pairs else make(cfg.num_prompts)
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
        log.warning("%s", shortage(cfg, built))
    elif short := [row for row in summary["flaws"] or () if row["kept"] < dict(quotas(cfg)).get(row["flaw"], 0)]:
        few = ", ".join(f"{row['kept']} of {dict(quotas(cfg))[row['flaw']]} {row['flaw']}" for row in short)
        log.warning("fewer pairs than wanted of some flaws (%s); pairs of others took their place", few)
    return built


def screened_pairs(
    cfg: BuildConfig, rows: RowsConfig, models: Models, store: Store, recorder: Recorder
) -> dict[str, Table]:
    """Every table from the rows of the source to the verdicts on the pairs, in the order they are made."""
    tables: dict[str, Table] = {}
    generator, scorer = models.generator, models.scorer
    if generator:
        prompts = tables["read_prompts"] = store.read(read_prompts, rows, writes=Prompt)
    if cfg.source == "sft" and generator and scorer:
        pairs = self_sampled(cfg, store, recorder, prompts, generator, scorer, tables)
    elif cfg.source == "gpt" and generator:
        asked = written_by(cfg, generator)
        pairs = tables["write_contrasts"] = store.map(
            write_contrasts, asked, prompts, writes=Pair, generator=generator, recorder=recorder
        )
    else:
        pairs = tables["read_pairs"] = store.read(read_pairs, rows, writes=Pair)
    if scorer and cfg.source != "sft":
        pairs = tables["score_pairs"] = store.map(
            score_pairs, scored_by(scorer), pairs, writes=Pair, scorer=scorer, recorder=recorder
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
    beside = Beside(models.noise, cfg.num_pairs, quotas(cfg))
    return tables | screened_tables(cfg, pairs, probed, beside, store, recorder)


def self_sampled(
    cfg: BuildConfig,
    store: Store,
    recorder: Recorder,
    prompts: Table,
    generator: NamedModel,
    scorer: NamedModel,
    tables: dict[str, Table],
) -> Table:
    """n responses a prompt, a score each, and the pairs of the policy."""
    candidates = tables["sample_responses"] = store.map(
        sample_responses, sampled_by(cfg, generator), prompts, writes=Candidate, generator=generator, recorder=recorder
    )
    scores = tables["score_responses"] = store.map(
        score_responses, scored_by(scorer), prompts, candidates, writes=Score, scorer=scorer, recorder=recorder
    )
    pairs = tables["make_pairs"] = store.map(make_pairs, paired_by(cfg), prompts, candidates, scores, writes=Pair)
    return pairs


def read_terms(cfg: BuildConfig) -> tuple[Terms, Prices]:
    """How endpoints may be asked in this run, and what they charge."""
    prices = Prices.load(cfg.prices, cfg.data)
    allowance = Allowance(cfg.budget, cfg.max_hours, prices)
    return Terms(cfg.concurrency, cfg.requests_per_minute, cfg.tokens_per_minute, allowance=allowance), prices


def named_models(cfg: BuildConfig, terms: Terms) -> Models:
    """The models of the build, by their names; none is loaded before its first call.

    Raises UserError where a budget is to be kept and the price of a model is not known.
    """
    generator = named_generator(cfg.generator, cfg.data, terms) if cfg.source in GENERATED else None
    name = cfg.scorer or ("reward-mini" if cfg.source == "sft" else "")
    scorer = named_scorer(name, cfg.data, terms, cfg.rubric) if name else None
    if scorer:
        refuse_scores(cfg, scorer.model, scorer.compares_across_prompts)
    for model in (generator, scorer):
        if cfg.budget is not None and model and terms.allowance.prices.cost(model.price_name, 1, 1) is None:
            raise UserError(
                f"--budget needs the price of {model.price_name}, which is unknown; put it into a file for --prices:"
                f' [models."{model.price_name}"] with input and output in USD per million tokens'
            )
    candidates = cfg.n if cfg.source == "sft" else 2
    noise = read_noise(cfg.data, scorer.model, scorer.digest, candidates) if scorer else None
    if generator:
        log.info("generator %s, scorer %s", generator.model, scorer.model if scorer else "none")
    return Models(generator, scorer, noise)


def wanted_pairs(cfg: BuildConfig, num_pairs: int) -> Wanted:
    """What `--num-pairs` asks for."""
    return Wanted(num_pairs, pairs_per_prompt(cfg), most_prompts(cfg), quotas(cfg))


def pairs_per_prompt(cfg: BuildConfig) -> int:
    """The most pairs that one prompt can give."""
    return cfg.n - 1 if cfg.source == "sft" and policy_for(cfg.pairing, cfg.n) == "adjacent" else 1


def most_prompts(cfg: BuildConfig) -> int | None:
    """The most prompts that the build may use, where pairs or prompts are counted."""
    if cfg.num_pairs:
        return cfg.max_prompts or PROMPTS_PER_PAIR * cfg.num_pairs
    return cfg.num_prompts


def asked_flaws(cfg: BuildConfig) -> tuple[tuple[WrittenFlaw, float], ...]:
    """Shares of the flaws that the writer of pairs is asked for; none for other sources."""
    return tuple(parse_flaws(cfg.flaws).items()) if cfg.source == "gpt" else ()


def quotas(cfg: BuildConfig) -> tuple[tuple[str, int], ...]:
    """Flaw -> accepted pairs of it among those of `--num-pairs`."""
    shares = asked_flaws(cfg)
    return flaw_quotas(shares, cfg.num_pairs) if shares and cfg.num_pairs else ()


def shortage(cfg: BuildConfig, built: Built) -> str:
    """Why there are fewer pairs than were asked for, and what each rule has cost."""
    rows = rows_read(built.tables)
    end = f"as many as --max-prompts allows ({rows})" if rows == most_prompts(cfg) else "all the source has"
    found = counts(built.tables)
    cost = ", ".join(f"{reason} {rows}" for reason, rows in found["dropped"].items()) or "nothing"
    return f"{found['kept']} of {cfg.num_pairs} pairs from {rows} prompts, {end}; dropped by rule: {cost}"


def sampled_by(cfg: BuildConfig, generator: NamedModel) -> SampleConfig:
    """How responses are drawn."""
    return SampleConfig(generator.model, generator.digest, cfg.n, cfg.temperature, cfg.top_p, cfg.max_tokens, cfg.seed)


def scored_by(scorer: NamedModel) -> ScoreConfig:
    """How responses are scored."""
    return ScoreConfig(scorer.model, scorer.digest)


def paired_by(cfg: BuildConfig) -> PairConfig:
    """How candidates are paired."""
    return PairConfig(policy_for(cfg.pairing, cfg.n), cfg.seed, guard_config(cfg), cfg.allow_degenerate_rejected)


def written_by(cfg: BuildConfig, generator: NamedModel) -> ContrastConfig:
    """How pairs are written."""
    return ContrastConfig(
        generator.model,
        generator.digest,
        cfg.temperature,
        cfg.top_p,
        cfg.max_tokens,
        cfg.seed,
        flaws=asked_flaws(cfg),
    )


def source_rows(cfg: BuildConfig) -> RowsConfig:
    """The rows of a file, a hub dataset or, for `samples`, what comes with pairwright."""
    is_generated = cfg.source in GENERATED
    spec, sample = (cfg.prompts, "prompts.jsonl") if is_generated else (cfg.source, "pairs.jsonl")
    path = str(asset("samples", sample)) if spec == "samples" else spec
    return rows_config(path, cfg.num_prompts, cfg.seed)


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


def build_path(data: Path, name: str) -> Path:
    return data / "builds" / f"{name}.json"


def config_json(cfg: BuildConfig) -> dict[str, Any]:
    """The config as a build's record holds it."""
    config = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(cfg).items()}
    del config["data"]
    # A later screening of the build may begin in another folder.
    config["against"] = [str(Path(name).resolve()) if Path(name).exists() else name for name in cfg.against]
    return config


def recorded_config(record: dict[str, Any], data: Path) -> BuildConfig:
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
