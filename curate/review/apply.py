"""Builds screened again by what people said of their pairs."""

import logging
from pathlib import Path

from curate.config import ScreenConfig
from curate.pipeline.rescreen import last_thresholds, rescreen
from curate.screen.human import all_verdicts, are_applied, verdicts_on
from curate.store.reviews import read_asked
from curate.store.workspace import Workspace
from schemas.errors import UserError
from schemas.stages import StageName

log = logging.getLogger(__name__)


def apply_verdicts(data: Path, name: str) -> list[str]:
    """Screen the builds that a review is about again, where people said something new; a line for each of them."""
    verdicts = all_verdicts(data)
    workspace, lines = Workspace(data), []
    for build in read_asked(data, name)["source"].unique().sort():
        if build not in workspace.build_names():
            continue
        record = workspace.read_build(build)
        on_pairs = verdicts_on(workspace.open_pairs(record).scan(), verdicts)
        if are_applied(on_pairs, workspace.open_tables(record).get(StageName.COLLECT_HUMAN_VERDICTS)):
            continue
        try:
            screened = rescreen(ScreenConfig(name=build, data=data, **last_thresholds(data, build)))
        except UserError as error:
            # The answers are saved; a mix of the build is refused until it is screened by them.
            log.warning("build '%s' is not screened by the verdicts yet: %s", build, error)
            continue
        rejected = screened.counts.dropped.get("human_reject", 0)
        lines.append(
            f"build '{build}': {rejected} pairs dropped by human_reject, {screened.swapped} swapped; "
            f"{screened.kept:,} of {screened.pairs:,} kept"
        )
    return lines
