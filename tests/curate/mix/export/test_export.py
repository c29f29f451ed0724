"""What is exported and read back is equal, or counted by a reason."""

import json
from dataclasses import dataclass, replace

import polars as pl
import pytest
from datasets import load_dataset
from exporting import CALL, CASES, ODD, PLAIN, Rows, make_row, said, system, user
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.config import BuildConfig, ExportName
from curate.mix.export.export import write_export
from curate.mix.export.files import Turns, open_records
from curate.mix.export.formats import FORMATS
from curate.pipeline.imports import ImportConfig, import_pairs
from curate.pipeline.stages import pair_config
from curate.sources.rows import rows_config
from schemas.errors import UserError
from schemas.tool_turns import read_tools, template_form

NO_TOOLS = ("h4", "alpaca", "axolotl", "orpo", "nemo-rl", "ultrafeedback")
LEFT_OUT = {(to, "tools"): "tools" for to in NO_TOOLS} | {
    ("ultrafeedback", "several turns"): "several_turns",
    ("ultrafeedback", "system"): "system_message",
}
"""Format and case -> why its rows are not exported; of all other cases they are."""
SCORED = {to for to, form in FORMATS.items() if "scores" in form.holds}
SCORES_READ = {"kto": (1.0, 0.0), "nemo-rl": (0.0, -1.0)}
"""Format without scores -> those that its labels or ranks are read as."""


def read_back(path):
    """The pairs that our own reader finds in a file, in its order."""
    cfg = ImportConfig(
        *(str(path), rows_config(str(path), None, None).sha256, None, None),
        pairing=pair_config(BuildConfig(source=str(path))),
        is_auto=True,
    )
    parts = list(import_pairs(cfg))
    assert all(part.dropped.is_empty() for part in parts)
    return pl.concat(part.rows for part in parts).to_dicts()


def meaning(turns, tools):
    """A conversation, however its calls are written."""
    told = [{**turn, "content": turn["content"]} for turn in template_form(turns)]
    return told, read_tools(tools)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("to", FORMATS)
def test_what_is_exported_and_read_back_is_equal_or_counted(tmp_path, to, case):
    rows = [PLAIN, *CASES[case]]
    exported = write_export(Rows(rows, rows[:1] + rows[1:]), to, tmp_path / "out", "")

    reason = LEFT_OUT.get((to, case))
    held = rows[:1] if reason else rows
    assert exported.left_out == ({reason: 2} if reason else {})
    assert exported.rows == {"train": len(held), "heldout": len(held)}
    for split in ("train", "heldout"):
        pairs = read_back(tmp_path / "out" / exported.files[split])
        assert len(pairs) == len(held)
        for pair, row in zip(pairs, held, strict=True):
            sides = (row.chosen, row.rejected)
            if to == "axolotl":
                sides = tuple(text.strip() for text in sides)
            assert meaning(pair["messages"], pair["tools"]) == meaning(row.prompt, row.tools)
            assert (pair["chosen"], pair["rejected"]) == sides
            told = (row.score_chosen, row.score_rejected) if to in SCORED else SCORES_READ.get(to, (None, None))
            assert (pair["score_chosen"], pair["score_rejected"]) == told
            if to in ("trl", "trl-implicit", "csv", "jsonl"):
                assert pair["license"] == "MIT"
    assert exported.lost.get("scores", 0) == (0 if to in SCORED else 2 * len(held))
    has_reasoning = case == "reasoning" and "reasoning" not in FORMATS[to].holds
    assert exported.lost.get("reasoning", 0) == (2 if has_reasoning else 0)
    assert exported.lost.get("white_space", 0) == (2 if (to, case) == ("axolotl", "white space") else 0)


@pytest.mark.parametrize("to", FORMATS)
def test_an_empty_split_is_a_file_that_no_config_names(tmp_path, to):
    exported = write_export(Rows([PLAIN]), to, tmp_path / "out", "")

    assert (tmp_path / "out" / exported.files["heldout"]).exists()
    assert exported.rows == {"train": 1, "heldout": 0}
    told = [exported.usage.command, *exported.usage.files.values()]
    assert not any(exported.files["heldout"] in text or "heldout" in text for text in told)


@pytest.mark.parametrize("to", ["trl", "trl-implicit", "kto", "alpaca", "nemo-rl", "jsonl"])
def test_the_folder_loads_though_a_split_is_empty(tmp_path, to):
    write_export(Rows([PLAIN]), to, tmp_path / "out", "")

    loaded = load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))

    assert {split: rows.num_rows for split, rows in loaded.items()} == {"train": 2 if to == "kto" else 1}


@pytest.mark.parametrize(
    ("to", "row", "reason"),
    [
        ("trl", make_row(system("Be brief."), user(" \n")), "no_prompt"),
        ("jsonl", make_row(), "no_prompt"),
        ("llamafactory", make_row(user("a"), said("I look."), CALL, {"role": "tool", "content": "1"}), "turn_order"),
        ("alpaca", make_row(user("a"), user("b")), "turn_order"),
        ("openai", make_row(user("a"), {"role": "tool_call", "content": "oven()"}, user("b")), "unread_tool_call"),
        ("trl", make_row(user("a"), tools='{"name": "oven"}'), "unread_tool_call"),
        ("h4", make_row(user("a"), tools='[{"name": "oven"}]'), "tools"),
        ("ultrafeedback", make_row(user("a"), scores=(1.0, None)), "no_scores"),
        ("ultrafeedback", make_row(user("a"), scores=(1.0, 1.0)), "scores_disagree"),
        ("ultrafeedback", make_row(user("a"), scores=(1.0, 2.0)), "scores_disagree"),
        ("axolotl", make_row(user("a"), rejected=" "), "unfindable_response"),
        ("axolotl", make_row(user("a"), chosen="me"), "unfindable_response"),
    ],
)
def test_row_that_a_format_cannot_hold_is_counted(tmp_path, to, row, reason):
    exported = write_export(Rows([row, PLAIN]), to, tmp_path / "out", "")

    assert exported.left_out == {reason: 1}
    assert exported.rows["train"] == 1


def test_nothing_is_left_of_an_export_that_holds_no_row(tmp_path):
    with pytest.raises(UserError, match=r"nothing of mix 'v1' can be exported as ultrafeedback \(a missing score: 2\)"):
        write_export(Rows([make_row(user("a"))] * 2), "ultrafeedback", tmp_path / "out", "")

    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_of_an_export_that_breaks_in_the_middle(tmp_path):
    @dataclass(frozen=True)
    class Broken(Rows):
        def rows(self, split):
            yield PLAIN
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_export(Broken([]), "trl", tmp_path / "out", "")

    assert list(tmp_path.iterdir()) == []


def test_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(UserError, match=r"cannot write .*out .*--out"):
        write_export(Rows([PLAIN]), "csv", tmp_path / "file" / "out", "")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\uff1d"])
def test_cell_that_a_spreadsheet_would_run_is_defused_and_counted(tmp_path, start):
    row = replace(PLAIN, chosen=f"{start}cmd", score_chosen=-1.0, score_rejected=-2.0)

    exported = write_export(Rows([row]), "csv", tmp_path / "out", "")

    assert exported.changed == {"defused": 1}
    (pair,) = read_back(tmp_path / "out" / "train.csv")
    assert pair["chosen"] == f"'{start}cmd"
    assert (pair["score_chosen"], pair["score_rejected"]) == (-1, -2)


def test_cell_that_is_too_long_for_a_spreadsheet_is_counted(tmp_path):
    exported = write_export(Rows([replace(PLAIN, chosen="a" * 32_768)]), "csv", tmp_path / "out", "")

    assert exported.changed == {"long": 1}


@pytest.mark.parametrize("to", ["csv", "jsonl"])
@pytest.mark.parametrize(
    "text",
    ["\n\nHuman: Hi\n\nAssistant: Oh", '[{"role": "user", "content": "a"}]', "<|im_start|>user\nHi<|im_end|>\n", "0"],
)
def test_text_that_looks_like_a_conversation_comes_back_as_text(tmp_path, to, text):
    write_export(Rows([make_row(user(text), chosen=text, rejected=f"{text}!")]), to, tmp_path / "out", "")

    (pair,) = read_back(tmp_path / "out" / f"train.{to}")
    assert pair["messages"] == [user(text)]
    assert (pair["chosen"], pair["rejected"]) == (text, f"{text}!")


TEXTS = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\x00"), max_size=30)


@settings(max_examples=60)
@given(TEXTS.filter(str.strip), TEXTS, TEXTS, st.sampled_from(["csv", "jsonl", "trl"]))
def test_any_text_comes_back_but_for_the_apostrophe_of_a_cell(tmp_path_factory, prompt, chosen, rejected, to):
    folder = tmp_path_factory.mktemp("any")
    row = make_row(user(prompt), chosen=chosen, rejected=rejected)

    exported = write_export(Rows([row]), to, folder / "out", "")

    (pair,) = read_back(folder / "out" / exported.files["train"])
    found = (pair["messages"][0]["content"], pair["chosen"], pair["rejected"])
    texts = (prompt, chosen, rejected)
    assert sum(one != other for one, other in zip(found, texts, strict=True)) == exported.changed.get("defused", 0)
    assert all(one in (other, f"'{other}") for one, other in zip(found, texts, strict=True))


def test_rows_of_more_than_a_batch_are_all_written(tmp_path):
    count = 9_000
    with open_records(tmp_path / "a.parquet", "parquet", ("pair_id",), Turns((), call_tools=False)) as file:
        for i in range(count):
            file.add({"pair_id": str(i)})

    assert pl.read_parquet(tmp_path / "a.parquet")["pair_id"].to_list() == [str(i) for i in range(count)]


def test_the_same_rows_give_the_same_bytes(tmp_path):
    rows = [PLAIN, *(row for case in CASES.values() for row in case)]
    for to in FORMATS:
        for name in ("one", "two"):
            write_export(Rows(rows, rows[:2]), to, tmp_path / name / to, "")

    files = [path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file()]
    own = {path for path in files if path.suffix in (".parquet", ".jsonl", ".csv")}
    assert len(own) == 2 * len(FORMATS)
    assert all((tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes() for path in own)


def test_every_format_can_be_asked_for_and_no_other():
    assert tuple(FORMATS) == ExportName.__args__


def test_lines_of_json_are_lines_for_every_tool(tmp_path):
    write_export(Rows(CASES["odd signs"]), "jsonl", tmp_path / "out", "")

    lines = (tmp_path / "out" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["chosen"][0]["content"] for line in lines] == [f"{ODD} good"]
