import json

import pytest
from garden import write_rows
from hypothesis import given
from hypothesis import strategies as st

from curate.cli.main import main
from curate.store.workspace import NAME, check_name
from schemas.errors import UserError


@pytest.mark.parametrize("name", ["sft", "v1.2", "a", "COM10", "console", "null", "com", "x.con", "0", "a" * 64])
def test_a_name_that_every_system_can_hold_is_taken(name):
    check_name("--name", name)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        *((name, "must be letters, digits") for name in ("", " ", "sft ", " sft", "../x", "a/b", "a\\b", "/a/b", ".")),
        *(
            (name, "must be letters, digits")
            for name in ("..", ".x", "-x", "a" * 65, "naïve", "a\n", "C:", "a*", "a?b")
        ),
        *((name, "ends with a dot") for name in ("sft.", "v1..", "con.")),
        *((name, "is a device on Windows") for name in ("CON", "nul", "Prn", "AUX", "com1", "LPT9", "COM0")),
        *((name, "is a device on Windows") for name in ("con.txt", "NUL.json.gz", "com1.v2")),
    ],
)
def test_a_name_that_some_system_cannot_hold_is_refused(name, problem):
    with pytest.raises(UserError, match=problem):
        check_name("--name", name)


def test_a_name_in_other_letters_is_refused_and_the_same_is_not():
    check_name("--name", "sft", ["sft", "other"])

    with pytest.raises(UserError, match="--name 'SFT' is 'sft' in other letters"):
        check_name("--name", "SFT", ["other", "sft"])


@given(st.text(max_size=8))
def test_what_passes_is_one_part_of_a_path_without_surprises(name):
    try:
        check_name("--name", name)
    except UserError:
        return

    assert NAME.fullmatch(name) and not name.endswith((".", " ")) and name.isascii()


@pytest.fixture
def built(tmp_path, monkeypatch, capsys):
    """A data folder with the build 'ten'; returns a function that runs a command and gives code and last line."""
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "ten.jsonl")
    vectors = ("off_topic", "semantic_duplicate_prompt", "semantic_duplicate_pair")
    skip = [word for rule in vectors for word in ("--skip-rule", rule)]
    assert main(["build", "--source", "ten.jsonl", *skip]) == 0

    def run(*words: str) -> tuple[int, str]:
        code = main([*words])
        return code, (capsys.readouterr().err.splitlines() or [""])[-1]

    return run


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["build", "--source", "ten.jsonl", "--name", "TEN"], "--name 'TEN' is 'ten' in other letters"),
        (["build", "--source", "ten.jsonl", "--name", "SFT"], "--name 'SFT' is 'sft' in other letters"),
        (["build", "--source", "ten.jsonl", "--name", "ten."], "ends with a dot"),
        (["build", "--source", "ten.jsonl", "--name", "con.1"], "is a device on Windows"),
        (["build", "--source", "ten.jsonl", "--name", "ten "], "must be letters, digits"),
        (["mix", "Ten", "--add", "ten"], "mix name 'Ten' is 'ten' in other letters"),
        (["mix", "nul", "--add", "ten"], "mix name 'nul' is a device on Windows"),
        (["mix", "a/b", "--add", "ten"], "mix name 'a/b' must be letters"),
        (["mix", "/a/v1", "--add", "ten"], "mix name '/a/v1' must be letters"),
        (
            ["mix", "v1", "--add", "../data/builds/ten"],
            "no build '../data/builds/ten' in data/builds (a name is letters",
        ),
        (["mix", "v1", "--add", "../builds/ten"], "no path)"),
        (["mix", "v1", "--add", "a/ten:0.5"], "no build 'a/ten'"),
        (["mix", "v1", "--add", "TEN"], "no build 'TEN' in data/builds (found ten)"),
        (["screen", "../builds/ten"], "no build '../builds/ten' in data/builds (a name is letters"),
        (["screen", "./ten"], "no path)"),
        (["review", "export", "../builds/ten", "--out", "f.html"], "review name '../builds/ten' must be letters"),
        (["review", "status", "../reviews/ten"], "no review '../reviews/ten'"),
    ],
)
def test_a_name_that_cannot_be_is_refused_in_one_sentence_and_nothing_is_written(built, tmp_path, words, said):
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*") if "ledger" not in path.name}

    code, problem = built(*words)

    assert code == 2
    assert problem.startswith("error: ") and said in problem
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*") if "ledger" not in path.name}
    assert after == before


def test_a_mix_in_other_letters_is_refused_and_the_same_is_made_again(built):
    assert built("mix", "v1", "--add", "ten")[0] == 0

    assert built("mix", "V1", "--add", "ten")[0] == 2
    assert built("mix", "v1")[0] == 0


def test_a_file_of_the_name_of_a_device_needs_a_name_of_its_own(built, tmp_path):
    write_rows(tmp_path / "con.jsonl")

    code, said = built("build", "--source", "con.jsonl")

    assert code == 2 and "--name 'con' is a device on Windows" in said
    assert json.loads((tmp_path / "data" / "builds" / "ten.json").read_text())["name"] == "ten"
