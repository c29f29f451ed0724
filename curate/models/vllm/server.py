"""Start a vLLM server in its own environment, wait for it, ask it, and end it with this process."""

import atexit
import json
import logging
import os
import re
import secrets
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from curate.models.chat_api import ChatAPI
from curate.models.classify_api import ClassifyAPI
from curate.models.folders import check_weights, model_folder
from curate.models.limits import EndpointConfig
from curate.models.vllm.command import (
    ServedWeights,
    Task,
    cpu_cache_gib,
    find_interpreter,
    server_command,
    server_environment,
)
from curate.models.vllm.watchdog import LAST_TIMEOUT_S, start_watched, stop_watched
from curate.store.runs import find_run
from curate.store.workspace import Workspace
from schemas.calls import CallResult, Request
from schemas.errors import UserError

log = logging.getLogger(__name__)

KEY_NAME = "PAIRWRIGHT_VLLM_KEY"
"""Variable that holds the key of this process's servers, which keeps other users of the machine out."""
START_TIMEOUT_S = 1200.0
LOOK_EVERY_S = 0.5
SECONDS_BETWEEN_LINES = 15.0
# Where many responses are drawn at once on a CPU, each takes minutes.
TIMEOUT_S = 1800.0
# Nobody starts a server of ours again, so there is little to wait for when it is gone.
PATIENCE_S = 5.0
LINES_SHOWN = 5
"""Last lines of a server's log that an error shows."""
# A line that begins with an exception's name, behind what vLLM puts before the lines of its processes.
ERROR = re.compile(r"(?:\(.*?\) ERROR .*?\] )?([\w.]+(?:Error|Exception): .*)")
ASKED = {
    "messages": [{"role": "user", "content": "Describe a quiet morning in a small town by the sea."}],
    "temperature": 0,
    "max_tokens": 16,
    "logprobs": True,
    "top_logprobs": 5,
}
"""Prompt that shows whether an adapter changes anything."""
STARTING = threading.Lock()


class VLLMServer:
    """A vLLM server, from its start to its end."""

    def __init__(
        self, weights: ServedWeights, task: Task, data: Path, start_timeout_s: float = START_TIMEOUT_S
    ) -> None:
        """Start it and wait until it answers. Raises UserError with the end of its log if it does not."""
        os.environ[KEY_NAME] = key = os.environ.get(KEY_NAME) or secrets.token_urlsafe(24)
        env = server_environment()
        interpreter = find_interpreter(env)
        # Programs that vLLM starts, such as ninja, lie beside its Python.
        env |= {"VLLM_API_KEY": key, "PATH": os.pathsep.join([os.path.dirname(interpreter.path), env.get("PATH", "")])}
        env.pop(KEY_NAME)
        if interpreter.device == "cpu":
            env.setdefault("VLLM_CPU_KVCACHE_SPACE", str(cpu_cache_gib(weights.folder)))
        port = free_port()
        self.weights = weights
        self.task = task
        self.url = f"http://127.0.0.1:{port}/v1"
        folder = Workspace(data).servers.absolute()
        folder.mkdir(parents=True, exist_ok=True)
        self._log = folder / f"{re.sub(r'[^A-Za-z0-9.-]+', '-', weights.name)[-80:].strip('-')}-{port}.log"
        log.info("starting vLLM (%s) for %s; it writes to %s", interpreter.path, weights.name, self._log)
        # Not in the working directory: `python -m` would let modules there stand in for those of the server.
        command = server_command(interpreter, weights, task, port)
        self._process = start_watched(command, env, folder, self._log)
        try:
            self._wait(start_timeout_s)
            if weights.adapter:
                self._check_adapter(weights.adapter)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the server and all its processes; nothing where it has ended."""
        stop_watched(self._process)

    def is_running(self) -> bool:
        return self._process.poll() is None

    def death(self) -> str | None:
        """Exit status of the server in a sentence, with the end of its log; None while it runs."""
        try:
            # Connections break a moment before it and what it started are gone.
            status = self._process.wait(LAST_TIMEOUT_S + 1)
        except subprocess.TimeoutExpired:
            return None
        return f"the vLLM server of {self.weights.name} ended with status {status}; {self._last_words()}"

    def _wait(self, timeout_s: float) -> None:
        started = last_line = time.monotonic()
        while not self._is_ready():
            waited = time.monotonic() - started
            if not self.is_running():
                raise UserError(str(self.death()))
            if waited > timeout_s:
                name = self.weights.name
                raise UserError(
                    f"the vLLM server of {name} did not answer within {timeout_s:.0f} s; {self._last_words()}"
                )
            if time.monotonic() - last_line >= SECONDS_BETWEEN_LINES:
                last_line = time.monotonic()
                log.info("vLLM is loading %s: %.0f s", self.weights.name, waited)
            time.sleep(LOOK_EVERY_S)
        log.info("vLLM serves %s after %.0f s", self.weights.name, time.monotonic() - started)

    def _is_ready(self) -> bool:
        """Our server answers. Another program on our port, taken since it was found free, lists no such model."""
        try:
            if self._call("GET", "/health").status_code != 200:
                return False
            models = self._call("GET", "/v1/models").json()["data"]
            return self.weights.name in [model["id"] for model in models]
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            return False

    def _check_adapter(self, adapter: Path) -> None:
        """vLLM can accept an adapter and serve the model without it: then both answer alike to the last digit."""
        name, base = self.weights.name, self.weights.base
        if self._logprobs(name) != self._logprobs(base):
            return
        if not is_untrained(adapter):
            raise UserError(
                f"vLLM serves the adapter '{name}', but it changes nothing: its answers are those of {base}; "
                f"name the run without `vllm:`, or merge the adapter; {self._last_words()}"
            )
        log.warning("the adapter '%s' was never trained: it answers as %s does", name, base)

    def _logprobs(self, model: str) -> list[Any]:
        """Tokens of a greedy response and of what came near, with their log-probabilities."""
        try:
            reply = self._call("POST", "/v1/chat/completions", {"model": model, **ASKED}, TIMEOUT_S)
        except httpx.HTTPError as error:
            raise UserError(self.death() or f"vLLM does not answer for '{model}' ({error})") from error
        body = reply.json()
        if reply.status_code != 200:
            raise UserError(
                f"vLLM cannot serve '{model}': HTTP {reply.status_code}: {json.dumps(body)[:300]}; {self._last_words()}"
            )
        found: list[Any] = body["choices"][0]["logprobs"]["content"]
        return found

    def _call(
        self, method: str, path: str, body: dict[str, Any] | None = None, timeout_s: float = 5.0
    ) -> httpx.Response:
        """The server's response; directly, whatever proxy the environment names."""
        headers = {"Authorization": f"Bearer {os.environ[KEY_NAME]}"}
        url = self.url.removesuffix("/v1") + path
        return httpx.request(method, url, json=body, headers=headers, timeout=timeout_s, trust_env=False)

    def _last_words(self) -> str:
        """The first error in the log, which those behind it only follow from, and how the log ends."""
        lines = self._log.read_text(errors="replace").splitlines()
        first = next((found[1] for line in lines if (found := ERROR.match(line))), None)
        cause = f"its first error: {first}\n" if first else ""
        return f"{cause}the end of {self._log}:\n" + "\n".join(lines[-LINES_SHOWN:])


class ManagedModel:
    """A model on a server of ours; when that one is gone, its log says more than a broken connection."""

    is_remote = True
    price_name: str | None = None

    def __init__(self, api: ChatAPI, server: VLLMServer) -> None:
        self.model = api.model
        self.digest = api.digest
        self._api = api
        self._server = server

    def answer(self, requests: Sequence[Request], needed: set[int]) -> Iterator[list[tuple[int, CallResult]]]:
        """The answers of the server."""
        try:
            yield from self._api.answer(requests, needed)
        except UserError as error:
            if death := self._server.death():
                raise UserError(death) from error
            raise


SERVERS: list[VLLMServer] = []
"""Those that this process has started and not yet stopped."""


def start_managed(api: type[ChatAPI], name: str, model: str, data: Path, cfg: EndpointConfig) -> ManagedModel:
    """`vllm:MODEL`, served and asked as `api` asks: a hub id, a folder, `smollm2` or a run.

    The server is started, or used again.
    """
    weights = find_weights(model, data)
    server = find_or_start_server(weights, "classify" if issubclass(api, ClassifyAPI) else "generate", data)
    waits = replace(cfg, timeout_s=max(cfg.timeout_s, TIMEOUT_S), patience_s=PATIENCE_S)
    return ManagedModel(api(name, server.url, weights.name, KEY_NAME, waits), server)


def find_or_start_server(weights: ServedWeights, task: Task, data: Path) -> VLLMServer:
    """A running server of this process that has the model, else a new one."""
    with STARTING:
        if not SERVERS:
            atexit.register(stop_servers)
        for server in list(SERVERS):
            base = ServedWeights(server.weights.base, server.weights.folder)
            if weights in (server.weights, base) and task == server.task:
                if server.is_running():
                    return server
                SERVERS.remove(server)
                server.stop()
        SERVERS.append(VLLMServer(weights, task, data))
        return SERVERS[-1]


def stop_servers() -> None:
    """End all servers of this process."""
    while SERVERS:
        SERVERS.pop().stop()


def find_weights(model: str, data: Path) -> ServedWeights:
    """The folders behind the name of a model, fetched from the hub if need be."""
    if not Path(model).is_dir() and (run := find_run(data, model)):
        base = check_weights(model_folder(run.base))
        return ServedWeights(run.name, base.absolute(), run.adapter.absolute(), run.base)
    return ServedWeights(model, check_weights(model_folder(model)).absolute())


def is_untrained(adapter: Path) -> bool:
    """All that training would have moved is still zero: an adapter begins as a product with zeros."""
    from safetensors import safe_open

    with safe_open(adapter / "adapter_model.safetensors", "pt") as tensors:
        return not any(
            bool(tensors.get_tensor(name).any())
            for name in tensors.keys()  # noqa: SIM118 - not a dict, and not to be iterated over
            if "lora_A" not in name and "lora_embedding_A" not in name
        )


def free_port() -> int:
    """A TCP port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
