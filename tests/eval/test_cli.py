"""The `eval` command: its output, its errors, and a whole evaluation against a real local server."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from mixes import publish
from scripted import completion

from eval.cli import main
from eval.evaluate import Evaluated

SENTENCE = "Thank you for asking."


@pytest.fixture
def server(endpoint, monkeypatch):
    """A server that serves dpo-1, smollm2 and a judge that counts a sentence; dpo-1 says it to long prompts only."""

    def handler(body):
        text = body["messages"][-1]["content"]
        if body["model"] == "counter":
            return 200, completion(f"reward:{text.count(SENTENCE)}")
        if body["model"] == "dpo-1" and len(text) > 45:
            return 200, completion(f"Well. {SENTENCE}")
        if body["model"] in ("dpo-1", "smollm2"):
            return 200, completion(f"{body['model']} answers.")
        return 404, {"error": {"message": f"no model {body['model']}"}}

    started = endpoint(handler)
    monkeypatch.setenv("NIM_BASE_URL", started.url)
    return started


def on(server, tmp_path) -> list[str]:
    """Flags for an evaluation of 12 prompts on the server."""
    flags = ["--engine", server.url, "--judge", "nim:counter", "--num-prompts", "12"]
    return [*flags, "--data", str(tmp_path / "data")]


def test_an_evaluation_on_a_server_prints_the_contract_last(server, make_run, tmp_path, capsys, monkeypatch):
    make_run("dpo-1")

    code = main([*on(server, tmp_path), "--json"])

    out = capsys.readouterr().out.splitlines()
    printed = json.loads(out[-1])
    lines = Path(printed["results"]).with_name("prompts.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    wins = sum(SENTENCE in row["response_run"] for row in rows)
    assert code == 0
    assert list(printed) == [
        *("run", "baseline", "judge", "n", "wins", "losses", "ties", "win_rate", "win_rate_strict"),
        *("ci95", "detectable", "results"),
    ]
    assert (printed["run"], printed["baseline"], printed["judge"]) == ("dpo-1", "smollm2", "nim:counter")
    assert (printed["n"], printed["wins"], printed["losses"], printed["ties"]) == (12, wins, 0, 12 - wins)
    assert 0 < wins < 12
    assert len(out) == 1


def test_an_evaluation_that_is_repeated_asks_the_server_nothing(server, make_run, tmp_path, capsys):
    make_run("dpo-1")
    flags = ["dpo-1", *on(server, tmp_path)]
    main(flags)
    first, asked = capsys.readouterr().out, len(server.bodies)

    main(flags)

    assert capsys.readouterr().out == first
    assert len(server.bodies) == asked > 0


def test_what_can_be_shown_is_said_before_sampling(make_run, tmp_path, caplog, endpoint, monkeypatch):
    make_run("dpo-1")
    broken = endpoint(lambda body: (401, {"error": {"message": "no"}}))
    monkeypatch.setenv("NIM_BASE_URL", broken.url)

    with caplog.at_level("INFO"):
        code = main(["--engine", broken.url, "--judge", "nim:counter", "--data", str(tmp_path / "data")])

    assert code == 2
    assert "minimum detectable difference with 40 prompts: 15.5 points" in caplog.text


def test_a_judge_that_selected_the_training_pairs_is_the_first_line(server, make_run, tmp_path, capsys):
    make_run("dpo-1", mix="v1")
    publish(tmp_path / "data", "v1", [("Why?", "So.", "No.")], scorers=["nim:counter"])

    main(on(server, tmp_path))

    assert capsys.readouterr().out.startswith("careful: judge nim:counter also selected training pairs of 'dpo-1'")


def test_responses_only_needs_no_judge_and_no_baseline(server, make_config, tmp_path, capsys):
    prompts = make_config().prompts
    path = tmp_path / "leaderboard.jsonl"
    flags = ["--prompts", prompts, "--judge", "none", "--data", str(tmp_path / "data")]

    code = main([f"{server.url}#smollm2", "--responses-only", str(path), *flags, "--json"])

    rows = [json.loads(line) for line in path.read_text().splitlines()]
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert code == 0
    assert (len(rows), printed["responses"], printed["file"]) == (4, 4, str(path))
    assert {"prompt", "response", "model"} == set(rows[0])


def test_a_judge_the_server_does_not_know_is_told_of(server, tmp_path, make_run, capsys):
    make_run("dpo-1")

    code = main([*on(server, tmp_path), "--judge", "nim:other"])

    assert code == 2
    assert "does not know the model 'other'" in capsys.readouterr().err


def test_no_difference_is_said_plainly():
    results = {
        "notes": [], "run": "a", "baseline": "b", "judge": "j", "n": 3, "wins": 1, "losses": 1, "ties": 1,
        "win_rate": 0.5, "win_rate_strict": 1 / 3, "ci95": (0.1, 0.9), "detectable": 0.57, "results": "results.json",
        "mean_length_run": 10.0, "mean_length_baseline": 11.0, "longer_won": 1, "decided_by_length": 2,
        "degenerate_run": 0, "degenerate_baseline": 1, "unjudged": {"run: failed_score": 2},
    }  # fmt: skip

    lines = Evaluated(results, Path("results.json")).lines()

    assert lines[0] == "a against b, judged by j: no difference shown (the 95% interval contains 50%)"
    assert any(line.strip().startswith("not judged") and line.endswith("2 run: failed_score") for line in lines)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "no run in"),
        (["dpo-l"], "no run 'dpo-l'"),
        (["hf:owner/name"], "name one with --baseline"),
        (["smollm2", "--baseline", "smolm2", "--judge", "nim:x"], "did you mean 'smollm2'"),
        (["smollm2", "--baseline", "smollm2", "--judge", "nim:counter"], "give --baseline-seed"),
        (["smollm2", "--baseline", "smollm2", "--judge", "reward-mimi"], "did you mean 'reward-mini'"),
        (["smollm2", "--baseline", "smollm2", "--judge", "nim:x", "--engine", "vllm"], "--engine is neither"),
        (["-c", "missing.toml"], "no config file missing.toml"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(tmp_path, capsys, flags, message):
    code = main([*flags, "--data", str(tmp_path / "data")])

    error = capsys.readouterr().err
    assert code == 2
    assert message in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("\n\n", "has no rows"),
        ('{"prompt": ""}\n', "none of the 1 rows"),
        ('{"text": "x"}\n', "has no column to take a prompt from"),
    ],
)
def test_a_file_without_prompts_is_refused(server, make_run, tmp_path, capsys, content, message):
    make_run("dpo-1")
    path = tmp_path / "none.jsonl"
    path.write_text(content)

    code = main([*on(server, tmp_path), "--prompts", str(path)])

    assert code == 2
    assert message in capsys.readouterr().err
    assert server.bodies == []


def test_no_prompts_asked_for_is_refused(server, make_run, tmp_path, capsys):
    make_run("dpo-1")

    assert main([*on(server, tmp_path), "--num-prompts", "0"]) == 2
    assert "--num-prompts 0 must be at least 1" in capsys.readouterr().err


def test_help_loads_nothing_heavy():
    heavy = "torch", "polars", "numpy", "dataframely", "transformers"
    code = f"import sys; from eval.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n" \
           f"print([name for name in {heavy} if name in sys.modules])"  # fmt: skip

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "[]"
    assert "--baseline-seed" in done.stdout
