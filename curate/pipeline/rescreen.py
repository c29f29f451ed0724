"""An existing build screened again under other thresholds: nothing is asked, measured or embedded again."""

import json
import logging
import time
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from curate.audit.noise import read_noise
from curate.config import BuildConfig, ScreenConfig, Thresholds
from curate.files import write_atomically
from curate.ledger.ledger import Ledger
from curate.ledger.recorder import Recorder
from curate.pipeline.build import Built, config_json, read_config
from curate.pipeline.stages import ScreenContext, flaw_counts, pair_config, requested_flaws, rules_config, screen_tables
from curate.pipeline.summary import count_rows, flaw_rows
from curate.pipeline.validate import check_screening, refuse_scores
from curate.screen.summary import suggest_threshold, summarize_rules
from curate.store.store import Store, Table, config_in_key, open_table
from curate.store.workspace import build_path, read_build
from schemas.errors import UserError
from schemas.stages import MADE_STAGES

log = logging.getLogger(__name__)

BEFORE_SCREENING = (
    "read_prompts",
    "sample_responses",
    "score_responses",
    "score_probes",
    *MADE_STAGES,
)
"""Stages of a build that no threshold reaches."""


@dataclass(frozen=True)
class Rescreened:
    """A build after another screening."""

    name: str
    tables: dict[str, Table]
    thresholds: Thresholds
    rules: list[dict[str, Any]]
    """The waterfall, with examples."""
    way_out: str | None
    """What would keep some, where all are dropped."""
    counts: dict[str, Any]
    seconds: float

    @property
    def swapped(self) -> int:
        """Pairs that people turned round."""
        return len(self.tables["swap_pairs"].manifest.config["swaps"]) if "swap_pairs" in self.tables else 0

    def summary(self) -> dict[str, Any]:
        """What `curate screen --json` prints; the names are a contract."""
        screened = self.tables["screen_pairs"]
        dropped = {rule["rule"]: rule["dropped"] for rule in self.rules}
        return {
            "name": self.name,
            "pairs": screened.rows,
            "kept": screened.rows - sum(dropped.values()),
            "dropped": dropped,
            "rules": self.rules,
            "flags": self.counts["flags"],
            "thresholds": {field.name: getattr(self.thresholds, field.name) for field in fields(Thresholds)},
            "way_out": self.way_out,
            "table": screened.manifest.key,
            "seconds": round(self.seconds, 2),
        }


def rescreen(cfg: ScreenConfig) -> Rescreened:
    """Screen the build `cfg.name` under the thresholds of `cfg`; its name then stands for the new verdicts.

    Tables that a mix is locked to stay as they are. Raises UserError for thresholds that no screening can mean.
    """
    started = time.monotonic()
    record = read_build(cfg.data, cfg.name)
    built = read_config(record, cfg.data)
    changed = replace_thresholds(built, cfg)
    scorer = record.get("scorer") or {}
    check_screening(changed)
    check_against(cfg.name, built, changed)
    refuse_scores(changed, record["summary"]["scorer"], record["summary"]["scores_compare_across_prompts"])
    tables = {stage: open_table(cfg.data, stage, key) for stage, key in record["tables"].items()}
    paired = tables["make_pairs"].manifest.config if "make_pairs" in tables else None
    if paired and paired != config_in_key(pair_config(changed)):
        log.warning(
            "candidates were set aside before pairing under other thresholds (%s); to pair them under these, give "
            "curate build again: no call is repeated",
            ", ".join(f"{name} {value}" for name, value in paired["guards"].items()),
        )
    pairs_from = next(stage for stage in MADE_STAGES if stage in tables)
    if "chosen_finish" not in tables[pairs_from].scan().collect_schema():
        raise UserError(
            f"build '{cfg.name}' was made by an earlier version, which did not keep all that screening looks at; make "
            "it again with the command that made it: no call is repeated"
        )
    noise = read_noise(cfg.data, scorer["model"], scorer["digest"], responses_per_prompt(built)) if scorer else None
    beside = ScreenContext(noise, built.num_pairs, flaw_counts(built))
    made_before = {stage: table for stage, table in tables.items() if stage in BEFORE_SCREENING}
    with Ledger(cfg.data / "ledger.sqlite") as ledger:
        recorder = Recorder(ledger)
        probed = tables.get("score_probes")
        screened = screen_tables(changed, tables[pairs_from], probed, beside, Store(cfg.data, recorder), recorder)
    tables = made_before | screened
    found = count_rows(tables)
    summary = record["summary"] | found | {"table": tables["screen_pairs"].manifest.key}
    summary |= {
        "short": max(0, (built.num_pairs or 0) - found["kept"]),
        "flaws": flaw_rows(tables, requested_flaws(built)),
        "noise": noise,
    }
    record |= {
        "config": config_json(changed),
        "tables": {stage: table.manifest.key for stage, table in tables.items()},
        "identities": {stage: table.identity for stage, table in tables.items()},
        "summary": summary,
    }
    write_atomically(build_path(cfg.data, cfg.name), json.dumps(record, indent=1, ensure_ascii=False).encode())
    rules = summarize_rules(tables)
    out = suggest_threshold(tables, rules_config(changed, beside))
    return Rescreened(cfg.name, tables, changed, rules, out, found, time.monotonic() - started)


def check_against(name: str, built: BuildConfig, changed: BuildConfig) -> None:
    """Raises UserError for a file of evaluation prompts that was there at the last screening and is gone."""
    if changed.decontaminate == built.decontaminate:
        for path in changed.decontaminate:
            if Path(path).is_absolute() and not Path(path).exists():
                raise UserError(
                    f"build '{name}' was last screened --decontaminate {path}, which is gone; give --decontaminate "
                    "another file, or --defaults to begin from the default thresholds"
                )


def nothing_kept_hint(built: Built) -> str | None:
    """What would keep some pairs of a build that keeps none."""
    config = built.config
    return suggest_threshold(
        built.tables, rules_config(config, ScreenContext(built.models.noise, config.num_pairs, flaw_counts(config)))
    )


def replace_thresholds(built: BuildConfig, cfg: Thresholds) -> BuildConfig:
    """The config of a build with other thresholds."""
    return replace(built, **{field.name: getattr(cfg, field.name) for field in fields(Thresholds)})


def responses_per_prompt(built: BuildConfig) -> int:
    """Responses of a prompt that were scored beside each other."""
    return built.num_responses if built.source == "sft" else 2


def last_thresholds(data: Path, name: str) -> dict[str, Any]:
    """The thresholds that a build was screened under last."""
    built = read_config(read_build(data, name), data)
    return {field.name: getattr(built, field.name) for field in fields(Thresholds)}
