"""Training ends in the same weights however often it is killed, and stops where numbers stop being numbers."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from damaging import WAYS
from rounding import difference
from safetensors.torch import load_file
from tiny_models import Listed

from curate.files import Damaged
from curate.report.trained import check_run
from schemas.errors import UserError
from train.config import DPOConfig, TrainingConfig
from train.data.tokens import Preflight, conversation_row, pair_row
from train.dpo import PairObjective, train_dpo
from train.loop.checkpoints import newest_checkpoint, read_checkpoint, save_checkpoint
from train.loop.loop import Trainer, new_accelerator, train
from train.loop.metrics import MetricsLog
from train.loop.oom import MicroBatcher
from train.loop.schedule import Schedule
from train.losses import LossConfig
from train.model.language_model import prepare_model
from train.model.load import load_chat, load_trainable, resolve_weights
from train.sft import SFTObjective

CPU = torch.device("cpu")
DPO = LossConfig("sigmoid", 0.2, 0.0, 0.0)


@pytest.fixture
def weights(tiny_llama, tmp_path):
    return resolve_weights(f"hf:{tiny_llama}", tmp_path)


@pytest.fixture
def rows(weights, few_pairs):
    chat = load_chat(weights)
    made = [
        pair_row(chat, f"pair-{i}", [{"role": "user", "content": prompt}], chosen, rejected, 64, Preflight())
        for i, (prompt, chosen, rejected) in enumerate(few_pairs)
    ]
    return {"train": Listed(made[:7]), "heldout": Listed(made[7:])}


def told(**settings):
    """Settings of a training of short rows."""
    return TrainingConfig(**{"lr": 1e-2, "max_length": 64} | settings)


def adapted(weights, dropout):
    """A fresh adapter, prepared."""
    return prepare_model(load_trainable(weights, told(lora_dropout=dropout, seed=1), CPU), weights.name, 2)


def against(train=0.0, heldout=((0.0, 0.0), (0.0, 0.0))):
    """DPO of seven and two pairs against these log-probabilities."""
    reference = {"train": torch.full((7, 2), train), "heldout": torch.tensor(heldout)}
    return PairObjective(DPO, reference, torch.ones(7))


class Interrupted(PairObjective):
    """Raises KeyboardInterrupt once `calls` parts of steps were looked at."""

    calls: float

    def loss(self, logps, batch, split):
        if split == "train":
            object.__setattr__(self, "calls", self.calls - 1)
            if self.calls < 0:
                raise KeyboardInterrupt
        return super().loss(logps, batch, split)


def trained(weights, rows, folder, epochs=2, dropout=0.05, stop_after=float("inf"), checkpointing=False, reference=0.0):
    """Train a fresh adapter; `stop_after` raises KeyboardInterrupt in the step after that one."""
    language = adapted(weights, dropout)
    objective = Interrupted(**vars(against(reference)))
    object.__setattr__(objective, "calls", stop_after)
    cfg = told(epochs=epochs, gradient_checkpointing=checkpointing)
    result = train(language, rows, np.arange(7), objective, cfg, 4096, folder, "asked")
    return result, {name: value.detach() for name, value in language.model.named_parameters() if value.requires_grad}


def test_an_interrupted_training_ends_in_the_same_weights_and_metrics(weights, rows, tmp_path):
    whole, expected = trained(weights, rows, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        trained(weights, rows, tmp_path / "parts", stop_after=3)

    resumed, found = trained(weights, rows, tmp_path / "parts")

    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert resumed.rows == whole.rows
    names = {"step", "epoch", "loss", "learning_rate", "num_tokens", "rewards/chosen", "rewards/rejected"}
    assert names | {"rewards/accuracies", "rewards/margins", "logps/chosen", "logps/rejected"} <= set(resumed.rows[1])


def test_a_checkpoint_cut_in_half_is_passed_over(weights, rows, tmp_path, caplog):
    _, expected = trained(weights, rows, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        trained(weights, rows, tmp_path / "parts", stop_after=3)
    newest = max((tmp_path / "parts" / "checkpoints").iterdir())
    half = newest / "optimizer.safetensors"
    half.write_bytes(half.read_bytes()[: half.stat().st_size // 2])

    _, found = trained(weights, rows, tmp_path / "parts")

    assert f"{half} is damaged" in caplog.text
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A folder for two trainings that were interrupted, `parts` and `other`, and the weights of one that was not."""
    return tmp_path_factory.mktemp("begun"), {}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("file", ["adapter.safetensors", "optimizer.safetensors", "state.json", "../../metrics.jsonl"])
def test_a_checkpoint_that_is_not_what_was_written_is_passed_over(weights, rows, begun, tmp_path, caplog, file, way):
    folder, expected = begun
    if not expected:
        expected |= trained(weights, rows, folder / "whole")[1]
        for name, dropout in (("parts", 0.05), ("other", 0.5)):
            with pytest.raises(KeyboardInterrupt):
                trained(weights, rows, folder / name, stop_after=3, dropout=dropout)
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    newest = max((tmp_path / "parts" / "checkpoints").iterdir())
    way((newest / file).resolve(), (tmp_path / "other" / "checkpoints" / newest.name / file).resolve())

    with pytest.raises(Damaged, match="training goes on from the checkpoint before, or begins anew"):
        read_checkpoint(newest, "asked")
    with pytest.raises(Damaged):
        check_run(tmp_path / "parts")
    _, found = trained(weights, rows, tmp_path / "parts")

    assert "training goes on from the checkpoint before, or begins anew" in caplog.text
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_checkpoint_in_the_place_of_a_later_one_or_of_other_settings_is_passed_over(weights, rows, tmp_path, caplog):
    with pytest.raises(KeyboardInterrupt):
        trained(weights, rows, tmp_path / "run", stop_after=3)
    folder = tmp_path / "run" / "checkpoints"
    first, second = sorted(folder.iterdir())
    step = read_checkpoint(first, "asked").step
    shutil.rmtree(second)
    shutil.copytree(first, second)

    assert newest_checkpoint(folder, "asked").step == step
    assert newest_checkpoint(folder, "asked otherwise") is None
    assert f"{first} is of other settings" in caplog.text


def test_a_killed_command_ends_in_the_same_weights(make_mix, few_pairs, tiny_llama, tmp_path):
    folders = [make_mix(few_pairs * 3, heldout=3, data=tmp_path / name) for name in ("whole", "killed")]
    command = [sys.executable, "-m", "train.cli", "dpo", "--base", str(tiny_llama), "--epochs", "4", "--lr", "1e-2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    checkpoints = folders[1] / "runs" / "dpo-v1" / "checkpoints"

    subprocess.run([*command, "--data", str(folders[0])], check=True, capture_output=True, env=environment)
    process = subprocess.Popen([*command, "--data", str(folders[1])], stderr=subprocess.PIPE, env=environment)
    while process.poll() is None and not list(checkpoints.glob("step-*")):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    was_killed = process.returncode == -signal.SIGKILL
    again = subprocess.run(
        [*command, "--data", str(folders[1])], check=True, capture_output=True, text=True, env=environment
    )

    assert was_killed
    assert "resuming after step" in again.stderr
    files = [folder / "runs" / "dpo-v1" / "adapter" / "adapter_model.safetensors" for folder in folders]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert not checkpoints.exists()


def test_numbers_that_are_not_finite_stop_with_the_rows_of_the_batch(weights, rows, tmp_path):
    first = Schedule(7, 4, 1, 30).rows(1)

    with pytest.raises(UserError) as stopped:
        trained(weights, rows, tmp_path, reference=float("nan"))

    assert "step 1 is not finite (loss nan" in str(stopped.value)
    assert ", ".join(f"pair-{row}" for row in first) in str(stopped.value)


def test_dropout_is_on_in_training_and_off_in_checks(weights, rows):
    language = adapted(weights, 0.5)
    for name, value in language.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value, std=0.2)
    batcher = MicroBatcher(4096, language.packs)
    trainer = Trainer(language, rows, np.arange(7), against(), batcher, 30, new_accelerator(CPU))
    adapter = {name: value for name, value in language.model.named_parameters() if value.requires_grad}
    idle = torch.optim.SGD(adapter.values(), lr=0.0)

    steps = [trainer.step(step, [0, 1], idle, adapter)["loss"] for step in (1, 2, 1)]
    checks = [trainer.check()["eval_loss"] for _ in range(2)]

    assert steps[0] != steps[1]
    assert steps[0] == steps[2]
    assert checks[0] == checks[1]


def test_gradient_checkpointing_changes_no_weight(weights, rows, tmp_path):
    _, plain = trained(weights, rows, tmp_path / "plain", epochs=1)
    _, checkpointed = trained(weights, rows, tmp_path / "checkpointed", epochs=1, checkpointing=True)

    # Adam makes much of what rounding does to the smallest gradients
    assert difference(checkpointed, plain) < 1e-3


def test_a_wrong_start_loss_is_our_mistake(weights, rows, tmp_path):
    objective = against(heldout=[[5.0, -90.0]] * 2)

    with pytest.raises(RuntimeError, match=r"must be 0\.6931"):
        train(adapted(weights, 0.0), rows, np.arange(7), objective, told(), 4096, tmp_path, "asked", start_loss=0.6931)


def test_a_full_disk_leaves_the_last_checkpoint_and_nothing_half_written(tmp_path):
    weights = {"w": torch.nn.Parameter(torch.randn(300, 300))}
    adam = torch.optim.AdamW(weights.values())
    weights["w"].sum().backward()
    adam.step()
    folder, metrics = tmp_path / "checkpoints", MetricsLog(tmp_path / "metrics.jsonl", {2})
    save_checkpoint(folder, "asked", 1, 0.0, weights, adam, metrics)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    # A limit on the size of files stops a write as a full disk does.
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(UserError, match="no room to write"):
            save_checkpoint(folder, "asked", 2, 0.0, weights, adam, metrics)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert [path.name for path in folder.iterdir()] == ["step-00000001"]
    assert newest_checkpoint(folder, "asked").step == 1


def test_sft_of_a_conversation_learns_it(weights, tmp_path):
    chat = load_chat(weights)
    turns = [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Good day to you."}]
    row = conversation_row(chat, "c", turns, 64, Preflight())
    rows = {"train": Listed([row]), "heldout": Listed()}

    cfg = told(epochs=20, lr=2e-2)
    result = train(adapted(weights, 0.0), rows, np.arange(1), SFTObjective(), cfg, 4096, tmp_path, "asked")

    assert result.last_loss < result.first_loss - 0.3
    assert result.tokens == 20 * len(row)


def test_a_finished_run_is_reused_and_another_config_under_its_name_refused(make_mix, few_pairs, tiny_llama, caplog):
    data = make_mix(few_pairs, heldout=2)
    cfg = DPOConfig(base=str(tiny_llama), epochs=1, data=data)

    with caplog.at_level("INFO"):
        first = train_dpo(cfg)
        again = train_dpo(cfg)

    assert first == again
    assert "is finished, with these very settings" in caplog.text
    assert "step 0: loss 0.6931, as it must be (0.6931)" in caplog.text
    with pytest.raises(UserError, match=r"asked for otherwise \(config\.beta 0\.2 -> 0\.5\)"):
        train_dpo(DPOConfig(base=str(tiny_llama), epochs=1, beta=0.5, data=data))
    run = data / "runs" / "dpo-v1"
    names = {path.name for path in run.iterdir() if not path.name.startswith(".")}
    assert names == {"README.md", "adapter", "asked.json", "curves.png", "manifest.json", "metrics.jsonl"}
    manifest = json.loads((run / "manifest.json").read_text())
    assert {"format", "kind", "base", "policy", "reference", "data", "versions", "finished_at"} <= set(manifest)
    assert first.adapter == run / "adapter"
    assert set(load_file(run / "adapter" / "adapter_model.safetensors"))
