"""Folders whose record holds the digests of their files: what is read is what was written.

A record has the name of what it is of, so one that lies in the place of another vouches for nothing.
"""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from curate.files import Damaged, check_file, file_sha256, read_record, record_bytes, write_atomically


def write_folder(
    path: Path, name: str, value: Mapping[str, Any], files: Iterable[str] = (), place: Path | None = None
) -> dict[str, Any]:
    """Write the record of `name`, with the digests of these files beside it; returns what `read_folder` gives.

    `place` is where the record lies when its folder has got its name.
    """
    record = {"name": name, **value, "files": {file: file_sha256(path.parent / file) for file in files}}
    write_atomically(path, record_bytes(place or path, record))
    return record


def read_folder(path: Path, name: str, remedy: str) -> dict[str, Any]:
    """The record of `name` as it was written; its `files` are not looked at.

    Raises Damaged, with the `remedy`, for any other.
    """
    record = read_record(path, "name", "files", remedy=remedy)
    if record["name"] != name:
        raise Damaged(f"{path} is that of '{record['name']}', and not of '{name}'", remedy)
    return record


def check_folder(path: Path, name: str, remedy: str) -> dict[str, Any]:
    """The record of `name`, all of whose files are what was written. Raises Damaged, with the `remedy`."""
    record = read_folder(path, name, remedy)
    for file, sha256 in record["files"].items():
        check_file(path.parent / file, sha256, remedy)
    return record


def check_beginning(path: Path, written: Mapping[str, Any], remedy: str) -> None:
    """Raises Damaged, with the `remedy`, where a file does not begin with the `bytes` that had this `sha256`."""
    try:
        with path.open("rb") as stream:
            content = stream.read(written["bytes"])
    except OSError as error:
        raise Damaged(f"{path} is missing or cannot be read ({error.strerror})", remedy) from error
    if hashlib.sha256(content).hexdigest() != written["sha256"]:
        raise Damaged(f"{path} is damaged: it is not what was written", remedy)
