"""An adapter trained here, served by a real vLLM server, evaluated there."""

import json
import urllib.request

import polars as pl
import pytest

from eval.config import EvalConfig
from eval.evaluate import evaluate
from eval.matchup import resolve_matchup
from train.config import SFTConfig
from train.sft import train_sft

pytestmark = pytest.mark.server

TURNS = [
    {"role": "user", "content": "Say something about the sea."},
    {"role": "assistant", "content": "The sea is wide and blue and full of salt."},
]


@pytest.fixture
def data(tmp_path, vllm_server):
    """A data directory with the run 'loud', one step at a rate that changes everything, served under its name."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text((json.dumps({"messages": TURNS}) + "\n") * 2)
    train_sft(SFTConfig(dataset=str(rows), name="loud", epochs=1, lr=0.05, data=tmp_path))
    body = {"lora_name": "loud", "lora_path": str(tmp_path / "runs" / "loud" / "adapter")}
    request = urllib.request.Request(
        f"{vllm_server}/load_lora_adapter", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as reply:
        assert reply.status == 200
    return tmp_path


def test_the_served_adapter_changes_the_responses_and_says_what_it_says_in_process(vllm_server, data):
    written = {}
    for engine in (vllm_server, "hf"):
        cfg = EvalConfig("loud", engine=engine, num_prompts=6, max_tokens=8, temperature=0.0, data=data)
        evaluated = evaluate(cfg, resolve_matchup(cfg))
        lines = pl.read_ndjson(evaluated.path.parent / "prompts.jsonl")
        written[engine] = lines.select("response_run", "response_baseline")

    served, here = written[vllm_server], written["hf"]
    assert (served["response_run"] != served["response_baseline"]).any()
    # Two engines round otherwise, so now and then a token falls the other way.
    assert (served["response_run"] == here["response_run"]).sum() >= 4
    assert (served["response_baseline"] == here["response_baseline"]).sum() >= 4
