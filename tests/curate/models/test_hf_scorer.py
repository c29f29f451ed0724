"""Reward models in process: random weights of a true architecture, a real tokenizer, sums redone by hand."""

import json
import shutil

import pytest
import torch
from scripted import user
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
)

from curate.models.embedded import embedded_folder
from curate.models.hf_scorer import FirstToken, LetterJudge, RewardModel, length_batches
from curate.models.judge_prompts import pair_request
from schemas.calls import Request
from schemas.errors import UserError

CONTEXT = 256


def save(folder, model_class, **settings):
    """A two-layer Llama with random weights and the tokenizer of the embedded model."""
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(embedded_folder("smollm2"))
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=CONTEXT,
        initializer_range=0.3,
        **{"pad_token_id": tokenizer.pad_token_id, "num_labels": 1, **settings},
    )
    model_class(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    return save(tmp_path_factory.mktemp("classifier"), LlamaForSequenceClassification)


@pytest.fixture(scope="module")
def language_model(tmp_path_factory):
    return save(tmp_path_factory.mktemp("causal"), LlamaForCausalLM)


def judged(response, prompt="Hi"):
    return Request("score", [*user(prompt), {"role": "assistant", "content": response}])


REQUESTS = [judged("word " * count, "Go on. " * (count % 3 + 1)) for count in (1, 30, 7, 12, 3)]


def answers(scorer, requests, needed=None):
    found = {}
    for group in scorer.answer(requests, set(range(len(requests))) if needed is None else needed):
        found.update(group)
    return found


def values(scorer, requests):
    found = answers(scorer, requests)
    return [found[i].values[0] for i in range(len(requests))]


def alone(scorer, requests):
    return [answers(scorer, [request])[0].values[0] for request in requests]


def test_no_request_is_no_answer(classifier):
    assert answers(RewardModel("hf:tiny", "d", classifier), []) == {}


def test_a_conversation_over_the_context_is_too_long_and_the_others_are_scored(classifier):
    found = answers(RewardModel("hf:tiny", "d", classifier), [judged("word " * CONTEXT), judged("Hello")])

    assert (found[0].failure, found[0].values) == ("prompt_too_long", ())
    assert f"the context of {CONTEXT}" in found[0].error
    assert found[1].failure is None


def test_a_conversation_that_the_template_refuses_is_a_bad_prompt(classifier, tmp_path):
    copy = shutil.copytree(classifier, tmp_path / "model")
    (copy / "chat_template.jinja").write_text("{{ raise_exception('no such role') }}")

    found = answers(RewardModel("hf:tiny", "d", copy), [judged("Hello")])[0]

    assert (found.failure, "no such role" in found.error) == ("bad_prompt", True)


def test_a_model_with_two_labels_is_refused(tmp_path):
    folder = save(tmp_path / "model", LlamaForSequenceClassification, num_labels=2)

    with pytest.raises(UserError, match="has 2 labels; a reward model has one"):
        RewardModel("hf:tiny", "d", folder)


def test_a_language_model_is_not_given_a_random_head(language_model):
    with pytest.raises(UserError, match=r"is no reward model, for it lacks the weights of a head \(score.weight\)"):
        RewardModel("hf:tiny", "d", language_model)


def test_weights_that_are_not_safetensors_are_refused(classifier, tmp_path):
    copy = shutil.copytree(classifier, tmp_path / "model")
    torch.save(AutoModelForSequenceClassification.from_pretrained(classifier).state_dict(), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()

    with pytest.raises(UserError, match="not a transformers model folder"):
        RewardModel("hf:tiny", "d", copy)


def test_a_model_without_a_chat_template_is_refused(classifier, tmp_path):
    copy = shutil.copytree(classifier, tmp_path / "model")
    (copy / "chat_template.jinja").unlink()

    with pytest.raises(UserError, match="has no chat template"):
        RewardModel("hf:tiny", "d", copy)


def test_a_score_is_that_of_a_forward_pass_by_hand(classifier):
    scorer = RewardModel("hf:tiny", "d", classifier)
    tokenizer = AutoTokenizer.from_pretrained(classifier)
    model = AutoModelForSequenceClassification.from_pretrained(classifier, dtype=torch.float32).eval()
    by_hand = []
    for request in REQUESTS:
        text = tokenizer.apply_chat_template(request.messages, tokenize=False)
        tokens = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            states = model.model(tokens).last_hidden_state
            by_hand.append((states[0, -1] @ model.score.weight[0]).item())

    assert values(scorer, REQUESTS) == pytest.approx(by_hand, abs=1e-4)
    assert len({round(score, 2) for score in by_hand}) > 1


@pytest.mark.parametrize("pad_token_id", [None, 2])
def test_scores_do_not_depend_on_the_batch(tmp_path, pad_token_id):
    folder = save(tmp_path / "model", LlamaForSequenceClassification, pad_token_id=pad_token_id)
    scorer = RewardModel("hf:tiny", "d", folder)

    assert values(scorer, REQUESTS) == pytest.approx(alone(scorer, REQUESTS), abs=1e-4)


def test_the_first_token_is_not_written_twice(classifier, tmp_path):
    # A tokenizer that opens every text with its first token, and a template that does so too, as Llama 3 has them.
    copy = shutil.copytree(classifier, tmp_path / "model")
    path = copy / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    start = {"SpecialToken": {"id": "<|im_start|>", "type_id": 0}}
    tokenizer["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [start, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [start, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"<|im_start|>": {"id": "<|im_start|>", "ids": [1], "tokens": ["<|im_start|>"]}},
    }
    path.write_text(json.dumps(tokenizer))
    assert AutoTokenizer.from_pretrained(copy)("a")["input_ids"][0] == 1

    plain, opening = (answers(RewardModel("hf:tiny", "d", folder), REQUESTS[:1])[0] for folder in (classifier, copy))

    assert plain == opening


def test_no_system_prompt_is_added_but_what_the_template_writes(classifier, tmp_path):
    copy = shutil.copytree(classifier, tmp_path / "model")
    (copy / "chat_template.jinja").write_text("{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}")
    tokenizer = AutoTokenizer.from_pretrained(copy)

    found = answers(RewardModel("hf:tiny", "d", copy), [judged("Hello")])[0]

    assert found.input_tokens == len(tokenizer("[user]Hi[assistant]Hello")["input_ids"])


def test_the_first_token_form_is_logit_0_of_what_generate_gives(language_model):
    scorer = FirstToken("first-token:tiny", "d", language_model)
    tokenizer = AutoTokenizer.from_pretrained(language_model)
    model = AutoModelForCausalLM.from_pretrained(language_model, dtype=torch.float32).eval()
    by_card = []
    for request in REQUESTS:
        tokens = tokenizer.apply_chat_template(request.messages, return_tensors="pt", return_dict=True)
        out = model.generate(
            **tokens, max_new_tokens=1, do_sample=False, return_dict_in_generate=True, output_scores=True
        )
        by_card.append(out["scores"][0][0][0].item())

    assert values(scorer, REQUESTS) == pytest.approx(by_card, abs=1e-4)
    assert alone(scorer, REQUESTS) == pytest.approx(by_card, abs=1e-4)


def test_the_judge_in_process_weighs_the_two_letters(language_model):
    request = pair_request("R", user("Hi"), "Hello", "Go away")
    tokenizer = AutoTokenizer.from_pretrained(language_model)
    model = AutoModelForCausalLM.from_pretrained(language_model, dtype=torch.float32).eval()
    tokens = tokenizer.apply_chat_template(
        request.messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    with torch.inference_mode():
        odds = model(**tokens).logits[0, -1].softmax(dim=0)
    a, b = (sum(odds[tokenizer.convert_tokens_to_ids(token)] for token in (x, f"Ġ{x}")).item() for x in ("A", "B"))

    assert values(LetterJudge("judge-pairs:tiny", "d", language_model), [request]) == [
        pytest.approx(a / (a + b), abs=1e-4)
    ]


def test_going_on_after_an_interruption_gives_the_same_scores(classifier):
    scorer = RewardModel("hf:tiny", "d", classifier)
    whole = answers(scorer, REQUESTS)

    rest = answers(scorer, REQUESTS, {1, 3})

    assert {i: answer.values[0] for i, answer in rest.items()} == pytest.approx(
        {i: whole[i].values[0] for i in (1, 3)}, abs=1e-4
    )


def test_batches_are_as_wide_as_their_longest_row():
    rows = {i: [0] * length for i, length in enumerate([5, 9, 1, 2, 30])}

    # By length: 1, 2, 5, 9, 30. 3 rows of 5 fit in 20; a fourth of 9 would make 36; 30 fits in none, and is alone.
    assert list(length_batches(rows, 20)) == [[2, 3, 0], [1], [4]]
