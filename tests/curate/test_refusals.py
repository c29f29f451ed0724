import pytest

from curate.config import BuildConfig
from curate.refusals import check
from schemas.errors import UserError

GPT = {"source": "gpt", "generator": "openai:m"}


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"num_pairs": 0}, "--num-pairs must be at least 1"),
        ({"num_pairs": 5, "num_prompts": 5}, "use --max-prompts, not --num-prompts"),
        ({"max_prompts": 5}, "--max-prompts belongs to --num-pairs"),
        ({"max_prompts": 0, "num_pairs": 5}, "--max-prompts must be at least 1"),
        ({"pairing": "best_sigma"}, "--pairing best_sigma needs --n 16 or more, found 4"),
        ({"pairing": "best_sigma", "n": 15}, "found 15"),
        ({**GPT, "pairing": "adjacent"}, "--pairing chooses among the responses that --source sft draws"),
        ({"flaws": "factual=1"}, "--flaws says how --source gpt"),
        ({**GPT, "flaws": "factul=1"}, "did you mean 'factual'"),
        ({"concurrency": 0}, "--concurrency must be at least 1"),
        ({"requests_per_minute": 0}, "--requests-per-minute must be at least 1"),
        ({"tokens_per_minute": -1}, "--tokens-per-minute must be at least 1"),
        ({"max_failed": 0.0}, "--max-failed 0 must be above 0"),
        ({"max_failed": 1.5}, "--max-failed 1.5"),
        ({"budget": 0.0}, "--budget 0 must be above 0"),
        ({"budget": float("nan")}, "--budget nan"),
        ({"max_hours": -1.0}, "--max-hours -1"),
        ({"pilot": 21, "dry_run": True}, "--pilot 21 is outside 0 to 20"),
        ({"pilot": -1, "dry_run": True}, "--pilot -1 is outside 0 to 20"),
        ({"pilot": 5}, "--pilot belongs to --dry-run"),
        ({"rubric": "correct"}, "--rubric is what a judge goes by, and --scorer names none"),
        ({**GPT, "rubric": "correct"}, "--rubric is what a judge goes by"),
        ({"source": "pairs.jsonl", "rubric": "r.md", "scorer": "nim:m"}, "--rubric is what a judge goes by"),
        ({**GPT, "min_margin": 0.5}, "--min-margin needs scores, and without --scorer written pairs have none"),
        ({**GPT, "n": 8}, "--n is how many responses --source sft draws"),
        ({"source": "pairs.jsonl", "n": 1}, "--n is how many responses --source sft draws"),
        ({"source": "pairs.jsonl", "prompts": "p.jsonl"}, "--prompts is what --source sft and gpt write responses to"),
    ],
)
def test_what_no_build_can_mean_is_refused(fields, sentence):
    with pytest.raises(UserError) as refused:
        check(BuildConfig(**{"source": "sft", **fields}))

    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"num_pairs": 1, "max_prompts": 1},
        {"pairing": "best_sigma", "n": 16},
        {"pairing": "adjacent", "n": 2},
        {**GPT, "flaws": "factual=1"},
        {"source": "pairs.jsonl", "num_pairs": 5},
        {"concurrency": 1, "requests_per_minute": 1, "tokens_per_minute": 1, "max_failed": 1.0},
        {"budget": 0.01, "max_hours": 0.1, "pilot": 0, "dry_run": True},
        {"rubric": "correct", "scorer": "judge:smollm2"},
        {**GPT, "rubric": "correct", "scorer": "judge-pairs:openai:m", "min_margin": 0.5},
        {**GPT, "min_margin": 0.5, "scorer": "reward-mini"},
        {"source": "pairs.jsonl", "min_margin": 0.5},
        {"source": "pairs.jsonl", "rubric": "correct", "scorer": "judge:smollm2"},
    ],
)
def test_what_lies_on_the_edge_is_taken(fields):
    check(BuildConfig(**{"source": "sft", **fields}))
