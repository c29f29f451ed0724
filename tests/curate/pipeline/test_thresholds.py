"""Builds that are given again after a screening."""

import json

import pytest
from garden import PAIRS, write_rows

from curate.cli.main import main
from curate.config import BuildConfig, Thresholds
from curate.pipeline.build import build, config_json
from curate.pipeline.thresholds import NAMES, describe_threshold, keep_thresholds
from schemas.errors import UserError

NO_VECTORS = ("off_topic", "semantic_duplicate_prompt", "semantic_duplicate_pair")
SKIP = [word for rule in NO_VECTORS for word in ("--skip-rule", rule)]


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs `curate ...` where the build 'garden' of ten pairs with margins 1 to 10 is; gives code, result and notes."""
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "garden.jsonl", PAIRS)

    def command(*words: str) -> tuple[int, dict, str]:
        code = main([*words, "--json"])
        printed = capsys.readouterr()
        return code, json.loads(printed.out), printed.err

    command("build", "--source", "garden.jsonl", *SKIP)
    return command


def again(run, *words: str):
    return run("build", "--source", "garden.jsonl", *words)


def test_a_build_that_was_never_screened_again_takes_what_is_given(run, caplog):
    assert again(run, *SKIP, "--min-margin", "3")[1]["kept"] == 8
    assert again(run, *SKIP)[1]["kept"] == 10
    assert "keeps what it was last screened with" not in caplog.text


def test_a_build_given_again_keeps_the_thresholds_of_the_screening_and_says_so(run, caplog):
    run("screen", "garden", "--min-margin", "5")

    code, found, _ = again(run)

    assert (code, found["kept"]) == (0, 6)
    assert "build 'garden' keeps what it was last screened with: --min-margin 5.0, --skip-rule off_topic" in caplog.text
    assert caplog.text.count("keeps what it was last screened with") == 1
    # And so does the one after that, and the screening that follows.
    assert again(run)[1]["kept"] == 6
    assert run("screen", "garden")[1]["thresholds"]["min_margin"] == 5.0


@pytest.mark.parametrize(
    ("words", "there", "here"),
    [
        (["--min-margin", "2"], "--min-margin 5.0", "--min-margin 2.0"),
        (["--min-margin", "0"], "--min-margin 5.0", "--min-margin 0.0"),
        (["--redact"], "no --redact", "--redact"),
        (["--skip-rule", "tie"], "--skip-rule off_topic --skip-rule semantic_duplicate_prompt", "--skip-rule tie"),
        (
            ["--min-tokens", "4", "--min-score", "1"],
            "no --min-score, --min-tokens 3",
            "--min-score 1.0, --min-tokens 4",
        ),
    ],
)
def test_a_threshold_that_differs_is_refused_with_the_difference(run, words, there, here):
    run("screen", "garden", "--min-margin", "5")

    code, found, _ = again(run, *words)

    assert code == 2
    assert f"build 'garden' was last screened with {there}" in found["error"]
    assert f"and this command gives {here}; screen it again (curate screen garden)" in found["error"]
    assert again(run)[1]["kept"] == 6


def test_the_same_threshold_in_other_words_is_taken(run, tmp_path):
    write_rows(
        tmp_path / "eval.jsonl", [{"prompt": "Who wrote the first of all novels about a whale, and when was it?"}]
    )
    run("screen", "garden", "--min-margin", "5", "--decontaminate", "eval.jsonl")
    backwards = [word for rule in reversed(NO_VECTORS) for word in ("--skip-rule", rule)]

    code, found, _ = again(run, "--min-margin", "5.0", "--decontaminate", str(tmp_path / "eval.jsonl"), *backwards)

    assert (code, found["kept"]) == (0, 6)


def test_a_threshold_of_a_file_counts_as_given(run, tmp_path):
    run("screen", "garden", "--min-margin", "5")
    (tmp_path / "build.toml").write_text('source = "garden.jsonl"\nmin-margin = 0\n')

    assert run("build", "-c", "build.toml")[0] == 2


def test_another_name_and_another_source_begin_anew(run, tmp_path):
    run("screen", "garden", "--min-margin", "5")
    write_rows(tmp_path / "other.jsonl", PAIRS[:4])

    assert again(run, "--name", "second", *SKIP)[1]["kept"] == 10
    assert run("build", "--source", "other.jsonl", "--name", "garden", *SKIP)[1]["kept"] == 4


def test_a_screening_after_the_build_given_again_sets_new_ones(run):
    run("screen", "garden", "--min-margin", "5")
    again(run)
    run("screen", "garden", "--min-margin", "2")

    assert again(run)[1]["kept"] == 9
    assert run("screen", "garden", "--defaults", *SKIP)[1]["kept"] == 10
    assert again(run)[1]["kept"] == 10


def test_a_notebook_keeps_them_as_well(run, tmp_path):
    run("screen", "garden", "--min-margin", "5")

    kept = build(BuildConfig(source="garden.jsonl", data=tmp_path / "data"))

    assert kept.counts.kept == 6
    with pytest.raises(
        UserError, match=r"last screened with --min-margin 5.0, and this command gives --min-margin 1.0"
    ):
        build(BuildConfig(source="garden.jsonl", data=tmp_path / "data", min_margin=1.0))


@pytest.mark.parametrize("name", NAMES)
def test_every_threshold_can_be_named_at_its_default(name):
    said = describe_threshold(name, getattr(Thresholds, name))

    assert said.removeprefix("no ").startswith(f"--{name.replace('_', '-')}")
    assert keep_thresholds("b", config_json(BuildConfig(source="x")), config_json(BuildConfig(source="x"))) == {}
