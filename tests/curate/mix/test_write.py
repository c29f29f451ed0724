"""Files of a mix: their order, their sizes, and conversations in which tools are called."""

import json

import polars as pl
import pyarrow as pa
import pytest
from datasets import load_dataset
from mixes import read_rows

from curate.config import BuildConfig, MixConfig
from curate.mix import write
from curate.mix.mix import mix
from curate.mix.write import told_turns
from curate.pipeline.build import build
from curate.store.mixes import open_mix_folder
from schemas.ids import pair_key, prompt_key
from schemas.tool_turns import row_form, stored_form

CALL = [{"name": "weather", "arguments": {"city": "Łódź", "days": [1, 2]}}]
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]


def build_pairs(data, rows, name="pairs"):
    path = data / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return build(BuildConfig(source=str(path), name=name, max_cosine=1.0, max_jaccard=1.0, data=data))


def numbered(count):
    return [
        {"prompt": f"What is {i * i} good for, and {i}?", "chosen": f"For counting to {i}.", "rejected": f"{i} is odd."}
        for i in range(count)
    ]


def test_small_files_groups_and_blocks_hold_the_same_rows_in_the_same_order(tmp_path, monkeypatch):
    build_pairs(tmp_path, numbered(60))
    whole = mix(MixConfig(name="whole", add=("pairs",), data=tmp_path))

    monkeypatch.setattr(write, "ROWS_PER_GROUP", 7)
    monkeypatch.setattr(write, "BYTES_PER_BLOCK", 1)
    monkeypatch.setattr(write, "BYTES_PER_SHARD", 9_000)
    parted = mix(MixConfig(name="parted", add=("pairs",), data=tmp_path))

    names = sorted(path.name for path in parted.path.glob("train-*.parquet"))
    assert len(names) > 1
    assert names == [f"train-{i:05d}-of-{len(names):05d}.parquet" for i in range(len(names))]
    for name in names:
        content = (parted.path / name).read_bytes()
        index = int.from_bytes(content[-8:-4], "little")
        assert len(content) - index < 9_000 + 100
    assert read_rows(parted.path).equals(read_rows(whole.path))
    lineages = [open_mix_folder(mixed.path).lineage().collect() for mixed in (parted, whole)]
    assert lineages[0].equals(lineages[1])
    assert lineages[0]["pair_id"].to_list() == read_rows(parted.path)["pair_id"].to_list()


def test_scorers_are_written_without_folder_and_address():
    names = [None, "imported", "hf:/home/ann/secret-7b", "judge:http://10.0.0.7:8000/v1#owner/model", "imported"]
    chunks = pa.chunked_array([names[:2], names[2:]], pa.string())

    public = write.public_scorers(chunks).to_pylist()

    assert public == [None, "imported", "hf:secret-7b", "judge:owner/model", "imported"]


def test_a_mix_with_nothing_held_out_has_no_test_split(tmp_path):
    build_pairs(tmp_path, numbered(4))

    mixed = mix(MixConfig(name="v1", add=("pairs",), heldout_share=0.0, data=tmp_path))

    loaded = load_dataset(str(mixed.path), cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": 4}
    assert open_mix_folder(mixed.path).scan("heldout").collect().is_empty()


def test_calls_of_tools_are_objects_to_others_and_turns_to_us(tmp_path):
    turns = [
        {"role": "user", "content": "How is the weather in Łódź?"},
        {"role": "assistant", "content": "I look it up.", "tool_calls": [{"type": "function", "function": CALL[0]}]},
        {"role": "tool", "content": '{"sky": "gray"}'},
    ]
    sides = {"chosen": "It is gray there today.", "rejected": "I cannot know that."}
    rows = [{"prompt": turns, "tools": json.dumps(TOOLS), **sides}, *numbered(3)]
    build_pairs(tmp_path, rows)

    mixed = mix(MixConfig(name="v1", add=("pairs",), heldout_share=0.0, data=tmp_path))

    loaded = load_dataset(str(mixed.path), split="train", cache_dir=str(tmp_path / "cache"))
    (called,) = [row for row in loaded if row["tools"]]
    assert [turn["role"] for turn in called["prompt"]] == ["user", "assistant", "tool"]
    assert called["prompt"][1]["tool_calls"][0]["function"] == CALL[0]
    assert called["prompt"][2]["tool_call_id"] == called["prompt"][1]["tool_calls"][0]["id"]
    plain = read_rows(mixed.path)
    (ours,) = plain.filter(pl.col("tools").is_not_null()).to_dicts()
    assert [turn["role"] for turn in ours["messages"]] == ["user", "assistant", "tool_call", "tool"]
    assert ours["pair_id"] == pair_key(ours["messages"], ours["chosen"], ours["rejected"])
    assert [prompt_key(messages) for messages in plain["messages"]] == plain["prompt_id"].to_list()


@pytest.mark.parametrize(
    "roles",
    [
        ["user", "tool_call", "tool", "assistant", "user"],
        ["user", "assistant", "tool_call", "tool_call", "tool", "tool", "user"],
        ["system", "user", "tool", "user"],
        ["user", "empty", "tool_call", "tool_call", "tool", "empty", "user"],
    ],
)
def test_turns_come_back_from_their_stored_form(roles):
    texts = {"tool_call": json.dumps(CALL), "tool": "gray", "empty": ""}
    turns = [
        {"role": role.replace("empty", "assistant"), "content": texts.get(role, f"{role} {i}")}
        for i, role in enumerate(roles)
    ]

    assert row_form(stored_form(turns)) == turns


@pytest.mark.parametrize(
    ("call", "told"),
    [
        ('{"name": "weather", "arguments": {"city": "half of a pair \\ud83d"}}', {"city": "half of a pair ?"}),
        ('{"name": "weather", "arguments": "{\\"city\\": \\"\\\\ud83d\\"}"}', {"city": "?"}),
    ],
)
def test_a_call_that_no_file_or_reader_can_hold_comes_back_as_it_was(tmp_path, call, told):
    turns = [
        {"role": "user", "content": "How is the weather?"},
        {"role": "tool_call", "content": call},
        {"role": "tool", "content": "gray"},
    ]
    build_pairs(
        tmp_path, [{"prompt": turns, "chosen": "It is gray there.", "rejected": "I cannot know."}, *numbered(1)]
    )

    mixed = mix(MixConfig(name="v1", add=("pairs",), heldout_share=0.0, data=tmp_path))

    assert turns in read_rows(mixed.path)["messages"].to_list()
    loaded = load_dataset(str(mixed.path), split="train", cache_dir=str(tmp_path / "cache"))
    (prompt,) = [row["prompt"] for row in loaded if len(row["prompt"]) > 1]
    assert prompt[1]["tool_calls"][0]["function"]["arguments"] == told


def test_turns_with_a_call_that_cannot_be_read_stay_as_they_are():
    turns = [{"role": "user", "content": "And now?"}, {"role": "tool_call", "content": "[phone"}]

    assert told_turns(turns) == turns
