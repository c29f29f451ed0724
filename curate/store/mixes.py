"""Published mixes: the lock of a mix, and the folder that it stands for, wherever that lies.

A folder holds `train-*.parquet` and `test-*.parquet` with the rows in training order, `lineage.parquet`, the recipe, a
card, checksums, and `lock.json`, which is written last: its presence means that the mix is published.
"""

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import polars as pl
from pydantic import TypeAdapter, ValidationError

from curate.files import Damaged, check_file, damaged_file, read_record, write_record
from schemas.errors import UserError
from schemas.ids import digest
from schemas.stages import StageName
from schemas.tables import MixRow
from schemas.tool_turns import row_form

Split = Literal["train", "heldout"]

LOCK, RECIPE, CARD, CHECKSUMS, LINEAGE, CROISSANT = (
    "lock.json",
    "recipe.toml",
    "README.md",
    "checksums.txt",
    "lineage.parquet",
    "croissant.json",
)
WORDS: dict[Split, str] = {"train": "train", "heldout": "test"}
"""Split -> how file names call it, which is a word that the datasets library knows."""
ROWS_FILE = re.compile(rf"({'|'.join(WORDS.values())})-\d{{5}}-of-\d{{5}}\.parquet")
"""Names of the files with rows."""


@dataclass(frozen=True)
class PinnedTable:
    """A table that a mix is locked to."""

    stage: StageName
    identity: str
    """Key and content."""


@dataclass(frozen=True)
class PinnedSource:
    """A build as a mix took it."""

    build: str
    is_embedded: bool
    """Its texts have vectors."""
    pairs: PinnedTable
    screened: PinnedTable
    judged: PinnedTable | None
    """Verdicts of reviewers, where there are any."""
    kept: int = 0
    """Pairs that passed screening."""
    rows: int = 0
    """Rows of the mix."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Reason -> pairs that passed screening and are not in the mix, in the order of the reasons; with `rows` they are
    all of `kept`."""


@dataclass(frozen=True)
class MixLock:
    """Lock of a mix: the sources of the mix, and the digests of its files."""

    name: str
    recipe_sha256: str
    sources: tuple[PinnedSource, ...]
    duplicates_between_sources: int
    like_heldout: int
    """Training rows left out because a held-out row is like them."""
    rows: int
    train: int
    heldout: int
    files: dict[str, str]
    """File -> SHA-256, of every file but the lock and the checksums."""
    licenses: dict[str, int]
    """License -> rows."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What the card says beside the counts, as it was when the mix was published."""

    def data_files(self) -> list[str]:
        """Names of the files with rows and their lineage."""
        return sorted(name for name in self.files if name.endswith(".parquet"))

    def thresholds(self, build: str) -> dict[str, Any]:
        """What a source was screened by, as far as the facts say."""
        found: dict[str, Any] = self.facts.get("sources", {}).get(build, {}).get("thresholds", {})
        return found

    def split_words(self) -> list[str]:
        """How file names call the splits that have rows."""
        return [word for split, word in WORDS.items() if getattr(self, split)]

    @property
    def sha256(self) -> str:
        """Of the content of the mix: its rows and their lineage."""
        return digest({name: self.files[name] for name in self.data_files()})


LOCK_TYPES, THRESHOLDS = TypeAdapter(MixLock), TypeAdapter(dict[str, Any])
"""A lock may come from anywhere."""


@dataclass(frozen=True)
class Mix:
    """A published mix whose lock was read; its files are checked when they are asked for."""

    folder: Path
    lock: MixLock
    remedy: str

    @property
    def name(self) -> str:
        return self.lock.name

    def file(self, name: str) -> Path:
        """A file of the mix, which is what its lock says. Raises Damaged."""
        if name not in self.lock.files:
            raise Damaged(f"{self.folder / LOCK} names no {name}", self.remedy)
        check_file(self.folder / name, self.lock.files[name], self.remedy)
        return self.folder / name

    def files(self, split: Split) -> list[Path]:
        """The files of a split, in order; none for a split without rows."""
        return [self.file(name) for name in sorted(self.lock.files) if name.startswith(f"{WORDS[split]}-")]

    def scan(self, split: Split | None = None) -> pl.LazyFrame:
        """Rows of `MixRow` in training order with `split`, those of training before those that are held out."""
        found = [MixRow.create_empty().lazy().with_columns(split=pl.lit("train"))]
        for each in [split] if split else WORDS:
            if files := self.files(each):
                found.append(plain_turns(pl.scan_parquet(files, glob=False)).with_columns(split=pl.lit(each)))
        return pl.concat(found)

    def lineage(self) -> pl.LazyFrame:
        """Rows of `MixLineage`, in the same order."""
        return pl.scan_parquet(self.file(LINEAGE), glob=False)

    def damage(self) -> dict[str, Damaged]:
        """The files of the folder that are not what was written; a card may be edited, but not be gone."""
        found: dict[str, Damaged] = {}
        for name in self.lock.files:
            try:
                self.file(name)
            except Damaged as error:
                if name != CARD or not (self.folder / name).is_file():
                    found[name] = error
        path = self.folder / CHECKSUMS
        if not path.is_file() or path.read_bytes() != checksums(self.lock.files):
            found[CHECKSUMS] = Damaged(f"{path} is not what was written", self.remedy)
        return found


def as_pairs(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Rows of `MixRow` with `messages`, `chosen` and `rejected` as in `Pair`."""
    return rows.rename({"prompt": "messages"}).with_columns(
        pl.col(side).list.last().struct.field("content").alias(side) for side in ("chosen", "rejected")
    )


def plain_turns(rows: pl.LazyFrame) -> pl.LazyFrame:
    """The rows with their prompts as turns of our own; those of a mix with calls of tools lie in the form of TRL."""
    turn = pl.Struct({"role": pl.String, "content": pl.String})
    fields = rows.collect_schema()["prompt"].inner.fields  # type: ignore[attr-defined]
    if len(fields) == 2:
        return rows
    # Row by row, for few mixes have calls of tools.
    return rows.with_columns(
        pl.col("prompt").map_elements(
            lambda turns: row_form(turns.to_list()), return_dtype=pl.List(turn), skip_nulls=False
        )
    )


def checksums(files: dict[str, str]) -> bytes:
    """The lines of `checksums.txt`, as `sha256sum --check` reads them."""
    return "".join(f"{files[name]}  {name}\n" for name in sorted(files)).encode()


def write_lock(folder: Path, lock: MixLock) -> None:
    """Write the checksums and, last, the lock of a mix into its folder."""
    (folder / CHECKSUMS).write_bytes(checksums(lock.files))
    write_record(folder / LOCK, asdict(lock), place=f"{lock.name}/{LOCK}")


def open_mix_folder(folder: Path, name: str = "", remedy: str = "") -> Mix:
    """The mix that lies in a folder, which may have been copied or renamed; with a `name`, that very mix.

    Raises UserError where there is none or it is of another format, and Damaged where its lock is not what was written.
    """
    path = folder / LOCK
    remedy = remedy or "copy or download the whole folder again"
    if not path.is_file():
        raise UserError(f"{folder} is no published mix: it has no {LOCK}")
    value = read_record(path, *MixLock.__dataclass_fields__, remedy=remedy, place=f"{name or told_name(path)}/{LOCK}")
    try:
        lock = LOCK_TYPES.validate_python(value)
        for source in lock.sources:
            THRESHOLDS.validate_python(lock.thresholds(source.build))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise damaged_file(path, ValueError(f"{where}: {first['msg']}"), remedy) from error
    except AttributeError as error:
        raise damaged_file(path, ValueError("facts: not what was written"), remedy) from error
    return Mix(folder, lock, remedy)


def told_name(path: Path) -> str:
    """The name that a lock gives its mix; the digest of the lock is checked with it."""
    try:
        return str(json.loads(path.read_bytes())["name"])
    except (ValueError, KeyError, TypeError):
        return path.parent.name
