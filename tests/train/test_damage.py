"""What training stored is used as it was written, or made again, or refused: never used as anything else."""

import shutil
from dataclasses import replace

import pytest
from damaging import WAYS, delete, flip_bit, swap

from curate.files import Damaged
from curate.models.resolve import resolve_generator, resolve_scorer
from curate.report.doctor import check_trained
from curate.report.trained import check_run
from curate.store.runs import find_run, newest_run
from curate.store.workspace import Workspace
from eval.config import EvalConfig
from eval.matchup import resolve_matchup
from schemas.errors import UserError
from train.config import DPOConfig
from train.data.mix_reader import read_mix
from train.dpo import measure_reference, train_dpo
from train.model.load import choose_device, load_chat, resolve_weights
from train.run.adapter import tokenize_splits

ADAPTER = "adapter/adapter_model.safetensors"
RUN_FILES = ["manifest.json", ADAPTER, "adapter/adapter_config.json", "metrics.jsonl"]
TOKEN_FILES = ["manifest.json", "tokens.bin", "ends.bin", "ids.bin", "id_ends.bin"]


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Where the two trained runs lie that every test has a copy of."""
    return tmp_path_factory.mktemp("stored") / "data"


@pytest.fixture
def cfg(stored, make_mix, few_pairs, tiny_llama, tmp_path):
    """The config of the run `first`, in a data folder that has `second` too, of another seed and scale."""
    made = DPOConfig(base=str(tiny_llama), epochs=1, lr=1e-2, name="first", data=stored)
    if not stored.exists():
        make_mix(few_pairs, heldout=2, data=stored)
        train_dpo(made)
        train_dpo(replace(made, name="second", seed=31, lora_alpha=8))
    shutil.copytree(stored, tmp_path / "data")
    return replace(made, data=tmp_path / "data")


def run_file(cfg, name, file):
    return Workspace(cfg.data).run(name) / file


def bad(cfg):
    """What the doctor finds bad."""
    return [check.name for check in check_trained(Workspace(cfg.data)) if not check.is_good]


def test_the_doctor_finds_nothing_bad_in_what_was_just_trained(cfg):
    names = [check.name for check in check_trained(Workspace(cfg.data))]

    assert names == ["run first", "run second", "tokens", "references"]
    assert bad(cfg) == []


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("file", RUN_FILES)
def test_a_damaged_run_is_refused_by_all_who_read_it(cfg, file, way):
    way(run_file(cfg, "first", file), run_file(cfg, "second", file))

    assert bad(cfg)[0] == "run first"
    for read in (
        lambda: resolve_weights("first", cfg.data),
        lambda: resolve_generator("first", cfg.data),
        lambda: resolve_generator("vllm:first", cfg.data),
        lambda: resolve_scorer("judge:first", cfg.data),
        lambda: resolve_matchup(EvalConfig(run="first", data=cfg.data)),
        lambda: resolve_matchup(EvalConfig(run="first", engine="http://localhost:1/v1", data=cfg.data)),
    ):
        with pytest.raises(Damaged, match="give the command that trained run 'first' again"):
            read()


@pytest.mark.parametrize(("file", "way"), [*zip(RUN_FILES, WAYS, strict=True), (ADAPTER, swap)])
def test_a_damaged_run_is_trained_again_by_its_command(cfg, caplog, file, way):
    whole = run_file(cfg, "first", ADAPTER).read_bytes()
    way(run_file(cfg, "first", file), run_file(cfg, "second", file))

    train_dpo(cfg)

    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "the run is trained again" in warning
    assert run_file(cfg, "first", ADAPTER).read_bytes() == whole
    assert bad(cfg) == (["run second"] if way is swap else [])


def test_runs_that_took_each_other_s_place_are_damaged(cfg):
    runs = Workspace(cfg.data).runs
    (runs / "first").rename(runs / "third")
    (runs / "second").rename(runs / "first")
    (runs / "third").rename(runs / "second")

    with pytest.raises(Damaged, match=r"first/manifest\.json is damaged"):
        find_run(cfg.data, "first")
    assert bad(cfg) == ["run first", "run second"]


def test_no_run_is_taken_for_the_newest_while_the_record_of_any_is_lost(cfg):
    run_file(cfg, "second", "manifest.json").unlink()

    with pytest.raises(Damaged, match="second"):
        newest_run(cfg.data)


def test_a_damaged_run_is_not_trained_again_for_other_settings(cfg):
    flip_bit(run_file(cfg, "first", ADAPTER), None)

    with pytest.raises(UserError, match=r"asked for otherwise \(config\.epochs 1 -> 2\)"):
        train_dpo(replace(cfg, epochs=2))

    assert run_file(cfg, "first", ADAPTER).exists()


@pytest.mark.parametrize("way", WAYS)
def test_settings_that_are_damaged_are_those_of_the_manifest(cfg, caplog, way):
    way(run_file(cfg, "first", "asked.json"), run_file(cfg, "second", "asked.json"))

    with pytest.raises(UserError, match=r"asked for otherwise \(config\.epochs 1 -> 2\)"):
        train_dpo(replace(cfg, epochs=2))
    assert bad(cfg) == ([] if way is delete else ["run first", "run second"] if way is swap else ["run first"])
    with caplog.at_level("INFO"):
        train_dpo(cfg)
    assert "is finished, with these very settings" in caplog.text


def test_a_run_under_way_is_no_damage(cfg):
    folder = Workspace(cfg.data).run("third")
    (folder / "checkpoints").mkdir(parents=True)

    assert find_run(cfg.data, "third") is None
    assert check_run(folder) == "not finished, 0 checkpoints; its train command goes on with it"
    assert bad(cfg) == []


@pytest.fixture(scope="module")
def chat(tiny_llama, tmp_path_factory):
    return load_chat(resolve_weights(str(tiny_llama), tmp_path_factory.mktemp("none")))


def tokenized(cfg, chat):
    """Rows of both splits, also as plain values."""
    rows = tokenize_splits(cfg, chat, read_mix(cfg.data, "", None).texts("pair"), "")
    return rows, {
        split: [(row.row_id, row.prompt.tolist(), [side.ids.tolist() for side in row.responses]) for row in part]
        for split, part in rows.items()
    }


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("file", TOKEN_FILES)
def test_damaged_tokens_are_made_again(cfg, chat, caplog, file, way):
    (folder,) = Workspace(cfg.data).tokens.iterdir()
    _, expected = tokenized(cfg, chat)
    caplog.clear()
    way(folder / "train" / file, folder / "heldout" / file)

    assert bad(cfg) == ["tokens"]
    assert tokenized(cfg, chat)[1] == expected
    assert caplog.text.count("its tokens are made again") == (2 if way is swap else 1)
    assert bad(cfg) == []


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("file", ["manifest.json", "part-00000.safetensors"])
def test_damaged_log_probabilities_are_measured_again(cfg, chat, tiny_llama, caplog, file, way):
    weights, device = resolve_weights(str(tiny_llama), cfg.data), choose_device("cpu")
    rows, _ = tokenized(cfg, chat)
    first, second = sorted(Workspace(cfg.data).references.iterdir())
    expected = measure_reference(weights, rows, cfg, 2, device)
    caplog.clear()
    way(first / file, second / file)

    # Parts without a manifest are those of a measurement under way.
    assert bad(cfg) == ([] if file == "manifest.json" and way is delete else ["references"])
    found = measure_reference(weights, rows, cfg, 2, device)

    assert all((found[split] == expected[split]).all() for split in expected)
    damaged = 0 if file == "manifest.json" or way is delete else 2 if way is swap else 1
    assert caplog.text.count("its rows are measured again") == damaged
    assert bad(cfg) == []
