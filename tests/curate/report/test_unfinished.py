"""Where a build stands that was stopped: what `show` and `explain` say, and when they say nothing more."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from garden import write_rows
from misbehaving import Misbehaving, fails, hangs, says

from curate.cli.main import main
from curate.config import BuildConfig
from curate.flags import command_line

PAIR = json.dumps({"chosen": "Water boils at a hundred degrees.", "rejected": "Water never boils at all, I think."})
PROMPTS = [{"prompt": f"At how many degrees does liquid number {i} boil?"} for i in range(3)]
NO_VECTORS = ("off_topic", "semantic_duplicate_prompt", "semantic_duplicate_pair", "lexical_duplicate")
SKIP = [word for rule in NO_VECTORS for word in ("--skip-rule", rule)]


@pytest.fixture
def server():
    started = Misbehaving(lambda call: says(PAIR))
    yield started
    started.close()


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs `curate ...` in a folder with three prompts; gives code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "prompts.jsonl", PROMPTS)

    def command(*words: str) -> tuple[int, str, str]:
        code = main([*words])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return command


def asked(server: Misbehaving, *words: str) -> list[str]:
    made_by = ["--generator", f"{server.url}#tiny", "--flaws", "none"]
    return ["build", "--source", "gpt", "--prompts", "prompts.jsonl", *made_by, *SKIP, *words]


def killed(server: Misbehaving, folder: Path, calls: int, *words: str) -> None:
    """A build in a process of its own, killed once so many calls have come to the server."""
    command = [sys.executable, "-m", "curate.cli.main", *asked(server, *words)]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    server.wait_for(calls)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def test_a_killed_build_is_shown_with_its_whole_stages_and_the_command_that_goes_on(run, server, tmp_path):
    server.act = lambda call: hangs
    killed(server, tmp_path, 3)

    code, out, _ = run("show", "gpt")
    listed = run("show")[1]
    found = json.loads(run("show", "gpt", "--json")[1])

    assert code == 0
    lines = out.splitlines()
    assert lines[:4] == [
        "build 'gpt' was stopped in the stage write_pairs",
        "  3 prompts, whole",
        "  0 written pairs so far",
        "  to come: screening",
    ]
    assert "\n".join(lines) in listed
    assert found["rows"] == {"read_prompts": 3, "write_pairs": 0}
    assert (found["name"], found["is_running"], found["to_come"]) == ("gpt", False, [])
    server.act = lambda call: says(PAIR)
    goes_on = shlex.split(lines[4].removeprefix("  go on with: "))
    assert goes_on[0] == "curate"
    assert run(*goes_on[1:])[0] == 0
    assert "stopped" not in run("show")[1]
    assert run("show", "gpt", "--json")[1].startswith('{"name": "gpt"')
    assert not list((tmp_path / "data" / "unfinished").iterdir())


def test_stages_to_come_and_the_scorer_are_those_of_the_build(run, server, tmp_path):
    server.act = lambda call: hangs if call.number >= 3 else says(PAIR)
    killed(server, tmp_path, 4, "--scorer", f"judge:{server.url}#judge")

    out = run("show", "gpt")[1]
    row = json.loads((tmp_path / "data" / "unfinished" / "gpt.json").read_text())

    assert out.splitlines()[:5] == [
        "build 'gpt' was stopped in the stage score_pairs",
        "  3 prompts, whole",
        "  3 written pairs, whole",
        "  0 scored pairs so far",
        "  to come: scores of probes, screening",
    ]
    pairs = tmp_path / "data" / "tables" / "write_pairs" / row["tables"]["write_pairs"] / "part-00000.parquet"
    code, traced, _ = run("explain", pl.read_parquet(pairs)["pair_id"][0])
    assert code == 0
    assert "not screened" in traced
    assert "build 'gpt' was stopped in the stage score_pairs" in traced
    assert "  go on with: curate build --source gpt" in traced


def test_a_build_that_runs_is_told_from_one_that_was_stopped(run, server, tmp_path):
    server.act = lambda call: hangs
    command = [sys.executable, "-m", "curate.cli.main", *asked(server)]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        server.wait_for(1)
        running = run("show", "gpt")[1]
    finally:
        process.kill()
        process.wait()

    assert f":{process.pid}, and is at the stage write_pairs" in running
    assert "was stopped in the stage write_pairs" in run("show", "gpt")[1]


def test_a_build_that_stopped_itself_is_stopped_though_the_process_goes_on(run, server):
    server.act = lambda call: fails(400, "no")
    write_rows(Path("prompts.jsonl"), [{"prompt": f"What is liquid number {i} good for?"} for i in range(30)])

    assert run(*asked(server))[0] == 1

    assert "build 'gpt' was stopped in the stage write_pairs" in run("show", "gpt")[1]
    code, _, said = run("explain", "0123456789abcdef")
    assert code == 2
    assert "build 'gpt' is not finished, go on with: curate build --source gpt" in said


def test_a_later_build_of_a_name_that_was_stopped_stands_beside_the_finished_one(run, server):
    assert run(*asked(server))[0] == 0
    write_rows(Path("prompts.jsonl"), [{"prompt": f"What is liquid number {i} good for?"} for i in range(30)])
    server.act = lambda call: fails(400, "no")
    assert run(*asked(server))[0] == 1

    out = run("show", "gpt")[1]

    assert "kept 3" in out.splitlines()[0]
    assert "build 'gpt' was stopped in the stage write_pairs" in out


def test_parts_that_are_whole_count(run, server, tmp_path):
    # 256 prompts make a part; a few calls of the second one hang, fewer than may be in flight.
    prompts = [{"prompt": f"At how many degrees does liquid number {i} boil?"} for i in range(300)]
    write_rows(tmp_path / "prompts.jsonl", prompts)

    def act(call):
        (second,) = (tmp_path / "data" / "tables" / "read_prompts").glob("*/part-00001.parquet")
        last = pl.read_parquet(second)["messages"].list.last().struct.field("content")
        return hangs if call.text in set(last.tail(8)) else says(PAIR)

    server.act = act
    command = [sys.executable, "-m", "curate.cli.main", *asked(server, "--concurrency", "64")]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    server.wait_for(300, timeout_s=60)
    for _ in range(400):
        if list((tmp_path / "data" / "tables" / "write_pairs").glob("*/part-00000.json")):
            break
        time.sleep(0.05)
    process.kill()
    process.wait()

    assert "  256 written pairs so far" in run("show", "gpt")[1].splitlines()


def test_a_damaged_record_is_one_sentence(run, server, tmp_path):
    (tmp_path / "data" / "unfinished").mkdir(parents=True)
    (tmp_path / "data" / "unfinished" / "gpt.json").write_text('{"format": 1}')

    code, _, said = run("show", "gpt")

    assert code == 2
    assert "unfinished/gpt.json" in said and "Traceback" not in said


@pytest.mark.parametrize(
    ("cfg", "command"),
    [
        (BuildConfig(source="sft"), "curate build --source sft"),
        (
            BuildConfig(source="my pairs.jsonl", redact=True, skip_rule=("tie", "identical"), min_margin=0.5),
            "curate build --source 'my pairs.jsonl' --min-margin 0.5 --redact --skip-rule tie --skip-rule identical",
        ),
    ],
)
def test_a_command_has_what_is_not_the_default(cfg, command):
    assert command_line("curate build", cfg) == command
