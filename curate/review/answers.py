"""Answers of reviewers as rows of `Annotation`: read from labels, and merged into the history."""

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from curate.screen.human import latest_answers
from schemas.names import BETTER, FLAWS
from schemas.tables import Annotation

KEY = ("record_id", "reviewer", "answered_at")
SUREST = 3


def reviewer_id(name: str) -> str:
    """Pseudonym of a reviewer, such as "r1b4f0e98": the same for a name in any case; the name is kept nowhere."""
    return "r" + hashlib.sha256(name.strip().casefold().encode()).hexdigest()[:8]


def parse_utc(text: str) -> datetime:
    """A time in ISO format, in UTC; without a zone it is UTC already."""
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def answer_row(
    record_id: str, reviewer: str, answered_at: datetime, *, better: Any, sure: Any, wrong: Any, note: Any
) -> dict[str, Any]:
    """A row of `Annotation` from labels that may hold anything; `wrong` and `note` may be null.

    Its status is `unreadable` where a label is not ours; those that are stay.
    """
    labels = [] if wrong is None else wrong if isinstance(wrong, list) else [wrong]
    is_sure = type(sure) is int and 1 <= sure <= SUREST
    readable = (
        better in BETTER
        and (sure is None or is_sure)
        and all(label in FLAWS for label in labels)
        and isinstance(note, str | None)
    )
    return {
        "record_id": record_id,
        "reviewer": reviewer,
        "answered_at": answered_at,
        "status": "submitted" if readable else "unreadable",
        "better": better if better in BETTER else None,
        "sure": sure if is_sure else None,
        "wrong": [flaw for flaw in FLAWS if flaw in labels],
        "note": (note.strip() or None) if isinstance(note, str) else None,
    }


def answer_table(rows: Iterable[dict[str, Any]]) -> pl.DataFrame:
    """Rows of `answer_row` as a frame."""
    return pl.DataFrame(list(rows), schema=Annotation.create_empty().schema)


def merge_answers(history: pl.DataFrame, new: pl.DataFrame) -> pl.DataFrame:
    """Both as one history, sorted; answers that are known already add nothing.

    Of two versions of one reviewer, record and time, which only a correction by hand can give, the later in `new`
    counts.
    """
    return pl.concat([history, new]).unique(KEY, keep="last", maintain_order=True).sort(KEY)


def withdraw_answers(history: pl.DataFrame, taken_back: pl.DataFrame) -> pl.DataFrame:
    """A row of `Annotation` without content for each answer of `history` that stands no more.

    `taken_back` has `record_id`, `reviewer` and `answered_at`, which is null where nobody knows when: the moment
    after the answer is taken, which is the same at every pull. What was never submitted, or is withdrawn already,
    leaves no row.
    """
    known = latest_answers(history).select("record_id", "reviewer", "status", last="answered_at")
    standing = known.filter(pl.col("status") != "withdrawn").join(taken_back, on=KEY[:2], how="inner")
    moment = pl.coalesce("answered_at", pl.col("last") + timedelta(microseconds=1))
    rows = standing.with_columns(answered_at=moment).filter(pl.col("answered_at") > pl.col("last")).select(KEY)
    return answer_table({**row, "status": "withdrawn", "wrong": []} for row in rows.iter_rows(named=True))
