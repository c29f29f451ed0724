"""Inputs that users of other tools reported, with what is expected of them; they lie beside the project."""

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from shared_data import SHARED


@pytest.fixture
def case() -> Callable[[str], Path]:
    """The folder of a reported case by its name; skips where the cases are absent."""

    def find(name: str) -> Path:
        folder = SHARED / "cases" / name
        if not folder.is_dir():
            pytest.skip(f"no {folder}")
        return folder

    return find


@pytest.fixture(scope="session")
def reported_endpoint() -> Iterator[str]:
    """The address of the reported endpoint, which does with a call what the name of the model says."""
    script = SHARED / "cases" / "endpoint.py"
    if not script.exists():
        pytest.skip(f"no {script}")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, str(script), str(port)], stderr=subprocess.DEVNULL)
    while process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            break
        except OSError:
            time.sleep(0.02)
    yield f"http://127.0.0.1:{port}/v1"
    process.kill()
    process.wait()
