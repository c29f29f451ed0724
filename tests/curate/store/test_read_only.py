"""Data folders that are read-only: what only reads works, what writes refuses before anything is asked."""

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from garden import PAIRS, write_rows
from misbehaving import Misbehaving, says
from read_only import read_only, run_bound

from curate.cli.main import main
from curate.ledger.ledger import Ledger

NO_VECTORS = ("off_topic", "semantic_duplicate_prompt", "semantic_duplicate_pair", "lexical_duplicate")
SKIP = [word for rule in NO_VECTORS for word in ("--skip-rule", rule)]
PAIR = json.dumps({"chosen": "Water boils at a hundred degrees.", "rejected": "Water never boils at all, I think."})
PROMPTS = [{"prompt": f"At how many degrees does liquid number {i} boil?"} for i in range(3)]


@pytest.fixture(scope="module")
def server():
    started = Misbehaving(lambda call: says(PAIR))
    yield started
    started.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, server) -> Path:
    """A folder with data: a build of an endpoint, one of a file, a mix and a review."""
    home = tmp_path_factory.mktemp("home")
    write_rows(home / "prompts.jsonl", PROMPTS)
    write_rows(home / "more.jsonl", [*PROMPTS, {"prompt": "And at how many degrees does liquid iron boil?"}])
    write_rows(home / "garden.jsonl", PAIRS)
    (home / "compare.py").write_text("import sys\nfrom eval.cli import main\nsys.exit(main())\n")
    before = os.getcwd()
    os.chdir(home)
    try:
        assert main(["build", *gpt(server), *SKIP]) == 0
        assert main(["build", "--source", "garden.jsonl", *SKIP]) == 0
        assert main(["mix", "v1", "--add", "garden"]) == 0
        assert main(["review", "export", "garden", "--records", "4", "--out", "form.jsonl"]) == 0
    finally:
        os.chdir(before)
    return home


def gpt(server: Misbehaving, prompts: str = "prompts.jsonl") -> list[str]:
    made_by = ["--generator", f"{server.url}#tiny", "--flaws", "none"]
    return ["--source", "gpt", "--prompts", prompts, *made_by]


def contents(data: Path) -> dict[str, tuple[int, int]]:
    """Path -> size and time of change, of all that is there."""
    found = {path: path.stat() for path in data.rglob("*")}
    return {str(path): (stat.st_size, stat.st_mtime_ns) for path, stat in found.items()}


def pair_id(folder: Path, name: str) -> str:
    record = json.loads((folder / "data" / "builds" / f"{name}.json").read_text())
    (table,) = (folder / "data" / "tables" / "screen_pairs" / record["tables"]["screen_pairs"]).glob("part-*.parquet")
    return pl.read_parquet(table)["pair_id"][0]


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["show"], "garden"),
        (["show", "garden"], "roses"),
        (["show", "v1"], "roses"),
        (["explain", "PAIR"], "tiny"),
        (["ledger"], "tiny"),
        (["ledger", "--check"], "whole"),
        (["ledger", "--export", "calls.parquet"], "3 calls in calls.parquet"),
        (["review", "status", "garden"], "0 of 4 records judged"),
        (["mix", "v1"], "mix 'v1': 10 pairs"),
        (["doctor"], "build garden"),
    ],
)
def test_what_only_reads_works_and_changes_nothing(folder, words, shown):
    words = [pair_id(folder, "gpt") if word == "PAIR" else word for word in words]
    (folder / "calls.parquet").unlink(missing_ok=True)
    before = contents(folder / "data")

    with read_only(folder / "data"):
        done = run_bound("curate.cli.main", *words, cwd=folder)
        after = contents(folder / "data")

    assert done.returncode == 0, done.stdout + done.stderr
    assert shown in done.stdout
    assert "BAD" not in done.stdout
    assert after == before


def test_what_writes_refuses_in_one_sentence_and_asks_nothing(folder, server):
    commands = [
        ["curate.cli.main", "build", *gpt(server, "more.jsonl"), *SKIP],
        ["curate.cli.main", "build", *gpt(server, "more.jsonl"), *SKIP, "--dry-run"],
        ["curate.cli.main", "build", "--source", "garden.jsonl", *SKIP],
        ["curate.cli.main", "screen", "garden", "--min-margin", "2"],
        ["curate.cli.main", "mix", "v2", "--add", "garden:0.5"],
        ["curate.cli.main", "ledger", "--compact"],
        ["curate.cli.main", "review", "export", "garden", "--out", "other.jsonl"],
        ["curate.cli.main", "review", "import", "form.jsonl"],
        ["train.cli", "sft", "--mix", "v1"],
        ["train.cli", "reward", "--pairs", "garden.jsonl"],
        ["compare", "smollm2", "--baseline", "smollm2", "--baseline-seed", "1"],
    ]
    before, asked = contents(folder / "data"), len(server.calls)

    with read_only(folder / "data"):
        found = {" ".join(words): run_bound(*words, cwd=folder) for words in commands}
        after = contents(folder / "data")

    for words, done in found.items():
        assert done.returncode == 2, (words, done.stderr)
        said = done.stderr.splitlines()[-1]
        assert said.startswith("error: data is read-only for this user"), (words, done.stderr)
        assert "Traceback" not in done.stderr
    assert after == before
    assert len(server.calls) == asked


def test_a_folder_that_cannot_be_made_is_refused(folder, tmp_path):
    (tmp_path / "closed").mkdir()

    with read_only(tmp_path / "closed"):
        words = ["build", "--source", str(folder / "garden.jsonl"), "--data", "closed/data"]
        done = run_bound("curate.cli.main", *words, cwd=tmp_path)

    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: closed/data is read-only")


def killed(path: Path) -> None:
    """Write to the ledger at `path` as somebody who is killed: the log is left, and what it holds counts."""
    program = (
        "import os, sqlite3, sys\n"
        "db = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "db.execute('PRAGMA wal_autocheckpoint = 0')\n"
        "db.execute(\"UPDATE calls SET model = 'from the log'\")\n"
        "os._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(path)], check=True)
    assert path.with_name("ledger.sqlite-wal").stat().st_size > 0


@pytest.mark.parametrize("index", ["kept", "lost"])
def test_what_the_log_of_a_killed_writer_holds_is_read(folder, tmp_path, index):
    data = tmp_path / "data"
    data.mkdir()
    (data / "ledger.sqlite").write_bytes((folder / "data" / "ledger.sqlite").read_bytes())
    killed(data / "ledger.sqlite")
    if index == "lost":
        (data / "ledger.sqlite-shm").unlink()

    with read_only(data):
        done = run_bound("curate.cli.main", "ledger", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert "from the log" in done.stdout


def test_a_ledger_that_is_being_written_is_read_meanwhile(folder, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "ledger.sqlite").write_bytes((folder / "data" / "ledger.sqlite").read_bytes())
    writer = sqlite3.connect(data / "ledger.sqlite", isolation_level=None)
    writer.execute("UPDATE calls SET model = 'just now'")
    try:
        with read_only(data):
            done = run_bound("curate.cli.main", "ledger", cwd=tmp_path)
    finally:
        writer.close()

    assert done.returncode == 0, done.stderr
    assert "just now" in done.stdout


def test_without_a_ledger_a_reader_finds_no_calls_and_makes_no_file(tmp_path):
    path = tmp_path / "data" / "ledger.sqlite"
    path.parent.mkdir()

    with read_only(path.parent):
        program = (
            "import sys\nfrom pathlib import Path\nfrom curate.ledger.ledger import Ledger\n"
            "with Ledger(Path(sys.argv[1]), to_read=True) as ledger:\n    print(ledger.counts())\n"
        )
        (tmp_path / "look.py").write_text(program)
        done = run_bound("look", str(path), cwd=tmp_path)

    assert done.stdout == "{}\n", done.stderr
    assert not path.exists()


def test_a_folder_that_can_be_written_is_read_as_before(folder):
    with Ledger(folder / "data" / "ledger.sqlite", to_read=True) as ledger:
        assert ledger.counts() == {"answered": 3}
