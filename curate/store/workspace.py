"""Builds and mixes by name, as they were saved."""

import hashlib
import re
from pathlib import Path
from typing import Any

import polars as pl

from curate.files import nearest_hint, read_record
from curate.store.store import Table, damaged_files, open_table
from schemas.errors import UserError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def build_names(data: Path) -> list[str]:
    """Names of all builds."""
    return sorted(path.stem for path in (data / "builds").glob("*.json"))


def mix_names(data: Path) -> list[str]:
    """Names of all published mixes."""
    return sorted(path.name.removesuffix(".lock.json") for path in (data / "mixes").glob("*.lock.json"))


def read_build(data: Path, name: str) -> dict[str, Any]:
    """The record of a build. Raises UserError for an unknown one, with the nearest name."""
    path = data / "builds" / f"{name}.json"
    if not path.exists():
        raise UserError(f"no build '{name}' in {data / 'builds'}{nearest_hint(name, build_names(data))}")
    return read_record(path, "tables", "identities", "summary", "config")


def build_path(data: Path, name: str) -> Path:
    return data / "builds" / f"{name}.json"


def pinned_table(data: Path, pinned: list[str]) -> Table:
    """The table that a lock pins; refused when its content is another one now."""
    stage, identity = pinned
    table = open_table(data, stage, identity.partition(":")[0])
    if table.identity != identity or damaged_files(table):
        raise UserError(f"{table.folder} holds other rows than the mix was locked to; restore it, or publish a new mix")
    return table


def hash_ids(ids: pl.Series, seed: int, purpose: str) -> pl.Series:
    """64-bit hashes of ids, the same on every machine and in every version of every library."""
    salt = f"{seed}:{purpose}:".encode()
    drawn = [int.from_bytes(hashlib.sha256(salt + text.encode()).digest()[:8], "big") for text in ids]
    return pl.Series(drawn, dtype=pl.UInt64)


def read_lock(path: Path) -> dict[str, Any]:
    """The lock of a published mix."""
    return read_record(path, "recipe_sha256", "sources", "rows", "train", "heldout", "sha256")
