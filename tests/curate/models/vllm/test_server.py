"""The real code against a small HTTP server that stands in for vLLM, with a process of its own behind it."""

import json
import logging
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import save_file
from scripted import user

from curate.models.chat_api import ChatAPI
from curate.models.classify_api import ClassifyAPI
from curate.models.limits import EndpointConfig
from curate.models.vllm.server import (
    KEY_NAME,
    VLLMServer,
    find_weights,
    start_managed,
    stop_servers,
)
from curate.store.folders import write_folder
from schemas.calls import Request
from schemas.errors import UserError

STAND_IN = """
import http.server, json, os, signal, subprocess, sys, time

flags = dict(zip(sys.argv[1:], [*sys.argv[2:], ""]))
adapters = [json.loads(flags["--lora-modules"])["name"]] if "--lora-modules" in flags else []
names = [flags["--served-model-name"], *adapters]
mood = os.environ.get("MOOD", "")
deafness = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)" if mood == "deaf" else ""
engine = subprocess.Popen([sys.executable, "-c", deafness + "\\nimport time; time.sleep(600)"])
signal.signal(signal.SIGTERM, lambda *_: (mood == "deaf" or engine.kill(), sys.exit()))
seen = {"pids": [os.getpid(), engine.pid], "flags": sys.argv, "env": dict(os.environ)}
with open(os.path.join(os.environ["SEEN"], f"{os.getpid()}.json"), "w") as stream:
    json.dump(seen, stream)
if mood == "dies":
    print("(Worker pid=9) ERROR 11-23 17:16:08 [executor.py:953] ValueError: head is missing")
    print("RuntimeError: engine failed, see above")
    sys.exit(1)


class Reply(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/health":
            self.answer(503 if mood == "silent" else 200, {})
        else:
            self.answer(200, {"data": [{"id": name} for name in (["other"] if mood == "stranger" else names)]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if "/classify" in self.path:
            return self.answer(200, {"data": [{"index": 0, "probs": [1.5]}]})
        shift = adapters.index(body["model"]) + 1 if body["model"] in adapters and mood != "inert" else 0
        choice = {"index": 0, "message": {"role": "assistant", "content": body["model"]}, "finish_reason": "stop"}
        choice["logprobs"] = {"content": [{"token": "a", "logprob": -1.5 - shift}]}
        self.answer(200, {"choices": [choice], "usage": {}})

    def answer(self, status, body):
        if self.path.startswith("/v1") and self.headers["Authorization"] != "Bearer " + os.environ["VLLM_API_KEY"]:
            status, body = 401, {"error": "Unauthorized"}
        sent = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer((flags["--host"], int(flags["--port"])), Reply).serve_forever()
"""

OWNER = """
import sys, time
from pathlib import Path
from curate.models.chat_api import ChatAPI
from curate.models.limits import EndpointConfig
from curate.models.vllm.server import start_managed
start_managed(ChatAPI, "vllm:x", sys.argv[1], Path(sys.argv[2]), EndpointConfig())
print("up", flush=True)
time.sleep(600)
"""


@pytest.fixture
def seen(tmp_path, monkeypatch):
    """Makes the stand-in what `import vllm` finds; what each one started saw, oldest first."""
    package = tmp_path / "site" / "vllm" / "entrypoints" / "openai"
    package.mkdir(parents=True)
    (package / "api_server.py").write_text(STAND_IN)
    folder = tmp_path / "seen"
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    monkeypatch.setenv("PAIRWRIGHT_VLLM_PYTHON", sys.executable)
    monkeypatch.setenv("SEEN", str(folder))
    # Taken away again after the test, whatever is set meanwhile.
    monkeypatch.setenv(KEY_NAME, "")
    yield lambda: [json.loads(path.read_text()) for path in sorted(folder.iterdir(), key=os.path.getmtime)]
    stop_servers()


@pytest.fixture
def model(tmp_path):
    """The folder of a model, as far as the command line depends on it."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"max_position_embeddings": 2048}')
    return folder


@pytest.fixture
def make_run(tmp_path, model):
    """A finished run on that model, whose adapter was trained or not."""

    def make(name, trained=True):
        adapter = tmp_path / "data" / "runs" / name / "adapter"
        adapter.mkdir(parents=True)
        (adapter / "adapter_config.json").write_text('{"r": 8}')
        weights = {"layer.lora_A.weight": torch.ones(8, 4), "layer.lora_B.weight": torch.full((4, 8), float(trained))}
        save_file(weights, adapter / "adapter_model.safetensors")
        manifest = {"kind": "sft", "base": f"hf:{model}", "finished_at": "2026-11-01T00:00:00"}
        write_folder(adapter.parent / "manifest.json", name, manifest, ["adapter/adapter_model.safetensors"])
        return name

    return make


def generator(tmp_path, model):
    return start_managed(ChatAPI, f"vllm:{model}", str(model), tmp_path / "data", EndpointConfig())


def ask(backend, kind="generate"):
    (group,) = backend.answer([Request(kind, user("Hi"))], {0})
    return group[0][1]


def are_gone(pids):
    """None of the processes lives, now or a few seconds later; a dead one that nobody asked after does not."""
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        asked = subprocess.run(["ps", "-o", "stat=", "-p", ",".join(map(str, pids))], capture_output=True, text=True)
        if all(state.startswith("Z") for state in asked.stdout.split()):
            return True
        time.sleep(0.1)
    return False


def test_a_model_is_served_on_this_machine_alone_and_answers(tmp_path, seen, model):
    backend = generator(tmp_path, model)

    assert ask(backend).responses[0].text == str(model)
    (server,) = seen()
    assert server["flags"][server["flags"].index("--host") + 1] == "127.0.0.1"
    assert (backend.model, backend.is_remote, backend.price_name) == (f"vllm:{model}", True, None)


def test_the_server_gets_a_key_that_is_written_nowhere_and_none_of_ours(tmp_path, seen, model, monkeypatch):
    for name in ("OPENAI_API_KEY", "NVIDIA_API_KEY", "PAIRWRIGHT_API_KEY"):
        monkeypatch.setenv(name, "sk-secret-123")
    monkeypatch.setenv("HF_TOKEN", "hf-token")

    generator(tmp_path, model)

    (server,) = seen()
    key = server["env"]["VLLM_API_KEY"]
    assert key == os.environ[KEY_NAME]
    assert len(key) >= 32
    assert "sk-secret-123" not in server["env"].values()
    assert server["env"]["HF_TOKEN"] == "hf-token"
    assert key not in " ".join(server["flags"])
    files = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if key in path.read_text()]


def test_stages_that_ask_for_the_same_model_share_a_server(tmp_path, seen, model):
    first, second = generator(tmp_path, model), generator(tmp_path, model)

    assert ask(first) == ask(second)
    assert len(seen()) == 1


def test_a_run_and_its_base_share_a_server(tmp_path, seen, model, make_run):
    run, base = generator(tmp_path, make_run("loud")), generator(tmp_path, f"hf:{model}")

    assert [ask(backend).responses[0].text for backend in (run, base)] == ["loud", f"hf:{model}"]
    assert len(seen()) == 1


def test_a_server_that_is_gone_is_told_of_and_replaced(tmp_path, seen, model):
    backend = generator(tmp_path, model)
    os.kill(seen()[0]["pids"][0], signal.SIGKILL)

    with pytest.raises(UserError, match=r"the vLLM server of .* ended with status 137"):
        ask(backend)
    assert ask(generator(tmp_path, model)).failure is None
    assert len(seen()) == 2


def test_a_reward_model_is_served_to_classify(tmp_path, seen, model):
    backend = start_managed(ClassifyAPI, "vllm:rm", str(model), tmp_path / "data", EndpointConfig())

    assert ask(backend, "score").values == (1.5,)
    (server,) = seen()
    assert server["flags"][server["flags"].index("--runner") + 1] == "pooling"


def test_a_server_that_dies_at_once_is_told_of_with_its_own_words(tmp_path, seen, model, monkeypatch):
    monkeypatch.setenv("MOOD", "dies")

    with pytest.raises(UserError) as caught:
        generator(tmp_path, model)

    lines = str(caught.value).splitlines()
    assert lines[0].endswith("ended with status 1; its first error: ValueError: head is missing")
    assert lines[-1] == "RuntimeError: engine failed, see above"
    assert are_gone(seen()[0]["pids"])


# The stranger is healthy too, as another program would be that took the port before vLLM did.
@pytest.mark.parametrize("mood", ["silent", "stranger"])
def test_a_server_that_never_has_our_model_is_given_up_and_ended(tmp_path, seen, model, monkeypatch, mood):
    monkeypatch.setenv("MOOD", mood)
    data = tmp_path / "data"

    with pytest.raises(UserError, match=r"did not answer within 2 s; the end of .*\.log"):
        VLLMServer(find_weights(str(model), data), "generate", data, start_timeout_s=2)

    assert are_gone(seen()[0]["pids"])


def test_an_adapter_that_changes_nothing_is_an_error(tmp_path, seen, make_run, monkeypatch):
    monkeypatch.setenv("MOOD", "inert")

    with pytest.raises(UserError, match="serves the adapter 'loud', but it changes nothing"):
        generator(tmp_path, make_run("loud"))

    assert are_gone(seen()[0]["pids"])


def test_an_adapter_that_was_never_trained_may_change_nothing(tmp_path, seen, make_run, monkeypatch, caplog):
    monkeypatch.setenv("MOOD", "inert")

    with caplog.at_level(logging.WARNING):
        backend = generator(tmp_path, make_run("fresh", trained=False))

    assert "the adapter 'fresh' was never trained" in caplog.text
    assert ask(backend).failure is None


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_however_we_end_no_process_of_the_server_is_left(tmp_path, seen, model, monkeypatch, how):
    monkeypatch.setenv("MOOD", "deaf")
    command = [sys.executable, "-c", OWNER, str(model), str(tmp_path / "data")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as owner:
        assert owner.stdout.readline() == b"up\n"
        (server,) = seen()
        os.kill(server["pids"][0], 0)

        owner.send_signal(how)

        owner.wait(30)
    assert are_gone(server["pids"])
