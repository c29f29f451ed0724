import pytest

from curate.config import BuildConfig
from curate.pipeline.validate import refuse_scores, validate_build
from schemas.errors import UserError

GPT = {"source": "gpt", "generator": "openai:m"}


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"num_pairs": 5, "num_prompts": 5}, "use --max-prompts, not --num-prompts"),
        ({"max_prompts": 5}, "--max-prompts belongs to --num-pairs"),
        ({"pairing": "best_sigma"}, "--pairing best_sigma needs --num-responses 16 or more, found 4"),
        ({"pairing": "best_sigma", "num_responses": 15}, "found 15"),
        ({**GPT, "pairing": "adjacent"}, "--pairing chooses among several responses to a prompt; 'gpt' has none"),
        ({"flaws": "factual=1"}, "--flaws says how --source gpt"),
        ({**GPT, "flaws": "factul=1"}, "did you mean 'factual'"),
        ({"pilot": 5}, "--pilot belongs to --dry-run"),
        ({"rubric": "correct"}, "--rubric is what a judge goes by, and --scorer names none"),
        ({**GPT, "rubric": "correct"}, "--rubric is what a judge goes by"),
        ({"source": "pairs.jsonl", "rubric": "r.md", "scorer": "nim:m"}, "--rubric is what a judge goes by"),
        ({**GPT, "min_margin": 0.5}, "--min-margin needs scores, and without --scorer written pairs have none"),
        ({**GPT, "min_score": 0.5}, "--min-score needs scores"),
        ({**GPT, "margin_quantiles": "0:1"}, "--margin-quantiles needs scores"),
        ({**GPT, "scorer": "nim:m", "min_z_margin": 1.0}, "--min-z-margin needs several scored responses a prompt"),
        ({"margin_quantiles": "0.9:0.1"}, "must be 0 <= LOW < HIGH <= 1"),
        ({"margin_quantiles": "0.9"}, "is not LOW:HIGH, for example 0.1:0.9"),
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
        {"pilot": 0, "dry_run": True},
        {"rubric": "correct", "scorer": "judge:smollm2"},
        {**GPT, "rubric": "correct", "scorer": "judge-pairs:openai:m", "min_margin": 0.5},
        {**GPT, "min_margin": 0.5, "scorer": "reward-mini"},
        {"source": "pairs.jsonl", "min_margin": 0.5},
        {"source": "pairs.jsonl", "min_score": -0.5, "margin_quantiles": "0:1"},
        {"min_z_margin": 0.5, "min_margin": 0.0},
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
