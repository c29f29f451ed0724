"""Files that travel with the package: package data in an installed wheel, `data/` in a source checkout."""

import difflib
import errno
import hashlib
import json
import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

from schemas.errors import UserError
from schemas.manifest import FORMAT, refuse_other_format

_checked: dict[Path, tuple[str, os.stat_result]] = {}
"""Files that this process has read and found to be what was written, with their digests and states then."""

HEAD = b'{\n "record_sha256": "'
"""Begin of a JSON file with a digest of its own: before all else, so that only a file that begins with its format has
none."""
RESTORE = "restore it, or remove it and give the command that made it again"


def asset(*parts: str) -> Path:
    """Path of a shipped file or folder, e.g. `asset("models", "reward-mini")`; it need not exist."""
    package = Path(str(files("curate")))
    installed = package / "data"
    return (installed if installed.is_dir() else package.parent / "data").joinpath(*parts)


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"no config file {path}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not TOML: {error}") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def cache_folder() -> Path:
    """`PAIRWRIGHT_CACHE`, else `pairwright` in the user's cache folder."""
    if named := os.environ.get("PAIRWRIGHT_CACHE"):
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "pairwright"


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class Damaged(UserError):
    """A stored file that is missing, or is not what was written."""

    def __init__(self, found: str, remedy: str = RESTORE) -> None:
        super().__init__(f"{found}; {remedy}")
        self.found = found


def check_file(path: Path, sha256: str, remedy: str) -> None:
    """Raises Damaged, with the `remedy`, unless the file is what was written; a process reads each file once."""
    try:
        state = path.stat()
        known = _checked.get(path)
        if known and known[0] == sha256 and is_unchanged(known[1], state):
            return
        found = file_sha256(path)
    except OSError as error:
        raise Damaged(f"{path} is missing or cannot be read ({error.strerror})", remedy) from error
    if found != sha256:
        raise Damaged(f"{path} is damaged: it is not what was written", remedy)
    _checked[path] = sha256, state


def is_unchanged(before: os.stat_result, now: os.stat_result) -> bool:
    """Whether nothing wrote to a file in between; a time that was set back shows in the time of the change."""
    return all(
        getattr(before, field) == getattr(now, field) for field in ("st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")
    )


def read_record(path: Path, *fields: str, remedy: str = RESTORE, place: str = "") -> dict[str, Any]:
    """A JSON file that pairwright wrote, with at least these fields; `format` is checked and left out.

    `place` is the folder and name that it was written under, where it may lie elsewhere now.

    Raises Damaged, with the `remedy`, for one that is not what was written under this name, and UserError for one of
    another format.
    """
    try:
        content = path.read_bytes()
        value: dict[str, Any] = json.loads(content)
        is_sealed = content.startswith(HEAD)
        if is_sealed:
            check_seal(place or place_of(path), content)
        # Formats of before had no digest.
        refuse_other_format(int(value.pop("format")), str(path))
        if not is_sealed:
            raise ValueError("it is not what was written")
        del value["record_sha256"]
        if missing := [field for field in fields if field not in value]:
            raise KeyError(missing[0])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged_file(path, error, remedy) from error
    return value


def place_of(path: Path) -> str:
    """The name of a file with that of its folder, so that a file in the place of another is found."""
    return "/".join(path.parts[-2:])


def check_seal(place: str, content: bytes) -> None:
    """Raises ValueError for a JSON file that is not what was written in this place."""
    if content != seal(place, b"," + content.partition(b",")[2]):
        raise ValueError("it is not what was written")


def seal(place: str, body: bytes) -> bytes:
    """A JSON object without its opening bracket as a file, with the digest of its place and content in front."""
    return HEAD + hashlib.sha256(place.encode() + body).hexdigest().encode() + b'"' + body


def record_bytes(path: Path, value: Mapping[str, Any], place: str = "") -> bytes:
    """The content of a JSON file that `read_record` reads."""
    text = json.dumps({"format": FORMAT, **value}, indent=1, ensure_ascii=False)
    return seal(place or place_of(path), b"," + text.encode().removeprefix(b"{"))


def write_record(path: Path, value: Mapping[str, Any], place: str = "") -> None:
    """Write a JSON file that `read_record` reads; `place` is where it lies when its folder has got its name."""
    write_atomically(path, record_bytes(path, value, place))


def damaged_file(path: Path, error: Exception, remedy: str = RESTORE) -> Damaged:
    """The error for a file of ours that cannot be read."""
    what = f"no field {error}" if isinstance(error, KeyError) else str(error)
    return Damaged(f"{path} is damaged ({what})", remedy)


def nearest_hint(name: str, known: Sequence[str]) -> str:
    """`; did you mean 'x'?`, or what is known, for the end of an error."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f" (did you mean '{close[0]}'?)"
    return f" (found {', '.join(known)})" if known else " (there is none yet)"


def write_atomically(path: Path, content: bytes) -> None:
    """Write to a name beside `path`, then rename: readers see all of it or nothing."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    with full_disk(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with scratch.open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(scratch, path)
        except OSError:
            with suppress(OSError):
                scratch.unlink(missing_ok=True)
            raise


def can_write(folder: Path) -> bool:
    """Whether files can be made in a folder, or in the one that it would be made in."""
    place = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
    return os.access(place, os.W_OK | os.X_OK)


def refuse_read_only(folder: Path) -> None:
    """Raises UserError where nothing can be written; to be asked before anything is made or paid."""
    if not can_write(folder):
        raise UserError(f"{folder} is read-only for this user, and this command writes to it; give another --data")


@contextmanager
def full_disk(path: Path) -> Iterator[None]:
    """Turn errors of writing `path` into a UserError."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise UserError(
                f"no room to write {path} ({error.strerror}); free some space, then give the same command again: "
                "everything so far is saved"
            ) from error
        raise UserError(f"cannot write {path}: {error.strerror}; name another folder with --data") from error
