"""A real model with a random adapter against itself, judged by a shipped head: 4 prompts, 12 tokens."""

import json

import pytest
import torch

from curate.files import asset
from curate.models.embedded import embedded_folder
from curate.models.reward_head import HEAD_FILE
from eval.cli import main

JUDGE = "reward-mini-b"

pytestmark = pytest.mark.skipif(
    not (asset("models", JUDGE) / HEAD_FILE).exists(), reason=f"{JUDGE} is not shipped with this checkout"
)


@pytest.fixture
def make_adapter(make_run):
    """Writes a run whose adapter has LoRA weights of this size; PEFT itself starts at 0, which changes nothing."""

    def make(name: str, size: float) -> None:
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM

        base = AutoModelForCausalLM.from_pretrained(embedded_folder("smollm2"), dtype=torch.float32)
        torch.manual_seed(5)
        model = get_peft_model(base, LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"]))
        with torch.no_grad():
            for parameter_name, parameter in model.named_parameters():
                if "lora_B" in parameter_name:
                    parameter.normal_(std=size) if size else parameter.zero_()
        make_run(name, write_adapter=model.save_pretrained)

    return make


def evaluate(tmp_path, *flags: str) -> int:
    sizes = ["--num-prompts", "4", "--max-tokens", "12", "--data", str(tmp_path / "data"), "--json"]
    return main([*flags, "--judge", JUDGE, *sizes])


def test_a_run_is_evaluated_against_its_base_and_a_second_time_without_a_call(make_adapter, tmp_path, capsys, caplog):
    make_adapter("random", 0.2)

    first = evaluate(tmp_path, "random")
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    with caplog.at_level("INFO"):
        second = evaluate(tmp_path, "random")
    again = json.loads(capsys.readouterr().out.splitlines()[-1])

    assert (first, second) == (0, 0)
    assert printed == again
    assert (printed["n"], printed["wins"] + printed["losses"] + printed["ties"]) == (4, 4)
    assert printed["ci95"][0] <= printed["win_rate"] <= printed["ci95"][1]
    assert "eval random-vs-smollm2: 0 calls made" in caplog.text


@pytest.mark.parametrize("temperature", ["0", "0.7"])
def test_an_adapter_that_does_nothing_is_noticed(make_adapter, tmp_path, capsys, temperature):
    make_adapter("nothing", 0.0)

    code = evaluate(tmp_path, "nothing", "--temperature", temperature)

    assert code == 2
    assert "the adapter changes no response" in capsys.readouterr().err


def test_a_model_against_itself_shows_no_difference(tmp_path, capsys):
    code = evaluate(tmp_path, "smollm2", "--baseline", "smollm2", "--baseline-seed", "31")

    out = capsys.readouterr().out
    low, high = json.loads(out.splitlines()[-1])["ci95"]
    assert code == 0
    assert low <= 0.5 <= high
