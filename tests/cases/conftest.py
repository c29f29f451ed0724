"""Inputs that users of other tools reported, with what is expected of them; they lie beside the project."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from four_prompts import PROMPTS
from shared_data import SHARED

from curate.cli.main import main


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


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs `curate build` over four prompts; gives the exit code, the summary and what was said."""
    monkeypatch.chdir(tmp_path)
    for name in (
        "PAIRWRIGHT_API_KEY",
        "AZURE_OPENAI_API_KEY",
        "OPENAI_API_KEY",
        "HTTP_PROXY",
        "http_proxy",
        "NO_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps({"prompt": text}) + "\n" for text in PROMPTS))

    def build(*words):
        code = main(["build", "--prompts", "prompts.jsonl", "--data", "data", *words, "--json"])
        printed = capsys.readouterr()
        return code, json.loads(printed.out), printed.err

    return build
