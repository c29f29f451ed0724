"""The folder of an evaluation has a name of its own and says in words what was found."""

import json

import pytest
from damaging import WAYS

from curate.files import Damaged
from curate.report.trained import check_evaluation
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
    assert {name: saved[name] for name in found.results} == json.loads(json.dumps(found.results))
    assert "| wins, losses, ties | 0, 0, 4 of 4 judged |" in table
    assert "no difference shown" in table
    assert str(cfg.data) not in json.dumps(saved)


def test_a_partial_judge_is_the_first_line_of_the_table(make_config, make_sides, make_run):
    make_run("policy", mix="v1")
    cfg = make_config()

    evaluate(cfg, make_sides())

    table = (cfg.data / "evals" / "policy-vs-base" / "results.md").read_text()
    assert table.startswith("careful: whether judge the-judge selected training pairs of 'policy' is unknown")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("file", ["results.json", "prompts.jsonl", "results.md"])
def test_a_damaged_evaluation_is_found_and_given_again_without_a_call(make_config, make_sides, file, way):
    configs = [make_config(name=name, seed=seed) for name, seed in (("mine", 0), ("other", 1))]
    for cfg, number in zip(configs, (1, 2), strict=True):
        evaluate(cfg, make_sides(run=lambda prompt, n=number: n * prompt, judge=lambda response: 1.0))
    folders = [cfg.data / "evals" / cfg.name for cfg in configs]
    whole = {path.name: path.read_bytes() for path in folders[0].iterdir()}
    assert check_evaluation(folders[0]) == "whole"

    way(*(folder / file for folder in folders))

    with pytest.raises(Damaged, match="give its evaluate command again"):
        check_evaluation(folders[0])
    evaluate(configs[0], make_sides(run=unreachable))
    assert {path.name: path.read_bytes() for path in folders[0].iterdir()} == whole


def unreachable(prompt):
    raise AssertionError("asked again")
