"""A hub that is not there, or answers what no hub does: one sentence, for models and datasets alike."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

ANSWERS = {
    "error": b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n",
    "html": b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 15\r\n\r\n<html>no</html>",
    "nothing": b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
    "refuses": b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n",
    "no http": b"220 mail.example.org ready\r\n",
    "hangs up": b"",
}


@pytest.fixture
def answers() -> Iterator[ThreadingHTTPServer]:
    """A server that gives the bytes `raw` to whoever asks, and hangs up."""

    class Reply(BaseHTTPRequestHandler):
        def handle(self) -> None:
            self.request.recv(65536)
            self.request.sendall(server.raw)  # type: ignore[attr-defined]

    server = ThreadingHTTPServer(("127.0.0.1", 0), Reply)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def build(tmp_path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return subprocess.run(
        [sys.executable, "-m", "curate.cli.main", "build", *words, "--data", str(tmp_path / "data")],
        env={**clean, "HF_HOME": str(tmp_path / "hf"), **environment},
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=240,
    )


def closed_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


MODEL = ("--source", "sft", "--num-prompts", "2", "--generator", "owner/name")
SCORER = ("--source", "samples", "--scorer", "first-token:owner/name")
DATASET = ("--source", "owner/name")


@pytest.mark.parametrize("words", [MODEL, SCORER, DATASET], ids=["generator", "scorer", "dataset"])
def test_a_hub_that_cannot_be_reached_is_one_sentence(tmp_path, words):
    done = build(tmp_path, *words, HF_ENDPOINT=f"http://127.0.0.1:{closed_port()}")

    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("error: no ")
    assert "the hub cannot be reached (" in done.stderr and "owner/name" in done.stderr


@pytest.mark.parametrize("words", [MODEL, DATASET], ids=["generator", "dataset"])
def test_a_hub_that_is_switched_off_is_named(tmp_path, words):
    done = build(tmp_path, *words, HF_HUB_OFFLINE="1")

    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "HF_HUB_OFFLINE is set" in done.stderr


@pytest.mark.parametrize("endpoint", ["no address", "ftp://127.0.0.1", "http://[::1", "http://127.0.0.1:99999"])
def test_an_endpoint_that_is_no_address_is_one_sentence(tmp_path, endpoint):
    done = build(tmp_path, *MODEL, HF_ENDPOINT=endpoint)

    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("error: HF_ENDPOINT is no address of a hub")


@pytest.mark.parametrize("kind", ANSWERS)
def test_a_hub_that_answers_anything_else_is_one_sentence(tmp_path, answers, kind):
    answers.raw = ANSWERS[kind]

    done = build(tmp_path, *MODEL, HF_ENDPOINT=f"http://127.0.0.1:{answers.server_port}")

    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("error: no folder and no reachable hub model 'owner/name': ")
