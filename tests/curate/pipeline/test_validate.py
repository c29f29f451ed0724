import math

import pytest

from curate.config import BuildConfig
from curate.pipeline.validate import refuse_scores, validate_build
from schemas.errors import UserError

NAN = math.nan
GPT = {"source": "gpt", "generator": "openai:m"}


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"num_pairs": 0}, "--num-pairs must be at least 1"),
        ({"num_pairs": 5, "num_prompts": 5}, "use --max-prompts, not --num-prompts"),
        ({"max_prompts": 5}, "--max-prompts belongs to --num-pairs"),
        ({"max_prompts": 0, "num_pairs": 5}, "--max-prompts must be at least 1"),
        ({"pairing": "best_sigma"}, "--pairing best_sigma needs --num-responses 16 or more, found 4"),
        ({"pairing": "best_sigma", "num_responses": 15}, "found 15"),
        ({**GPT, "pairing": "adjacent"}, "--pairing chooses among the responses that --source sft draws"),
        ({"flaws": "factual=1"}, "--flaws says how --source gpt"),
        ({**GPT, "flaws": "factul=1"}, "did you mean 'factual'"),
        ({"concurrency": 0}, "--concurrency must be at least 1"),
        ({"requests_per_minute": 0}, "--requests-per-minute must be at least 1"),
        ({"tokens_per_minute": -1}, "--tokens-per-minute must be at least 1"),
        ({"max_failed_share": 0.0}, "--max-failed-share 0 must be above 0"),
        ({"max_failed_share": 1.5}, "--max-failed-share 1.5"),
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
        ({**GPT, "min_score": 0.5}, "--min-score needs scores"),
        ({**GPT, "margin_quantiles": "0:1"}, "--margin-quantiles needs scores"),
        ({"min_margin": -0.1}, "--min-margin -0.1 must be 0 or more"),
        ({"min_margin": NAN}, "--min-margin nan must be 0 or more"),
        ({"min_margin": math.inf}, "--min-margin inf must be 0 or more"),
        ({"min_z_margin": -1.0}, "--min-z-margin -1 must be 0 or more"),
        ({"min_z_margin": NAN}, "--min-z-margin nan"),
        ({**GPT, "scorer": "nim:m", "min_z_margin": 1.0}, "--min-z-margin needs several scored responses a prompt"),
        ({"source": "pairs.jsonl", "min_z_margin": 1.0}, "'pairs.jsonl' has one pair a prompt: use --min-margin"),
        ({"min_score": NAN}, "--min-score nan is no score"),
        ({"margin_quantiles": "0.9:0.1"}, "must be 0 <= LOW < HIGH <= 1"),
        ({"margin_quantiles": "0.9"}, "is not LOW:HIGH, for example 0.1:0.9"),
        *(
            ({field: value}, f"--{field.replace('_', '-')} {value:g} is outside")
            for field in (
                "max_repetition",
                "max_echo",
                "max_other_language",
                "max_response_similarity",
                "max_jaccard",
                "max_cosine",
            )
            for value in (-0.1, 1.1, NAN)
        ),
        ({"max_jaccard": 0.49}, "--max-jaccard 0.49 is outside 0.5 to 1; texts less alike are not looked for"),
        ({"max_cosine": 0.0}, "--max-cosine 0 is outside 0.5 to 1"),
        *(({"max_topic_gap": value}, f"--max-topic-gap {value:g} is outside 0 to 2") for value in (-0.1, 2.1, NAN)),
        ({"min_tokens": -1}, "--min-tokens -1 must be 0 or more"),
        ({"keep_per_cluster": 0}, "--keep-per-cluster 0 must be at least 1"),
        ({"skip_rule": ("repetitoin",)}, "--skip-rule repetitoin: no such rule; did you mean 'repetition'?"),
        ({"skip_rule": ("zzz",)}, "rules: human_reject, failed_score, empty"),
        *(
            ({"skip_rule": ("tie", name)}, f"--skip-rule {name}: a build is nothing")
            for name in ("failed_score", "empty", "over_quota")
        ),
        ({"redact": True, "drop_personal_data": True}, "give one of them"),
        ({**GPT, "num_responses": 8}, "--num-responses is how many responses --source sft draws"),
        ({"source": "pairs.jsonl", "num_responses": 1}, "--num-responses is how many responses --source sft draws"),
        ({"source": "pairs.jsonl", "prompts": "p.jsonl"}, "--prompts is what --source sft and gpt write responses to"),
    ],
)
def test_what_no_build_can_mean_is_refused(fields, sentence):
    with pytest.raises(UserError) as refused:
        validate_build(BuildConfig(**{"source": "sft", **fields}))

    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"num_pairs": 1, "max_prompts": 1},
        {"pairing": "best_sigma", "num_responses": 16},
        {"pairing": "adjacent", "num_responses": 2},
        {**GPT, "flaws": "factual=1"},
        {"source": "pairs.jsonl", "num_pairs": 5},
        {"concurrency": 1, "requests_per_minute": 1, "tokens_per_minute": 1, "max_failed_share": 1.0},
        {"budget": 0.01, "max_hours": 0.1, "pilot": 0, "dry_run": True},
        {"rubric": "correct", "scorer": "judge:smollm2"},
        {**GPT, "rubric": "correct", "scorer": "judge-pairs:openai:m", "min_margin": 0.5},
        {**GPT, "min_margin": 0.5, "scorer": "reward-mini"},
        {"source": "pairs.jsonl", "min_margin": 0.5},
        {"source": "pairs.jsonl", "min_score": -0.5, "margin_quantiles": "0:1"},
        {"min_z_margin": 0.5, "min_margin": 0.0},
        {
            "max_repetition": 0.0,
            "max_echo": 1.0,
            "max_other_language": 0.0,
            "max_response_similarity": 1.0,
            "min_tokens": 0,
        },
        {"max_jaccard": 0.5, "max_cosine": 1.0, "max_topic_gap": 2.0, "keep_per_cluster": 1},
        {"max_jaccard": 1.0, "max_topic_gap": 0.0},
        {"skip_rule": ("tie", "off_topic", "lexical_duplicate")},
        {"redact": True},
        {"drop_personal_data": True},
        {"source": "pairs.jsonl", "rubric": "correct", "scorer": "judge:smollm2"},
    ],
)
def test_what_lies_on_the_edge_is_taken(fields):
    validate_build(BuildConfig(**{"source": "sft", **fields}))


def test_a_threshold_on_scores_is_refused_for_a_scorer_whose_scores_do_not_compare_across_prompts():
    asks = BuildConfig(source="sft", min_score=1.0)

    with pytest.raises(UserError, match="scores of reward-mini compare only between responses to one prompt"):
        refuse_scores(asks, "reward-mini", False)
    refuse_scores(asks, "judge:m", True)
    refuse_scores(asks, None, None)
    refuse_scores(BuildConfig(source="sft"), "reward-mini", False)
