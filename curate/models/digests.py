"""Digests of model folders: the identity of local weights, without who wrote them."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from curate.files import Damaged, cache_folder, check_file, file_sha256
from schemas.errors import UserError
from schemas.ids import digest

DIGESTS = "digests.json"

HUB_SNAPSHOT = re.compile(r"/models--[^/]+/snapshots/[0-9a-f]{40}$")
"""How the hub's cache names the folder of one revision."""

LOADED = (".safetensors", ".json", ".txt", ".jinja", ".model")
"""How the names end of the files that are fetched and read of a hub model."""

VOLATILE = {"_name_or_path", "is_local", "local_files_only", "transformers_version"}
"""Settings that say who wrote a model folder, and not what it answers."""


def file_digests(folder: Path) -> dict[str, str]:
    """Relative path -> SHA-256 of every file of a model folder but the list itself."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != DIGESTS)
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in files}


def write_digests(folder: Path) -> None:
    """List the files of a finished folder; the list has a digest of itself, under its own name."""
    files = file_digests(folder)
    (folder / DIGESTS).write_text(json.dumps({**files, DIGESTS: digest(files)}, indent=1, sort_keys=True))


def read_digests(folder: Path) -> dict[str, str]:
    """The list of `write_digests`. Raises Damaged where it is missing or not what was written."""
    try:
        files: dict[str, str] = json.loads((folder / DIGESTS).read_bytes())
        seal = files.pop(DIGESTS, None)
        if seal is None and all((folder / name).is_file() for name in files):
            # a list of an earlier version, which has no digest of itself
            seal = digest(files)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise Damaged(f"{folder / DIGESTS} is missing or damaged ({error})", f"remove {folder}") from error
    if seal != digest(files):
        raise Damaged(f"{folder / DIGESTS} is damaged: it is not what was written", f"remove {folder}")
    return files


def check_snapshot(folder: Path) -> None:
    """Raises Damaged where a file of a hub snapshot is not the one that the hub's cache names by its content."""
    remedy = f"remove {folder} and the file that it links to, then fetch the model again"
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() and path.suffix in LOADED:
            blob = path.resolve()
            if len(blob.name) == 64:
                check_file(blob, blob.name, remedy)
            elif len(blob.name) == 40 and git_sha1(blob) != blob.name:
                raise Damaged(f"{path} is damaged: it is not what was fetched", remedy)


def git_sha1(path: Path) -> str:
    """The name that git, and the hub's cache, has for a small file's content; empty where it is missing."""
    if not path.exists():
        return ""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def folder_digest(folder: Path) -> str:
    """Identity of a model: the revision of a hub snapshot, else the digest of all that its answers depend on.

    Settings count by their content, without what the libraries that wrote them say of themselves.
    """
    if HUB_SNAPSHOT.search(folder.absolute().as_posix()):
        return folder.name
    is_ours = cache_folder().absolute() in folder.absolute().parents and (folder / DIGESTS).exists()
    files = read_digests(folder) if is_ours else file_digests(folder)
    counted: dict[str, Any] = {}
    for name, sha256 in files.items():
        if name.endswith("config.json"):
            counted[name] = read_settings(folder / name)
        elif not name.endswith((".md", ".gitattributes")):
            counted[name] = sha256
    return digest(counted)


def read_settings(path: Path) -> Any:
    """The content of a settings file of a model, without `VOLATILE`."""
    try:
        return json.loads(
            path.read_text(encoding="utf-8"),
            object_pairs_hook=lambda pairs: {key: value for key, value in pairs if key not in VOLATILE},
        )
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}); fetch the model again") from error
