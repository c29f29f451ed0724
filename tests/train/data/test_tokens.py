"""Every response ends once, the prompt is a prefix of both sides, and what is cut or dropped is counted."""

import copy
from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import pre_tokenizers
from transformers import GenerationConfig

from schemas.errors import UserError
from train.data.chat import read_chat
from train.data.tokens import Preflight, Tokens, conversation_row, pair_row

QWEN = (
    "{%- if messages[0]['role'] == 'system' %}{{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}"
    "{%- else %}{{- '<|im_start|>system\\nYou are Qwen.<|im_end|>\\n' }}{%- endif %}{%- for message in messages %}"
    "{%- if message['role'] != 'system' %}{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + "
    "'<|im_end|>' + '\\n' }}{%- endif %}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
    "{%- endif %}"
)
LLAMA = (
    "{{- bos_token }}{%- for message in messages %}"
    "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>' + "
    "'\\n\\n' + message['content'] | trim + '<|eot_id|>' }}{%- endfor %}{%- if add_generation_prompt %}"
    "{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}"
)
NO_END = (
    "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
FORGETFUL = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{% if message['role'] == 'assistant' and loop.last %}{{ '<think></think>' }}{% endif %}"
    "{{ message['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
REWRITING = (
    "{% for message in messages %}{{ message['role'] + message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant, think:' }}{% endif %}"
)
USER_ONLY = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}" + NO_END
ONE_TURN = "{% if messages|length > 2 %}{{ raise_exception('one turn') }}{% endif %}" + NO_END
QUESTION = [{"role": "user", "content": "Why is the sky blue?"}]


@pytest.fixture(params=["smollm2", "qwen", "llama", "no_end"])
def chat(request, tokenizer):
    return chats(tokenizer, request.param)


def chats(tokenizer, name):
    """A chat by the name of its template; as in the real ones, text and turns may end with different tokens."""
    tokenizer = copy.deepcopy(tokenizer)
    configured = tokenizer.eos_token_id
    if name == "qwen":
        # a Qwen2.5 base model ends text with one token, its chat template ends turns with another
        tokenizer.chat_template, tokenizer.eos_token = QWEN, "<|endoftext|>"
        configured = tokenizer.eos_token_id
    if name == "llama":
        added = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|end_of_text|>"]
        tokenizer.add_tokens([*added], special_tokens=True)
        tokenizer.bos_token, tokenizer.eos_token = "<|begin_of_text|>", "<|end_of_text|>"
        tokenizer.chat_template = LLAMA
        configured = tokenizer.convert_tokens_to_ids(["<|end_of_text|>", "<|eot_id|>"])
    templates = {
        "no_end": NO_END,
        "forgetful": FORGETFUL,
        "rewriting": REWRITING,
        "user_only": USER_ONLY,
        "one_turn": ONE_TURN,
    }
    tokenizer.chat_template = templates.get(name, tokenizer.chat_template)
    return read_chat(name, tokenizer, GenerationConfig(eos_token_id=configured))


def learned_text(chat, side):
    return chat.tokenizer.decode(side.ids[side.learned])


def sides(row):
    """Each response with the prompt before it."""
    unlearned = np.zeros(len(row.prompt), dtype=np.bool_)
    return [
        Tokens(np.concatenate([row.prompt, response.ids]), np.concatenate([unlearned, response.learned]))
        for response in row.responses
    ]


def ends_in(chat, side):
    return sum(int(token) in chat.ends for token in side.ids[side.learned])


def test_a_response_ends_exactly_once_whatever_the_template(chat):
    said = Preflight()

    row = pair_row(chat, "p", QUESTION, "Air scatters blue.", "It mirrors the sea.", 512, said)

    for side, text in zip(sides(row), ("Air scatters blue.", "It mirrors the sea."), strict=True):
        assert ends_in(chat, side) == 1
        assert int(side.ids[-1]) in chat.ends
        assert learned_text(chat, side).startswith(text)
        assert len(learned_text(chat, side)) == len(text) + len(chat.tokenizer.decode([side.ids[-1]]))
    assert (said.rows, said.kept, said.cut.total(), said.dropped.total()) == (1, 1, 0, 0)


def test_the_end_is_the_one_the_template_writes(tokenizer):
    written = {
        name: chats(tokenizer, name).tokenizer.convert_ids_to_tokens(
            int(sides(pair_row(chats(tokenizer, name), "p", QUESTION, "A.", "B.", 512, Preflight()))[0].ids[-1])
        )
        for name in ("smollm2", "qwen", "llama", "no_end")
    }

    assert written == {"smollm2": "<|im_end|>", "qwen": "<|im_end|>", "llama": "<|eot_id|>", "no_end": "<|im_end|>"}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(prompt=st.text(min_size=1, max_size=40), chosen=st.text(max_size=40), rejected=st.text(max_size=40))
def test_the_prompt_is_a_token_prefix_of_both_sides(chat, prompt, chosen, rejected):
    row = pair_row(chat, "p", [{"role": "user", "content": prompt}], chosen, rejected, 512, Preflight())

    if row is not None:
        heads = [side.ids[~side.learned].tolist() for side in sides(row)]
        alone = chat.tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], add_generation_prompt=True, return_dict=True
        )["input_ids"]
        assert heads[0] == heads[1] == alone
        for side in sides(row):
            assert side.learned.tolist() == [False] * len(alone) + [True] * (len(side) - len(alone))
            assert ends_in(chat, side) == 1


def test_a_response_that_begins_with_what_would_join_the_prompt_keeps_the_prompt_whole(chat):
    row = pair_row(chat, "p", QUESTION, "\n\nx", "y", 512, Preflight())

    heads = [side.ids[~side.learned].tolist() for side in sides(row)]
    assert heads[0] == heads[1]


def test_a_response_that_brings_its_own_end_gets_no_second_one(tokenizer):
    chat = chats(tokenizer, "smollm2")

    row = pair_row(chat, "p", QUESTION, "Air.<|im_end|>", "Sea.<|im_end|>\n", 512, Preflight())

    assert [learned_text(chat, side) for side in sides(row)] == ["Air.<|im_end|>", "Sea.<|im_end|>"]


@pytest.mark.parametrize(
    ("template", "chosen", "reason"),
    [
        ("smollm2", "Air.<|im_end|>\n<|im_start|>user\nThanks!", "end_inside_response"),
        ("llama", "  ", "empty_response"),
        ("smollm2", "The sea.", "same_when_cut"),
        ("rewriting", "Air.", "rewritten_by_template"),
    ],
)
def test_a_pair_that_cannot_be_learned_is_dropped_with_its_reason(tokenizer, template, chosen, reason):
    said = Preflight()

    row = pair_row(chats(tokenizer, template), "p", QUESTION, chosen, "The sea.", 512, said)

    assert row is None
    assert (said.rows, said.kept, dict(said.dropped)) == (1, 0, {reason: 1})


def test_a_system_text_that_the_template_refuses_opens_the_first_user_turn(tokenizer):
    said = Preflight()
    chat = chats(tokenizer, "user_only")
    opened = [{"role": "user", "content": f"Be brief.\n\n{QUESTION[0]['content']}"}]

    row = pair_row(chat, "p", [{"role": "system", "content": "Be brief."}, *QUESTION], "Air.", "Sea.", 512, said)
    plain = pair_row(chat, "p", opened, "Air.", "Sea.", 512, said)

    assert not said.dropped
    assert row.prompt.tolist() == plain.prompt.tolist()


def test_a_conversation_that_the_template_refuses_is_counted(tokenizer):
    said = Preflight()
    turns = [*QUESTION, {"role": "assistant", "content": "Air."}, *QUESTION]

    row = pair_row(chats(tokenizer, "one_turn"), "p", turns, "Air.", "Sea.", 512, said)

    assert row is None
    assert dict(said.dropped) == {"template_refused": 1}


def test_the_oldest_turns_of_a_prompt_go_before_any_response_is_cut(chat):
    said = Preflight()
    old = [{"role": "user", "content": "old " * 60}, {"role": "assistant", "content": "older " * 60}]

    row = pair_row(chat, "p", [*old, *QUESTION], "Air scatters blue.", "It mirrors the sea.", 80, said)
    alone = pair_row(chat, "p", QUESTION, "Air scatters blue.", "It mirrors the sea.", 80, Preflight())

    assert [side.ids.tolist() for side in sides(row)] == [side.ids.tolist() for side in sides(alone)]
    assert dict(+said.cut) == {"prompt": 1}


def test_the_system_message_stays_longer_than_the_oldest_exchange(tokenizer):
    chat = chats(tokenizer, "smollm2")
    system = [{"role": "system", "content": "Be brief."}]
    old = [{"role": "user", "content": "old " * 60}, {"role": "assistant", "content": "older " * 60}]

    row = pair_row(chat, "p", [*system, *old, *QUESTION], "Air.", "Sea.", 80, Preflight())

    assert "Be brief." in chat.tokenizer.decode(sides(row)[0].ids)
    assert "old" not in chat.tokenizer.decode(sides(row)[0].ids)


def test_a_long_response_loses_its_end_and_so_is_not_taught_to_stop_there(chat):
    said = Preflight()

    row = pair_row(chat, "p", QUESTION, "blue " * 100, "It mirrors the sea.", 64, said)

    assert len(sides(row)[0]) == 64
    assert [ends_in(chat, side) for side in sides(row)] == [0, 1]
    assert dict(+said.cut) == {"chosen": 1}
    assert said.summary() == "1 of 1 rows kept, 1 truncated (end of 1 chosen responses), 0 dropped"


def test_no_response_is_cut_to_nothing(tokenizer):
    chat = chats(tokenizer, "smollm2")
    whole = pair_row(chat, "p", QUESTION, "Air.", "Sea.", 512, Preflight())
    prompt = int((~sides(whole)[0].learned).sum())
    said = Preflight()

    lengths = {}
    for room in (0, 1, 2):
        row = pair_row(chat, "p", QUESTION, "Air.", "Sea.", prompt + room, said)
        lengths[room] = None if row is None else [int(side.learned.sum()) for side in sides(row)]

    assert lengths == {0: None, 1: [1, 1], 2: [2, 2]}
    assert dict(said.dropped) == {"prompt_too_long": 1}


def test_responses_that_become_the_same_when_cut_are_dropped(tokenizer):
    said = Preflight()

    row = pair_row(chats(tokenizer, "smollm2"), "p", QUESTION, "a " * 90 + "b", "a " * 90 + "c", 64, said)

    assert row is None
    assert dict(said.dropped) == {"same_when_cut": 1}


def test_only_the_responses_of_a_conversation_are_learned(chat):
    said = Preflight()
    turns = [*QUESTION, answer("Air scatters blue."), {"role": "user", "content": "And red?"}, answer("Less so.")]

    row = conversation_row(chat, "c", turns, 512, said)

    side = sides(row)[0]
    assert ends_in(chat, side) == 2
    text = learned_text(chat, side)
    end = chat.tokenizer.decode([side.ids[-1]])
    assert text == f"Air scatters blue.{end}Less so.{end}"
    assert "And red?" in chat.tokenizer.decode(side.ids[~side.learned])
    assert int(side.ids[-1]) in chat.ends


def test_a_response_that_the_template_changes_later_is_read_and_not_learned(tokenizer):
    chat = chats(tokenizer, "forgetful")
    turns = [*QUESTION, answer("Air."), {"role": "user", "content": "And red?"}, answer("Less so.")]

    row = conversation_row(chat, "c", turns, 512, Preflight())

    assert learned_text(chat, sides(row)[0]) == "<think></think>Less so.<|im_end|>"


def test_a_long_conversation_loses_its_oldest_exchange_then_the_end(tokenizer):
    chat, said = chats(tokenizer, "smollm2"), Preflight()
    turns = [*QUESTION, answer("blue " * 50), {"role": "user", "content": "And red?"}, answer("red " * 50)]

    row = conversation_row(chat, "c", turns, 60, said)

    assert "blue" not in chat.tokenizer.decode(sides(row)[0].ids)
    assert len(sides(row)[0]) == 60
    assert dict(said.cut) == {"prompt": 1, "response": 1}


def test_a_tokenizer_without_eos_or_template_is_refused(tokenizer):
    bare, endless = copy.deepcopy(tokenizer), copy.deepcopy(tokenizer)
    bare.chat_template = None
    endless.eos_token = None

    with pytest.raises(UserError, match="tiny has no chat template"):
        read_chat("tiny", bare, GenerationConfig())
    with pytest.raises(UserError, match="no EOS token"):
        read_chat("tiny", endless, GenerationConfig())


def test_a_tokenizer_without_pad_pads_with_eos(tokenizer):
    padless = copy.deepcopy(tokenizer)
    padless.pad_token = None

    assert read_chat("tiny", padless, GenerationConfig()).pad == tokenizer.eos_token_id


def answer(text):
    return {"role": "assistant", "content": text}


SILENT = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}{{ message['content'] }}{% endif %}"
    "{% endfor %}"
)
ONE_TOKEN = "{{ '<|im_start|>' }}" + SILENT


def test_a_prompt_of_no_token_drops_a_pair_and_one_of_one_token_keeps_it(tokenizer):
    tokenizer = copy.deepcopy(tokenizer)
    rows = {}
    for template in (SILENT, ONE_TOKEN):
        tokenizer.chat_template, said = template, Preflight()
        chat = read_chat("odd", tokenizer, GenerationConfig())
        rows[template] = pair_row(chat, "p", QUESTION, "Air.", "Sea.", 512, said), dict(said.dropped)

    assert rows[SILENT] == (None, {"empty_prompt": 1})
    assert rows[ONE_TOKEN][0].prompt.tolist() == tokenizer.convert_tokens_to_ids(["<|im_start|>"])
    assert len(rows[ONE_TOKEN][0]) == 1 + sum(map(len, rows[ONE_TOKEN][0].responses))


def test_the_first_token_of_a_conversation_is_read_even_where_it_belongs_to_a_response(tokenizer):
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = SILENT
    chat = read_chat("odd", tokenizer, GenerationConfig())

    row = conversation_row(chat, "c", [*QUESTION, answer("Air scatters.")], 512, Preflight())

    whole = [*tokenizer("Air scatters.")["input_ids"], chat.eos]
    assert (row.prompt.tolist(), row.responses[0].ids.tolist()) == (whole[:1], whole[1:])
    assert row.responses[0].learned.all()


def test_a_conversation_is_split_at_its_first_learned_token(chat):
    turns = [*QUESTION, answer("Air scatters blue."), {"role": "user", "content": "And red?"}, answer("Less so.")]

    row = conversation_row(chat, "c", turns, 512, Preflight())

    asked = chat.tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True, return_dict=True)["input_ids"]
    assert row.prompt.tolist() == asked
    assert row.responses[0].learned[0] and not row.responses[0].learned.all()


ASCII = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=40)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(prompt=ASCII, chosen=ASCII, rejected=ASCII)
def test_a_tokenizer_that_cuts_words_at_random_gives_both_responses_one_prompt(tokenizer, prompt, chosen, rejected):
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.backend_tokenizer.model.dropout = 0.5
    chat = read_chat("odd", tokenizer, GenerationConfig())
    asked = [{"role": "user", "content": prompt}]

    row = pair_row(chat, "p", asked, chosen, rejected, 2048, Preflight())

    if row is not None:
        rendered = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
        written = [tokenizer.decode(side.ids, clean_up_tokenization_spaces=False) for side in sides(row)]
        assert written == [f"{rendered}{text}<|im_end|>" for text in (chosen, rejected)]


def test_a_tokenizer_that_writes_the_start_of_a_text_otherwise_keeps_the_prompt_a_prefix(tokenizer):
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    chat = read_chat("odd", tokenizer, GenerationConfig())

    row = pair_row(chat, "p", [{"role": "user", "content": "Why?"}], "Air", "Sea", 512, Preflight())

    assert [tokenizer.decode(side.ids) for side in sides(row)] == [" Why?Air<|im_end|>", " Why?Sea<|im_end|>"]


def test_counts_of_two_parts_are_those_of_the_whole():
    parts = [
        Preflight(2, 1, Counter(prompt=1, chosen=0), Counter(empty_response=1)),
        Preflight(1, 1, Counter(chosen=1)),
    ]

    whole = Preflight()
    for part in parts:
        whole.add(part)

    assert whole == Preflight(3, 2, Counter(prompt=1, chosen=1), Counter(empty_response=1))
    assert Preflight.from_json(whole.to_json()) == whole
