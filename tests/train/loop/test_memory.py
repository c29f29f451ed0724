"""As much is in work at a time as fits into memory, and what does not fit is cut or refused in one sentence."""

import json

import pytest
import torch
from tiny_models import random_rows, tiny, with_lora

import train.loop.memory as planned
from schemas.errors import UserError
from train.config import DPOConfig
from train.dpo import train_dpo
from train.loop.memory import MOST_TOKENS, SHARE, SPARE, MemoryPlan, bytes_per_token, device_memory, plan_memory
from train.model.language_model import prepare_model
from train.run.run_folder import open_run, plan_run

GIB = 2**30
ROWS = random_rows((10, 20, 30), (3, 4, 5), (50, 60, 70), (1, 1, 1), (20, 20, 20))


@pytest.fixture
def language():
    return prepare_model(with_lora(tiny("smollm2"), dropout=0.1), "smollm2", 2)


@pytest.fixture
def free(monkeypatch):
    """Say how much memory is held and free."""

    def say(free, held=10**9):
        monkeypatch.setattr(planned, "device_memory", lambda device: (held, free))

    return say


def told(micro_batch_tokens=None, batch_size=4):
    return DPOConfig(micro_batch_tokens=micro_batch_tokens, batch_size=batch_size)


@pytest.mark.parametrize("asked", [2, 179])
def test_a_row_that_is_longer_than_what_was_asked_for_is_named(language, asked):
    with pytest.raises(UserError) as refused:
        plan_memory(language, ROWS, told(asked))

    expected = f"row row-2 has 180 tokens, more than --micro-batch-tokens {asked}; raise that, or lower --max-length"
    assert str(refused.value) == expected


def test_as_many_tokens_as_were_asked_for_are_taken_whatever_is_free(language, free):
    free(0)

    assert plan_memory(language, ROWS, told(180)).micro_batch_tokens == 180


@pytest.mark.parametrize(
    ("batch_size", "expected"),
    # the longest rows have 180, 60, 60, 12 and 3 tokens
    [(1, 180), (2, 240), (4, 312), (5, 315), (100, 315)],
)
def test_where_memory_is_no_matter_the_longest_rows_of_a_step_are_in_work_at_once(language, free, batch_size, expected):
    free(100 * GIB)

    assert plan_memory(language, ROWS, told(batch_size=batch_size)).micro_batch_tokens == expected


def test_no_more_is_in_work_than_is_quick(language, free):
    free(100 * GIB)

    assert (
        plan_memory(language, random_rows(*[(500, 400, 300)] * 8), told(batch_size=8)).micro_batch_tokens
        == MOST_TOKENS["cpu"]
    )


@pytest.mark.parametrize("tokens", [0, 179, 200, 300])
def test_what_fits_into_memory_is_in_work_and_at_least_the_longest_row(language, free, tokens):
    each = bytes_per_token(language) * SPARE["cpu"]
    free(int(tokens * each / SHARE) + 1)

    found = plan_memory(language, ROWS, told())

    assert found.micro_batch_tokens == max(180, tokens)
    assert found.predicted_peak_mb == round((10**9 + each * found.micro_batch_tokens) / 1e6)


def test_a_peak_is_predicted_of_what_a_step_has_and_not_of_what_it_may_have(language, free):
    free(100 * GIB)

    assert (
        plan_memory(language, ROWS, told(100_000)).predicted_peak_mb
        == plan_memory(language, ROWS, told()).predicted_peak_mb
    )


@pytest.mark.parametrize("kind", ["smollm2", "qwen3", "gemma2"])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_a_token_costs_the_same_in_a_long_row_as_in_a_short_one(kind, dropout, monkeypatch):
    language = prepare_model(with_lora(tiny(kind), dropout), kind, 2)
    found = bytes_per_token(language)
    monkeypatch.setattr(planned, "PROBE_TOKENS", 2 * planned.PROBE_TOKENS)

    # attention that keeps its scores, as Gemma's does, grows with the row
    most = 2.1 if kind == "gemma2" else 1.2
    assert found > 0
    assert found / 1.2 < bytes_per_token(language) < most * found


def test_dropout_and_a_larger_model_cost_more_and_checkpointing_less(language):
    plain, large, cheap = (
        prepare_model(with_lora(tiny("smollm2", **special)), "smollm2", 2)
        for special in ({}, {"num_hidden_layers": 4}, {})
    )
    cheap.model.get_base_model().activation_checkpointing_enable({"use_reentrant": False})

    found = bytes_per_token(plain)
    assert bytes_per_token(language) > found
    assert 1.5 * found < bytes_per_token(large) < 2.2 * found
    assert bytes_per_token(cheap) < 0.7 * found


@pytest.mark.parametrize("is_training", [True, False])
def test_the_measuring_leaves_the_model_as_it_was(language, is_training):
    language.model.train(is_training)

    bytes_per_token(language)

    assert language.model.training == is_training
    assert all(value.grad is None for value in language.model.parameters())


def test_memory_is_that_of_this_process_and_this_machine():
    held, free = device_memory(torch.device("cpu"))

    assert 50e6 < held < 100e9
    assert 0 <= free < 100e12


def test_a_run_goes_on_with_the_plan_it_was_begun_with(tmp_path):
    with open_run(tmp_path, "r", {"kind": "dpo"}) as run:
        first = plan_run(run, None, lambda: MemoryPlan(500, 100))
    with open_run(tmp_path, "r", {"kind": "dpo"}) as run:
        again = plan_run(run, None, lambda: MemoryPlan(900, 200))
        asked = plan_run(run, 700, lambda: MemoryPlan(700, 150))
        after = plan_run(run, None, lambda: MemoryPlan(900, 200))

    assert (first, again) == (MemoryPlan(500, 100), MemoryPlan(500, 100))
    assert (asked, after) == (MemoryPlan(700, 150), MemoryPlan(700, 150))


def test_a_run_that_is_asked_for_otherwise_before_it_began_has_a_new_plan(tmp_path):
    with open_run(tmp_path, "r", {"max_length": 64}) as run:
        plan_run(run, None, lambda: MemoryPlan(500, 100))
    with open_run(tmp_path, "r", {"max_length": 512}) as run:
        found = plan_run(run, None, lambda: MemoryPlan(900, 200))

    assert found == MemoryPlan(900, 200)


def test_the_plan_of_a_run_is_in_its_manifest_and_no_part_of_what_was_asked(make_mix, few_pairs, tiny_llama, capsys):
    data = make_mix(few_pairs, heldout=2)
    cfg = DPOConfig(base=str(tiny_llama), epochs=1, data=data)

    first = train_dpo(DPOConfig(**vars(cfg) | {"micro_batch_tokens": 100}))
    again = train_dpo(cfg)

    run = data / "runs" / "dpo-v1"
    manifest = json.loads((run / "manifest.json").read_text())
    assert first == again
    assert manifest["micro_batch_tokens"] == 100
    assert manifest["predicted_peak_mb"] > 0
    assert "micro_batch_tokens" not in manifest["config"]
    assert not (run / "plan.json").exists()


def test_a_row_of_a_mix_that_is_longer_than_was_asked_for_is_refused(make_mix, few_pairs, tiny_llama):
    data = make_mix(few_pairs)

    with pytest.raises(UserError, match="tokens, more than --micro-batch-tokens 20; raise that"):
        train_dpo(DPOConfig(base=str(tiny_llama), micro_batch_tokens=20, data=data))
