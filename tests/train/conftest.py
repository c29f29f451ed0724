"""Small random models with a real tokenizer, and mixes written as `curate mix` writes them."""

import pytest
import torch
from mixes import publish
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from curate.models.folders import model_folder

SHAPE = {
    "vocab_size": 49_152,
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
}


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Models this small are slower on two threads than on one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tokenizer():
    return AutoTokenizer.from_pretrained(model_folder("smollm2"))


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory, tokenizer):
    """The folder of a two-layer Llama."""
    torch.manual_seed(0)
    return saved(LlamaForCausalLM(LlamaConfig(**SHAPE)), tokenizer, tmp_path_factory.mktemp("models") / "llama")


@pytest.fixture(scope="session")
def tiny_qwen(tmp_path_factory, tokenizer):
    """The folder of a two-layer Qwen2 with the same tokenizer."""
    torch.manual_seed(1)
    return saved(Qwen2ForCausalLM(Qwen2Config(**SHAPE)), tokenizer, tmp_path_factory.mktemp("models") / "qwen")


def saved(model, tokenizer, folder):
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def make_mix(tmp_path):
    """Publish a mix of (prompt, chosen, rejected) in `tmp_path/data`; the last `heldout` rows are held out."""

    def make(pairs, name="v1", heldout=0, data=tmp_path / "data"):
        publish(data, name, pairs, heldout)
        return data

    return make


@pytest.fixture
def few_pairs():
    """Nine short pairs, each of its own prompt."""
    topics = ["tea", "rain", "maps", "bees", "snow", "clocks", "rivers", "chess", "salt"]
    return [(f"What is {topic}?", f"{topic} is a fine thing.", f"No idea about {topic}") for topic in topics]
