"""What a user of `curate review` meets at the shell, without a server."""

import json
import re

import pytest
from garden import write_rows

from curate.cli.main import main

NO_VECTORS = [f"--skip-rule={rule}" for rule in ("off_topic", "semantic_duplicate_prompt", "semantic_duplicate_pair")]


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs `curate ...` in a folder with the build 'garden'; gives the exit code and what was printed."""
    monkeypatch.chdir(tmp_path)
    for name in ("PAIRWRIGHT_DATA", "ARGILLA_API_URL", "ARGILLA_API_KEY"):
        monkeypatch.delenv(name, raising=False)

    def command(*words: str) -> tuple[int, str, str]:
        code = main([*words])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    assert command("build", "--source", write_rows(tmp_path / "garden.jsonl"), *NO_VECTORS)[0] == 0
    return command


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["review"], "the following arguments are required: COMMAND; see curate review --help"),
        (["review", "psh"], r"invalid choice: 'psh'"),
        (["review", "push"], "NAME must be given"),
        (["review", "push", "garden"], "no Argilla server runs on data; start one with: curate review serve"),
        (["review", "pull", "garden"], "no Argilla server runs on data; start one with: curate review serve"),
        (
            ["review", "status", "garden"],
            "no review 'garden' in data/reviews; begin one with: curate review push garden",
        ),
        (["review", "export", "gardn", "--out", "f.html"], r"no build or mix 'gardn' in data .did you mean 'garden'"),
        (["review", "export", "garden"], "--out must be given"),
        (["review", "export", "garden", "--out", "f.txt"], r"f\.txt.*\.html.*\.jsonl"),
        (["review", "export", "garden", "--out", "f.html", "--random-share", "1.5"], r"--random-share 1\.5"),
        (["review", "import", "nowhere.jsonl"], r"nowhere\.jsonl"),
        (["mix", "v1", "--add", "garden", "--min-verdicts", "-1"], "--min-verdicts -1 must be at least 0"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(run, words, problem):
    code, out, err = run(*words)

    last = err.splitlines()[-1]
    assert code == 2
    assert out == ""
    assert last.startswith("error: ")
    assert re.search(problem, last), last


def test_a_file_is_judged_and_read_back_and_the_build_is_screened_by_it(run, tmp_path):
    code, out, _ = run("review", "export", "garden", "--out", "garden-review.jsonl", "--json")
    assert (code, json.loads(out)["records"]) == (0, 10)
    rows = [json.loads(line) for line in (tmp_path / "garden-review.jsonl").read_text().splitlines()]
    for row in rows[:4]:
        row["better"] = "both_bad"
    filled = tmp_path / "anna.jsonl"
    filled.write_text("".join(json.dumps(row) + "\n" for row in rows))

    code, out, _ = run("review", "import", "anna.jsonl")
    again, as_json, _ = run("review", "import", "anna.jsonl", "--json")

    assert (code, again) == (0, 0)
    summary = json.loads(as_json)
    assert (summary["name"], summary["submitted"], summary["not_judged"]) == ("garden", 4, 6)
    assert summary["verdicts"] == {"accept": 0, "swap": 0, "tie": 0, "reject": 4}
    assert "build 'garden': 4 pairs dropped by human_reject, 0 swapped; 6 of 10 kept" in out.splitlines()
    code, out, _ = run("review", "status", "garden", "--json")
    assert (code, json.loads(out)["agreement"]["records"]) == (0, 4)
    code, out, _ = run("mix", "v1", "--add", "garden", "--json")
    assert (code, json.loads(out)["rows"]) == (0, 6)
