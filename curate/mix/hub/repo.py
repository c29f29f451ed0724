"""A repository of datasets on the hub: its client, its files, and what goes wrong with it in one sentence."""

import hashlib
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.files import Damaged, check_file
from curate.models.hub import chain_of, check_endpoint, one_line
from schemas.errors import UserError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
ATTRIBUTES = ".gitattributes"
"""What the hub itself puts into a new repository."""
AGAIN = "give the same command again: it goes on with what is missing"


@dataclass(frozen=True)
class HubFiles:
    """The files of one commit."""

    commit: str
    files: dict[str, Any]
    """Path -> what the hub says of it."""

    @property
    def names(self) -> list[str]:
        """All but what the hub itself put there."""
        return sorted(set(self.files) - {ATTRIBUTES})

    def differing(self, folder: Path, names: list[str]) -> list[str]:
        """Those of the names that are not in the commit as they are in a folder."""
        return [name for name in names if not self._has(folder / name)]

    def _has(self, path: Path) -> bool:
        """Whether a file of this name has these bytes, by the digests that the hub gives."""
        there = self.files.get(path.name)
        if there is None or not path.is_file() or there.size != path.stat().st_size:
            return False
        if there.lfs is not None:
            try:
                check_file(path, there.lfs.sha256, "")
            except Damaged:
                return False
            return True
        content = path.read_bytes()
        return bool(there.blob_id == hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest())


def check_repo(repo: str) -> str:
    """The name of a repository as it was given. Raises UserError for one that can be none."""
    if not REPO.fullmatch(repo):
        raise UserError(f"'{repo}' is no repository of the hub; name it as owner/name")
    return repo


def list_files(api: "HfApi", repo: str, revision: str) -> HubFiles:
    """The files that a revision has now."""
    commit = str(api.repo_info(repo, repo_type="dataset", revision=revision).sha)
    found = api.list_repo_tree(repo, repo_type="dataset", revision=commit, recursive=True)
    return HubFiles(commit, {file.path: file for file in found if hasattr(file, "blob_id")})


@contextmanager
def hub_client(doing: str) -> Iterator["HfApi"]:
    """A client of the hub of HF_ENDPOINT; what goes wrong as it is used becomes a UserError that begins with `doing`.

    Its own notes are left out, for they show addresses that are signed.
    """
    check_endpoint()
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError

    # Of the library's HTTP client, which is another one by its version.
    client_error: type[Exception] = HfHubHTTPError.__mro__[1]
    notes = logging.getLogger("huggingface_hub")
    level, without_xet = notes.level, constants.HF_HUB_DISABLE_XET
    notes.setLevel(logging.ERROR)
    # A hub behind plain HTTP has no Xet, and its client finds no way back from it.
    constants.HF_HUB_DISABLE_XET = without_xet or constants.ENDPOINT.lower().startswith("http://")
    try:
        yield HfApi()
    # ValueError: an answer that is none of the hub; RuntimeError: an upload that failed.
    except (client_error, OSError, ValueError, RuntimeError) as error:
        raise UserError(hide_secrets(f"{doing}: {find_cause(error, client_error)}")) from error
    finally:
        notes.setLevel(level)
        constants.HF_HUB_DISABLE_XET = without_xet


def find_cause(error: BaseException, client_error: type[Exception]) -> str:
    """Why the hub did not do what it was asked for, and what to do."""
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    causes = list(chain_of(error))
    if any("OfflineModeIsEnabled" in repr(each) or "HF_HUB_OFFLINE" in str(each) for each in causes):
        return "HF_HUB_OFFLINE is set; unset it"
    answered = next((each for each in causes if isinstance(each, HfHubHTTPError)), None)
    if isinstance(answered, RepositoryNotFoundError) or (is_status(answered, 401) and not has_token()):
        if has_token():
            return "there is no such dataset, or the token may not see it"
        return "there is no such dataset, or it is private: log in with hf auth login, or set HF_TOKEN"
    if isinstance(answered, RevisionNotFoundError):
        return "it has no such revision"
    if answered is not None:
        said, status = one_line(answered), answered.response.status_code
        if is_status(answered, 401):
            return "the hub does not know the token; log in with hf auth login, or set HF_TOKEN to another one"
        if is_status(answered, 403):
            return f"the token has no right to it ({answered.server_message or said}); give one that may write there"
        if is_status(answered, 412):
            return "somebody changed it meanwhile; give the command again"
        if status == 429 or status >= 500:
            return f"the hub could not answer ({status}); {AGAIN}"
        return said
    lost = [each for each in causes if isinstance(each, ConnectionError | TimeoutError | client_error)]
    if lost and "/xet-" in str(lost[-1]) and "404" in str(lost[-1]):
        return "this hub stores no files by Xet; set HF_HUB_DISABLE_XET=1 and give the command again"
    if lost:
        return f"the connection broke ({one_line(lost[-1])}); look at the network, and {AGAIN}"
    why = f" ({one_line(error.__cause__)})" if error.__cause__ else ""
    return f"{one_line(error)}{why}"


def is_status(answered: Any, status: int) -> bool:
    """Whether an error is an answer with this status."""
    return answered is not None and answered.response.status_code == status


def has_token() -> bool:
    """Whether a token is in HF_TOKEN or in the hub's own file."""
    from huggingface_hub import get_token

    return get_token() is not None


def hide_secrets(text: str) -> str:
    """A text without the token and without what follows the `?` of addresses, which may be signed."""
    from huggingface_hub import get_token

    token = get_token()
    return re.sub(r"(https?://[^\s?]+)\?\S+", r"\1", text.replace(token, "***") if token else text)
