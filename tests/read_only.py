"""Run commands on a folder that is read-only for them, as root too, who is bound by modes without two rights."""

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

RIGHTS = "-dac_override,-dac_read_search"


def bound_by_modes() -> list[str]:
    """What makes a command heed the modes of files; skips where root cannot be made to."""
    if os.geteuid():
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root writes to read-only folders, and there is no setpriv that keeps it from that")
    return ["setpriv", f"--bounding-set={RIGHTS}", f"--inh-caps={RIGHTS}"]


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """The folder and all in it without the right to write."""
    modes = {path: path.stat().st_mode for path in (folder, *folder.rglob("*"))}
    for path, mode in modes.items():
        path.chmod(mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    try:
        yield
    finally:
        for path, mode in modes.items():
            path.chmod(mode)


def run_bound(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """`python -m WORDS` by somebody who is bound by modes."""
    command = [*bound_by_modes(), sys.executable, "-m", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=300)
