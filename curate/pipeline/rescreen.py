"""Screen an existing build again under other thresholds: nothing is asked, measured or embedded again.

screened = rescreen(ScreenConfig(name="sft", min_margin=0.5))
print("\\n".join(screened.lines()))
"""

import logging
import time
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from curate.audit.noise import read_noise, refuse_lost_noise
from curate.config import BuildConfig, ScreenConfig, Thresholds
from curate.pipeline.build import config_json, recorded_config
from curate.pipeline.mend import mended
from curate.pipeline.source import kind_of, requested_flaws
from curate.pipeline.stage import BuildState, Models
from curate.pipeline.stages import MAKING, make_tables, pair_config, rules_config
from curate.pipeline.summary import RowCounts, count_flaws, count_rows, largest_loss
from curate.pipeline.thresholds import format_threshold
from curate.pipeline.validate import check_screening, refuse_scores
from curate.screen.summary import RuleCount, suggest_threshold, summarize_rules
from curate.store.session import open_session
from curate.store.store import Table, config_in_key
from curate.store.workspace import BuildRecord, Workspace
from schemas.errors import UserError
from schemas.stages import StageName

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rescreened:
    """A build after another screening, with the counts of its rules."""

    name: str
    tables: dict[StageName, Table]
    thresholds: Thresholds
    rules: list[RuleCount]
    """The pairs each rule dropped, with examples."""
    hint: str | None
    """The flag that would keep some pairs, where all are dropped."""
    counts: RowCounts
    seconds: float

    @property
    def pairs(self) -> int:
        return self.tables[StageName.SCREEN_PAIRS].rows

    @property
    def kept(self) -> int:
        return self.pairs - sum(rule.dropped for rule in self.rules)

    @property
    def swapped(self) -> int:
        """Pairs whose label reviewers swapped."""
        swaps = self.tables.get(StageName.SWAP_PAIRS)
        return len(swaps.manifest.config["swaps"]) if swaps else 0

    def summary(self) -> dict[str, Any]:
        """The JSON object of `curate screen --json`; the names are a contract."""
        return {
            "name": self.name,
            "pairs": self.pairs,
            "kept": self.kept,
            "dropped": {rule.rule: rule.dropped for rule in self.rules},
            "rules": [asdict(rule) for rule in self.rules],
            "flags": self.counts.flags,
            "thresholds": {field.name: getattr(self.thresholds, field.name) for field in fields(Thresholds)},
            "hint": self.hint,
            "table": self.tables[StageName.SCREEN_PAIRS].manifest.key,
            "seconds": round(self.seconds, 2),
        }

    def lines(self) -> list[str]:
        """Each rule with its count, its share and the first pairs that it dropped; then what is kept and flagged."""
        changed = [format_threshold(field.name, getattr(self.thresholds, field.name)) for field in fields(Thresholds)]
        lines = [" ".join(["thresholds:", *filter(None, changed)])] if any(changed) else []
        lines.append(f"{self.pairs:>9,}          pairs")
        for rule in self.rules:
            lines += rule.lines()
        lines.append(f"{self.kept:>9,}  {self.kept / self.pairs if self.pairs else 0.0:>6.1%}  kept")
        lines += [f"{rows:>9,}          of them flagged {flag}" for flag, rows in self.counts.flags.items()]
        lines += [self.hint] if self.hint else []
        lines += [f"{self.swapped:>9,}          labels swapped by reviewers"] if self.swapped else []
        lines.append(f"build '{self.name}': {self.kept:,} of {self.pairs:,} pairs kept, {self.seconds:.1f} s")
        return lines


def rescreen(cfg: ScreenConfig) -> Rescreened:
    """Screen the build `cfg.name` under the thresholds of `cfg`; its name then stands for the new verdicts.

    Tables that a mix is locked to stay as they are. Raises UserError for invalid thresholds.
    """
    started = time.monotonic()
    workspace = Workspace(cfg.data)
    record = workspace.read_build(cfg.name)
    built = recorded_config(record, cfg.data)
    changed = replace_thresholds(built, cfg)
    check_screening(changed)
    check_benchmarks(cfg.name, built, changed)
    refuse_scores(changed, record.summary["scorer"], record.summary["scores_compare_across_prompts"])
    tables = mended(workspace, [cfg.name], partial(open_made, workspace, record))
    warn_of_pairing(tables, changed)
    noise = None
    refuse_lost_noise(workspace, record)
    if record.scorer:
        together = kind_of(built).scored_together(built)
        noise = read_noise(workspace, record.scorer["model"], record.scorer["digest"], together)
    with open_session(cfg.data) as session:
        tables = make_tables(BuildState(changed, Models(None, None, noise), session, tables=tables))
    counts, flaws = count_rows(tables), count_flaws(tables, requested_flaws(built))
    summary = record.summary | asdict(counts)
    summary |= {
        "short": max(0, (built.num_pairs or 0) - counts.kept),
        "hint": largest_loss(counts, tables, rules_config(changed, noise)),
        "flaws": None if flaws is None else [asdict(flaw) for flaw in flaws],
        "noise": noise,
        "table": tables[StageName.SCREEN_PAIRS].manifest.key,
    }
    screened = replace(
        record,
        config=config_json(changed),
        tables={stage: table.manifest.key for stage, table in tables.items()},
        identities={stage: table.identity for stage, table in tables.items()},
        summary=summary,
        is_rescreened=True,
    )
    workspace.save_build(screened)
    hint = suggest_threshold(tables, rules_config(changed, noise))
    return Rescreened(cfg.name, tables, changed, summarize_rules(tables), hint, counts, time.monotonic() - started)


def open_made(workspace: Workspace, record: BuildRecord) -> dict[StageName, Table]:
    """The whole tables of a build from its source to the pairs. Raises Damaged for one that is not."""
    made = {stage.name for stage in MAKING} & record.tables.keys()
    tables = {stage: workspace.open_table(stage, record.tables[stage]) for stage in record.tables if stage in made}
    for table in tables.values():
        if damage := table.damage():
            raise damage[0]
    return tables


def warn_of_pairing(tables: dict[StageName, Table], changed: BuildConfig) -> None:
    """Log where candidates were set aside before pairing under other thresholds."""
    paired = tables[StageName.MAKE_PAIRS].manifest.config if StageName.MAKE_PAIRS in tables else None
    if paired and paired != config_in_key(replace(pair_config(changed), terms=paired["terms"])):
        guards = paired["guards"]
        log.warning(
            "candidates were set aside before pairing under other thresholds (%s); to pair them under these, give "
            "curate build again: no call is repeated",
            ", ".join(f"{name} {value}" for name, value in (*guards["thresholds"], ("skip_rule", guards["skip_rule"]))),
        )


def check_benchmarks(name: str, built: BuildConfig, changed: BuildConfig) -> None:
    """Raises UserError for a file of evaluation prompts that was there at the last screening and is gone."""
    if changed.decontaminate == built.decontaminate:
        for path in changed.decontaminate:
            if Path(path).is_absolute() and not Path(path).exists():
                raise UserError(
                    f"build '{name}' was last screened --decontaminate {path}, which is gone; give --decontaminate "
                    "another file, or --defaults to begin from the default thresholds"
                )


def replace_thresholds(built: BuildConfig, cfg: Thresholds) -> BuildConfig:
    """The config of a build with other thresholds."""
    return replace(built, **{field.name: getattr(cfg, field.name) for field in fields(Thresholds)})


def last_thresholds(data: Path, name: str) -> dict[str, Any]:
    """The thresholds that a build was screened under last."""
    built = recorded_config(Workspace(data).read_build(name), data)
    return {field.name: getattr(built, field.name) for field in fields(Thresholds)}
