"""The real `curate review serve`, as a child process, for the tests that need Argilla."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

# The first start on a machine installs the server's environment.
START_TIMEOUT_S = 600
STOP_TIMEOUT_S = 30


@dataclass
class ArgillaServer:
    """A running server and how to sign in."""

    url: str
    username: str
    password: str
    api_key: str
    home: Path
    process: subprocess.Popen[str]
    log: Path
    """What it writes to stderr."""

    @property
    def headers(self) -> dict[str, str]:
        """What lets a request in as the owner."""
        return {"X-Argilla-Api-Key": self.api_key}

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def stop(self) -> int:
        """Ask it to stop, if it runs; its exit code."""
        self.process.terminate()
        self.process.communicate(timeout=STOP_TIMEOUT_S)
        return self.process.returncode

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        self.process.communicate(timeout=STOP_TIMEOUT_S)


StartArgilla = Callable[..., ArgillaServer]


def start(home: Path, port: int = 0, variables: dict[str, str] | None = None) -> ArgillaServer:
    """Run `curate review serve` on a home until it answers; port 0 is any that is free."""
    log = home.with_name(f"{home.name}.log")
    command = [sys.executable, "-m", "curate.cli.main", "review", "serve", "--json", "--home", str(home)]
    with log.open("a") as stream:
        process = subprocess.Popen(
            [*command, "--port", str(port)],
            env=os.environ | (variables or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stream,
            text=True,
        )
    assert process.stdout
    patience = threading.Timer(START_TIMEOUT_S, process.kill)
    patience.start()
    line = process.stdout.readline()
    patience.cancel()
    try:
        found = json.loads(line)
        return ArgillaServer(found["url"], found["username"], found["password"], found["api_key"], home, process, log)
    except (ValueError, KeyError):
        process.kill()
        process.communicate()
        pytest.fail(f"the server said {line!r}; the end of {log}:\n{log.read_text()[-3000:]}", pytrace=False)


@pytest.fixture(scope="session")
def argilla_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ArgillaServer]:
    """One server for all tests; each makes a workspace, users and datasets of its own names."""
    server = start(tmp_path_factory.mktemp("argilla") / "home")
    yield server
    server.stop()


@pytest.fixture
def start_argilla() -> Iterator[StartArgilla]:
    """Starts servers on homes of the test's own, and ends those that still run after it."""
    started: list[ArgillaServer] = []

    def start_one(home: Path, port: int = 0, variables: dict[str, str] | None = None) -> ArgillaServer:
        started.append(start(home, port, variables))
        return started[-1]

    yield start_one
    for server in started:
        server.kill()
