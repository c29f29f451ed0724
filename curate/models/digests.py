"""Digests of model folders: the identity of local weights, without who wrote them."""

import json
import re
from pathlib import Path
from typing import Any

from curate.files import cache_folder, file_sha256
from schemas.errors import UserError
from schemas.ids import digest

DIGESTS = "digests.json"

HUB_SNAPSHOT = re.compile(r"/models--[^/]+/snapshots/[0-9a-f]{40}$")
"""How the hub's cache names the folder of one revision."""

VOLATILE = {"_name_or_path", "is_local", "local_files_only", "transformers_version"}
"""Settings that say who wrote a model folder, and not what it answers."""


def file_digests(folder: Path) -> dict[str, str]:
    """Relative path -> SHA-256 of every file of a model folder but the list itself."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != DIGESTS)
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in files}


def folder_digest(folder: Path) -> str:
    """Identity of a model: the revision of a hub snapshot, else the digest of all that its answers depend on.

    Settings count by their content, without what the libraries that wrote them say of themselves.
    """
    if HUB_SNAPSHOT.search(folder.absolute().as_posix()):
        return folder.name
    is_ours = cache_folder().absolute() in folder.absolute().parents and (folder / DIGESTS).exists()
    files = json.loads((folder / DIGESTS).read_text()) if is_ours else file_digests(folder)
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
