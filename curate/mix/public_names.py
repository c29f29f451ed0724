"""Name sources and models as strangers may see them: without addresses, secrets and folders of this machine."""

import re
from functools import lru_cache
from pathlib import Path, PureWindowsPath

from curate.flags import without_secrets
from curate.sources.file_source import ending_of
from curate.sources.hub import HUB_ID

ADDRESS = re.compile(r"[A-Za-z][\w+.-]*://[^#\s]*#?")
"""Of an endpoint, up to the name of its model."""


def public_source(spec: str) -> str:
    """A source as strangers may see it: a file or folder of this machine by its last name alone."""
    is_hub = HUB_ID.fullmatch(spec) and not ending_of(spec) and not Path(spec.partition(":")[0]).exists()
    return without_secrets(spec if is_hub else last_name(spec))


@lru_cache
def public_model(name: str) -> str:
    """A model as strangers may see it: without the address of its endpoint, and a folder by its last name alone.

    What looks like an id of the hub is taken for one, wherever this runs: rows hold these names.
    """
    prefix, colon, rest = ADDRESS.sub("", name).rpartition(":")
    return without_secrets(f"{prefix}{colon}{rest if HUB_ID.fullmatch(rest) else last_name(rest)}")


def last_name(path: str) -> str:
    """The last part of a path, whichever system it is of."""
    return PureWindowsPath(path).name or path
