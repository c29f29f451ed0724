"""Builds screened again by what people said of their pairs."""

import logging
from pathlib import Path

from curate.config import ScreenConfig
from curate.rescreen import rescreen, thresholds_of
from curate.review.folder import read_asked
from curate.review.judged import all_verdicts, are_applied, verdicts_on
from curate.saved import build_names, pairs_stage, read_build
from curate.store import open_table
from schemas.errors import UserError

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
        if are_applied(on_pairs, tables.get("judge_pairs")):
            continue
        try:
            screened = rescreen(ScreenConfig(name=build, data=data, **thresholds_of(data, build)))
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
