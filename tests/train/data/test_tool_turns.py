"""Turns that are not to be learned are read and not learned; tool turns are rendered by templates that know tools."""

import copy
import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import GenerationConfig

from schemas.tool_turns import read_calls, template_form
from train.data.chat import read_chat
from train.data.tokens import Preflight, conversation_row, pair_row

HERMES = (
    "{%- if tools %}{{ '<|im_start|>system\\n# Tools\\n' }}{%- for tool in tools %}{{ tool | tojson }}{%- endfor %}"
    "{{ '<|im_end|>\\n' }}{%- endif %}"
    "{%- for message in messages %}{%- if message.role == 'tool' %}"
    "{{ '<|im_start|>user\\n<tool_response>\\n' + message.content + '\\n</tool_response><|im_end|>\\n' }}{%- else %}"
    "{{ '<|im_start|>' + message.role + '\\n' + message.content }}"
    "{%- for call in message.tool_calls %}"
    '{{ \'<tool_call>\\n{"name": "\' + call.function.name + \'", "arguments": \' }}'
    "{{ call.function.arguments | tojson }}{{ '}\\n</tool_call>' }}{%- endfor %}{{ '<|im_end|>\\n' }}{%- endif %}"
    "{%- endfor %}{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{%- endif %}"
)
"""As that of Qwen2.5."""
STRICT = (
    "{%- for message in messages %}{%- if message.role == 'user' %}"
    "{%- if tools and loop.first %}{{ '[TOOLS] ' }}"
    "{%- for tool in tools %}{{ tool.function.name }}{%- endfor %}{%- endif %}"
    "{{ '[INST] ' + message.content + '[/INST]' }}{%- elif message.tool_calls %}"
    "{{ '[TOOL_CALLS] ' }}{%- for call in message.tool_calls %}{%- if call.id | length != 9 %}"
    "{{ raise_exception('ids have nine signs') }}{%- endif %}{{ call.function | tojson }}{{ call.id }}{%- endfor %}"
    "{{ eos_token }}{%- elif message.role == 'tool' %}{%- if message.tool_call_id | length != 9 %}"
    "{{ raise_exception('ids have nine signs') }}{%- endif %}"
    "{{ '[TOOL_RESULTS] ' + message.content + message.tool_call_id }}"
    "{%- elif message.role == 'assistant' %}{{ ' ' + message.content + eos_token }}{%- else %}"
    "{{ raise_exception('no such role') }}{%- endif %}{%- endfor %}"
)
"""As that of Mistral."""
SINGLE = (
    "{%- for message in messages %}{%- if message.tool_calls %}{%- if message.tool_calls | length != 1 %}"
    "{{ raise_exception('This model only supports single tool-calls at once!') }}{%- endif %}"
    '{%- set call = message.tool_calls[0].function %}{{ \'<|im_start|>assistant\\n{"name": "\' + call.name }}'
    "{%- for name, value in call.arguments.items() %}{{ '\", \"' + name + '\": ' }}{{ value | tojson }}{%- endfor %}"
    "{{ '}<|im_end|>\\n' }}{%- elif message.role == 'tool' %}"
    "{{ '<|im_start|>ipython\\n' + message.content + '<|im_end|>\\n' }}{%- else %}"
    "{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{%- endif %}"
)
"""As that of Llama 3.1."""
ALTERNATING = (
    "{%- for message in messages %}{%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{%- endif %}"
    "{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{%- endif %}"
)
"""As that of Gemma."""
DEAF = (
    "{%- for message in messages %}{%- if message.role != 'tool' %}"
    "{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{%- endif %}"
)
"""Leaves out what it does not know."""
TEMPLATES = {"hermes": HERMES, "strict": STRICT, "single": SINGLE, "alternating": ALTERNATING, "deaf": DEAF}
WITH_TOOLS, WITHOUT_TOOLS = ["hermes", "strict", "single"], ["alternating", "deaf", "smollm2"]

TOOLS = json.dumps([{"name": "get_weather", "parameters": {"type": "object", "properties": {}}}])
CALL = {"role": "tool_call", "content": json.dumps([{"name": "get_weather", "arguments": {"city": "Oslo"}}])}
RESULT = {"role": "tool", "content": '{"degrees": 3}'}


@pytest.fixture(scope="module")
def chats(tokenizer):
    """Chat of a template by its name."""
    made = {}

    def chat(name):
        if name not in made:
            of_its_own = copy.deepcopy(tokenizer)
            of_its_own.chat_template = TEMPLATES.get(name, tokenizer.chat_template)
            made[name] = read_chat(name, of_its_own, GenerationConfig())
        return made[name]

    return chat


def said(role, content, **marks):
    return {"role": role, "content": content, **marks}


def learned(chat, row):
    (response,) = row.responses
    return chat.tokenizer.decode(response.ids[response.learned])


def text_of(chat, row):
    return chat.tokenizer.decode([*row.prompt, *row.responses[0].ids])


@pytest.mark.parametrize("name", [*WITH_TOOLS, *WITHOUT_TOOLS])
def test_a_turn_that_is_not_to_be_learned_is_read_and_not_learned(chats, name):
    chat, count = chats(name), Preflight()
    turns = [
        said("user", "Hi?"),
        said("assistant", "Nope.", learn=False),
        said("user", "So?"),
        said("assistant", "Yes."),
    ]

    row = conversation_row(chat, "c", turns, 512, count)
    all_learned = conversation_row(chat, "c", [{**turn, "learn": True} for turn in turns], 512, count)

    assert "Yes." in learned(chat, row) and "Nope." not in learned(chat, row)
    assert "Nope." in text_of(chat, row)
    assert "Nope." in learned(chat, all_learned)
    assert text_of(chat, row) == text_of(chat, all_learned)
    assert (count.kept, count.cut.total()) == (2, 0)


@pytest.mark.parametrize("name", ["hermes", "smollm2"])
def test_a_conversation_ends_with_the_last_response_that_is_learned(chats, name):
    chat = chats(name)
    turns = [
        said("user", "Hi?"),
        said("assistant", "Yes."),
        said("user", "So?"),
        said("assistant", "Nope.", learn=False),
    ]

    row = conversation_row(chat, "c", turns, 512, Preflight())

    assert learned(chat, row).startswith("Yes.")
    assert "So?" not in text_of(chat, row)


def test_a_conversation_without_a_response_to_learn_is_dropped_by_name(chats):
    count = Preflight()

    row = conversation_row(
        chats("smollm2"), "c", [said("user", "Hi?"), said("assistant", "No.", learn=False)], 512, count
    )

    assert row is None
    assert dict(count.dropped) == {"not_learned": 1}


@pytest.mark.parametrize("name", WITH_TOOLS)
def test_tool_turns_of_a_prompt_are_rendered_and_shared_by_both_sides(chats, name):
    chat, count = chats(name), Preflight()
    turns = [said("user", "Is it cold?"), CALL, RESULT]

    row = pair_row(chat, "p", turns, "Yes, 3 degrees.", "No.", 512, count, TOOLS)

    prompt = chat.tokenizer.decode(row.prompt)
    assert all(word in prompt for word in ("get_weather", "Oslo", '{"degrees": 3}'))
    assert [chat.tokenizer.decode(side.ids).strip()[:3] for side in row.responses] == ["Yes", "No."]
    assert count.kept == 1


@pytest.mark.parametrize("name", WITHOUT_TOOLS)
def test_tool_turns_are_dropped_by_name_where_the_template_has_none(chats, name):
    chat, count = chats(name), Preflight()
    turns = [said("user", "Is it cold?"), CALL, RESULT]

    pair = pair_row(chat, "p", turns, "Yes, 3 degrees.", "No.", 512, count, TOOLS)
    conversation = conversation_row(chat, "c", [*turns, said("assistant", "Yes.")], 512, count, TOOLS)
    plain = pair_row(chat, "p", turns[:1], "Yes.", "No.", 512, count, TOOLS)

    assert (pair, conversation) == (None, None)
    assert plain is not None
    assert dict(count.dropped) == {"tool_calls": 2}


@pytest.mark.parametrize("name", WITH_TOOLS)
def test_calls_are_learned_unless_they_are_not_to_be_and_results_never(chats, name):
    chat = chats(name)
    turns = [said("user", "Is it cold?"), CALL, RESULT, said("assistant", "Yes.")]
    quiet = [turns[0], {**CALL, "learn": False}, *turns[2:]]

    row, other = (conversation_row(chat, "c", each, 512, Preflight(), TOOLS) for each in (turns, quiet))

    assert "Oslo" in learned(chat, row) and "Yes." in learned(chat, row)
    assert "degrees" not in learned(chat, row)
    assert "Oslo" not in learned(chat, other) and "Yes." in learned(chat, other)


def test_a_template_that_refuses_the_calls_of_one_row_drops_that_row_as_tool_calls(chats):
    count = Preflight()
    two = json.dumps([{"name": "a", "arguments": {}}, {"name": "b", "arguments": {}}])

    row = pair_row(chats("single"), "p", [said("user", "Go."), said("tool_call", two)], "Yes.", "No.", 512, count)

    assert row is None
    assert dict(count.dropped) == {"tool_calls": 1}


def test_a_text_before_a_call_is_one_message_with_it():
    turns = [
        said("user", "Go."),
        said("assistant", "Let me see."),
        CALL,
        CALL,
        RESULT,
        RESULT,
        said("assistant", "Done."),
    ]

    found = template_form(turns)

    assert [turn["role"] for turn in found] == ["user", "assistant", "tool", "tool", "assistant"]
    assert found[1]["content"] == "Let me see."
    assert [call["id"] for call in found[1]["tool_calls"]] == ["call00001", "call00002"]
    assert [turn["tool_call_id"] for turn in found[2:4]] == ["call00001", "call00002"]
    assert found[2]["name"] == "get_weather"
    assert all("tool_calls" not in turn for turn in turns)


@pytest.mark.parametrize(
    "content",
    [
        '[{"id": "call_AbC", "type": "function", "function": {"name": "f", "arguments": "{\\"x\\": 1}"}}]',
        '[{"name": "f", "arguments": {"x": 1}}]',
        '{"name": "f", "arguments": {"x": 1}}',
        '{"name": "f", "parameters": "{\\"x\\": 1}"}',
        '{"function": {"name": "f", "arguments": {"x": 1}}}',
    ],
)
def test_calls_in_the_forms_in_use_are_the_same_call(content):
    (call,) = read_calls(content, 0)

    assert call == {"id": "call00001", "type": "function", "function": {"name": "f", "arguments": {"x": 1}}}


@pytest.mark.parametrize("content", ["", "f(x)", "[1]", "null", '{"arguments": {}}', '"f"', "[" * 100_000])
def test_what_is_no_call_drops_the_row_as_tool_calls(chats, content):
    count = Preflight()

    row = pair_row(chats("hermes"), "p", [said("user", "Go."), said("tool_call", content)], "Yes.", "No.", 512, count)

    assert row is None
    assert dict(count.dropped) == {"tool_calls": 1}


@given(st.text() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_a_call_of_any_text_is_read_or_refused(text):
    with suppress(ValueError):
        read_calls(text, 0)
