"""Tiny random language models, rows of random tokens, and log-probabilities as plain transformers gives them."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from train.data.tokens import Row, Tokens

VOCABULARY = 97

SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
}

WINDOWED = {"sliding_window": 8}

MODELS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "llama": (LlamaForCausalLM, LlamaConfig, {"tie_word_embeddings": False}),
    # as SmolLM2: three query heads a key head, tied embeddings
    "smollm2": (
        LlamaForCausalLM,
        LlamaConfig,
        {"num_attention_heads": 3, "num_key_value_heads": 1, "hidden_size": 48, "tie_word_embeddings": True},
    ),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config, {"tie_word_embeddings": True}),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config, {"head_dim": 16}),
    "mistral windowed": (MistralForCausalLM, MistralConfig, WINDOWED),
    "qwen2 windowed": (Qwen2ForCausalLM, Qwen2Config, {"use_sliding_window": True, "max_window_layers": 1, **WINDOWED}),
    "gemma2": (Gemma2ForCausalLM, Gemma2Config, {"head_dim": 8, **WINDOWED, "final_logit_softcapping": 3.0}),
}


def tiny(kind: str, **settings: Any) -> Any:
    """A frozen model of this kind, the same at every call; all weights are large enough to count."""
    model_type, config_type, special = MODELS[kind]
    torch.manual_seed(0)
    model = model_type(config_type(**SHAPE | special | settings))
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.normal_(std=0.3).add_(1.0 if "norm" in name else 0.0)
    return model.requires_grad_(False).eval()


def with_lora(model: nn.Module, dropout: float = 0.0, targets: Sequence[str] = ("q_proj", "v_proj")) -> PeftModel:
    """An adapter on the model that changes what it says."""
    lora = LoraConfig(r=4, lora_alpha=8, lora_dropout=dropout, target_modules=list(targets), task_type="CAUSAL_LM")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return shaken(get_peft_model(model, lora))


def shaken(model: Any) -> Any:
    """Give an adapter weights that change what the model says, so that nothing is equal by being zero."""
    torch.manual_seed(3)
    with torch.no_grad():
        for name, value in sorted(model.named_parameters()):
            if "lora_" in name:
                value.copy_(torch.randn(value.shape) * 0.2)
    return model


def gradients(model: nn.Module) -> dict[str, Tensor]:
    """Name -> gradient of each adapter weight, under the name without the adapter's."""
    return {
        name.split("base_model.model.", 1)[1]: value.grad.double()
        for name, value in model.named_parameters()
        if value.grad is not None
    }


class Listed(list[Row]):
    """Rows in memory that are asked as those in files are."""

    key = "listed"

    @property
    def sizes(self) -> Any:
        return np.array([len(row) for row in self], dtype=np.int64)

    @property
    def largest_id(self) -> int:
        return max(int(ids.max()) for row in self for ids in (row.prompt, *(each.ids for each in row.responses)))

    def release(self) -> None:
        pass


def random_rows(*sizes: tuple[int, ...], seed: int = 0, vocabulary: int = VOCABULARY) -> Listed:
    """Rows of as many tokens as are told: of the prompt, then of each response, all of it learned."""
    random = np.random.default_rng(seed)

    def some(count: int) -> Any:
        return random.integers(vocabulary, size=count).astype(np.uint32)

    return Listed(
        Row(f"row-{i}", some(prompt), tuple(Tokens(some(size), np.ones(size, dtype=np.bool_)) for size in responses))
        for i, (prompt, *responses) in enumerate(sizes)
    )


def lines_of(rows: Sequence[Row]) -> list[tuple[Tensor, Tensor]]:
    """Of each line the ids of prompt and response, and which of them are learned."""
    lines = []
    for row in rows:
        for response in row.responses:
            ids = torch.from_numpy(np.concatenate([row.prompt, response.ids]).astype(np.int64))
            learned = torch.from_numpy(np.concatenate([np.zeros(len(row.prompt), dtype=np.bool_), response.learned]))
            lines.append((ids, learned))
    return lines


def plain_logps(model: Any, rows: Sequence[Row]) -> Tensor:
    """(lines,): every response behind its own prompt in a call by itself, from all logits."""
    found = []
    for ids, learned in lines_of(rows):
        logits = model(input_ids=ids[None], use_cache=False).logits[0, :-1]
        logps = logits.log_softmax(-1).gather(1, ids[1:, None])[:, 0]
        found.append(logps[learned[1:]].sum())
    return torch.stack(found)
