"""Read the pairs of a published mix, checked against its lock, as they are needed."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from curate.files import file_sha256
from curate.store.mixes import Mix, Split, as_pairs, plain_turns
from curate.store.workspace import Workspace
from schemas.errors import UserError
from train.data.token_store import Texts
from train.data.tokenize import Kind

COLUMNS = ["pair_id", "prompt", "chosen", "rejected", "tools"]
ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class MixRows:
    """The rows of a mix that training reads."""

    mix: Mix
    lock_sha256: str
    counts: dict[Split, int]
    """Split -> rows; no more training rows than were asked for."""

    @property
    def name(self) -> str:
        return self.mix.name

    @property
    def is_whole(self) -> bool:
        """Whether all training rows were asked for."""
        return self.counts["train"] == self.mix.lock.train

    def identity(self) -> dict[str, str]:
        """The data of a run, for its manifest."""
        return {"mix": self.name, "lock_sha256": self.lock_sha256}

    def pairs(self, split: Split) -> Iterator[dict[str, Any]]:
        """`pair_id`, `messages`, `chosen`, `rejected` and `tools` of the rows of a split, in order."""
        left = self.counts[split]
        for some in self._frames(split):
            rows = some.head(left)
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

    def _frames(self, split: Split) -> Iterator[pl.DataFrame]:
        """The rows of a split in order, a few at a time."""
        import pyarrow.parquet as pq

        # Polars decodes a whole file's columns at once; this a row group at a time.
        for path in self.mix.files(split):
            with pq.ParquetFile(path) as table:
                for batch in table.iter_batches(ROWS_AT_ONCE, columns=COLUMNS):
                    frame = pl.from_arrow(batch)
                    assert isinstance(frame, pl.DataFrame)
                    yield as_pairs(plain_turns(frame.lazy())).collect()


def read_mix(data: Path, name: str, max_rows: int | None) -> MixRows:
    """The mix called `name`, by default the one published last, with the first `max_rows` of its training rows."""
    workspace = Workspace(data)
    name = name or workspace.newest_mix()
    mix = workspace.open_mix(name)
    # Found damaged before anything is loaded
    for split in ("train", "heldout"):
        mix.files(split)
    train = mix.lock.train
    used = train if max_rows is None else min(max_rows, train)
    if not used:
        raise UserError(f"mix '{name}' has no training rows; publish one that has with: curate mix")
    return MixRows(mix, file_sha256(workspace.lock(name)), {"train": used, "heldout": mix.lock.heldout})
