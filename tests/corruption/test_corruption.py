"""Each kind of stored file, damaged in each way: no command uses it silently.

What a command meets is made again with the same bytes, or is one sentence with exit code 2 that names the file and a
command. A further kind is an entry of `KINDS`.
"""

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl
import pytest
from garden import PAIRS, write_rows
from judging import answer, ask_about

from curate.cli.main import main
from curate.models.reward_head import RewardHead, head_folder
from curate.report.doctor import check_store
from curate.store.reviews import Stratum, begun_review, save_review
from curate.store.workspace import Workspace
from schemas.stages import StageName, pairs_stage

NAMES = ("garden", "meadow")
SCORERS = ("reward-mini-b", "reward-mini")
BUILD = ("build", "--source", "{sources}/garden.jsonl", "--name", "garden", "--scorer", "reward-mini-b")
SCREEN, MIX, NEW_MIX = ("screen", "garden"), ("mix", "garden-mix"), ("mix", "new", "--add", "garden")
SHOW, SHOW_MIX, EXPLAIN = ("show", "garden"), ("show", "garden-mix"), ("explain", "{pair}")
STATUS, EXPORT = ("review", "status", "garden"), ("review", "export", "garden", "--out", "{sources}/form.html")
EXPORT_MIX = ("review", "export", "garden-mix", "--out", "{sources}/form.html")
IMPORT = ("review", "import", "{sources}/answers.jsonl")
SCORE = ("build", "--source", "{sources}/meadow.jsonl", "--name", "by-own", "--scorer", "{data}/models/garden-head")
CHECK, DOCTOR = ("ledger", "--check"), ("doctor",)

Damage = Callable[[Path, Path], None]


@dataclass(frozen=True)
class Kind:
    """A kind of stored file: where one of build `garden` lies, and the commands that read it."""

    find: Callable[[Path, str], Path]
    """The file of this kind that belongs to `garden` or `meadow` in a data folder."""
    readers: tuple[tuple[str, ...], ...]
    columns: tuple[str, str] | None = None
    """Columns of a table that may stand in each other's place; of any other kind whole files do."""
    named: str = ""
    """What a sentence names, where it is not the file itself."""
    gone_is_seen: bool = True
    """False where the doctor cannot tell a lost file from one that was never there; a command makes or asks for it."""


def table_file(stage: StageName | None, name: str) -> Callable[[Path, str], Path]:
    """A file of the table of a stage; of the pairs that were screened where none is named."""

    def find(data: Path, build: str) -> Path:
        record = Workspace(data).read_build(build)
        found = stage or pairs_stage(record.tables)
        return data / "tables" / found / record.tables[found] / name

    return find


def named_file(pattern: str) -> Callable[[Path, str], Path]:
    return lambda data, name: data / pattern.format(name)


def noise_file(data: Path, name: str) -> Path:
    files = sorted((data / "noise").glob("*.json"))
    return next(path for path in files if (json.loads(path.read_bytes())["scorer"] == SCORERS[0]) == (name == NAMES[0]))


def vectors_file(data: Path, name: str) -> Path:
    return sorted(data.glob("vectors/*/*.npy"))[NAMES.index(name)]


PART, DROPPED, RECORD = "part-00000.parquet", "dropped-00000.parquet", "part-00000.json"
SIDES = ("chosen", "rejected")

READ_PAIRS = StageName.READ_PAIRS
SHOWN = (SHOW, EXPLAIN, EXPORT_MIX)
REVIEWED = (STATUS, EXPORT, IMPORT, SCREEN)
MADE = (BUILD, SCREEN, NEW_MIX, *SHOWN)

KINDS = {
    "pairs": Kind(table_file(None, PART), MADE, SIDES),
    "source": Kind(table_file(READ_PAIRS, PART), (BUILD, SCREEN), SIDES),
    "probes": Kind(table_file(StageName.SCORE_PROBES, PART), (BUILD, SCREEN, EXPLAIN), ("pair_id", "call_id")),
    "measured": Kind(table_file(StageName.MEASURE_PAIRS, PART), (BUILD, SCREEN, EXPLAIN), ("chosen_hash", "pair_hash")),
    "screened": Kind(table_file(StageName.SCREEN_PAIRS, PART), MADE),
    "dropped rows": Kind(table_file(READ_PAIRS, DROPPED), (BUILD, SCREEN), ("stage", "raw")),
    "record of a part": Kind(table_file(READ_PAIRS, RECORD), (BUILD, SCREEN)),
    "manifest": Kind(table_file(None, "manifest.json"), MADE),
    "build": Kind(named_file("builds/{}.json"), (BUILD, SCREEN, NEW_MIX, SHOW, EXPLAIN), gone_is_seen=False),
    "mix": Kind(named_file("mixes/{}-mix/train-00000-of-00001.parquet"), (MIX, SHOW_MIX, EXPORT_MIX), SIDES),
    "lineage of a mix": Kind(named_file("mixes/{}-mix/lineage.parquet"), (MIX, EXPLAIN), ("split", "pair_id")),
    "lock": Kind(named_file("mixes/{}-mix/lock.json"), (MIX, SHOW_MIX, EXPLAIN, EXPORT_MIX)),
    "recipe": Kind(named_file("mixes/{}-mix/recipe.toml"), (MIX,)),
    "croissant": Kind(named_file("mixes/{}-mix/croissant.json"), (MIX,)),
    "checksums": Kind(named_file("mixes/{}-mix/checksums.txt"), (MIX,)),
    "review": Kind(named_file("reviews/{}/review.json"), REVIEWED),
    "asked": Kind(
        named_file("reviews/{}/asked.parquet"), (STATUS, EXPORT, IMPORT, SCREEN), ("response_a", "response_b")
    ),
    "answers": Kind(named_file("reviews/{}/answers.parquet"), (STATUS, IMPORT, SCREEN), ("record_id", "reviewer")),
    "noise": Kind(noise_file, (BUILD, SCREEN)),
    "vectors": Kind(vectors_file, (), gone_is_seen=False),
    "head": Kind(named_file("models/{}-head/head.safetensors"), (SCORE,)),
    "digest of a head": Kind(named_file("models/{}-head/digests.json"), (SCORE,), named="garden-head"),
}


def flip(path: Path, other: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path, other: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2].ljust(len(content), b"\0"))


def delete(path: Path, other: Path) -> None:
    path.unlink()


def exchange_files(path: Path, other: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(content)


def exchange_columns(one: str, two: str) -> Damage:
    def exchange(path: Path, other: Path) -> None:
        rows = pl.read_parquet(path)
        rows.with_columns(rows[two].alias(one), rows[one].alias(two)).write_parquet(path)

    return exchange


def ways(kind: Kind) -> dict[str, Damage]:
    exchange = exchange_columns(*kind.columns) if kind.columns else exchange_files
    return {"flip": flip, "truncate": truncate, "delete": delete, "exchange": exchange}


CELLS = [
    pytest.param(kind, way, command, id=f"{name}-{way}-{' '.join(command[:2])}")
    for name, kind in KINDS.items()
    for way in ways(kind)
    for command in (*kind.readers, DOCTOR)
    if way != "delete" or command != DOCTOR or kind.gone_is_seen
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A data folder with two of each kind."""
    folder = tmp_path_factory.mktemp("whole")
    data, sources = folder / "data", folder / "sources"
    sources.mkdir()
    for scorer in SCORERS:
        assert main(["doctor", "--scorer", scorer, "--num-pairs", "4", "--data", str(data)]) in (0, 1)
    for place, name in enumerate(NAMES):
        rows = [{**row, "prompt": f"{row['prompt']} {name}"} if place else row for row in PAIRS]
        write_rows(sources / f"{name}.jsonl", [*rows, {"prompt": "Why?", "chosen": "So."}])
        words = [word.format(sources=sources) for word in BUILD]
        assert main([*(word.replace("garden", name) for word in words), "--data", str(data)]) == 0
        asked = ask_about(data, name, band="any")
        strata = (Stratum(name, "any", asked.height, asked.height),)
        save_review(data, replace(begun_review(data, name), edges={name: []}, strata=strata))
        answer(data, name, asked, {0: "chosen", 1: "chosen"})
        assert main(["screen", name, "--data", str(data)]) == 0
        assert main(["mix", f"{name}-mix", "--add", name, "--data", str(data)]) == 0
        RewardHead.load(head_folder(SCORERS[place])).save(data / "models" / f"{name}-head")
    asked = pl.read_parquet(data / "reviews" / "garden" / "asked.parquet")["record_id"]
    (folder / "pair").write_text(asked[0])
    (sources / "answers.jsonl").write_text(f'{{"review": "garden", "record": "{asked[2]}", "better": "a"}}\n')
    return folder


@pytest.fixture
def copy(whole, tmp_path):
    """A copy of it, for one cell."""
    shutil.copytree(whole / "data", tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def run(whole, copy, capsys, caplog):
    """Runs a command on the copy; gives the exit code and what was printed."""

    def give(command: tuple[str, ...]) -> tuple[int, str, str]:
        places = {"data": copy, "sources": whole / "sources", "pair": (whole / "pair").read_text()}
        capsys.readouterr()
        code = main([*(word.format(**places) for word in command), "--data", str(copy)])
        printed = capsys.readouterr()
        return code, printed.out, caplog.text + printed.err

    return give


@pytest.mark.parametrize(("kind", "way", "command"), CELLS)
def test_damage_is_made_again_or_one_sentence(copy, run, kind, way, command):
    path, other = (kind.find(copy, name) for name in NAMES)
    whole_meaning, state = meaning(path), path.stat()
    ways(kind)[way](path, other)
    if path.exists():
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))

    code, out, err = run(command)

    if command == DOCTOR:
        bad = "\n".join(line for line in out.splitlines() if line.startswith("BAD"))
        assert code == 1
        assert (kind.named or path.name) in bad
    elif code == 0:
        assert meaning(path) == whole_meaning or "are collected again" in err
    else:
        sentence = err.splitlines()[-1]
        assert code == 2
        assert (kind.named or path.stem) in sentence or way == "delete"
        assert "curate " in sentence or "train " in sentence


@pytest.mark.parametrize("command", [EXPLAIN, CHECK, DOCTOR, ("ledger", "--export", "{data}/calls.parquet")])
@pytest.mark.parametrize(
    "change",
    [
        "UPDATE calls SET numbers = x'0000000000000000'",
        "UPDATE calls SET answer = replace(answer, 'null', 'NULL')",
        "UPDATE calls SET input_tokens = output_tokens + 1",
        "UPDATE calls SET answer = CAST(x'ff' AS TEXT)",
    ],
)
def test_a_damaged_call_is_found_and_asked_again_once_it_is_forgotten(copy, run, command, change):
    with closing(sqlite3.connect(copy / "ledger.sqlite")) as database:
        database.execute(change)
        database.commit()

    code, out, err = run(command)
    forgotten, _, _ = run(("ledger", "--compact"))
    checked, _, _ = run(CHECK)
    table = table_file(StageName.SCORE_PAIRS, PART)(copy, "garden")
    before = table.read_bytes()
    shutil.rmtree(table.parent)
    built, _, _ = run(BUILD)

    assert code == (1 if command in (CHECK, DOCTOR) else 2)
    assert "ledger --compact" in out + err or command == CHECK
    assert (forgotten, checked, built) == (0, 0, 0)
    assert table.read_bytes() == before


@pytest.mark.parametrize("way", [truncate, delete])
def test_a_lost_ledger_is_named(copy, run, way):
    before = Workspace(copy).read_build("garden").identities
    way(copy / "ledger.sqlite", copy)

    code, out, _ = run(DOCTOR)
    built, _, told = run(BUILD)

    assert code == 1
    assert "BAD  ledger" in out
    assert "ledger.sqlite is gone" in told or way == truncate
    assert built == 2 or Workspace(copy).read_build("garden").identities == before


def test_every_file_that_is_stored_is_looked_at_by_the_doctor(copy):
    # A card may be edited.
    silent = {"leases", "ledger.spare", ".garden.lock", ".meadow.lock", "README.md"}
    files = sorted(path for path in copy.rglob("*") if path.is_file() and not silent & set(path.parts))
    unseen = []
    for path in files:
        content = path.read_bytes()
        truncate(path, path)
        checks = check_store(Workspace(copy))
        path.write_bytes(content)
        if all(check.is_good for check in checks):
            unseen.append(path.relative_to(copy).as_posix())

    assert unseen == []


def test_calls_that_an_earlier_version_recorded_are_used_and_get_digests(copy, run):
    with closing(sqlite3.connect(copy / "ledger.sqlite")) as database:
        database.execute("ALTER TABLE calls DROP COLUMN sha256")

    codes = {command: run(command)[0] for command in (*MADE, MIX, SHOW_MIX, *REVIEWED, CHECK, DOCTOR)}

    assert set(codes.values()) == {0}
    with closing(sqlite3.connect(copy / "ledger.sqlite")) as database:
        assert database.execute("SELECT count(*) FROM calls WHERE sha256 IS NULL").fetchone() == (0,)


def meaning(path: Path) -> object:
    """The content of a file, but what making it took, and whether a record that is lost was of a screening."""
    if path.suffix != ".json":
        return path.read_bytes()
    spent = {"record_sha256", "seconds", "calls", "reused_calls", "is_rescreened"}
    return json.loads(path.read_bytes(), object_pairs_hook=lambda pairs: [p for p in pairs if p[0] not in spent])
