"""`train sft` learns responses, and bad input is one sentence and exit code 2."""

import json
import subprocess
import sys

import pytest
from json_lines import write_lines

from train.cli import main

TURNS = [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Good day."}]


@pytest.fixture
def sft(tmp_path, tiny_llama):
    """`train sft` on a file of these rows; its exit code."""

    def run(rows, *flags):
        path = write_lines(tmp_path / "chats.jsonl", rows)
        return main(["sft", "--dataset", str(path), "--base", str(tiny_llama), "--data", str(tmp_path), *flags])

    return run


def manifest_of(data, run):
    return json.loads((data / "runs" / run / "manifest.json").read_text())


def test_sft_on_a_file_prints_the_contract_and_counts_bad_rows(sft, capsys, caplog):
    rows = [{"messages": [{"role": "user", "content": f"Say {n}."}, TURNS[1]]} for n in range(6)]

    with caplog.at_level("INFO"):
        code = sft([*rows, {"messages": 3}], "--epochs", "1", "--json")

    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert code == 0
    assert list(printed) == ["run", "steps", "first_loss", "last_loss", "tokens", "seconds", "peak_rss_mb", "adapter"]
    # 6 rows in steps of 4
    assert (printed["run"], printed["steps"]) == ("sft-chats", 2)
    assert "1 rows unusable: {'bad_prompt': 1}" in caplog.text
    assert "no held-out rows" in caplog.text


def test_limit_takes_the_first_after_a_shuffle_by_seed(sft, tmp_path):
    rows = [{"prompt": f"Say {n}.", "response": "Yes."} for n in range(50)]

    assert sft(rows, "--epochs", "1", "--max-rows", "3") == 0

    assert manifest_of(tmp_path, "sft-chats")["preflight"]["train"]["rows"] == 3


def test_a_conversation_of_several_turns_is_learned_in_one_row(sft, tmp_path):
    chats = [[*TURNS, {"role": "user", "content": f"And {n}?"}, TURNS[1]] for n in range(6)]

    assert sft([{"messages": chat} for chat in chats], "--lr", "2e-2", "--epochs", "8") == 0

    manifest = manifest_of(tmp_path, "sft-chats")
    assert manifest["last_loss"] < manifest["first_loss"] - 0.3
    assert manifest["preflight"]["train"]["kept"] == 6


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["dpo"], "no mix in"),
        (["dpo", "--mix", "v2"], "no mix 'v2'"),
        (["dpo", "--mix", "v1", "--policy", "sft"], "no run or model 'sft'"),
        (["dpo", "--mix", "v1", "--beta", "0"], "--beta 0 must be above 0"),
        (["dpo", "--mix", "v1", "--epochs", "0"], "--epochs 0 must be at least 1"),
        (["dpo", "--mix", "v1", "--device", "cuda"], "names a GPU"),
        (["dpo", "--mix", "v1", "--base", "BASE", "--name", "a/b"], "run name 'a/b' must be"),
        (["dpo", "--mix", "v1", "--base", "BASE", "--max-length", "10"], "no pair of mix 'v1' can be trained on"),
        (["dpo", "--mix", "v1", "--base", "/nowhere"], "no model folder /nowhere"),
        (["dpo", "--mix", "v1", "--loss", "simpo", "--reference", "smollm2"], "--loss simpo has no reference"),
        (["dpo", "--mix", "v1", "--base", "BASE", "--micro-batch-tokens", "20"], "more than --micro-batch-tokens 20"),
        (["sft"], "no mix in"),
        (["sft", "--dataset", "missing.jsonl"], "no file missing.jsonl"),
        (["sft", "--dataset", "a.jsonl", "--mix", "v1"], "give one of them"),
        (["sft", "--mix", "v1", "--lr", "nan"], "--lr nan is outside 0 to 1"),
    ],
)
def test_bad_input_is_a_sentence_and_exit_code_2(flags, sentence, make_mix, few_pairs, tiny_llama, tmp_path, capsys):
    if "v1" in flags:
        make_mix(few_pairs)
    flags = [flag.replace("BASE", str(tiny_llama)) for flag in flags]

    code = main([*flags, "--data", str(tmp_path / "data")])

    error = capsys.readouterr().err.splitlines()[-1]
    assert code == 2
    assert error.startswith("error: ")
    assert sentence in error


def test_a_mix_without_training_rows_or_with_other_bytes_is_refused(make_mix, few_pairs, tiny_llama, capsys):
    data = make_mix(few_pairs[:2], name="empty", heldout=2)
    make_mix(few_pairs, name="torn")
    torn = data / "mixes" / "torn" / "train-00000-of-00001.parquet"
    torn.write_bytes(torn.read_bytes()[:-10])

    codes = [main(["dpo", "--mix", name, "--base", str(tiny_llama), "--data", str(data)]) for name in ("empty", "torn")]

    errors = capsys.readouterr().err
    assert codes == [2, 2]
    assert "mix 'empty' has no training rows" in errors
    assert "make it again with: curate mix" in errors


def test_a_start_that_failed_leaves_the_name_to_the_next(make_mix, few_pairs, tiny_llama):
    data = make_mix(few_pairs, heldout=2)
    flags = ["dpo", "--base", str(tiny_llama), "--epochs", "1", "--data", str(data)]

    codes = [main([*flags, "--max-length", length]) for length in ("10", "64", "65")]

    assert codes == [2, 0, 2]


def test_help_loads_no_torch():
    script = "import sys, train.cli; sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'duckdb')))"

    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


def test_a_mix_without_held_out_rows_is_learned_and_said_to_be_unchecked(make_mix, few_pairs, tiny_llama, caplog):
    data = make_mix(few_pairs)

    code = main(["dpo", "--base", str(tiny_llama), "--epochs", "1", "--data", str(data)])

    assert code == 0
    assert manifest_of(data, "dpo-v1")["last_check"] is None
    assert "there are no held-out rows" in caplog.text
