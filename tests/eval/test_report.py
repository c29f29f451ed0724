"""The folder of an evaluation has a name of its own and says in words what was found."""

import json

import pytest

from curate.store.workspace import NAME
from eval.evaluate import evaluate
from eval.report import default_name, describe_verdict


@pytest.mark.parametrize(
    ("run", "baseline", "name"),
    [
        ("dpo-1", "smollm2", "dpo-1-vs-smollm2"),
        ("dpo-1", "hf:Qwen/Qwen2.5-0.5B", "dpo-1-vs-hf-Qwen-Qwen2.5-0.5B"),
        ("http://h:1/v1#m", "../..", "http-h-1-v1-m-vs"),
    ],
)
def test_the_default_name_is_that_of_a_folder(run, baseline, name):
    made = default_name(run, baseline)

    assert made == name
    assert NAME.fullmatch(made)


def test_long_names_stay_short_and_apart():
    first, second = (default_name("dpo-1", f"hf:/{'deep/' * 30}{end}") for end in "ab")

    assert first != second
    assert NAME.fullmatch(first)


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        ((0.4, 0.6), "no difference shown"),
        ((0.5, 0.6), "no difference shown"),
        ((0.4, 0.5), "no difference shown"),
        ((0.51, 0.6), "the run wins more often"),
        ((0.2, 0.49), "the baseline wins more often"),
    ],
)
def test_the_verdict_follows_the_interval(interval, words):
    assert describe_verdict({"ci95": interval}).startswith(words)


def test_results_and_table_agree(make_config, make_sides):
    cfg = make_config(name="mine")

    found = evaluate(cfg, make_sides(judge=lambda response: 1.0))

    folder = cfg.data / "evals" / "mine"
    saved = json.loads((folder / "results.json").read_text())
    table = (folder / "results.md").read_text()
    assert found.path == folder / "results.json"
    assert saved == json.loads(json.dumps(found.results))
    assert "| wins, losses, ties | 0, 0, 4 of 4 judged |" in table
    assert "no difference shown" in table
    assert str(cfg.data) not in json.dumps(saved)


def test_a_partial_judge_is_the_first_line_of_the_table(make_config, make_sides, make_run):
    make_run("policy", mix="v1")
    cfg = make_config()

    evaluate(cfg, make_sides())

    table = (cfg.data / "evals" / "policy-vs-base" / "results.md").read_text()
    assert table.startswith("careful: whether judge the-judge selected training pairs of 'policy' is unknown")
