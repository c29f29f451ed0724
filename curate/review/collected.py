"""Result of `pull` and `import`: the answers and verdicts of a review so far."""

from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from curate.screen.human import text_key, verdicts
from schemas.names import VERDICTS


@dataclass(frozen=True)
class CollectedAnswers:
    """The answers of a review so far."""

    name: str
    submitted: int
    drafts: int
    discarded: int
    verdicts: dict[str, int]
    needs_review: int
    """Records on which reviewers split."""

    def summary(self) -> dict[str, Any]:
        return asdict(self)

    def lines(self) -> list[str]:
        """The same in words."""
        counts = ", ".join(f"{rows} {verdict}" for verdict, rows in self.verdicts.items())
        return [
            f"review '{self.name}': {self.submitted} answers submitted, {self.drafts} drafts, "
            f"{self.discarded} discarded; verdicts: {counts}; {self.needs_review} need review"
        ]


def count_verdicts(answers: pl.DataFrame, asked: pl.DataFrame) -> tuple[dict[str, int], int]:
    """Verdict -> records that have it, and how many records reviewers split on."""
    found = verdicts(answers, asked.with_columns(pair_id=text_key("record_id")))
    counts = dict(found.group_by(pl.col("verdict").cast(pl.String)).len().iter_rows())
    return {verdict: counts.get(verdict, 0) for verdict in VERDICTS}, counts.get(None, 0)
