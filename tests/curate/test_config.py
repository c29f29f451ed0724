"""Ranges and types of single fields: refused when the config is made, in one sentence."""

import math
from typing import Any

import pytest

from curate.config import BuildConfig, DoctorConfig, FieldError, MixConfig, ScreenConfig
from curate.review.config import ExportConfig, ServeConfig

NAN = math.nan


def make(**fields: Any) -> BuildConfig:
    return BuildConfig(**{"source": "sft", **fields})


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"num_pairs": 0}, "--num-pairs 0 must be at least 1"),
        ({"max_prompts": 0}, "--max-prompts 0 must be at least 1"),
        ({"num_responses": 0}, "--num-responses 0 must be at least 1"),
        ({"concurrency": 0}, "--concurrency 0 must be at least 1"),
        ({"requests_per_minute": 0}, "--requests-per-minute 0 must be at least 1"),
        ({"tokens_per_minute": -1}, "--tokens-per-minute -1 must be at least 1"),
        ({"keep_per_cluster": 0}, "--keep-per-cluster 0 must be at least 1"),
        ({"min_tokens": -1}, "--min-tokens -1 must be at least 0"),
        ({"top_p": 0.0}, "--top-p 0 must be above 0 and at most 1"),
        ({"top_p": 2.0}, "--top-p 2 must be above 0 and at most 1"),
        ({"temperature": 2.1}, "--temperature 2.1 is outside 0 to 2"),
        ({"max_failed_share": 0.0}, "--max-failed-share 0 must be above 0 and at most 1"),
        ({"max_failed_share": 1.5}, "--max-failed-share 1.5 must be above 0 and at most 1"),
        ({"budget": 0.0}, "--budget 0 must be above 0"),
        ({"budget": NAN}, "--budget nan must be above 0"),
        ({"max_hours": -1.0}, "--max-hours -1 must be above 0"),
        ({"pilot": 21}, "--pilot 21 is outside 0 to 20"),
        ({"pilot": -1}, "--pilot -1 is outside 0 to 20"),
        *(({"min_margin": value}, f"--min-margin {value:g} must be at least 0") for value in (-0.1, NAN, math.inf)),
        *(({"min_z_margin": value}, f"--min-z-margin {value:g} must be at least 0") for value in (-1.0, NAN)),
        ({"min_score": NAN}, "--min-score nan must be a finite number"),
        *(
            ({field: value}, f"--{field.replace('_', '-')} {value:g} is outside 0 to 1")
            for field in ("max_repetition", "max_echo", "max_other_language", "max_response_similarity")
            for value in (-0.1, 1.1, NAN)
        ),
        *(
            ({field: value}, f"--{field.replace('_', '-')} {value:g} is outside 0.5 to 1")
            for field in ("max_jaccard", "max_cosine")
            for value in (0.49, 1.1, NAN)
        ),
        *(({"max_topic_gap": value}, f"--max-topic-gap {value:g} is outside 0 to 2") for value in (-0.1, 2.1, NAN)),
        ({"num_responses": "x"}, "--num-responses x must be int"),
        ({"num_responses": True}, "--num-responses True must be int"),
        ({"num_responses": 4.0}, "--num-responses 4 must be int"),
        ({"seed": 1.5}, "--seed 1.5 must be int"),
        ({"max_echo": "much"}, "--max-echo much must be float"),
        ({"budget": "much"}, "--budget much must be float"),
        ({"pairing": "best"}, "--pairing best must be one of auto, best_worst, best_sigma, best_random, adjacent"),
    ],
)
def test_a_field_outside_its_range_or_of_another_type_is_one_sentence(fields, sentence):
    with pytest.raises(FieldError) as refused:
        make(**fields)

    assert str(refused.value) == sentence


@pytest.mark.parametrize(
    "fields",
    [
        {"num_pairs": 1, "max_prompts": 1, "concurrency": 1, "requests_per_minute": 1, "tokens_per_minute": 1},
        {"max_failed_share": 1.0, "budget": 0.01, "max_hours": 0.1, "pilot": 0},
        {"temperature": 0.0, "top_p": 1.0, "pilot": 20},
        {"max_repetition": 0.0, "max_echo": 1.0, "max_other_language": 0.0, "max_response_similarity": 1.0},
        {"min_tokens": 0, "min_margin": 0.0, "min_z_margin": 0.0, "min_score": -1e9},
        {"max_jaccard": 0.5, "max_cosine": 1.0, "max_topic_gap": 2.0, "keep_per_cluster": 1},
        {"max_jaccard": 1.0, "max_cosine": 0.5, "max_topic_gap": 0.0},
    ],
)
def test_what_lies_on_the_end_of_a_range_is_taken(fields):
    made = make(**fields)

    assert {name: getattr(made, name) for name in fields} == fields


def test_every_command_refuses_by_the_same_rule(tmp_path):
    with pytest.raises(FieldError, match=r"^--min-margin nan must be at least 0$"):
        ScreenConfig(name="sft", min_margin=NAN)
    with pytest.raises(FieldError, match=r"^--heldout-share 1 must be at least 0 and under 1$"):
        MixConfig(name="v1", heldout_share=1.0)
    with pytest.raises(FieldError, match=r"^--num-pairs 0 must be at least 1$"):
        DoctorConfig(num_pairs=0)
    with pytest.raises(FieldError, match=r"^--overlap 1.5 is outside 0 to 1$"):
        ExportConfig(name="sft", out=tmp_path / "a.html", overlap=1.5)
    with pytest.raises(FieldError, match=r"^--port 70000 is outside 0 to 65535$"):
        ServeConfig(port=70_000)


def test_a_name_that_is_no_field_and_a_field_left_out_are_mistakes_of_the_program():
    with pytest.raises(TypeError, match="tempature"):
        make(tempature=0.5)
    with pytest.raises(TypeError, match="source"):
        BuildConfig()


@pytest.mark.parametrize(
    ("source", "given", "most"), [("sft", None, 256), ("gpt", None, 2048), ("gpt", 64, 64), ("sft", 64, 64)]
)
def test_an_answer_of_two_responses_and_a_flaw_has_a_limit_of_its_own(source, given, most):
    assert BuildConfig(source=source, max_tokens=given).most_tokens == most
