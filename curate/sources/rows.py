"""Read raw rows of a file or a hub dataset, shuffled by seed; a line that is not a row is kept as it came."""

import gzip
import json
import re
import shutil
import zlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import numpy as np

from curate.files import file_sha256
from curate.models.hub import asking_hub, check_endpoint
from schemas.errors import UserError

Row = dict[str, Any]

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(:.+)?")


@dataclass(frozen=True)
class RowsConfig:
    """Rows of a source to read, and their order."""

    path: str = field(metadata={"key": False})
    """A file, or a hub dataset as `owner/name:split`."""
    sha256: str
    """Digest of the file's bytes, or the fingerprint of the hub dataset."""
    num_rows: int | None
    """Rows read, counted after the shuffle; all of them where not given."""
    seed: int | None
    """Seed of the shuffle: the first 24 rows of a seed are the first 24 of its first 48. Without one the rows come in
    the order they lie in."""
    columns: tuple[tuple[str, str], ...] = ()
    """Name that pairwright reads -> column that is read for it."""
    preference: str = ""
    """Column that says which response is better; by default the first one that is known to."""
    version: int = 4
    """Raised when the same file would give other rows."""


@dataclass(frozen=True)
class BadRow:
    """A line that is not a row."""

    raw: str


def rows_config(spec: str, num_rows: int | None, seed: int | None) -> RowsConfig:
    """The config of a file or of a hub dataset `owner/name[:split]`, digested.

    A file that exists comes first, then what ends as a file does, then what looks like a hub dataset;
    such a name may also be a dataset folder below the working directory.
    """
    if num_rows is not None and num_rows < 1:
        raise UserError("--num-prompts must be at least 1")
    if seed is not None and seed < 0:
        raise UserError("--seed must be at least 0")
    if "://" in spec:
        # not repeated: an address may hold a password
        raise UserError("a source is a local file or a hub dataset as owner/name[:split], not an address")
    try:
        return resolve_rows(spec, num_rows, seed)
    except OSError as error:
        raise UserError(f"cannot read {spec[:200]}: {error.strerror}") from error


def resolve_rows(spec: str, num_rows: int | None, seed: int | None) -> RowsConfig:
    """The config of what lies at the path `spec`, else of the hub dataset."""
    path = Path(spec)
    if not path.is_file() and not spec.endswith(tuple(READERS)) and HUB_ID.fullmatch(spec):
        name, _, split = spec.partition(":")
        source = f"{name}:{split or 'train'}"
        return RowsConfig(source, hub_dataset(source)._fingerprint, num_rows, seed)
    if path.is_dir():
        raise UserError(f"{spec} is a folder; give one file, {expected_files()}")
    if not path.exists():
        raise UserError(f"no file {spec}; give a file, {expected_files()}, or a hub dataset as owner/name[:split]")
    if not spec.endswith(tuple(READERS)):
        raise UserError(f"cannot read {spec}: expected a file, {expected_files()}")
    if path.stat().st_size == 0:
        raise UserError(f"{spec} is empty")
    return RowsConfig(spec, file_sha256(path), num_rows, seed)


def raw_rows(cfg: RowsConfig) -> Iterator[Row | BadRow]:
    """The first `num_rows` rows in the order of the seeded shuffle, or of the file."""
    reader = next((reader for suffix, reader in READERS.items() if cfg.path.endswith(suffix)), hub_rows)
    return reader(cfg)


def raw_text(row: Row | BadRow) -> str:
    """A row as JSON, or the line in its place; always text that can be saved as UTF-8."""
    text = row.raw if isinstance(row, BadRow) else json.dumps(row, ensure_ascii=False, default=str)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def shuffle_rows(cfg: RowsConfig, count: int) -> list[int]:
    """Positions of the rows to read, of `count`.

    The order is that of `Dataset.shuffle(seed)` of the datasets library, so that a recipe that
    shuffles with a seed and takes the first N rows is reproduced.
    """
    if count == 0:
        raise UserError(f"{cfg.path} has no rows")
    order = np.arange(count) if cfg.seed is None else np.random.default_rng(cfg.seed).permutation(count)
    positions: list[int] = order[: cfg.num_rows].tolist()
    return positions


def line_rows(cfg: RowsConfig) -> Iterator[Row | BadRow]:
    """Rows of a file of one JSON object a line; only the positions of the lines are held in memory."""
    with open_bytes(cfg.path) as stream:
        starts = array("q")
        position = 0
        for line in stream:
            if line.strip():
                starts.append(position)
            position += len(line)
        for index in shuffle_rows(cfg, len(starts)):
            stream.seek(starts[index])
            yield line_row(stream.readline().rstrip(b"\r\n"))


def line_row(line: bytes) -> Row | BadRow:
    """One line as a row; a byte order mark at its start is ignored."""
    try:
        value = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return BadRow(line.decode("utf-8", "backslashreplace"))
    return value if isinstance(value, dict) else BadRow(line.decode("utf-8"))


def array_rows(cfg: RowsConfig) -> Iterator[Row | BadRow]:
    with open_bytes(cfg.path) as stream:
        content = stream.read()
    try:
        rows = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{cfg.path} is not a JSON array ({error}); one object a line is read from .jsonl") from error
    if not isinstance(rows, list):
        raise UserError(f"{cfg.path} holds one JSON {type(rows).__name__}, expected an array of objects")
    for index in shuffle_rows(cfg, len(rows)):
        row = rows[index]
        yield row if isinstance(row, dict) else BadRow(json.dumps(row, ensure_ascii=False))


def parquet_rows(cfg: RowsConfig) -> Iterator[Row | BadRow]:
    """Rows of a parquet file; structs come as dicts, nulls as None."""
    import polars as pl

    try:
        frame = pl.read_parquet(cfg.path)
    except pl.exceptions.PolarsError as error:
        raise UserError(f"{cfg.path} is not a whole parquet file: {first_line(error)}") from error
    yield from frame[shuffle_rows(cfg, frame.height)].iter_rows(named=True)


def hub_rows(cfg: RowsConfig) -> Iterator[Row | BadRow]:
    dataset = hub_dataset(cfg.path)
    for index in shuffle_rows(cfg, len(dataset)):
        yield dataset[index]


READERS: dict[str, Callable[[RowsConfig], Iterator[Row | BadRow]]] = {
    ".jsonl": line_rows,
    ".jsonl.gz": line_rows,
    ".json": array_rows,
    ".json.gz": array_rows,
    ".parquet": parquet_rows,
}


def expected_files() -> str:
    """The endings that can be read, in words."""
    *most, last = READERS
    return f"{', '.join(most)} or {last}"


@contextmanager
def open_bytes(path: str) -> Iterator[IO[bytes]]:
    """A file to read and seek in; a .gz is unpacked to a temporary file, for its lines are read in any order."""
    if not path.endswith(".gz"):
        with open(path, "rb") as stream:
            yield stream
        return
    with TemporaryFile() as unpacked:
        try:
            with gzip.open(path) as packed:
                shutil.copyfileobj(packed, unpacked)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise UserError(f"{path} is not a whole gzip file: {error}") from error
        unpacked.seek(0)
        yield unpacked


def hub_dataset(source: str) -> Any:
    """One split of a hub dataset, named `owner/name:split`."""
    check_endpoint()
    import datasets

    name, _, split = source.partition(":")
    missing = f"no file {name}, and no dataset {name} with a split '{split}' could be loaded"
    with asking_hub(missing, datasets.exceptions.DatasetsError):
        return datasets.load_dataset(name, split=split)


def none_usable(cfg: RowsConfig, count: int, dropped: Sequence[Mapping[str, Any]], example: str) -> UserError:
    """The error for a source in which every row is bad; `dropped` are rows of `Dropped`."""
    reasons = Counter(row["reason"] for row in dropped if row.get("reason"))
    why = f" ({', '.join(f'{reason} {rows}' for reason, rows in sorted(reasons.items()))})" if reasons else ""
    raw = dropped[0]["raw"]
    first = json.loads(raw) if raw.startswith('"') else raw
    return UserError(
        f"none of the {count} rows read from {cfg.path} is usable{why}; the first is {first[:200]!r}; "
        f"a row should look like {example}"
    )


def first_line(error: Exception) -> str:
    """The text of an error, in one line, without tokens or the user-info of an address."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return re.sub(r"hf_\w+", "hf_***", re.sub(r"//[^/@\s]+@", "//***@", text))
