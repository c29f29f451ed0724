"""Builds screened again by what people said of their pairs."""

import logging
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


def apply_verdicts(data: Path, name: str) -> list[str]:
    """Screen the builds that a review is about again, where people said something new; a line for each of them."""
    verdicts = all_verdicts(data)
    known, lines = build_names(data), []
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
        lines.append(
            f"build '{build}': {rejected} pairs dropped by human_reject, {screened.swapped} swapped; "
            f"{summary['kept']:,} of {summary['pairs']:,} kept"
        )
    return lines
