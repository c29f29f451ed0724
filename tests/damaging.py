"""Ways in which a stored file can become another, with its size and time as they were where that can be."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path


def flip_bit(path: Path, other: Path) -> None:
    """Turn one bit in the middle of it."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    replace(path, bytes(content))


def truncate(path: Path, other: Path) -> None:
    replace(path, path.read_bytes()[: path.stat().st_size // 2])


def delete(path: Path, other: Path) -> None:
    path.unlink()


def swap(path: Path, other: Path) -> None:
    """Exchange it with another of its kind."""
    mine, others = path.read_bytes(), other.read_bytes()
    replace(path, others)
    replace(other, mine)


WAYS: list[Callable[[Path, Path], None]] = [flip_bit, truncate, delete, swap]


def replace(path: Path, content: bytes) -> None:
    """Other content in a new file, with the old time: a file that is mapped stays as it is for who maps it."""
    scratch = path.with_name(f"{path.name}.new")
    scratch.write_bytes(content)
    shutil.copystat(path, scratch)
    os.replace(scratch, path)
