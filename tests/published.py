"""A data folder with a published mix, and what asks a local hub for it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hub_server import Hub

from curate.config import BuildConfig, MixConfig
from curate.files import asset
from curate.mix.mix import mix
from curate.pipeline.build import build

TOKEN = "hf_onlyForTests0123456789"
TOKENS = {TOKEN: ("me", True), "hf_reads": ("me", False), "hf_other": ("other", True)}


def publish_mix(
    data: Path, name: str = "v1", count: int = 30, note: str = "", license: str = "", heldout_share: float = 0.2
) -> Path:
    """The folder of a mix of some samples with scores, with a note at the end of each rejected response."""
    samples = asset("samples", "pairs.jsonl").read_text(encoding="utf-8").splitlines()[:count]
    source = data / f"{name}-source.jsonl"
    data.mkdir(parents=True, exist_ok=True)
    with source.open("w") as file:
        for i, line in enumerate(samples):
            row = {**json.loads(line), "score_chosen": 1.5 + i, "score_rejected": 0.5}
            row["rejected"] += note
            file.write(f"{json.dumps(row)}\n")
    # Nothing is embedded, which takes long.
    off = ("off_topic", "semantic_duplicate_prompt", "semantic_duplicate_pair")
    build(BuildConfig(source=str(source), name=f"{name}-source", skip_rule=off, license=license, data=data))
    return mix(MixConfig(name=name, add=(f"{name}-source",), heldout_share=heldout_share, data=data)).path


def use_hub(hub: Hub, monkeypatch: pytest.MonkeyPatch, folder: Path, token: str | None = TOKEN) -> None:
    """Lets the hub's library of this process ask this hub, without waiting between its tries."""
    import huggingface_hub
    from huggingface_hub.utils import _http

    files = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(folder / "no-token"))
    monkeypatch.setattr(_http.time, "sleep", lambda seconds: None)
    monkeypatch.setenv("HF_TOKEN", token) if token else monkeypatch.delenv("HF_TOKEN", raising=False)


def ask_hub(hub: Hub, folder: Path, *command: str, token: str = TOKEN) -> subprocess.CompletedProcess[str]:
    """What a process of its own says that asks this hub."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    env |= {"HF_ENDPOINT": hub.url, "HF_TOKEN": token, "HF_HOME": str(folder / "hf"), "HF_HUB_DISABLE_TELEMETRY": "1"}
    return subprocess.run([sys.executable, *command], env=env, capture_output=True, text=True, check=False, timeout=120)
