"""Read rows of a folder that `save_to_disk` of the datasets library wrote."""

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from curate.files import file_sha256
from curate.sources.file_source import Order, Rows, ending_of, expected_files, reordered
from schemas.errors import UserError

log = logging.getLogger(__name__)

T = TypeVar("T")

SHOWN = 10
SPLITS, TABLE = "dataset_dict.json", "state.json"
"""Files that tell a folder of splits, and the folder of a split."""


@dataclass(frozen=True)
class FolderSource:
    """One split of a dataset on disk."""

    name: str
    """Its path, with `:split` behind it where the folder has several."""
    folder: Path

    def digest(self) -> str:
        """Digest of its files and their names."""
        named = "".join(f"{path.name} {file_sha256(path)}\n" for path in self._files())
        return hashlib.sha256(named.encode()).hexdigest()

    def rows(self) -> Rows:
        """All rows as they lie, read as they are asked for."""
        # imported where it is needed, for it takes a while
        from curate.sources.arrow_rows import arrow_rows

        for path in self._files():
            with path.open("rb") as file:
                yield from arrow_rows(file, str(path))

    def shuffled(self, order: Order) -> Rows:
        """The rows in another order; all are read, but not held in memory."""
        return reordered(self.rows(), order)

    def _files(self) -> list[Path]:
        return read_state(
            self.folder / TABLE, lambda state: [self.folder / each["filename"] for each in state["_data_files"]]
        )


def find_folder(spec: str) -> FolderSource | None:
    """The dataset of the folder `spec`, or its split of `FOLDER:split`; None where no such folder is a dataset."""
    path, split = part_split(spec)
    folder = Path(path)
    if (folder / SPLITS).is_file():
        split = choose_split(path, read_state(folder / SPLITS, lambda state: list(map(str, state["splits"]))), split)
        return FolderSource(f"{path}:{split}", folder / split)
    if (folder / TABLE).is_file():
        only = read_state(folder / TABLE, lambda state: str(state["_split"] or "train"))
        choose_split(path, [only], split)
        return FolderSource(path, folder)
    return None


def part_split(spec: str) -> tuple[str, str]:
    """The folder and the split of `FOLDER[:split]`; no split where the whole is a folder."""
    if Path(spec).is_dir():
        return spec, ""
    path, _, split = spec.rpartition(":")
    return path or spec, split


def choose_split(name: str, splits: list[str], wanted: str) -> str:
    """The wanted split of those there are; where none is wanted, train or the only one."""
    split = wanted or (splits[0] if len(splits) == 1 else "train")
    if split not in splits:
        why = f"has no split '{split}'" if wanted else "has several splits, none of them train"
        raise UserError(f"{name} {why}; name one of {', '.join(splits)}, as in {name}:{splits[0]}")
    if split != (wanted or "train"):
        log.info("%s: read from its only split, %s", name, split)
    return split


def read_state(path: Path, read: Callable[[Any], T]) -> T:
    """What a dataset says of itself in one of its files."""
    try:
        return read(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not what save_to_disk writes; save the dataset again") from error


def list_files(folder: Path) -> str:
    """The files of a folder that can be read, for the sentence that refuses the folder."""
    files = sorted(path.name for path in folder.iterdir() if path.is_file() and ending_of(path.name))
    if not files:
        return f"it holds no file that can be read: {expected_files()}"
    more = f" and {len(files) - SHOWN} more" if len(files) > SHOWN else ""
    return f"it holds {', '.join(files[:SHOWN])}{more}"
