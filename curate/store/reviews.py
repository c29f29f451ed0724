"""Saved reviews: `reviews/NAME/` with the record of the review, the records asked, and every answer.

The record holds the digests of the other files.
"""

import hashlib
import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import dataframely as dy
import polars as pl
from filelock import FileLock, Timeout

from curate.files import (
    Damaged,
    damaged_file,
    file_sha256,
    read_record,
    refuse_read_only,
    write_atomically,
    write_record,
)
from curate.store.store import parquet_bytes
from curate.store.workspace import Workspace, check_name
from schemas.errors import UserError
from schemas.tables import Annotation, ReviewRecord

log = logging.getLogger(__name__)

LOCK_TIMEOUT_S = 600.0
RECORD, ASKED, ANSWERS = "review.json", "asked.parquet", "answers.parquet"
UPLOADED, PULLED = "uploaded.json", "pulled.json"
"""What the datasets on a server hold, and their state at the last pull."""


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
    """The reviews that were begun; one with answers and no record is damaged, and among them."""
    folder = Workspace(data).reviews
    return sorted({path.parent.name for name in (RECORD, ANSWERS) for path in folder.glob(f"*/{name}")})


def read_review(data: Path, name: str) -> Review | None:
    """The record of a review; None before anything of it was chosen."""
    value = read_fields(data, name)
    if value is None:
        return None
    value.pop("files", None)
    try:
        return Review(**{**value, "strata": tuple(Stratum(**stratum) for stratum in value["strata"])})
    except (TypeError, KeyError) as error:
        raise damaged_file(review_folder(data, name) / RECORD, error, begin_again(data, name)) from error


def read_fields(data: Path, name: str) -> dict[str, Any] | None:
    """The record of a review as it is written: the fields of `Review`, and `files`."""
    folder = review_folder(data, name)
    if (folder / RECORD).exists():
        return read_record(folder / RECORD, remedy=begin_again(data, name))
    if (folder / ANSWERS).exists():
        raise Damaged(f"{folder / RECORD} is missing", begin_again(data, name))
    return None


def begin_again(data: Path, name: str) -> str:
    """The remedy for what only a copy brings back."""
    folder = review_folder(data, name)
    return f"restore it from a copy, or move {folder} away and begin again with: curate review push {name}"


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
    folder, written = review_folder(data, review.name), read_fields(data, review.name) or {}
    files = {name: [file_sha256(folder / name)] for name in (ASKED, ANSWERS) if (folder / name).exists()}
    write_record(folder / RECORD, {**asdict(review), "files": files | written.get("files", {})})


def read_asked(data: Path, name: str) -> pl.DataFrame:
    """Rows of `ReviewRecord`, in the order they were chosen."""
    return read_rows(data, name, ASKED, ReviewRecord)


def save_asked(data: Path, name: str, asked: pl.DataFrame) -> None:
    write_file(data, name, ASKED, parquet_bytes(ReviewRecord.validate(asked, cast=True)))


def read_answers(data: Path, name: str) -> pl.DataFrame:
    """Rows of `Annotation`, every version of every answer, in the order of record, reviewer and time."""
    return read_rows(data, name, ANSWERS, Annotation)


def save_answers(data: Path, name: str, answers: pl.DataFrame) -> None:
    ordered = Annotation.validate(answers, cast=True).sort("record_id", "reviewer", "answered_at")
    write_file(data, name, ANSWERS, parquet_bytes(ordered))


def read_rows(data: Path, name: str, file: str, schema: type[dy.Schema]) -> pl.DataFrame:
    """The rows of a table of a review; none where it was not written yet."""
    content = read_file(data, name, file)
    if content is None:
        return schema.create_empty()
    try:
        return schema.validate(pl.read_parquet(io.BytesIO(content)), cast=True)
    except (pl.exceptions.PolarsError, OSError, dy.exc.ValidationError) as error:
        raise damaged_file(review_folder(data, name) / file, error, file_remedy(data, name, file)) from error


def read_file(data: Path, name: str, file: str) -> bytes | None:
    """The content of a file of a review, which is what was written; None where it was not written yet."""
    path = review_folder(data, name) / file
    content = path.read_bytes() if path.exists() else None
    # Looked at after the file, so that one that is just being written is known already.
    digests = ((read_fields(data, name) or {}).get("files", {})).get(file)
    if digests and content is None:
        raise Damaged(f"{path} is missing", file_remedy(data, name, file))
    # A file that an earlier version wrote has no digest.
    if digests and content is not None and hashlib.sha256(content).hexdigest() not in digests:
        raise Damaged(f"{path} is damaged: it is not what was written", file_remedy(data, name, file))
    return content


def write_file(data: Path, name: str, file: str, content: bytes) -> None:
    """Write a file of a review. The record names its digest first, beside that of the version it takes the place of."""
    folder, fields = review_folder(data, name), read_fields(data, name)
    path, sha256 = folder / file, hashlib.sha256(content).hexdigest()
    is_new = fields is None or not path.exists()
    if is_new:
        write_atomically(path, content)
    if fields is not None:
        files = fields.get("files", {})
        before = file_sha256(path)
        known = [before] if before in files.get(file, [before]) else []
        write_record(folder / RECORD, {**fields, "files": {**files, file: [sha256, *known]}})
    if not is_new:
        write_atomically(path, content)


def answers_to_collect(data: Path, name: str) -> pl.DataFrame:
    """The answers so far, for a command that collects them; no row where they are gone, which is said."""
    try:
        return read_answers(data, name)
    except Damaged as error:
        if (review_folder(data, name) / ANSWERS).exists():
            raise
        log.warning("%s; answers are collected again, those from forms by importing each again", error.found)
        return Annotation.create_empty()


def file_remedy(data: Path, name: str, file: str) -> str:
    """The remedy for a damaged file of a review."""
    if file == ASKED:
        return begin_again(data, name)
    if file == UPLOADED:
        return f"look what is on the server again with: curate review push {name}"
    return (
        f"restore it from a copy, or remove it and collect the answers again: curate review pull {name}, or curate "
        "review import for each form"
    )


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
