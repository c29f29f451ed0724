"""Result of `pull` and `import`: the answers and verdicts of a review so far."""

from collections.abc import Sequence
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
        counts = ", ".join(f"{rows} {verdict}" for verdict, rows in self.verdicts.items())
        return [
            f"review '{self.name}': {self.submitted} answers submitted, {self.drafts} drafts, "
            f"{self.discarded} discarded; verdicts: {counts}; {self.needs_review} need review"
        ]


def count_verdicts(answers: pl.DataFrame, asked: pl.DataFrame) -> tuple[dict[str, int], int]:
    """Verdict -> records that have it, and how many records reviewers split on."""
    found = verdicts(answers, asked.with_columns(pair_id=text_key("record_id")))
    return count_each(found["verdict"], VERDICTS), found["verdict"].null_count()


def count_each(column: pl.Series, names: Sequence[str]) -> dict[str, int]:
    """Name -> how often it stands in the column, for every name."""
    return {name: int((column == name).sum()) for name in names}
