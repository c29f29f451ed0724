"""Read raw rows of a source, shuffled by seed, or the first ones of it as they lie."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from curate.sources import hub
from curate.sources.dataset_folder import find_folder, list_files
from curate.sources.file_source import FileSource, Order, Rows, ending_of, expected_files
from curate.sources.mix_folder import find_mix_folder
from curate.sources.row import BadRow as BadRow
from curate.sources.row import Row as Row
from curate.sources.row import pickled, shown_raw
from curate.sources.row import raw_text as raw_text
from schemas.errors import UserError
from schemas.names import UNKNOWN

FIRST_ROWS, FIRST_BYTES = 1000, 2**24
"""Of a source, no more than so many rows and bytes show what its columns are."""


@dataclass(frozen=True)
class RowsConfig:
    """Rows of a source to read, and their order."""

    path: str = field(metadata={"key": False})
    """A file, a dataset folder or a published mix as `FOLDER[:split]`, or a hub dataset with its split."""
    sha256: str
    """Digest of the file's bytes or of the folder's files, or the fingerprint of the hub dataset."""
    num_rows: int | None
    """Rows read, counted after the shuffle; all of them where not given."""
    seed: int | None
    """Seed of the shuffle: the first 24 rows of a seed are the first 24 of its first 48. Without one the rows come in
    the order they lie in."""
    columns: tuple[tuple[str, str], ...] = ()
    """Name that pairwright reads -> column that is read for it."""
    preference: str = ""
    """Column that says which response is better; by default the first one that is known to."""
    license: str = UNKNOWN
    """Of rows that name none."""
    is_license_given: bool = False
    """Rows have that license whatever they name."""
    version: int = 5
    """Raised when the same file would give other rows."""


class Source(Protocol):
    """What holds rows."""

    @property
    def name(self) -> str:
        """What finds it again."""

    def digest(self) -> str:
        """Another one wherever the rows are others."""

    def rows(self) -> Rows:
        """All rows as they lie, read as they are asked for."""

    def shuffled(self, order: Order) -> Rows:
        """The rows at the positions that `order` gives for their number."""


def rows_config(spec: str, num_rows: int | None, seed: int | None) -> RowsConfig:
    """The config of a file, a dataset folder or a hub dataset, digested."""
    if num_rows is not None and num_rows < 1:
        raise UserError("--num-prompts must be at least 1")
    if seed is not None and seed < 0:
        raise UserError("--seed must be at least 0")
    if "://" in spec:
        # not repeated: an address may hold a password
        raise UserError(f"a source is a local file or a hub dataset as {hub.EXPECTED}, not an address")
    try:
        source = find_source(spec)
        return RowsConfig(source.name, source.digest(), num_rows, seed)
    except OSError as error:
        raise UserError(f"cannot read {spec[:200]}: {error.strerror}") from error


def find_source(spec: str) -> Source:
    """The source of a name: a file that exists, then what ends as a file does, then a published mix, then a dataset
    folder, then what looks like a hub dataset; such a name may also be a folder of files below the working directory.
    """
    path = Path(spec)
    if path.is_file() or (ending_of(spec) and not path.is_dir()):
        return find_file(spec)
    if found := find_mix_folder(spec) or find_folder(spec) or hub.find_dataset(spec):
        return found
    if path.is_dir():
        raise UserError(f"{spec} is a folder that save_to_disk did not write; {list_files(path)}; give one file")
    raise UserError(f"no file {spec}; give a file, {expected_files()}, or a hub dataset as {hub.EXPECTED}")


def find_file(spec: str) -> FileSource:
    path = Path(spec)
    if not path.exists():
        raise UserError(f"no file {spec}; give a file, {expected_files()}, or a hub dataset as {hub.EXPECTED}")
    if not ending_of(spec):
        raise UserError(f"cannot read {spec}: expected a file, {expected_files()}")
    if path.stat().st_size == 0:
        raise UserError(f"{spec} is empty")
    return FileSource(spec)


def raw_rows(cfg: RowsConfig) -> Iterator[Row | BadRow]:
    """The first `num_rows` rows in the order of the seeded shuffle, or of the source; never all in memory."""
    source = find_source(cfg.path)
    if cfg.seed is not None:
        yield from source.shuffled(lambda count: shuffle_rows(cfg, count))
        return
    is_empty = True
    for row in islice(source.rows(), cfg.num_rows):
        is_empty = False
        yield row
    if is_empty:
        raise UserError(f"{cfg.path} has no rows")


def first_rows(cfg: RowsConfig, count: int = FIRST_ROWS) -> list[Row | BadRow]:
    """The first `count` rows as they lie in the source, or fewer where they are large; no more of it is read.

    Raises UserError for a column of `--columns` that none of them has.
    """
    found: list[Row | BadRow] = []
    size = 0
    for row in islice(find_source(cfg.path).rows(), count):
        found.append(row)
        size += len(pickled(row))
        if size > FIRST_BYTES:
            break
    if not found:
        raise UserError(f"{cfg.path} has no rows")
    seen = dict.fromkeys(column for row in found if isinstance(row, dict) for column in row)
    for _, column in cfg.columns if seen else ():
        if column not in seen:
            raise UserError(f"--columns {column}: {cfg.path} has no such column; found {', '.join(seen)}")
    return found


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


def none_usable(cfg: RowsConfig, count: int, dropped: Sequence[Mapping[str, Any]], example: str) -> UserError:
    """The error for a source in which every row is bad; `dropped` are rows of `Dropped`."""
    reasons = Counter(row["reason"] for row in dropped if row.get("reason"))
    why = f" ({', '.join(f'{reason} {rows}' for reason, rows in sorted(reasons.items()))})" if reasons else ""
    return UserError(
        f"none of the {count} rows read from {cfg.path} is usable{why}; the first is {shown_raw(dropped[0]['raw'])!r}; "
        f"a row should look like {example}"
    )
