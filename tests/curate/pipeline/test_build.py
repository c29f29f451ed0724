"""The whole line on the embedded models, and what is left of it after kill -9."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from scripted import completion
from shared_data import DATASETS

from curate.audit.noise import Noise, save_noise
from curate.cli.main import main
from curate.config import BuildConfig, ExplainConfig
from curate.models.resolve import resolve_scorer
from curate.pipeline.build import build
from curate.report.explain import explain
from curate.screen.rules import RULES
from curate.store.folders import write_folder
from curate.store.workspace import Workspace

SMALL = ["--source", "sft", "--num-prompts", "6", "--max-tokens", "8", "--json"]


def command(data: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "curate.cli.main", "build", *SMALL, *words, "--data", str(data)]


def run(data: Path, *words: str) -> dict:
    done = subprocess.run(command(data, *words), capture_output=True, text=True)
    found = json.loads(done.stdout)
    assert done.returncode == (0 if found["kept"] else 1), done.stderr
    return found


def kill_when(data: Path, calls: int) -> None:
    """Start a build and kill it -9 once the ledger has `calls` answers."""
    process = subprocess.Popen(command(data), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while answered(data / "ledger.sqlite") < calls:
        assert process.poll() is None, "the build ended before it could be killed"
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def answered(path: Path) -> int:
    if not path.exists():
        return 0
    database = sqlite3.connect(path)
    try:
        return database.execute("SELECT count(*) FROM calls WHERE state = 'answered'").fetchone()[0]
    except sqlite3.OperationalError:
        return 0
    finally:
        database.close()


def table_bytes(data: Path) -> dict[str, bytes]:
    return {str(path.relative_to(data)): path.read_bytes() for path in sorted(data.glob("tables/**/*.parquet"))}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> tuple[Path, dict]:
    data = tmp_path_factory.mktemp("undisturbed")
    return data, run(data)


def test_prompts_become_screened_pairs_and_the_sums_agree(undisturbed):
    _, summary = undisturbed

    assert summary["rows_in"] == 6 == summary["kept"] + sum(summary["dropped"].values())
    assert summary["candidates"] == 24
    assert (summary["generator"], summary["scorer"]) == ("smollm2", "reward-mini")
    assert summary["reused_calls"] == 0 < summary["calls"]


def test_an_identical_build_makes_no_call(undisturbed):
    data, summary = undisturbed

    again = run(data)

    assert (again["calls"], again["reused_calls"]) == (0, summary["calls"])
    assert again["table"] == summary["table"]


def test_no_machine_path_and_no_time_is_part_of_a_table(undisturbed, tmp_path):
    data, _ = undisturbed

    run(tmp_path)

    assert table_bytes(tmp_path) == table_bytes(data)


@pytest.mark.parametrize("calls", [1, 20])
def test_a_build_killed_anywhere_goes_on_to_the_same_bytes(undisturbed, tmp_path, calls):
    data, summary = undisturbed

    kill_when(tmp_path, calls)
    resumed = run(tmp_path)

    assert table_bytes(tmp_path) == table_bytes(data)
    assert resumed["reused_calls"] >= calls
    assert resumed["calls"] + resumed["reused_calls"] == summary["calls"]


def test_more_prompts_reuse_the_calls_of_fewer(undisturbed):
    data, summary = undisturbed

    more = run(data, "--num-prompts", "8", "--name", "more")

    # Six generations, their scores and those of the probes are known; two prompts are new.
    assert more["reused_calls"] >= summary["calls"] - 1
    assert more["calls"] < summary["calls"]


def test_the_newest_sft_run_is_the_default_generator(tmp_path):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from curate.models.embedded import embedded_folder

    base = AutoModelForCausalLM.from_pretrained(embedded_folder("smollm2"))
    torch.manual_seed(0)
    folder = tmp_path / "runs" / "my-sft"
    get_peft_model(base, LoraConfig(r=1, target_modules=["q_proj"])).save_pretrained(folder / "adapter")
    manifest = {"kind": "sft", "base": "smollm2", "finished_at": "2026-01-01T00:00:00Z"}
    write_folder(folder / "manifest.json", "my-sft", manifest, ["adapter/adapter_model.safetensors"])

    built = build(BuildConfig(source="sft", num_prompts=2, num_responses=2, max_tokens=4, data=tmp_path))

    assert built.summary()["generator"] == "my-sft"


def test_a_scorer_that_prefers_empty_responses_never_gets_one_chosen(endpoint, tmp_path, monkeypatch):
    replies = iter(["", "A fine long answer.", "  ", "A short one."] * 2)
    chat = endpoint(lambda body: (200, completion(*(next(replies) for _ in range(body["n"])))))
    nim = endpoint(lambda body: (200, completion(f"reward:{-len(body['messages'][-1]['content'].strip())}")))
    monkeypatch.setenv("NIM_BASE_URL", nim.url)
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "Why is the sky blue?"}\n{"prompt": "How do I boil an egg?"}\n')

    built = build(
        BuildConfig(
            source="sft", generator=f"{chat.url}#m", scorer="nim:nemotron", prompts=str(prompts), data=tmp_path / "data"
        )
    )

    pairs = built.pairs.scan().collect()
    assert pairs["chosen"].to_list() == ["A short one."] * 2
    assert pairs["rejected"].to_list() == ["A fine long answer."] * 2
    assert built.summary()["kept"] == 2
    assert built.summary()["flags"] == {"scorer_unreliable": 2}


def test_a_score_that_could_not_be_read_drops_the_prompt_and_is_asked_again(endpoint, tmp_path, monkeypatch):
    is_down = True

    def judge(body):
        text = body["messages"][-1]["content"]
        return 200, completion("broken" if is_down and text.startswith("sky") else f"reward:{len(text)}")

    chat = endpoint(
        lambda body: (
            200,
            completion(*(f"{body['messages'][0]['content']} is {'old and ' * i}good" for i in range(body["n"]))),
        )
    )
    monkeypatch.setenv("NIM_BASE_URL", endpoint(judge).url)
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": word}) + "\n" for word in ("sky", "egg", "tree", "sea")))
    cfg = BuildConfig(
        source="sft", generator=f"{chat.url}#m", scorer="nim:nemotron", prompts=str(prompts), data=tmp_path / "data"
    )

    first = build(cfg).summary()
    is_down = False
    second = build(cfg).summary()

    assert first["dropped"] == {"failed_score": 1}
    assert (second["dropped"], second["kept"]) == ({}, 4)


def test_adjacent_pairs_come_from_one_prompt_and_explain_shows_their_z_and_the_noise(endpoint, tmp_path, monkeypatch):
    # Lengths are 8 to 11: mean 9.5, deviation sqrt(1.25) = 1.118, so neighbors are 1 / 1.118 = 0.89 in z apart.
    chat = endpoint(lambda body: (200, completion("It is b.", "It is bb.", "It is bbb.", "It is bbbb.")))
    nim = endpoint(lambda body: (200, completion(f"reward:{len(body['messages'][-1]['content'])}")))
    monkeypatch.setenv("NIM_BASE_URL", nim.url)
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "Why is the sky blue?"}\n{"prompt": "How do I boil an egg?"}\n')
    cfg = BuildConfig(
        source="sft", generator=f"{chat.url}#m", scorer="nim:m", prompts=str(prompts), pairing="adjacent", data=tmp_path
    )
    scorer = resolve_scorer("nim:m", tmp_path)
    save_noise(Workspace(tmp_path), Noise(scorer.model, scorer.digest, rows=120, failed=0, noise=0.5, max=0.75))

    built = build(cfg)

    found = explain(ExplainConfig(pair_id=built.pairs.scan().collect()["pair_id"][0], data=tmp_path))
    assert (built.summary()["rows_in"], built.summary()["kept"], built.summary()["noise"]) == (6, 6, 0.5)
    assert (found.pair["chosen"], found.pair["rejected"]) == ("It is bbbb.", "It is bbb.")
    lines = found.lines()
    assert "chosen (11.0000 by nim:m, z +1.34)" in lines
    place = lines.index("screening")
    assert lines[place + 1 : place + 3] == ["  kept", "  margin 1.0000, 0.89 in z (noise 0.5, min margin 0)"]


@pytest.mark.skipif(not DATASETS.exists(), reason="the shared datasets are not here")
@pytest.mark.parametrize(
    ("file", "rows_in", "flaws"),
    [
        ("ultrafeedback_pairs.parquet", 614, {"tie": 74, "identical": 2}),
        ("hh_harmless_pairs.jsonl.gz", 1390, {"prompt_mismatch": 2, "empty": 2}),
        ("llamafactory_dpo_en.json", 300, {"duplicate_pair": 5}),
    ],
)
def test_real_pair_files_end_with_their_known_flaws(tmp_path, file, rows_in, flaws):
    # What the other rules find in real texts is a matter of their thresholds.
    others = tuple(rule.name for rule in RULES if rule.can_skip and rule.name not in flaws)

    summary = build(BuildConfig(source=str(DATASETS / file), skip_rule=others, data=tmp_path)).summary()

    assert summary["rows_in"] == rows_in == summary["kept"] + sum(flaws.values())
    assert summary["dropped"] == flaws


@pytest.mark.skipif(not DATASETS.exists(), reason="the shared datasets are not here")
def test_imported_scores_are_kept_and_multi_turn_prompts_stay_whole(tmp_path):
    built = build(BuildConfig(source=str(DATASETS / "llamafactory_dpo_en.json"), num_prompts=20, data=tmp_path))

    turns = built.pairs.scan().select(pl.col("messages").list.len()).collect()["messages"]
    assert turns.max() > 2


def test_the_shares_of_flaws_are_those_of_the_pairs_that_were_kept(endpoint, tmp_path, capsys):
    # Every third truncated pair is usable, and every refusal: more refusals are written than are kept.
    seen = []

    def write(body):
        flaw = "truncation" if '"truncation"' in body["messages"][0]["content"] else "needless_refusal"
        number = body["messages"][-1]["content"].split()[-1]
        chosen = f"The number {number} follows {number} less one, and it is followed by {number} and one more."
        rejected = quote = f"I'm sorry, but I can't help with {number}."
        if flaw == "truncation":
            seen.append(number)
            rejected = quote = f"The number {number}{' follows' if len(seen) % 3 == 0 else '.'}"
        pair = {"chosen": chosen, "rejected": rejected, "flaw": flaw, "quote": quote, "constraint": ""}
        return 200, completion(json.dumps(pair))

    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f"Tell me of the number {n}"}) + "\n" for n in range(80)))
    asked = [
        "--source",
        "gpt",
        "--generator",
        f"{endpoint(write).url}#m",
        "--prompts",
        str(prompts),
        "--num-pairs",
        "8",
    ]
    shares = ["--max-cosine", "1", "--flaws", "needless_refusal=.5,truncation=.5", "--data", str(tmp_path / "data")]

    code = main(["build", *asked, *shares, "--json"])
    flaws = {flaw["flaw"]: flaw for flaw in json.loads(capsys.readouterr().out)["flaws"]}
    assert main(["build", *asked, *shares]) == code == 0
    lines = capsys.readouterr().out.splitlines()

    assert [(flaw["kept"], flaw["share"]) for flaw in flaws.values()] == [(4, 0.5), (4, 0.5)]
    assert flaws["needless_refusal"]["written"] > 4
    header = next(line for line in lines if line.startswith("flaw "))
    assert re.split(r"  +", header) == [
        "flaw", "severity", "asked", "check fired", "written", "kept", "wanted", "share"
    ]  # fmt: skip
    row = next(line for line in lines if line.startswith("truncation "))
    assert re.split(r"  +", row)[-4:] == [str(flaws["truncation"]["written"]), "4", "50%", "50%"]


def test_of_flaws_without_a_kept_pair_no_share_is_told(endpoint, tmp_path):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "Tell me of the number 1"}\n')
    server = endpoint(lambda body: (200, completion("no pair")))
    cfg = BuildConfig(
        source="gpt", generator=f"{server.url}#m", prompts=str(prompts), flaws="factual=1", data=tmp_path / "data"
    )

    (flaw,) = build(cfg).summary()["flaws"]

    assert (flaw["kept"], flaw["share"], flaw["quota"]) == (0, None, 1.0)
