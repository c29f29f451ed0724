"""What a build says of its largest loss, and how it exits."""

import json

import pytest
from garden import PAIRS, write_rows
from scripted import completion

NO_VECTORS = [word for rule in ("off_topic", "semantic_duplicate_prompt", "semantic_duplicate_pair")
              for word in ("--skip-rule", rule)]  # fmt: skip
BAD = [{"prompt": "Which?", "chosen": None, "rejected": f"Number {i}."} for i in range(20)]


def read_json(out: str) -> dict:
    return json.loads(out)


def test_where_no_prompt_gives_a_pair_the_reason_before_screening_is_named_with_its_cure(run, endpoint, tmp_path):
    server = endpoint(lambda body: (200, completion("I would rather not.")))
    write_rows(tmp_path / "p.jsonl", [{"prompt": "Why?"}, {"prompt": "How?"}])

    words = ["build", "--source", "gpt", "--generator", f"{server.url}#m", "--prompts", "p.jsonl", *NO_VECTORS]
    code, out, _ = run(*words)
    code_of_json, found, _ = run(*words, "--json")

    said = "no pair was kept; malformed_json dropped 2 of 2: give a --generator that keeps to a JSON schema"
    assert (code, code_of_json) == (1, 1)
    assert any(line.startswith(said) for line in out.splitlines())
    assert read_json(found)["hint"].startswith(said)


@pytest.mark.parametrize(
    ("bad", "hint"),
    [(11, "most rows were lost to one cause; bad_response dropped 11 of 21: "), (10, None), (0, None)],
)
def test_a_cause_that_cost_more_than_half_is_named_beside_the_kept_pairs(run, tmp_path, bad, hint):
    write_rows(tmp_path / "some.jsonl", [*PAIRS, *BAD[:bad]])

    code, out, _ = run("build", "--source", "some.jsonl", *NO_VECTORS, "--json")

    assert code == 0
    found = read_json(out)["hint"]
    assert found is None if hint is None else found.startswith(hint)


def test_pairs_that_are_over_the_number_wanted_are_not_lost(run, tmp_path):
    write_rows(tmp_path / "ten.jsonl", PAIRS)

    code, out, _ = run("build", "--source", "ten.jsonl", *NO_VECTORS, "--num-pairs", "1", "--json")

    found = read_json(out)
    assert (code, found["kept"], found["hint"]) == (0, 1, None)


def test_screening_again_brings_the_hint_of_a_build_up_to_date(run, tmp_path):
    write_rows(tmp_path / "ten.jsonl", PAIRS)
    run("build", "--source", "ten.jsonl", *NO_VECTORS)

    run("screen", "ten", "--min-margin", "8")
    _, shown, _ = run("show", "ten", "--json")

    assert read_json(shown)["hint"].startswith("most rows were lost to one cause; low_margin dropped 7 of 10: ")
