"""Screen builds again by the verdicts of reviewers."""

import logging
from dataclasses import dataclass
from pathlib import Path

from curate.config import ScreenConfig
from curate.pipeline.rescreen import last_thresholds, rescreen
from curate.screen.human import all_verdicts, are_applied, verdicts_on
from curate.store.reviews import read_asked
from curate.store.workspace import Workspace
from schemas.errors import UserError
from schemas.stages import StageName

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
    """Screen the builds of a review again, where there are new verdicts."""
    verdicts = all_verdicts(data)
    workspace, applied = Workspace(data), []
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
        applied.append(AppliedVerdicts(build, rejected, screened.swapped, screened.kept, screened.pairs))
    return applied
