"""However rows are packed, log-probabilities and gradients are those of plain transformers."""

import copy

import pytest
import torch
from rounding import assert_as_exact, assert_close, difference, exact_norms
from tiny_models import (
    MODELS,
    VOCABULARY,
    gradients,
    plain_logps,
    random_rows,
    tiny,
    with_lora,
)
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    GPTJConfig,
    GPTJForCausalLM,
    Qwen2MoeConfig,
    Qwen2MoeForCausalLM,
)

from schemas.errors import UserError
from train.data.packing import pack_rows
from train.model.language_model import check_vocabulary, prepare_model

PACKED = [kind for kind in MODELS if kind != "gemma2"]
PADDED = {"gemma2": {"attn_implementation": "eager", "attn_logit_softcapping": 4.0}}


@pytest.fixture(scope="module")
def rows():
    """Short and long pairs, most longer than a window of 8, and a conversation with turns that are not learned."""
    made = random_rows((1, 1, 1), (9, 30, 4), (25, 3, 40), (3, 2, 1))
    made[1].responses[0].learned[5:17] = False
    made[2].responses[1].learned[0] = False
    return made


def weighted(logps):
    """A sum in which every line counts differently."""
    return (logps * torch.linspace(-1, 2, len(logps), dtype=logps.dtype)).sum()


def assert_same(logps, make, rows, **precision):
    """Log-probabilities are about as near to float64 as those that the plain model gives in its own precision."""
    assert logps.dtype == torch.float64
    with torch.no_grad():
        assert_close(logps, plain_logps(make(**precision), rows), plain_logps(exact_norms(make().double()), rows))


@pytest.mark.parametrize("kind", MODELS)
def test_log_probabilities_and_gradients_are_those_of_plain_float64(kind, rows, caplog):
    def make():
        return with_lora(tiny(kind, **PADDED.get(kind, {})))

    exact, peer = exact_norms(make().double()), make()
    for plain in (exact, peer):
        weighted(plain_logps(plain, rows)).backward()

    language = prepare_model(make(), kind, 2)
    logps = language.line_logps(language.batch(rows, range(len(rows))))
    weighted(logps).backward()

    assert_same(logps, make, rows)
    assert_as_exact(gradients(language.model), gradients(peer), gradients(exact), torch.float32)
    assert language.packs == (kind not in PADDED)
    said = f"rows are not packed for {kind} (its attention has softcap): each response has its own copy of the prompt"
    assert (said in caplog.text) == (kind in PADDED)


@pytest.mark.parametrize("kind", ["llama", "gemma2"])
def test_what_a_model_drops_out_by_itself_is_off_in_training(kind, rows):
    language = prepare_model(with_lora(tiny(kind, attention_dropout=0.5)), kind, 2)
    language.model.train()

    logps = language.line_logps(language.batch(rows, range(len(rows))))

    assert_same(logps, lambda: with_lora(tiny(kind)), rows)


def test_dropout_layers_of_a_model_are_off_in_training_and_the_adapter_s_are_not(rows):
    shape = GPTJConfig(vocab_size=VOCABULARY, n_embd=32, n_layer=1, n_head=2, rotary_dim=8, n_positions=256)
    shape.update({"attn_pdrop": 0.5, "resid_pdrop": 0.5, "embd_pdrop": 0.5})
    torch.manual_seed(0)
    language = prepare_model(with_lora(GPTJForCausalLM(shape).requires_grad_(False).eval(), dropout=0.25), "gptj", 2)
    language.model.double()
    batch = language.batch(rows, range(len(rows)))

    expected = language.line_logps(batch)
    language.model.train()
    shares = {
        name.rsplit(".", 2)[-2]: module.p for name, module in language.model.named_modules() if hasattr(module, "p")
    }
    for module in language.model.modules():
        if isinstance(module, torch.nn.Dropout) and module.p == 0.25:
            module.p = 0.0

    torch.testing.assert_close(language.line_logps(batch), expected, atol=1e-9, rtol=1e-9)
    assert shares["lora_dropout"] == 0.25


@pytest.mark.parametrize("kind", MODELS)
def test_a_conversation_is_learned_in_parts_as_in_plain_float64(kind):
    rows = random_rows((2, 40), (30, 1), (1, 12))
    rows[0].responses[0].learned[10:25] = False

    language = prepare_model(with_lora(tiny(kind)), kind, 2)

    assert_same(language.line_logps(language.batch(rows, [0, 1, 2])), lambda: with_lora(tiny(kind)), rows)


@pytest.mark.parametrize("kind", MODELS)
def test_rows_in_another_order_or_alone_have_the_same_log_probabilities(kind, rows):
    language = prepare_model(with_lora(tiny(kind)), kind, 2)

    together = language.line_logps(language.batch(rows, [2, 0, 3, 1]))
    alone = torch.cat([language.line_logps(language.batch(rows, [row])) for row in (2, 0, 3, 1)])

    for logps in (together, alone):
        assert_same(logps, lambda: with_lora(tiny(kind)), [rows[row] for row in (2, 0, 3, 1)])


@pytest.mark.parametrize("kind", ["smollm2", "qwen2 windowed", "gemma2"])
def test_without_its_adapter_a_model_is_its_base_and_merged_it_is_both(kind, rows):
    language = prepare_model(with_lora(tiny(kind)), kind, 2)
    batch = language.batch(rows, range(len(rows)))

    with torch.no_grad():
        with language.model.disable_adapter():
            disabled = language.line_logps(batch)
        enabled = language.line_logps(batch)
        language.model.merge_adapter()
        merged = language.line_logps(batch)
        language.model.unmerge_adapter()
        unmerged = language.line_logps(batch)

    assert difference({"": enabled}, {"": disabled}) > 0.01
    assert_same(disabled, lambda: tiny(kind), rows)
    for found in (enabled, merged, unmerged):
        assert_same(found, lambda: with_lora(tiny(kind)), rows)


def test_a_model_without_an_adapter_is_measured_too(rows):
    language = prepare_model(tiny("llama"), "llama", 2)

    assert_same(language.line_logps(language.batch(rows, range(4))), lambda: tiny("llama"), rows)


@pytest.mark.parametrize("kind", ["llama", "smollm2", "qwen3", "mistral windowed", "gemma2"])
def test_half_precision_as_on_a_gpu_is_close(kind, rows):
    def make(dtype=torch.float32):
        return with_lora(tiny(kind).to(dtype))

    language = prepare_model(make(torch.bfloat16), kind, 2)

    logps = language.line_logps(language.batch(rows, range(4)))
    weighted(logps).backward()

    assert_same(logps, make, rows, dtype=torch.bfloat16)
    adapter = [value for name, value in language.model.named_parameters() if "lora_" in name]
    assert all(value.dtype == torch.float32 and value.grad.isfinite().all() for value in adapter)


def test_a_gradient_with_checkpointing_is_the_same(rows):
    found = []
    for is_checkpointed in (False, True):
        language = prepare_model(exact_norms(with_lora(tiny("qwen2"), dropout=0.3).double()), "qwen2", 2)
        if is_checkpointed:
            language.model.get_base_model().activation_checkpointing_enable({"use_reentrant": False})
        language.model.train()
        batch = language.batch(rows, range(4))
        language.dropout.draw_for(30, 1, batch.spans)
        weighted(language.line_logps(batch)).backward()
        found.append(gradients(language.model))

    assert difference(*found) < 1e-9


def test_layers_that_attend_in_their_own_way_have_padded_rows(rows, caplog):
    config = GPTJConfig(
        vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=2, n_positions=128, rotary_dim=8, attn_pdrop=0.0
    )
    torch.manual_seed(0)
    model = GPTJForCausalLM(config).requires_grad_(False).eval()
    plain = copy.deepcopy(model)

    language = prepare_model(with_lora(model), "gptj", 2)

    with torch.no_grad(), language.model.disable_adapter():
        assert_same(language.line_logps(language.batch(rows, range(4))), lambda: copy.deepcopy(plain), rows)
    assert not language.packs
    assert "rows are not packed for gptj (" in caplog.text


@pytest.mark.parametrize("window", [8, 60])
def test_layers_that_keep_their_window_to_their_mask_alone_see_no_more_than_it(window):
    shape = {"vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    shape |= {"num_attention_heads": 2, "num_key_value_heads": 2, "num_experts": 2, "num_experts_per_tok": 1}
    # experts one by one: their grouped product is not there in float64
    shape |= {"experts_implementation": "eager"}
    windows = {"use_sliding_window": True, "sliding_window": window, "max_window_layers": 2}
    torch.manual_seed(0)
    config = Qwen2MoeConfig(**shape, **windows, moe_intermediate_size=16, shared_expert_intermediate_size=16)
    model = Qwen2MoeForCausalLM(config).requires_grad_(False).eval()
    rows = random_rows((80, 20, 30))
    plain = copy.deepcopy(model)

    language = prepare_model(model, "qwen2 moe", 2)

    assert_same(language.line_logps(language.batch(rows, [0])), lambda: copy.deepcopy(plain), rows)


def test_logits_that_are_scaled_are_scaled():
    torch.manual_seed(0)
    shape = {"vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1}
    config = CohereConfig(**shape, num_attention_heads=2, logit_scale=0.25, pad_token_id=0)
    model = CohereForCausalLM(config).requires_grad_(False).eval()
    rows = random_rows((5, 7, 9))
    plain = copy.deepcopy(model)

    language = prepare_model(model, "cohere", 2)

    assert language.head.scale == 0.25
    assert_same(language.line_logps(language.batch(rows, [0])), lambda: copy.deepcopy(plain), rows)


def test_a_head_that_does_more_than_is_known_is_refused_by_name():
    model = tiny("llama")
    theirs = model.lm_head.forward
    model.lm_head.forward = lambda states: 2 * theirs(states)

    with pytest.raises(UserError, match="dpo-v1 scales or caps its logits in a way that is not supported"):
        prepare_model(model, "dpo-v1", 2)


def test_tokens_beyond_the_vocabulary_are_refused(rows):
    language = prepare_model(with_lora(tiny("llama")), "llama", 2)
    rows = random_rows((3, 2, 4))

    rows[0].prompt[1] = VOCABULARY - 1
    check_vocabulary(language, rows)
    rows[0].prompt[1] = VOCABULARY

    with pytest.raises(UserError, match="the tokenizer of llama writes token 97, and its vocabulary ends at 96"):
        check_vocabulary(language, rows)


@pytest.mark.parametrize("kind", PACKED)
def test_a_model_that_packs_is_given_packed_rows(kind, rows):
    batch = prepare_model(tiny(kind), kind, 2).batch(rows, [1, 2])

    assert batch.segments == pack_rows(rows, [1, 2]).segments
    assert batch.ids.shape == (1, int(rows.sizes[1:3].sum()))
