"""Read the pairs of a published mix, checked against its lock, as they are needed."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import polars as pl

from curate.files import file_sha256
from curate.store.workspace import Workspace
from schemas.errors import UserError
from train.data.token_store import Texts
from train.data.tokenize import Kind

Split = Literal["train", "heldout"]
COLUMNS = ["split", "pair_id", "messages", "chosen", "rejected", "tools"]
ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class MixRows:
    """A mix whose table is what its lock says."""

    name: str
    lock_sha256: str
    path: Path
    counts: dict[Split, int]
    """Split -> rows; no more training rows than were asked for."""
    is_whole: bool
    """Whether all training rows were asked for."""
    is_in_order: bool
    """Whether the rows lie in the file as they are numbered."""

    def identity(self) -> dict[str, str]:
        """The data of a run, for its manifest."""
        return {"mix": self.name, "lock_sha256": self.lock_sha256}

    def pairs(self, split: Split) -> Iterator[dict[str, Any]]:
        """`pair_id`, `messages`, `chosen`, `rejected` and `tools` of the rows of a split, in order."""
        left = self.counts[split]
        for some in self._frames():
            rows = some.filter(pl.col("split").cast(pl.String) == split).head(left).drop("split")
            left -= rows.height
            yield from rows.iter_rows(named=True)
            if not left:
                return

    def texts(self, kind: Kind) -> dict[Split, Texts]:
        """The rows of each split as pairs, or as conversations that end in the chosen response."""
        max_rows = None if self.is_whole else self.counts["train"]
        identity = {"lock_sha256": self.lock_sha256, "max_rows": max_rows}
        rows = self._pair_texts if kind == "pair" else self._conversations
        return {split: Texts(kind, identity, partial(rows, split), count) for split, count in self.counts.items()}

    def _pair_texts(self, split: Split) -> Iterator[tuple[Any, ...]]:
        for row in self.pairs(split):
            yield row["pair_id"], row["messages"], row["chosen"], row["rejected"], row["tools"]

    def _conversations(self, split: Split) -> Iterator[tuple[Any, ...]]:
        for row in self.pairs(split):
            yield row["pair_id"], [*row["messages"], {"role": "assistant", "content": row["chosen"]}], row["tools"]

    def _frames(self) -> Iterator[pl.DataFrame]:
        """All rows in order, a few at a time."""
        if not self.is_in_order:
            yield from pl.read_parquet(self.path, glob=False).sort("row").select(COLUMNS).iter_slices(ROWS_AT_ONCE)
            return
        import pyarrow.parquet as pq

        # Polars decodes a whole file's columns at once; this a row group at a time.
        with pq.ParquetFile(self.path) as table:
            for batch in table.iter_batches(ROWS_AT_ONCE, columns=COLUMNS):
                frame = pl.from_arrow(batch)
                assert isinstance(frame, pl.DataFrame)
                yield frame


def read_mix(data: Path, name: str, max_rows: int | None) -> MixRows:
    """The mix called `name`, by default the one published last, with the first `max_rows` of its training rows."""
    workspace = Workspace(data)
    name = name or workspace.newest_mix()
    path, _ = workspace.open_mix(name)
    rows = pl.read_parquet(path, columns=["row", "split"], glob=False)
    train, heldout = (int((rows["split"].cast(pl.String) == split).sum()) for split in ("train", "heldout"))
    used = train if max_rows is None else min(max_rows, train)
    if not used:
        raise UserError(f"mix '{name}' has no training rows; publish one that has with: curate mix")
    counts: dict[Split, int] = {"train": used, "heldout": heldout}
    return MixRows(name, file_sha256(workspace.lock(name)), path, counts, used == train, rows["row"].is_sorted())
