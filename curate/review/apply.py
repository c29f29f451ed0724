"""Builds screened again by what people said of their pairs."""

import logging
from dataclasses import dataclass
from pathlib import Path

from curate.config import ScreenConfig
from curate.pipeline.rescreen import last_thresholds, rescreen
from curate.screen.human import all_verdicts, are_applied, verdicts_on
from curate.store.reviews import read_asked
from curate.store.store import open_table
from curate.store.workspace import build_names, read_build
from schemas.errors import UserError
from schemas.stages import pairs_stage

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AppliedVerdicts:
    """A build that was screened by verdicts."""

    build: str
    rejected: int
    swapped: int
    kept: int
    pairs: int

    def line(self) -> str:
        return (
            f"build '{self.build}': {self.rejected} pairs dropped by human_reject, {self.swapped} swapped; "
            f"{self.kept:,} of {self.pairs:,} kept"
        )


def apply_verdicts(data: Path, name: str) -> list[AppliedVerdicts]:
    """Screen the builds that a review is about again, where people said something new."""
    verdicts = all_verdicts(data)
    known, applied = build_names(data), []
    for build in read_asked(data, name)["source"].unique().sort():
        if build not in known:
            continue
        tables = {stage: open_table(data, stage, key) for stage, key in read_build(data, build)["tables"].items()}
        on_pairs = verdicts_on(tables[pairs_stage(tables)].scan(), verdicts)
        if are_applied(on_pairs, tables.get("collect_human_verdicts")):
            continue
        try:
            screened = rescreen(ScreenConfig(name=build, data=data, **last_thresholds(data, build)))
        except UserError as error:
            # The answers are saved; a mix of the build is refused until it is screened by them.
            log.warning("build '%s' is not screened by the verdicts yet: %s", build, error)
            continue
        summary = screened.summary()
        rejected = summary["dropped"].get("human_reject", 0)
        applied.append(AppliedVerdicts(build, rejected, screened.swapped, summary["kept"], summary["pairs"]))
    return applied
