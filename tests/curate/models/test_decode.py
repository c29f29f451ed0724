"""Decoding many responses together, against `generate` of transformers."""

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from curate.models.decode import PIECE_TOKENS, bytes_per_token, decode, fill_gaps, group_prompts
from curate.models.embedded import embedded_folder

SIZES = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
}
SHARED = list(range(40, 52))
PROMPTS = [[*SHARED, 5], [*SHARED, 9, 8, 7], [*SHARED, 9, 8, 7, 6, 5, 4, 3]]
SAMPLED = {"temperature": 0.8, "top_p": 0.9, "max_tokens": 12}
GREEDY = {**SAMPLED, "temperature": 0}


@pytest.fixture(scope="module")
def llama():
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SIZES)).eval()


@pytest.fixture(scope="module")
def mistral():
    """Its attention reaches back eight tokens, fewer than any prompt has."""
    torch.manual_seed(0)
    return MistralForCausalLM(MistralConfig(**SIZES, sliding_window=8)).eval()


def luck(rows):
    return torch.rand(rows, SAMPLED["max_tokens"], generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def generated(model, prompts, max_tokens):
    """The most likely tokens by `generate`, on the same prompts padded on the left."""
    width = max(len(prompt) for prompt in prompts)
    tokens = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    with torch.inference_mode():
        found = model.generate(
            input_ids=tokens,
            attention_mask=mask,
            do_sample=False,
            max_new_tokens=max_tokens,
            eos_token_id=None,
            pad_token_id=0,
        )
    return found[:, width:].tolist()


def test_the_embedded_model_says_what_generate_says_for_prompts_of_different_length():
    folder = embedded_folder("smollm2")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    texts = [
        "What is the capital of France?",
        "List three primary colours, one on each line, and nothing else.",
        "I have a blank USB stick and a Linux ISO on my desk. Explain in one sentence how to make a bootable drive.",
    ]
    prompts = [
        list(
            tokenizer.apply_chat_template(
                [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=True
            )["input_ids"]
        )
        for text in texts
    ]

    found = decode(model, prompts, [1, 2, 1], None, {**GREEDY, "max_tokens": 16}, [])

    expected = generated(model, prompts, 16)
    assert found == [expected[0], expected[1], expected[1], expected[2]]


@pytest.mark.parametrize("kind", ["llama", "mistral"])
def test_greedy_responses_are_those_of_generate(kind, request):
    model = request.getfixturevalue(kind)

    assert decode(model, PROMPTS, [1, 1, 1], None, GREEDY, []) == generated(model, PROMPTS, 12)


def test_prompts_that_share_no_beginning_are_read_whole(llama):
    prompts = [[1, 2], [3, 4, 5, 6], list(range(60, 70))]

    assert decode(llama, prompts, [1, 1, 1], None, GREEDY, []) == generated(llama, prompts, 12)


def test_prompts_that_are_read_in_several_pieces_get_the_responses_of_generate(llama):
    # Two pieces: 24 prompts have 24 * 60 tokens beyond the shared ones.
    prompts = [[*SHARED, *((at * row) % 300 for at in range(20 + row))] for row in range(17, 41)]
    assert len(list(group_prompts(prompts, 12, PIECE_TOKENS["cpu"], is_whole=False))) == 2

    assert decode(llama, prompts, [1] * 24, None, GREEDY, []) == generated(llama, prompts, 12)


@pytest.mark.parametrize("kind", ["llama", "mistral"])
def test_a_response_does_not_depend_on_those_drawn_beside_it(kind, request):
    model, numbers = request.getfixturevalue(kind), luck(6)

    together = decode(model, PROMPTS, [2, 1, 3], numbers, SAMPLED, [])

    rows = [PROMPTS[0]] * 2 + [PROMPTS[1]] + [PROMPTS[2]] * 3
    alone = [decode(model, [row], [1], numbers[at : at + 1], SAMPLED, [])[0] for at, row in enumerate(rows)]
    assert together == alone


@pytest.mark.parametrize("kind", ["llama", "mistral"])
def test_a_finished_response_leaves_and_the_others_go_on_unchanged(kind, request):
    model = request.getfixturevalue(kind)
    endless = decode(model, PROMPTS, [2, 1, 3], luck(6), SAMPLED, [])
    ends = {endless[0][3], endless[2][0], endless[4][7]}

    found = decode(model, PROMPTS, [2, 1, 3], luck(6), SAMPLED, list(ends))

    cut = [next((at for at, token in enumerate(row) if token in ends), len(row)) + 1 for row in endless]
    assert found == [row[:stop] for row, stop in zip(endless, cut, strict=True)]
    assert len({len(row) for row in found}) > 2


def test_the_last_rows_fill_the_gaps():
    assert fill_gaps([True, False, True, False, False, True]) == [0, 5, 2]
    assert fill_gaps([True, True]) == [0, 1]
    assert fill_gaps([False]) == []


def test_neighbors_are_read_together_up_to_a_number_of_padded_tokens():
    prompts = [[0] * length for length in (3, 3, 4, 9, 30)]

    # Without the 2 shared tokens: 3 of 2 padded tokens, 9 - 2 and 30 - 2.
    assert list(group_prompts(prompts, 2, 6, is_whole=False)) == [range(3), range(3, 4), range(4, 5)]
    assert list(group_prompts(prompts, 2, 6, is_whole=True)) == [range(5)]


def test_a_token_takes_its_keys_and_values_in_every_layer(llama):
    # Keys and values of 2 layers, 2 heads and 8 numbers of 4 bytes.
    assert bytes_per_token(llama) == 2 * 2 * 2 * 8 * 4


def test_a_model_without_keys_and_values_is_none_to_decode_with():
    model = MambaForCausalLM(MambaConfig(vocab_size=300, hidden_size=16, num_hidden_layers=1))

    assert bytes_per_token(model) is None
