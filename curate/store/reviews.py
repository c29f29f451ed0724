"""Saved reviews: `reviews/NAME/` with the record of the review, the records asked, and every answer."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import dataframely as dy
import polars as pl
from filelock import FileLock, Timeout

from curate.files import damaged_file, read_record, refuse_read_only, write_atomically, write_record
from curate.store.store import parquet_bytes
from curate.store.workspace import Workspace, check_name
from schemas.errors import UserError
from schemas.tables import Annotation, ReviewRecord

LOCK_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Stratum:
    """The pairs of one source whose margins lie in one band."""

    source: str
    band: str
    pairs: int
    """Pairs of it in the dataset."""
    drawn: int
    """Of these, records of the audit."""


@dataclass(frozen=True)
class Review:
    """The record of a review; `asked` and the answers lie beside it."""

    name: str
    kind: str
    """`build` or `mix`: what the name is of."""
    seed: int
    min_submitted: int
    edges: dict[str, list[float]] = field(default_factory=dict)
    """Source -> margins between its bands, ascending; fixed when the source is first drawn from."""
    strata: tuple[Stratum, ...] = ()
    datasets: dict[str, dict[str, str]] = field(default_factory=dict)
    """Name of a dataset on a server -> `url` and `id`, of those that were made."""

    def with_dataset(self, name: str, url: str, dataset_id: str) -> "Review":
        """The review with one more dataset on a server."""
        return replace(self, datasets={**self.datasets, name: {"url": url, "id": dataset_id}})


def review_names(data: Path) -> list[str]:
    return sorted(path.parent.name for path in Workspace(data).reviews.glob("*/review.json"))


def read_review(data: Path, name: str) -> Review | None:
    """The record of a review; None before anything of it was chosen."""
    if name not in review_names(data):
        return None
    path = review_folder(data, name) / "review.json"
    value = read_record(path)
    try:
        return Review(**{**value, "strata": tuple(Stratum(**stratum) for stratum in value["strata"])})
    except (TypeError, KeyError) as error:
        raise damaged_file(path, error) from error


def begun_review(data: Path, name: str) -> Review:
    """The record of a review that has one. Raises UserError where nothing was sent for review yet."""
    review = read_review(data, name)
    if review is None:
        known = f" (there are {', '.join(review_names(data))})" if review_names(data) else ""
        raise UserError(
            f"no review '{name}' in {Workspace(data).reviews}{known}; begin one with: curate review push {name}"
        )
    return review


def save_review(data: Path, review: Review) -> None:
    write_record(Workspace(data).review(review.name) / "review.json", asdict(review))


def read_asked(data: Path, name: str) -> pl.DataFrame:
    """Rows of `ReviewRecord`, in the order they were chosen."""
    return read_rows(review_folder(data, name) / "asked.parquet", ReviewRecord)


def save_asked(data: Path, name: str, asked: pl.DataFrame) -> None:
    write_atomically(
        review_folder(data, name) / "asked.parquet", parquet_bytes(ReviewRecord.validate(asked, cast=True))
    )


def read_answers(data: Path, name: str) -> pl.DataFrame:
    """Rows of `Annotation`, every version of every answer, in the order of record, reviewer and time."""
    return read_rows(review_folder(data, name) / "answers.parquet", Annotation)


def save_answers(data: Path, name: str, answers: pl.DataFrame) -> None:
    ordered = Annotation.validate(answers, cast=True).sort("record_id", "reviewer", "answered_at")
    write_atomically(review_folder(data, name) / "answers.parquet", parquet_bytes(ordered))


def read_rows(path: Path, schema: type[dy.Schema]) -> pl.DataFrame:
    """The rows of a table; none where it was not written yet."""
    if not path.exists():
        return schema.create_empty()
    try:
        return schema.validate(pl.read_parquet(path, glob=False), cast=True)
    except (pl.exceptions.PolarsError, OSError, dy.exc.ValidationError) as error:
        raise damaged_file(path, error) from error


@contextmanager
def lock_review(data: Path, name: str) -> Iterator[None]:
    """Lock a review: only one command changes it at a time, others wait."""
    check_name("review name", name, review_names(data))
    refuse_read_only(data)
    folder = Workspace(data).reviews
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f".{name}.lock", timeout=LOCK_TIMEOUT_S)
    try:
        with lock:
            yield
    except Timeout as error:
        raise UserError(
            f"another command has worked on review '{name}' for {LOCK_TIMEOUT_S:.0f} s; wait for it"
        ) from error


def review_folder(data: Path, name: str) -> Path:
    return Workspace(data).review(name)
