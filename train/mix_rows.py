"""The pairs of a published mix, as its lock describes them."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from curate.mix import read_lock
from curate.models import file_sha256
from curate.saved import mix_names, nearest
from schemas.errors import UserError


@dataclass(frozen=True)
class MixRows:
    """A mix whose table is what its lock says."""

    name: str
    lock_sha256: str
    train: pl.DataFrame
    heldout: pl.DataFrame

    def identity(self) -> dict[str, str]:
        """What a run was trained on."""
        return {"mix": self.name, "lock_sha256": self.lock_sha256}


def read_mix(data: Path, name: str, limit: int | None) -> MixRows:
    """The mix called `name`, by default the one published last, with the first `limit` of its training rows."""
    name = name or newest_mix(data)
    lock_path, path = data / "mixes" / f"{name}.lock.json", data / "mixes" / f"{name}.parquet"
    if not lock_path.exists():
        raise UserError(f"no mix '{name}' in {data / 'mixes'}{nearest(name, mix_names(data))}")
    if not path.exists() or file_sha256(path) != read_lock(lock_path)["sha256"]:
        raise UserError(f"{path} is not what its lock says; make it again with: curate mix {name}")
    rows = pl.read_parquet(path).sort("row")
    train = rows.filter(split="train")
    train = train if limit is None else train.head(limit)
    if train.is_empty():
        raise UserError(f"mix '{name}' has no training rows; publish one that has with: curate mix")
    return MixRows(name, file_sha256(lock_path), train, rows.filter(split="heldout"))


def newest_mix(data: Path) -> str:
    """The mix published last; a published lock is never written again."""
    locks = sorted((data / "mixes").glob("*.lock.json"), key=lambda path: (path.stat().st_mtime_ns, path.name))
    if not locks:
        raise UserError(f"no mix in {data / 'mixes'}; publish one with: curate mix v1 --add samples")
    return locks[-1].name.removesuffix(".lock.json")
