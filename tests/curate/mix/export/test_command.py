"""`curate export` on builds and mixes of a data folder."""

import json
from dataclasses import dataclass, replace

import polars as pl
import pytest

from curate.cli.main import main
from curate.config import BuildConfig, ExportConfig, MixConfig
from curate.mix.export.export import export
from curate.mix.mix import mix
from curate.pipeline.build import build
from curate.store.session import open_session
from curate.store.store import Part
from curate.store.workspace import Workspace
from schemas.errors import UserError
from schemas.stages import StageName
from schemas.tables import Dropped, Pair

WITHOUT_VECTORS = ("off_topic", "semantic_duplicate_prompt", "semantic_duplicate_pair")
WORDS = ("bread", "rain", "iron", "glass", "music", "salt", "maps", "clocks", "wool", "tides")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data folder with the build 'real', the mix 'v1' of it, and a build and a mix with the name 'both'."""
    folder = tmp_path_factory.mktemp("data")
    tools = {"tools": '[{"name": "look_up"}]'}
    turns = [
        {"role": "user", "content": "Which page is about the oldest bridge?"},
        {"role": "tool_call", "content": '{"name": "look_up", "arguments": {"word": "bridge"}}'},
        {"role": "tool", "content": "page 7"},
    ]
    rows = [
        *({"prompt": f"What is {word} made of, and how?", **sides(word), **scores(i)} for i, word in enumerate(WORDS)),
        {"prompt": turns, "chosen": "Page 7 is about that bridge.", "rejected": "No page is about a bridge.", **tools},
        {"prompt": "What is too short?", "chosen": "this", "rejected": "The other side is longer."},
        {"prompt": "What has no answer?"},
    ]
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in ("real", "both"):
        build(BuildConfig(source=str(path), name=name, skip_rule=WITHOUT_VECTORS, max_jaccard=1.0, data=folder))
    mix(MixConfig(name="v1", add=("real",), heldout_share=0.3, data=folder))
    mix(MixConfig(name="elsewhere", add=("real",), heldout_share=0.0, data=folder))
    # a build may come after a mix of its name
    workspace = Workspace(folder)
    workspace.build("both").rename(workspace.build("both").with_suffix(".off"))
    mix(MixConfig(name="both", add=("real",), data=folder))
    workspace.build("both").with_suffix(".off").rename(workspace.build("both"))
    return folder


def sides(word):
    return {"chosen": f"Workers make {word} by hand with care.", "rejected": f"Nobody knows how {word} is made."}


def scores(i):
    return {"score_chosen": i + 1, "score_rejected": i}


def exported(data, tmp_path, name, to="jsonl", **given):
    return export(ExportConfig(name=name, to=to, data=data, out=tmp_path / "out", **given))


def read(exported, part):
    with (exported.folder / exported.files[part]).open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def test_mix_is_exported_in_its_order_and_its_splits(data, tmp_path):
    made = exported(data, tmp_path, "v1")

    rows = Workspace(data).open_mix("v1").scan().collect()
    for split in ("train", "heldout"):
        own = rows.filter(split=split)
        assert made.rows[split] == own.height > 0
        found = read(made, split)
        assert [row["pair_id"] for row in found] == own["pair_id"].to_list()
        assert [row["prompt"] for row in found] == own["prompt"].to_list()
        assert [row["score_chosen"] for row in found] == own["score_chosen"].to_list()


def test_build_is_exported_as_screening_left_it(data, tmp_path):
    made = exported(data, tmp_path, "real")

    assert made.files == {"train": "train.jsonl"}
    assert len(read(made, "train")) == made.rows["train"] == len(WORDS) + 1
    assert {row["source"] for row in read(made, "train")} == {"real"}


@dataclass(frozen=True)
class AnyConfig:
    """Of a table made by hand."""


def test_prompts_that_their_source_holds_out_are_no_training_rows(data, tmp_path):
    workspace = Workspace(data)
    record = workspace.read_build("real")
    pairs = workspace.open_pairs(record).part(0)
    held, other = pairs["pair_id"][:2]
    pairs = pairs.with_columns(
        is_heldout=pl.col("pair_id") == held,
        prompt_group=pl.when(pl.col("pair_id") == other)
        .then(pl.lit(pairs["prompt_group"][0]))
        .otherwise("prompt_group"),
    )
    with open_session(data) as session:
        part = Part(pairs, Dropped.create_empty())
        table = session.store.read(StageName.READ_PAIRS, lambda _: iter([part]), AnyConfig(), Pair)
    tables = record.tables | {StageName.READ_PAIRS: table.manifest.key}
    identities = record.identities | {StageName.READ_PAIRS: table.identity}
    workspace.save_build(replace(record, name="pulled", tables=tables, identities=identities))

    made = exported(data, tmp_path, "pulled")

    assert {row["pair_id"] for row in read(made, "heldout")} == {held, other}
    assert not {held, other} & {row["pair_id"] for row in read(made, "train")}


def test_dropped_rows_come_with_their_reasons(data, tmp_path):
    made = exported(data, tmp_path, "build:real", dropped=True)

    assert made.rows == {"unpaired": 1, "screened out": 1}
    (unpaired,) = read(made, "unpaired")
    assert (unpaired["stage"], unpaired["reason"]) == ("read_pairs", "unreadable_row")
    assert json.loads(unpaired["raw"]) == {"prompt": "What has no answer?"}
    (screened,) = read(made, "screened out")
    assert (screened["reason"], screened["chosen"][0]["content"]) == ("too_short", "this")


def test_dropped_rows_can_be_a_table(data, tmp_path):
    made = exported(data, tmp_path, "real", "csv", dropped=True)

    table = pl.read_csv(made.folder / made.files["screened out"])
    assert table.select("reason", "prompt", "chosen").rows() == [("too_short", "What is too short?", "this")]


def test_of_a_mix_and_a_build_the_mix_is_taken_and_said(data, tmp_path):
    made = exported(data, tmp_path, "both")

    assert made.kind == "mix"
    assert made.lines()[0] == "'both' is a mix and a build; this is the mix (the build: build:both)"
    built = export(ExportConfig(name="build:both", to="jsonl", data=data, out=tmp_path / "built"))
    assert (built.kind, built.note) == ("build", "")


def test_default_folder_lies_in_the_data_folder(data):
    made = export(ExportConfig(name="v1", to="trl", data=data))

    assert made.folder == data / "exports" / "v1-trl"
    assert f"--dataset_name {made.folder} " in made.usage.command


@pytest.mark.parametrize(
    ("name", "given", "problem"),
    [
        ("v2", {}, r"no mix or build 'v2' in .* \(did you mean 'v1'\?\)"),
        ("mix:rael", {}, r"no mix 'rael' in .* \(found both, elsewhere, v1\)"),
        ("build:rael", {}, r"no build 'rael' in .* \(did you mean 'real'\?\)"),
        ("run:v1", {}, "'run:v1' begins with neither 'mix:' nor 'build:'"),
        ("real", {"to": "trl", "dropped": True}, "--to trl has no place for"),
        ("v1", {"dropped": True}, r"--dropped is for a build: --dropped build:NAME \(mix 'v1' is of real\)"),
    ],
)
def test_wrong_request_is_one_sentence_and_writes_nothing(data, tmp_path, name, given, problem):
    with pytest.raises(UserError, match=problem):
        exported(data, tmp_path, name, **{"to": "jsonl", **given})

    assert list(tmp_path.iterdir()) == []


def test_name_that_is_too_long_is_one_sentence(data, tmp_path):
    with pytest.raises(UserError, match=r"cannot write .* \(File name too long\)"):
        exported(data, tmp_path / ("a" * 300), "v1")


def test_folder_that_is_there_stays_as_it_is(data, tmp_path):
    (tmp_path / "out").mkdir()

    with pytest.raises(UserError, match="out is there already; remove it, or name another folder with --out"):
        exported(data, tmp_path, "v1")

    assert list((tmp_path / "out").iterdir()) == []


def test_command_prints_files_and_the_command_that_comes_next(data, tmp_path, capsys):
    words = ["export", "v1", "--to", "alpaca", "--data", str(data), "--out", str(tmp_path / "out")]

    assert main(words) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("mix 'v1' as alpaca: ")
    assert "left out for tools or their calls: 1" in printed
    assert str(tmp_path / "out" / "dataset_info.json") in printed
    assert printed[-1].startswith("llamafactory-cli train ")


def test_command_gives_one_json_object(data, tmp_path, capsys):
    words = ["export", "v1", "--to", "h4", "--data", str(data), "--out", str(tmp_path / "out"), "--json"]

    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["kind"], found["name"], found["to"], found["left_out"]) == ("mix", "v1", "h4", {"tools": 1})
    assert found["config"] == ["handbook.yaml"]
    assert sum(found["rows"].values()) == len(WORDS)


def test_unknown_format_names_all_formats(data, capsys):
    assert main(["export", "v1", "--to", "lamafactory", "--data", str(data)]) == 2

    said = capsys.readouterr().err
    assert "'trl', 'trl-implicit', 'h4'" in said
    assert "(did you mean 'llamafactory'?)" in said


def test_personal_data_and_unknown_licenses_are_said_and_redacted_in_dropped_rows(tmp_path):
    address = "bob.secret@acme-mail.dev"
    rows = [
        {"prompt": "Whom do I write to?", "chosen": f"Write to {address} today.", "rejected": "I do not know whom."},
        {"prompt": "And who else is there?", "chosen": None, "rejected": f"Perhaps {address} knows."},
        {"prompt": "Is it far from here?", "chosen": "It is a mile away.", "rejected": "It is on the Moon."},
    ]
    path = tmp_path / "asked.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = {}
    for name, redact in (("asked", False), ("masked", True)):
        build(BuildConfig(source=str(path), name=name, redact=redact, skip_rule=WITHOUT_VECTORS, data=tmp_path))
        told[name] = export(ExportConfig(name=name, to="trl", data=tmp_path)).concerns

    export(ExportConfig(name="masked", to="jsonl", dropped=True, data=tmp_path))

    assert told["asked"][0].startswith(
        "build 'asked' has personal data in 1 pairs (email 1); screen it again with --redact"
    )
    assert told["asked"][1:] == (told["masked"][0].replace("masked", "asked"),)
    assert told["masked"] == (
        "the license of 2 of the 2 rows of build 'masked' is unknown; name it with curate build --license",
    )
    written = b"".join(file.read_bytes() for file in (tmp_path / "exports").rglob("*.jsonl"))
    assert b"Perhaps [email] knows" in written
    assert address.encode() not in written
