"""The models that are measured: the embedded one, and random weights of a known shape."""

import logging
import shutil
from pathlib import Path
from typing import Any

from curate.models.folders import model_folder

log = logging.getLogger(__name__)

QWEN = {
    "vocab_size": 151_936,
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32_768,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
    "tie_word_embeddings": True,
    "rms_norm_eps": 1e-6,
}
"""Qwen2.5-0.5B."""
TINY = QWEN | {
    "vocab_size": 49_152,
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
RANDOM = {"qwen0.5b": QWEN, "tiny": TINY}
MODELS = ("smollm2", *RANDOM)


def prepared(name: str, work: Path) -> Path:
    """The folder of a model, in safetensors; a random one is made under `work` once. All have SmolLM2's tokenizer."""
    if name not in RANDOM:
        return model_folder(name)
    folder = work / "models" / name
    if not (folder / "config.json").is_file():
        make_random(RANDOM[name], folder)
    return folder


def make_random(shape: dict[str, Any], folder: Path) -> None:
    """Random weights, seeded, of a Qwen2 shape; with a tokenizer that has a chat template."""
    import torch
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(model_folder("smollm2"))
    torch.manual_seed(0)
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    scratch = folder.with_name(f".{folder.name}")
    shutil.rmtree(scratch, ignore_errors=True)
    Qwen2ForCausalLM(Qwen2Config(**shape, **ends)).float().save_pretrained(scratch)
    tokenizer.save_pretrained(scratch)
    scratch.rename(folder)
