"""`curate build --source gpt` against a real OpenAI-compatible server with a real model."""

import polars as pl
import pytest

from curate.config import BuildConfig
from curate.pipeline.build import build
from schemas.names import SCREEN_REASONS

pytestmark = pytest.mark.server


def gpt_build(vllm_server, data, **options):
    generator = f"{vllm_server}#smollm2"
    return build(BuildConfig(source="gpt", generator=generator, num_prompts=8, data=data, **options))


def test_broken_json_is_kept_with_its_raw_text_and_good_json_becomes_pairs(vllm_server, tmp_path):
    built = gpt_build(vllm_server, tmp_path, max_tokens=160, flaws="none")

    summary = built.summary()
    made = built.tables["write_pairs"]
    dropped = made.scan_dropped().collect()
    assert summary["rows_in"] == 8 == summary["kept"] + sum(summary["dropped"].values())
    assert made.rows + dropped.height == 8
    assert made.rows > 0
    assert set(dropped["reason"]) <= {"malformed_json", "truncated_json"}
    assert summary["scorer"] is None
    assert made.scan().collect()["score_chosen"].null_count() == made.rows


def test_what_a_small_model_writes_as_flawed_is_a_pair_or_has_a_reason(vllm_server, tmp_path):
    built = gpt_build(vllm_server, tmp_path, max_tokens=200)

    summary = built.summary()
    unpaired = set(built.tables["write_pairs"].scan_dropped().collect()["reason"])
    assert summary["rows_in"] == 8 == summary["kept"] + sum(summary["dropped"].values())
    assert unpaired <= {"malformed_json", "truncated_json", "flaw_not_found", "near_identical", "length_ratio", "empty"}
    assert set(summary["dropped"]) - unpaired <= set(SCREEN_REASONS)
    assert sum(flaw["asked"] for flaw in summary["flaws"]) == 8


def test_a_response_cut_short_is_truncated_json_and_never_a_pair(vllm_server, tmp_path):
    built = gpt_build(vllm_server, tmp_path, max_tokens=6)

    assert built.summary()["dropped"] == {"truncated_json": 8}
    raw = built.tables["write_pairs"].scan_dropped().select(pl.col("raw").str.len_chars()).collect()
    assert raw["raw"].min() > 0


def test_a_second_build_asks_the_server_nothing(vllm_server, tmp_path):
    first = gpt_build(vllm_server, tmp_path, max_tokens=24)
    second = gpt_build(vllm_server, tmp_path, max_tokens=24)

    assert first.calls >= 8
    assert (second.calls, second.reused_calls) == (0, first.calls)
    assert first.screened.identity == second.screened.identity


def test_the_pairs_are_scored_when_a_scorer_is_named(vllm_server, tmp_path):
    built = gpt_build(vllm_server, tmp_path, max_tokens=160, flaws="none", scorer="reward-mini-b")

    pairs = built.tables["score_pairs"].scan().collect()
    assert pairs.height > 0
    assert pairs["score_chosen"].null_count() == 0


def test_four_responses_a_prompt_come_from_the_server_too(vllm_server, tmp_path):
    generator = f"{vllm_server}#smollm2"
    cfg = BuildConfig(
        source="sft", generator=generator, scorer="reward-mini-b", num_prompts=4, max_tokens=24, data=tmp_path
    )

    assert build(cfg).summary()["candidates"] == 16


def test_a_prompt_over_the_context_of_the_server_is_dropped_by_name(vllm_server, tmp_path):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "%s"}\n{"prompt": "Say hello."}\n' % ("word " * 3000))
    generator = f"{vllm_server}#smollm2"
    cfg = BuildConfig(source="gpt", generator=generator, prompts=str(prompts), max_tokens=160, data=tmp_path)

    assert build(cfg).summary()["dropped"]["prompt_too_long"] == 1
