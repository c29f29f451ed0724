"""What other tools expect of their formats, by their own code where it is installed, else by their documentation."""

import json
from dataclasses import replace

import pytest
import yaml
from datasets import load_dataset
from exporting import CASES, PLAIN, Rows, said, user

from curate.mix.export.export import write_export
from schemas.tool_turns import template_form

EVERY = [PLAIN, *(row for case in CASES.values() for row in case)]


def exported(tmp_path, to, rows=EVERY):
    """The export of these rows, of which the first two are held out too, and the records of its files of JSON."""
    made = write_export(Rows(rows, rows[:2]), to, tmp_path / "out", "")
    files = {split: made.folder / file for split, file in made.files.items()}
    if files["train"].suffix != ".jsonl":
        return made, {}
    return made, {
        split: list(map(json.loads, file.read_text(encoding="utf-8").splitlines())) for split, file in files.items()
    }


def loaded(tmp_path):
    return load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))


def without_nulls(turns):
    return [{name: value for name, value in turn.items() if value is not None} for turn in turns]


def test_trl_gets_the_arguments_of_a_call_as_they_are_and_no_others(tmp_path):
    other = '[{"name": "shelf", "arguments": {"level": [1, 2]}}]'
    calls = [*CASES["tools"][0].prompt[:1], {"role": "tool_call", "content": other}, {"role": "tool", "content": "2"}]
    rows = [*CASES["tools"], replace(PLAIN, prompt=calls)]
    exported(tmp_path, "trl", rows)

    found = [row["prompt"] for row in loaded(tmp_path)["train"]]

    for turns, row in zip(found, rows, strict=True):
        own = [{name: turn[name] for name in turn if name != "tool_call_turns"} for turn in without_nulls(turns)]
        assert own == template_form(row.prompt)


def test_trl_finds_the_same_prompts_whether_they_are_explicit_or_not(tmp_path):
    from trl import data_utils

    for to in ("trl", "trl-implicit"):
        (tmp_path / to).mkdir()
        exported(tmp_path / to, to)
    explicit, implicit = (loaded(tmp_path / to) for to in ("trl", "trl-implicit"))

    assert list(explicit) == list(implicit) == ["train", "test"]
    for split in explicit:
        assert all(map(data_utils.is_conversational, explicit[split]))
        for row, other in zip(explicit[split], implicit[split], strict=True):
            found = data_utils.extract_prompt(other)
            sides = {side: without_nulls(row[side]) for side in ("prompt", "chosen", "rejected")}
            assert {side: without_nulls(found[side]) for side in sides} == sides


def test_kto_rows_are_those_that_trl_makes_of_the_pairs(tmp_path):
    from trl import data_utils

    for to in ("trl", "kto"):
        (tmp_path / to).mkdir()
        exported(tmp_path / to, to)

    pairs = loaded(tmp_path / "trl")["train"].select_columns(["prompt", "chosen", "rejected"])
    unpaired = data_utils.unpair_preference_dataset(pairs)
    rows = loaded(tmp_path / "kto")["train"]

    def key(row):
        return json.dumps([row["prompt"], row["completion"], row["label"]], sort_keys=True)

    assert rows.num_rows == 2 * len(EVERY)
    assert sorted(map(key, rows)) == sorted(map(key, unpaired))


def test_handbook_splits_have_their_names_and_both_sides_the_whole_conversation(tmp_path):
    made, _ = exported(tmp_path, "h4", [PLAIN, *CASES["system"], *CASES["several turns"]])

    splits = loaded(tmp_path)

    assert {split: rows.num_rows for split, rows in splits.items()} == {"train_prefs": 3, "test_prefs": 2}
    for row in splits["train_prefs"]:
        assert row["chosen"][:-1] == row["rejected"][:-1]
        assert row["messages"] == row["chosen"]
        assert row["prompt"] == row["chosen"][-2]["content"]
    config = yaml.safe_load(made.usage.files["handbook.yaml"])
    assert config == {"dataset_mixer": {str(made.folder): 1.0}, "dataset_splits": ["train_prefs", "test_prefs"]}


@pytest.mark.parametrize("to", ["llamafactory", "sharegpt"])
def test_llamafactory_takes_every_row_by_its_own_rule(tmp_path, to):
    made, records = exported(tmp_path, to)
    info = json.loads((made.folder / "dataset_info.json").read_text())

    assert {name: entry["file_name"] for name, entry in info.items()} == {
        "v1_train": "train.jsonl",
        "v1_heldout": "test.jsonl",
    }
    for entry in info.values():
        assert (entry["formatting"], entry["ranking"]) == ("sharegpt", True)
        assert all(set(entry["columns"].values()) <= set(record) for record in records["train"])
    for record in records["train"]:
        tags = [turn["from"] for turn in record["conversations"]]
        tags = tags[1:] if tags[0] == "system" else tags
        # its converter skips a row of any other order
        assert len(tags) % 2 == 1
        assert set(tags[::2]) <= {"human", "observation"}
        assert set(tags[1::2]) <= {"gpt", "function_call"}
        assert record["chosen"]["from"] == record["rejected"]["from"] == "gpt"
        for turn in record["conversations"]:
            if turn["from"] == "function_call":
                assert all(set(call) == {"name", "arguments"} for call in json.loads(turn["value"]))
    # a column that is null at first and a text later stops the datasets library
    assert all(isinstance(record["tools"], str) for record in records["train"])


def test_alpaca_has_history_in_pairs_of_texts(tmp_path):
    made, _ = exported(tmp_path, "alpaca", [PLAIN, *CASES["several turns"], *CASES["system"]])

    rows = loaded(tmp_path)["train"]

    assert rows["history"][:] == [[], [["Hi", "Hello."]], []]
    assert rows["system"][:] == ["", "", "Be brief."]
    assert rows["instruction"][1] == "Why does bread rise?"
    info = json.loads((made.folder / "dataset_info.json").read_text())
    assert set(info["v1_train"]["columns"].values()) <= set(rows.column_names)


@pytest.mark.parametrize(("to", "kind"), [("axolotl", "chat_template.default"), ("orpo", "chat_template.argilla")])
def test_axolotl_config_names_files_and_fields_that_are_there(tmp_path, to, kind):
    made, records = exported(tmp_path, to)
    config = yaml.safe_load((made.folder / "axolotl.yaml").read_text())

    for name, split in (("datasets", "train"), ("test_datasets", "heldout")):
        (entry,) = config[name]
        assert (made.folder / entry["path"]).exists()
        assert entry["type"] == kind
        fields = {entry[field] for field in entry if field.startswith("field_")} or {"chosen", "rejected", "system"}
        assert all(fields <= set(record) for record in records[split])
    roles = {turn["role"] for record in records["train"] for turn in record.get("messages", ())}
    assert roles <= set(config["datasets"][0].get("roles", ()))
    if to == "orpo":
        assert all(len(record[side]) % 2 == 0 for record in records["train"] for side in ("chosen", "rejected"))


def test_openai_rows_have_the_documented_fields_and_nothing_else(tmp_path):
    made, records = exported(tmp_path, "openai")

    for record in records["train"]:
        assert set(record) == {"input", "preferred_output", "non_preferred_output"}
        assert set(record["input"]) <= {"messages", "tools", "parallel_tool_calls"}
        assert record["input"]["messages"][-1]["role"] in ("user", "tool")
        for side in ("preferred_output", "non_preferred_output"):
            assert [set(turn) for turn in record[side]] == [{"role", "content"}]
        for turn in record["input"]["messages"]:
            for call in turn.get("tool_calls", ()):
                assert isinstance(call["function"]["arguments"], str)
    compile((made.folder / "fine_tune.py").read_text(), "fine_tune.py", "exec")


def test_nemo_rl_ranks_the_chosen_response_lower(tmp_path):
    made, records = exported(tmp_path, "nemo-rl", [PLAIN, *CASES["several turns"]])

    assert [record["context"][-1]["role"] for record in records["train"]] == ["user", "user"]
    assert records["train"][0] == {
        "context": [user("What is a plain row?")],
        "completions": [
            {"rank": 0, "completion": [said(PLAIN.chosen)]},
            {"rank": 1, "completion": [said(PLAIN.rejected)]},
        ],
    }
    data = yaml.safe_load((made.folder / "nemo-rl.yaml").read_text())["data"]
    assert {split: entry["data_path"] for split, entry in data.items()} == {
        "train": str(made.folder / "train.jsonl"),
        "validation": str(made.folder / "test.jsonl"),
    }
