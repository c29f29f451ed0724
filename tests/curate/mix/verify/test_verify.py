import json
import shutil
from dataclasses import replace
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.cli.main import main
from curate.config import BuildConfig, MixConfig, ScreenConfig, VerifyConfig
from curate.files import file_sha256, write_record
from curate.mix.mix import mix
from curate.mix.verify.verify import verify, verify_folder
from curate.pipeline.build import build
from curate.pipeline.rescreen import rescreen
from curate.store.mixes import CARD, CHECKSUMS, LINEAGE, LOCK, open_mix_folder, write_lock
from curate.store.workspace import Workspace
from schemas.errors import UserError

WORDS = ("tide", "bread", "violin", "granite", "parliament", "orchid", "glacier", "ledger", "comet", "loom")
NOT_EMBEDDED = ("off_topic", "semantic_duplicate_prompt", "semantic_duplicate_pair")
CALL = [
    {"role": "user", "content": "What is the weather in Oslo?"},
    {"role": "tool_call", "content": '{"name": "weather", "arguments": {"city": "Oslo"}}'},
    {"role": "tool", "content": "rain"},
]
TRAIN, TEST = "train-00000-of-00001.parquet", "test-00000-of-00001.parquet"


def write_pairs(path, count, first=0):
    rows = [
        {
            "prompt": f"{WORDS[i % 10]} {WORDS[i // 10 % 10]} {i}: what would an expert say?",
            "chosen": f"An expert of {WORDS[i % 10]} would say {WORDS[i * 7 % 10]} comes first, then {i}.",
            "rejected": f"Nobody knows {WORDS[i * 3 % 10]} or {i} well.",
        }
        for i in range(first, first + count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def make_mix(data, name="v1", pairs=None, **options):
    """A mix of the builds 'one' and 'two', of 40 and 20 pairs."""
    for build_name, count, first in (("one", 40, 0), ("two", 20, 50)):
        if not Workspace(data).build(build_name).exists():
            path = write_pairs(data / f"{build_name}.jsonl", count, first)
            build(BuildConfig(source=str(path), name=build_name, skip_rule=NOT_EMBEDDED, data=data))
    return mix(MixConfig(name=name, add=("one", "two"), data=data, **options)).path


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return make_mix(tmp_path_factory.mktemp("data"))


@pytest.fixture
def folder(published, tmp_path):
    """A copy of the mix under another name, without the data folder."""
    return Path(shutil.copytree(published, tmp_path / "renamed"))


def rewrite(folder, name, change, **counts):
    """Write a file of the mix again with other rows, and seal the lock anew as one who means no good would."""
    path = folder / name
    table = pq.read_table(path)
    changed = change(table)
    pq.write_table(changed, path)
    seal(folder, **counts)


def seal(folder, **changes):
    lock = open_mix_folder(folder).lock
    files = {name: file_sha256(folder / name) for name in lock.files if (folder / name).exists()}
    write_lock(folder, replace(lock, files=files, **changes))


def edit(row, **values):
    """A change of columns of one row."""

    def change(table):
        for name, value in values.items():
            column = table[name].to_pylist()
            column[row] = value(column[row]) if callable(value) else value
            at = table.schema.get_field_index(name)
            table = table.set_column(at, table.schema.field(name), pa.array(column, table.schema.field(name).type))
        return table

    return change


def say(text):
    return [{"role": "assistant", "content": text}]


def test_a_mix_has_no_fault_where_it_was_made_and_where_it_was_copied(published, folder):
    here = verify(VerifyConfig(name="v1", data=published.parent.parent))
    there = verify(VerifyConfig(name=str(folder), data=folder / "nowhere"))

    assert here.faults == there.faults == []
    assert here.notes == there.notes == ["60 of license unknown"]
    assert (here.name, here.sha256, here.rows) == (there.name, there.sha256, there.rows)
    assert there.lines()[0].startswith("mix 'v1': 60 pairs, verified")


@pytest.mark.parametrize("name", [TRAIN, TEST, LINEAGE, "recipe.toml", CHECKSUMS, LOCK])
def test_a_damaged_or_missing_file_is_named(folder, name):
    path = folder / name
    content = path.read_bytes()
    path.write_bytes(content[:-9] + b"?" + content[-8:])

    damaged = verify_folder(folder)
    path.unlink()
    missing = verify_folder(folder)

    assert name in damaged.faults[0]
    assert name in missing.faults[0]
    assert "missing" in missing.faults[0]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"rows": "many"}, "rows: Input should be a valid integer"),
        ({"files": ["train"]}, "files: Input should be a valid dictionary"),
        ({"sources": [{"build": 5}]}, "sources.0.build: Input should be a valid string"),
        ({"facts": {"sources": []}}, "facts: not what was written"),
    ],
)
def test_a_lock_that_others_wrote_is_a_fault(folder, change, problem):
    lock = {name: value for name, value in json.loads((folder / LOCK).read_text()).items() if name != "record_sha256"}
    write_record(folder / LOCK, lock | change, place=f"v1/{LOCK}")

    (fault,) = verify_folder(folder).faults

    assert problem in fault
    assert "\n" not in fault


def test_a_lock_without_lineage_is_a_fault(folder):
    lock = open_mix_folder(folder).lock
    write_lock(folder, replace(lock, files={name: sha256 for name, sha256 in lock.files.items() if name != LINEAGE}))

    assert f"{folder / LINEAGE} is no file of the mix" in verify_folder(folder).faults
    assert verify_folder(folder).damage


def test_a_file_too_many_is_a_fault_and_an_edited_card_a_note(folder):
    (folder / "train-00001-of-00002.parquet").write_bytes((folder / TRAIN).read_bytes())
    (folder / ".gitattributes").write_text("*.parquet filter=lfs\n")
    (folder / CARD).write_text("# mine\n")

    found = verify_folder(folder)

    assert found.faults == [f"{folder}/train-00001-of-00002.parquet is no file of the mix"]
    assert found.notes[:2] == [
        "README.md was edited since the mix was published",
        ".gitattributes is no file of the mix",
    ]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (edit(3, chosen=say(" \n")), "its chosen response is empty"),
        (edit(3, chosen=say("Another answer.")), "its texts are not those that its pair_id was made of"),
        (edit(3, chosen=say("x") * 2), "its chosen or rejected side is not one message of the assistant"),
        (edit(3, rejected=[{"role": "user", "content": "x"}]), "its chosen or rejected side is not one message"),
        (edit(3, pair_id=lambda value: value + "x"), "its texts are not those that its pair_id was made of"),
        (edit(3, prompt_id="0" * 16), "its prompt is not the one that its prompt_id was made of"),
        (edit(3, prompt_group="0" * 16), "its prompt_group is not that of its prompt"),
        (edit(3, prompt=[{"role": "system", "content": "x"}]), "its prompt has no turn, or no turn of a user"),
        (edit(3, prompt=[]), "its prompt has no turn, or no turn of a user"),
        (edit(3, origin="made up"), "its origin or its flaw is none that a mix has"),
        (edit(3, flaw="dull"), "its origin or its flaw is none that a mix has"),
    ],
)
def test_a_planted_row_is_named_by_its_file_and_pair(folder, change, told):
    pair_id = pq.read_table(folder / TRAIN)["pair_id"][3].as_py()
    rewrite(folder, TRAIN, change)

    found = verify_folder(folder)

    assert found.faults[0].startswith(f"{TRAIN} row 4 (pair {pair_id}")
    assert told in found.faults[0]
    assert all(LINEAGE in other for other in found.faults[1:])


def test_equal_sides_and_turned_sides_are_told_apart(folder):
    rows = pq.read_table(folder / TRAIN)
    chosen, rejected = (rows[side][3].as_py() for side in ("chosen", "rejected"))
    rewrite(folder, TRAIN, edit(3, chosen=rejected, rejected=chosen))
    rewrite(folder, TEST, edit(0, rejected=pq.read_table(folder / TEST)["chosen"][0].as_py()))

    found = verify_folder(folder)

    assert [fault.partition(": ")[2][:40] for fault in found.faults] == [
        "its chosen and its rejected response are",
        "its sides stand the other way round than",
    ]


def test_a_swap_of_reviewers_is_no_fault_and_one_that_was_not_made_is(folder):
    rows = pq.read_table(folder / TRAIN)
    chosen, rejected = (rows[side][3].as_py() for side in ("chosen", "rejected"))
    rewrite(folder, TRAIN, edit(3, chosen=rejected, rejected=chosen))
    rewrite(folder, LINEAGE, edit(3, verdict="swap", answers=2))
    swapped = verify_folder(folder)
    rewrite(folder, LINEAGE, edit(5, verdict="swap", answers=2))

    found = verify_folder(folder)

    assert swapped.faults == []
    assert "1 with their label swapped by reviewers" in swapped.notes
    assert [fault.partition(": ")[2] for fault in found.faults] == [
        "reviewers swapped its label, says lineage.parquet, and its sides stand as before"
    ]


def test_a_pair_twice_and_a_group_on_both_sides_are_faults(folder):
    train = pq.read_table(folder / TRAIN)
    lineage = pq.read_table(folder / LINEAGE)
    last = train.slice(train.num_rows - 1)
    rewrite(
        folder,
        TEST,
        lambda rows: pa.concat_tables([rows, last]),
        rows=61,
        heldout=pq.read_table(folder / TEST).num_rows + 1,
    )
    added = lineage.slice(train.num_rows - 1, 1)
    added = added.set_column(1, lineage.schema.field("split"), pa.array(["heldout"]))
    rewrite(folder, LINEAGE, lambda rows: pa.concat_tables([rows, added]))
    sources = open_mix_folder(folder).lock.sources
    name = last["source"][0].as_py()
    seal(folder, licenses={"unknown": 61}, sources=tuple(replace(s, rows=s.rows + (s.build == name)) for s in sources))

    found = verify_folder(folder)

    assert f"is the pair of {TRAIN} row {train.num_rows}, and lies on both sides of the split" in found.faults[0]
    assert "which training rows have as well" in found.faults[1]
    assert len(found.faults) == 2


def test_counts_that_are_not_those_of_the_lock_are_faults(folder):
    seal(folder, rows=59, train=1, licenses={"mit": 60})

    assert verify_folder(folder).faults == [
        "lock.json tells of 59 rows, and the files hold 60",
        f"lock.json tells of 1 rows of split train, and the files hold {pq.read_table(folder / TRAIN).num_rows}",
        "lock.json tells of 60 rows of license mit, and the files hold 0",
        "lock.json tells of 0 rows of license unknown, and the files hold 60",
    ]


def test_lineage_in_another_order_is_a_fault(folder):
    rewrite(folder, LINEAGE, lambda rows: rows.take([1, 0, *range(2, rows.num_rows)]))

    assert all(
        fault.startswith(f"{LINEAGE} row 1 has pair_id") or "has source" in fault
        for fault in verify_folder(folder).faults
    )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda rows: rows.drop_columns(["license"]), "column license is missing"),
        (lambda rows: rows.append_column("mine", pa.array([1] * rows.num_rows)), "column mine is none of a mix"),
        (lambda rows: rows.select([*rows.column_names[1:], "prompt"]), "the columns stand in another order"),
        (
            lambda rows: rows.set_column(8, "score_chosen", pa.array([1] * rows.num_rows, pa.int64())),
            "column score_chosen has another type",
        ),
    ],
)
def test_another_schema_is_a_fault(folder, change, told):
    rewrite(folder, TEST, change)

    assert told in verify_folder(folder).faults[0]


def test_another_recipe_is_a_fault(folder):
    path = folder / "recipe.toml"
    path.write_text(path.read_text().replace("share = 1.0", "share = 0.5", 1))
    seal(folder)

    assert verify_folder(folder).faults == [f"{path} is not the recipe that the mix was made by"]


def test_personal_data_that_is_not_redacted_is_a_fault_and_other_flags_are_counted(folder):
    rewrite(folder, LINEAGE, edit(2, flags=["needs_review", "email"]))
    rewrite(folder, LINEAGE, edit(4, flags=["phone"]))

    found = verify_folder(folder)

    assert len(found.faults) == 1
    assert "holds personal data that is not redacted (email) (and 1 more row)" in found.faults[0]
    assert "1 flagged needs_review" in found.notes


def test_rows_of_a_redacted_build_have_the_ids_of_their_original_text(tmp_path):
    rows = [
        {
            "prompt": "Who leads the choir?",
            "chosen": "Write to anna.berg@posteo.de for that.",
            "rejected": "No idea at all.",
        }
    ]
    rows += [
        {"prompt": f"Say {word}.", "chosen": f"{word}, of course, it is.", "rejected": f"No {word} here."}
        for word in WORDS
    ]
    (tmp_path / "mail.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    build(
        BuildConfig(
            source=str(tmp_path / "mail.jsonl"), name="mail", redact=True, skip_rule=NOT_EMBEDDED, data=tmp_path
        )
    )
    path = mix(MixConfig(name="v1", add=("mail",), data=tmp_path)).path

    found = verify_folder(path)

    assert found.faults == []
    assert "1 whose personal data was replaced, so that their ids cannot be checked" in found.notes


def test_conversations_that_call_tools_verify(tmp_path):
    rows = [{"prompt": [*CALL[:1], *CALL[1:]], "chosen": "It rains in Oslo today.", "rejected": "It is sunny there."}]
    rows += [
        {"prompt": f"Say {word}.", "chosen": f"{word}, of course, it is.", "rejected": f"No {word} here."}
        for word in WORDS
    ]
    (tmp_path / "calls.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    build(BuildConfig(source=str(tmp_path / "calls.jsonl"), name="calls", skip_rule=NOT_EMBEDDED, data=tmp_path))
    path = mix(MixConfig(name="v1", add=("calls",), data=tmp_path)).path

    assert verify_folder(path).faults == []
    assert "tool_calls" in str(pq.read_schema(path / TRAIN))


def test_a_row_that_screening_dropped_is_found_where_the_tables_are_at_hand(tmp_path):
    path = make_mix(tmp_path)
    pair_id = pl.read_parquet(path / TRAIN)["pair_id"][0]
    screened = screened_without(tmp_path, path, pair_id)
    seal(path, sources=screened)

    found = verify(VerifyConfig(name="v1", data=tmp_path))
    shutil.rmtree(tmp_path / "tables")

    assert len(found.faults) == 1
    assert f"row 1 (pair {pair_id}) was dropped by too_short in the screening of" in found.faults[0]
    assert verify(VerifyConfig(name="v1", data=tmp_path)).faults == []


def screened_without(data, folder, pair_id):
    """The sources of a mix, pinned to a screening that drops a pair of it."""
    lock = open_mix_folder(folder).lock
    for name in ("one", "two"):
        before = Workspace(data).read_build(name).identities
        found = rescreen(ScreenConfig(name=name, min_tokens=1000, data=data))
        assert before != {stage: table.identity for stage, table in found.tables.items()}
    now = {name: Workspace(data).read_build(name).identities for name in ("one", "two")}
    source = pl.read_parquet(folder / TRAIN).row(by_predicate=pl.col("pair_id") == pair_id, named=True)["source"]
    assert source
    return tuple(
        replace(s, screened=replace(s.screened, identity=now[s.build][s.screened.stage])) if s.build == source else s
        for s in lock.sources
    )


def test_what_reviewers_rejected_is_found_without_the_tables(folder):
    rewrite(folder, LINEAGE, edit(7, verdict="reject", answers=2))

    assert [fault.partition(") ")[2][:24] for fault in verify_folder(folder).faults] == ["was dropped by human_rej"]


def test_other_formats_and_folders_are_refused(folder, tmp_path, capsys):
    lock = folder / LOCK
    lock.write_text('{"format": 99, "name": "v1"}')

    assert main(["verify", str(folder)]) == 2
    assert "written by a newer pairwright (format 99" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"no mix 'v8' in .*, and no such folder"):
        verify(VerifyConfig(name="v8", data=tmp_path))
    with pytest.raises(UserError, match="is no published mix"):
        verify(VerifyConfig(name=str(tmp_path), data=tmp_path))


def test_the_command_prints_the_first_fault_and_how_many_more(folder, capsys):
    seal(folder, rows=59, licenses={"mit": 60})

    assert main(["verify", str(folder)]) == 1

    assert capsys.readouterr().out.splitlines()[:2] == [
        "mix 'v1' does not verify: lock.json tells of 59 rows, and the files hold 60",
        "2 more faults; --json lists them",
    ]
