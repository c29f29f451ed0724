"""Read rows of a published mix: those of training, or with `:test` those that it holds out."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.files import Damaged
from curate.sources.dataset_folder import part_split
from curate.sources.file_source import Order, Rows, reordered
from curate.store.mixes import LINEAGE, LOCK, WORDS, Mix, Split, open_mix_folder
from schemas.errors import UserError

ROWS_AT_ONCE = 4096
BOTH = "train+test"
SPLITS: dict[str, tuple[Split, ...]] = {"train": ("train",), "test": ("heldout",), BOTH: ("train", "heldout")}
"""What stands behind the folder -> splits of the mix, in their order."""
KEPT = (
    *("prompt_group", "scorer", "origin", "flaw", "is_heldout", "z_chosen", "z_rejected"),
    *("chosen_finish", "rejected_finish", "chosen_reasoning", "rejected_reasoning"),
)
"""Columns of a row that are those of its pair; other columns are read as those of any file."""
LINEAGE_COLUMNS = {
    **{name: name for name in ("z_chosen", "z_rejected", "chosen_finish", "rejected_finish")},
    "chosen_reasoning": "reasoning_chosen",
    "rejected_reasoning": "reasoning_rejected",
}
"""Column of a pair -> column of the lineage."""


@dataclass(frozen=True)
class MixSource:
    """Rows of a published mix."""

    mix: Mix
    split: str
    """A key of `SPLITS`."""

    @property
    def name(self) -> str:
        return f"{self.mix.folder}:{self.split}"

    def digest(self) -> str:
        """Digest of the split and of the files with its rows, which are what the lock says."""
        files = [path.name for split in SPLITS[self.split] for path in self.mix.files(split)]
        named = "".join(f"{name} {self.mix.lock.files[name]}\n" for name in [*files, LINEAGE])
        return hashlib.sha256(f"{self.split}\n{named}".encode()).hexdigest()

    def rows(self) -> Rows:
        """Prompt, both sides, scores, tools and what is `KEPT`, in training order; read as they are asked for."""
        for split in SPLITS[self.split]:
            yield from self._rows_of(split)

    def shuffled(self, order: Order) -> Rows:
        """The rows in another order; all are read, but not held in memory."""
        return reordered(self.rows(), order)

    def _rows_of(self, split: Split) -> Iterator[dict[str, Any]]:
        import polars as pl

        # Rows of training come first in the lineage.
        place = 0 if split == "train" else self.mix.lock.train
        for block in self.mix.scan(split).collect_batches(chunk_size=ROWS_AT_ONCE, maintain_order=True):
            lineage = self.mix.lineage().slice(place, block.height).collect()
            if lineage["pair_id"].to_list() != block["pair_id"].to_list():
                raise Damaged(f"{self.mix.folder / LINEAGE} is of other pairs than the rows", self.mix.remedy)
            place += block.height
            columns = {name: lineage[column] for name, column in LINEAGE_COLUMNS.items()}
            rows = block.drop("pair_id", "prompt_id", "source", "split").with_columns(
                is_heldout=pl.lit(split == "heldout"), **columns
            )
            yield from rows.iter_rows(named=True)


def find_mix_folder(spec: str) -> MixSource | None:
    """The rows of training of the mix in the folder `spec`, or those of `FOLDER:SPLIT`; None where no such folder is
    a published mix."""
    path, split = part_split(spec)
    folder = Path(path)
    if not (folder / LOCK).is_file() or not any(folder.glob(f"{WORDS['train']}-*.parquet")):
        return None
    if split not in ("", *SPLITS):
        raise UserError(f"{path} has no split '{split}'; name one of {', '.join(SPLITS)}, as in {path}:test")
    return MixSource(open_mix_folder(folder), split or "train")


def with_heldout(spec: str) -> str:
    """The name of all rows of a published mix, where the name is that of its folder; else the name itself."""
    try:
        is_whole = Path(spec).is_dir() and find_mix_folder(spec)
    except OSError:
        return spec
    return f"{spec}:{BOTH}" if is_whole else spec
