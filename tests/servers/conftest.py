"""Real servers for the tests marked `server`; each is started once a session."""

import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers.argilla_fixture import argilla_server, start_argilla

from curate.models.embedded import embedded_folder

__all__ = ["argilla_server", "start_argilla"]

VENV = Path(__file__).parents[2] / ".venv-vllm"
START_TIMEOUT_S = 300
STOP_TIMEOUT_S = 30

ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",  # a test adds the adapter it has trained
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB: 23,000 tokens of SmolLM2-135M in float32
}

FLAGS = [
    *("--served-model-name", "smollm2", "--host", "127.0.0.1", "--max-model-len", "2048"),
    *("--dtype", "float32"),  # as the model is stored; not every CPU has bfloat16 instructions
    *("--enable-lora", "--max-lora-rank", "8"),
    "--enforce-eager",  # compiling takes 50 to 80 seconds of each start and makes so small a model no faster
    # A request with a seed kills a CPU engine if its prompt is prefilled in pieces ("CPU Generator does not use
    # offset"), as happens when the prompts of a step exceed its token budget.
    "--no-enable-chunked-prefill",
]


@pytest.fixture(scope="session")
def vllm_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Base URL, such as "http://127.0.0.1:8000/v1", of a vLLM server of the embedded model, named "smollm2"."""
    # `make vllm-cpu` writes this file last.
    if not (VENV / "installed.txt").exists():
        pytest.skip("no .venv-vllm; run: make vllm-cpu")
    port = free_port()
    command = [str(VENV / "bin" / "python"), "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--model", str(embedded_folder("smollm2")), "--port", str(port), *FLAGS]
    log = tmp_path_factory.mktemp("vllm") / "server.log"
    with log.open("wb") as stream:
        # A session of its own is a process group of its own: the server's workers are stopped with it.
        server = subprocess.Popen(
            command,
            env=os.environ | ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        if problem := await_health(server, f"http://127.0.0.1:{port}/health"):
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-40:])
            pytest.fail(f"vLLM {problem}; the end of {log}:\n{tail}", pytrace=False)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        stop_group(server)


def free_port() -> int:
    """A TCP port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def await_health(server: subprocess.Popen[bytes], url: str) -> str | None:
    """Wait until the server answers; None, or what went wrong."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            return f"exited with {server.returncode} before it was healthy"
        try:
            with urllib.request.urlopen(url, timeout=5):
                return None
        except OSError:
            time.sleep(0.5)
    return f"was not healthy within {START_TIMEOUT_S} s"


def stop_group(server: subprocess.Popen[bytes]) -> None:
    """Ask the server to stop, then end what is left of its process group.

    A server whose engine died exits by itself and leaves its worker running, so its exit proves nothing.
    """
    server.terminate()
    try:
        server.wait(STOP_TIMEOUT_S)
        # Its resource tracker frees shared memory a moment later. An orphan that no init reaps stays in the group.
        for _ in range(20):
            os.killpg(server.pid, 0)
            time.sleep(0.1)
        os.killpg(server.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
