"""What training learns of reported files: turns that are not to be learned, and tool turns."""

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer, GenerationConfig

from curate.models.folders import model_folder
from curate.sources.conversations import read_conversations
from curate.sources.pairs import read_pairs
from curate.sources.rows import rows_config
from train.data.chat import Chat, read_chat
from train.data.tokens import Preflight, conversation_row, pair_row

KNOWS_TOOLS = (
    "{%- for tool in tools or [] %}{{ tool | tojson }}{%- endfor %}"
    "{%- for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + message.content }}"
    "{%- for call in message.tool_calls %}{{ call.function | tojson }}{%- endfor %}{{ '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{%- endif %}"
)
CALL = {"id": "c1", "type": "function", "function": {"name": "tide_table", "arguments": '{"port": "Brest"}'}}


@pytest.fixture(scope="module")
def chat() -> Chat:
    return read_chat("smollm2", AutoTokenizer.from_pretrained(model_folder("smollm2")), GenerationConfig())


@pytest.fixture(scope="module")
def tool_chat() -> Chat:
    tokenizer = AutoTokenizer.from_pretrained(model_folder("smollm2"))
    tokenizer.chat_template = KNOWS_TOOLS
    return read_chat("knows tools", tokenizer, GenerationConfig())


def write(path: Path, row: dict) -> Path:
    path.write_text(json.dumps(row) + "\n")
    return path


def learned(chat: Chat, path: Path) -> tuple[str, str]:
    """All that is read, and all that is learned, of the one conversation of a file."""
    ((row_id, messages, tools),) = read_conversations(rows_config(str(path), None, 30))
    row = conversation_row(chat, row_id, messages, 512, Preflight(), tools)
    (response,) = row.responses
    return chat.tokenizer.decode([*row.prompt, *response.ids]), chat.tokenizer.decode(response.ids[response.learned])


def test_a_reported_turn_of_weight_0_is_read_and_not_learned(case, chat):
    read, taught = learned(chat, case("sft_turn_weight") / "in.jsonl")

    assert "The wind, I think." in read
    assert taught == "No: mostly the moon.<|im_end|>"


@pytest.mark.parametrize(
    ("column", "keys", "mark"),
    [
        ("messages", ("role", "content"), {"weight": 0}),
        ("messages", ("role", "content"), {"train": False}),
        ("conversations", ("from", "value"), {"weight": 0.0}),
        ("conversations", ("from", "value"), {"loss": False}),
    ],
)
def test_a_turn_that_is_marked_in_another_way_is_not_learned(tmp_path, chat, column, keys, mark):
    spoken = [("user", "Why?"), ("assistant", "Wind."), ("user", "Sure?"), ("assistant", "The moon.")]
    turns = [dict(zip(keys, turn, strict=True)) for turn in spoken]
    turns[1] |= mark

    read, taught = learned(chat, write(tmp_path / "in.jsonl", {column: turns}))

    assert "Wind." in read
    assert taught == "The moon.<|im_end|>"


@pytest.mark.parametrize("mark", [{}, {"weight": 0}, {"train": False}])
def test_a_call_of_a_tool_is_learned_unless_it_is_marked(tmp_path, tool_chat, mark):
    turns = [
        {"role": "user", "content": "When is high tide?"},
        {"role": "assistant", "content": "Let me look.", "tool_calls": [CALL], **mark},
        {"role": "tool", "content": "06:12", "tool_call_id": "c1"},
        {"role": "assistant", "content": "At 06:12."},
    ]

    read, taught = learned(tool_chat, write(tmp_path / "in.jsonl", {"messages": turns}))

    assert all(word in read for word in ("Let me look.", "tide_table", "Brest", "06:12"))
    assert ("tide_table" in taught, "Let me look." in taught) == (not mark, not mark)
    assert taught.endswith("At 06:12.<|im_end|>")


def trained(chat: Chat, path: Path) -> tuple[list[str], dict[str, int]]:
    """The prompts of the pairs of a file that training takes, and the reasons of those it drops."""
    count, prompts = Preflight(), []
    for part in read_pairs(rows_config(str(path), None, 30)):
        for row in part.rows.iter_rows(named=True):
            sides = row["chosen"], row["rejected"]
            made = pair_row(chat, row["pair_id"], row["messages"], *sides, 512, count, row["tools"])
            prompts += [chat.tokenizer.decode(made.prompt)] if made else []
    return prompts, dict(count.dropped)


def test_reported_pairs_with_tool_turns_are_rendered_or_dropped_by_name(case, chat, tool_chat):
    path = case("tool_role") / "in.jsonl"

    (prompts, lost), (kept, dropped) = trained(tool_chat, path), trained(chat, path)

    assert lost == {}
    assert any("oven_temperature" in prompt and "210" in prompt for prompt in prompts)
    assert (len(kept), dropped) == (len(prompts) - 1, {"tool_calls": 1})


SHAREGPT = [
    {"from": "human", "value": "When is high tide?"},
    {"from": "function_call", "value": '{"name": "tide_table", "arguments": {"port": "Brest"}}'},
    {"from": "observation", "value": "06:12"},
]
LEGACY = [
    {"role": "user", "content": "When is high tide?"},
    {"role": "assistant", "content": None, "function_call": CALL["function"]},
    {"role": "function", "name": "tide_table", "content": "06:12"},
]
SPOKEN = [
    LEGACY[0],
    {"role": "assistant", "content": "Let me look.", "tool_calls": [CALL]},
    {**LEGACY[2], "role": "tool"},
]
TOOLS = [{"name": "tide_table", "description": "High tides.", "parameters": {"type": "object", "properties": {}}}]


@pytest.mark.parametrize(
    ("messages", "tools"),
    [(SHAREGPT, json.dumps(TOOLS)), (LEGACY, TOOLS), (SPOKEN, None)],
    ids=["sharegpt", "legacy", "text"],
)
def test_pairs_with_tool_turns_in_other_forms_are_rendered_or_dropped_by_name(
    tmp_path, chat, tool_chat, messages, tools
):
    sides = {"chosen": "High tide is at 06:12 this morning.", "rejected": "I cannot know when high tide is today."}
    path = write(tmp_path / "in.jsonl", {"messages": messages, "tools": tools, **sides})

    (prompts, lost), dropped = trained(tool_chat, path), trained(chat, path)

    assert (len(prompts), lost) == (1, {})
    assert all(word in prompts[0] for word in ("tide_table", "Brest", "06:12"))
    assert ("High tides." in prompts[0]) == (tools is not None)
    assert dropped == ([], {"tool_calls": 1})
