"""A transformers model in process: random weights of a true architecture, a real tokenizer."""

import json
import shutil
import time
from dataclasses import replace

import pytest
from scripted import user

from curate.models.embedded import embedded_folder
from curate.models.hf_generator import HFGenerator
from curate.models.reasoning import read_response
from schemas.calls import Request
from schemas.errors import UserError

CONTEXT = 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A two-layer Llama with random weights, the tokenizer of the embedded model and a short context."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model")
    tokenizer = AutoTokenizer.from_pretrained(embedded_folder("smollm2"))
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=CONTEXT,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def generator(folder):
    return HFGenerator("tiny", "digest", folder)


def request(text, n=2, temperature=0.7, max_tokens=6, seed=30):
    sampling = {"temperature": temperature, "top_p": 0.95, "max_tokens": max_tokens, "seed": seed}
    return Request("generate", user(text), n=n, sampling=sampling)


def answers(generator, requests, needed=None):
    found = {}
    for group in generator.answer(requests, set(range(len(requests))) if needed is None else needed):
        found.update(group)
    return found


def test_each_prompt_gets_n_responses_and_its_token_counts(generator):
    found = answers(generator, [request("Hi"), request("Name a colour.")])

    assert [len(found[i].responses) for i in (0, 1)] == [2, 2]
    assert found[0].input_tokens < found[1].input_tokens
    assert 2 <= found[0].output_tokens <= 12


def test_the_same_call_gives_the_same_responses_and_another_seed_gives_others(generator):
    first, again, other = (answers(generator, [request("Hi", seed=seed)])[0] for seed in (1, 1, 2))

    assert first == again != other


def test_going_on_after_an_interruption_gives_the_responses_of_an_undisturbed_run(generator):
    # Nine prompts make batches of 1, 2, 4 and 2.
    requests = [request("word " * (i + 1)) for i in range(9)]
    groups = list(generator.answer(requests, set(range(9))))
    undisturbed = {i: answer for group in groups for i, answer in group}

    assert [len(group) for group in groups] == [1, 2, 4, 2]
    for done in range(1, 4):
        first = {i: answer for group in groups[:done] for i, answer in group}
        rest = answers(generator, requests, set(range(9)) - set(first))
        assert {**first, **rest} == undisturbed


def test_requests_of_one_part_may_ask_for_different_numbers_of_responses(generator):
    requests = [request("Hi", n=1), request("Hello there", n=3), request("Name a colour.", n=2)]

    found = answers(generator, requests)

    assert [len(found[i].responses) for i in range(3)] == [1, 3, 2]
    assert found[1].output_tokens > found[0].output_tokens


def test_the_luck_of_a_request_is_of_what_is_asked_and_not_of_its_neighbors(generator):
    asked = request("Name a colour.", n=3)

    alone = answers(generator, [asked])[0]

    assert answers(generator, [request("Hi"), asked, request("Hello there", n=1)])[1].responses == alone.responses
    assert answers(generator, [replace(asked, first_sample=3)])[0].responses != alone.responses


def test_a_prompt_with_more_responses_than_are_drawn_together_gets_them_all(generator):
    found = answers(generator, [request("Hi", n=150, max_tokens=2)])[0]

    assert len(found.responses) == 150


def test_a_batch_holds_64_sequences_at_most(generator):
    requests = [request("word " * (i % 30 + 1), n=3, max_tokens=1) for i in range(60)]

    sizes = [len(group) for group in generator.answer(requests, set(range(60)))]

    # 21 prompts with 3 responses are 63 sequences.
    assert sizes == [1, 2, 4, 8, 16, 21, 8]


def test_the_time_of_a_batch_is_shared_out(generator):
    start = time.perf_counter()

    found = answers(generator, [request("Hi"), request("Hello there"), request("Name a colour.")])

    assert all(answer.seconds > 0 for answer in found.values())
    assert sum(answer.seconds for answer in found.values()) <= time.perf_counter() - start


def test_a_model_that_keeps_no_keys_and_values_is_asked_through_generate(folder, tmp_path):
    import torch
    from transformers import AutoTokenizer, MambaConfig, MambaForCausalLM

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    MambaForCausalLM(MambaConfig(vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1)).save_pretrained(
        tmp_path
    )
    tokenizer.save_pretrained(tmp_path)
    model = HFGenerator("tiny", "digest", tmp_path)
    requests = [request("Hi", n=1), request("Hello there", n=3), request("Name a colour.", temperature=0.7)]

    found, again = answers(model, requests), answers(model, requests)

    assert [len(found[i].responses) for i in range(3)] == [1, 3, 2]
    assert found == again


def test_a_response_cut_at_the_limit_says_so(generator):
    found = answers(generator, [request("Hi", n=8, max_tokens=2)])[0]

    assert {response.finish_reason for response in found.responses} == {"length"}


def test_a_prompt_without_room_for_a_response_is_too_long_and_the_others_are_answered(generator):
    found = answers(generator, [request("word " * CONTEXT), request("Hi")])

    assert found[0].failure == "prompt_too_long"
    assert f"the context of {CONTEXT}" in found[0].error
    assert found[1].failure is None


def test_a_conversation_that_the_template_refuses_is_a_bad_prompt(folder):
    model = HFGenerator("tiny", "digest", folder)
    model._tokenizer.chat_template = "{{ raise_exception('no such role') }}"

    found = answers(model, [request("Hi")])[0]

    assert (found.failure, "no such role" in found.error) == ("bad_prompt", True)


TURNS = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
REFUSES_SYSTEM = {
    "Gemma": "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}",
    "Mistral": "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/...') }}{% endif %}{% endfor %}",
    "Llama 2 chat of others": "{% for m in messages %}{% if m.role not in ['user', 'assistant'] %}"
    "{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}",
}


@pytest.mark.parametrize("refuses", REFUSES_SYSTEM.values(), ids=REFUSES_SYSTEM)
def test_a_system_message_that_the_template_refuses_opens_the_first_user_turn(folder, refuses, caplog):
    model = HFGenerator("tiny", "digest", folder)
    model._tokenizer.chat_template = refuses + TURNS
    system = [{"role": "system", "content": "Be short."}]
    later = [{"role": "assistant", "content": "Yes?"}, *user("Why?")]
    asked = [[*system, *user("Hi")], [*system, *user("Hi"), *later], user("Hi")]
    moved = [user("Be short.\n\nHi"), [*user("Be short.\n\nHi"), *later], user("Hi")]
    requests = [replace(request("Hi"), messages=messages) for messages in asked]

    found = answers(model, requests)
    expected = [
        len(model._tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"]) for messages in moved
    ]

    assert [found[i].failure for i in range(3)] == [None] * 3
    assert [found[i].input_tokens for i in range(3)] == expected
    assert caplog.messages == [
        "tiny: the chat template refuses a system message; its text goes into the first user turn"
    ]


def test_a_conversation_that_the_template_refuses_with_and_without_its_system_message_is_a_bad_prompt(folder, caplog):
    model = HFGenerator("tiny", "digest", folder)
    model._tokenizer.chat_template = REFUSES_SYSTEM["Mistral"] + TURNS
    messages = [{"role": "system", "content": "Be short."}, *user("Hi"), *user("Hi")]

    found = answers(model, [replace(request("Hi"), messages=messages)])[0]

    assert (found.failure, "must alternate" in found.error) == ("bad_prompt", True)
    assert caplog.messages == []


def test_a_cut_weight_file_is_refused(folder, tmp_path):
    import shutil

    copy = shutil.copytree(folder, tmp_path / "model")
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])

    with pytest.raises(UserError, match="not a transformers model folder"):
        HFGenerator("tiny", "digest", copy)


def test_only_too_long_prompts_are_no_reason_to_fail(generator):
    assert answers(generator, [request("word " * CONTEXT)])[0].failure == "prompt_too_long"


def test_temperature_zero_is_the_most_likely_text(generator):
    first, again = (answers(generator, [request("Hi", temperature=0, seed=seed)])[0] for seed in (1, 2))

    assert first.responses == again.responses
    assert first.responses[0] == first.responses[1]


def test_a_model_folder_without_a_chat_template_is_refused(folder, tmp_path):
    import shutil

    copy = shutil.copytree(folder, tmp_path / "model")
    (copy / "chat_template.jinja").unlink()

    with pytest.raises(UserError, match="no chat template"):
        HFGenerator("tiny", "digest", copy)


def test_a_folder_that_is_no_model_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"hello": 1}))

    with pytest.raises(UserError, match="not a transformers model folder"):
        HFGenerator("tiny", "digest", tmp_path)


def test_a_turn_ends_at_the_template_the_tokenizer_and_the_model_token(folder):
    from transformers import AutoTokenizer, GenerationConfig

    from curate.models.hf_generator import end_tokens

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.eos_token = "<|endoftext|>"

    ends = end_tokens(tokenizer, GenerationConfig(eos_token_id=[5, 7]))

    assert ends == [
        tokenizer.convert_tokens_to_ids("<|im_end|>"),
        5,
        7,
        tokenizer.convert_tokens_to_ids("<|endoftext|>"),
    ]


def test_a_lora_adapter_changes_the_responses(folder, tmp_path):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    tuned = get_peft_model(
        AutoModelForCausalLM.from_pretrained(folder), LoraConfig(target_modules=["q_proj", "v_proj"])
    )
    for name, weights in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=2.0)
    tuned.save_pretrained(tmp_path / "adapter")

    plain = answers(HFGenerator("tiny", "digest", folder), [request("Hi", temperature=0, n=1)])
    adapted = answers(HFGenerator("tiny", "digest", folder, tmp_path / "adapter"), [request("Hi", temperature=0, n=1)])

    assert plain[0].responses != adapted[0].responses


def test_an_adapter_that_does_nothing_gives_the_responses_of_the_model(folder, tmp_path):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    # A fresh adapter adds 0 to every weight.
    fresh = get_peft_model(
        AutoModelForCausalLM.from_pretrained(folder), LoraConfig(target_modules=["q_proj", "v_proj"])
    )
    fresh.save_pretrained(tmp_path / "adapter")
    requests = [request("Hi"), request("Name a colour.")]

    plain = answers(HFGenerator("tiny", "digest", folder), requests)

    assert answers(HFGenerator("tuned", "other digest", folder, tmp_path / "adapter"), requests) == plain


def test_an_adapter_in_the_weights_computes_what_it_computes_beside_them(folder, tmp_path):
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM

    from curate.models.hf_model import with_adapter

    torch.manual_seed(1)
    tuned = get_peft_model(
        AutoModelForCausalLM.from_pretrained(folder), LoraConfig(target_modules=["q_proj", "v_proj"])
    )
    for name, weights in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=2.0)
    tuned.save_pretrained(tmp_path / "adapter")
    tokens = torch.tensor([[5, 6, 7, 8]])

    with torch.inference_mode():
        merged = with_adapter(AutoModelForCausalLM.from_pretrained(folder), tmp_path / "adapter")(tokens).logits
        beside = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder), tmp_path / "adapter")
        torch.testing.assert_close(merged, beside(tokens).logits, atol=1e-4, rtol=1e-4)


def test_reasoning_that_the_template_opens_is_marked_in_the_response(folder, tmp_path):
    copied = shutil.copytree(folder, tmp_path / "model")
    template = (copied / "chat_template.jinja").read_text()
    (copied / "chat_template.jinja").write_text(
        template + "{% if add_generation_prompt %}{{ '<think>\\n' }}{% endif %}"
    )

    (answer,) = answers(HFGenerator("tiny", "digest", copied), [request("Hi")]).values()

    assert all(response.text.startswith("<think>\n") for response in answer.responses)
    assert answer.output_tokens == 12
    reasoning, text = read_response(answer.responses[0])
    assert (text, bool(reasoning)) == ("", True)
