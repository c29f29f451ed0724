"""`train dpo` with every loss and with weights: what is measured, seen and refused."""

import json
import shutil

import pytest

from schemas.errors import UserError
from schemas.ids import pair_key
from train.config import DPOConfig, SFTConfig
from train.dpo import train_dpo
from train.sft import train_sft

HELD_OUT = 2


@pytest.fixture
def data(make_mix, few_pairs):
    """A mix of seven training and two held-out pairs."""
    return make_mix(few_pairs, heldout=HELD_OUT)


@pytest.fixture
def trained(data, tiny_llama):
    """Train a run of one epoch; its manifest, with its metrics and its adapter's bytes."""

    def run(name="d", **told):
        cfg = DPOConfig(**{"base": str(tiny_llama), "epochs": 1, "lr": 1e-2, "lora_dropout": 0.0, "data": data} | told)
        train_dpo(DPOConfig(**vars(cfg) | {"name": name}))
        folder = data / "runs" / name
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        adapter = (folder / "adapter" / "adapter_model.safetensors").read_bytes()
        return json.loads((folder / "manifest.json").read_text()) | {"rows": rows, "bytes": adapter}

    return run


@pytest.fixture
def write_weights(few_pairs, tmp_path):
    """A file with these weights of the training pairs."""

    def write(*weights, name="weights.csv"):
        ids = [pair_key([{"role": "user", "content": prompt}], *sides) for prompt, *sides in few_pairs]
        lines = [f"{pair},{weight}\n" for pair, weight in zip(ids, weights, strict=False)]
        (tmp_path / name).write_text("pair_id,weight\n" + "".join(lines))
        return str(tmp_path / name)

    return write


def parts(data):
    return sorted((data / "references").glob("*/part-*.safetensors"))


@pytest.mark.parametrize(
    ("told", "start"),
    [
        ({}, 0.693147),
        ({"label_smoothing": 0.2}, 0.693147),
        # (0 - 1 / (2 * 0.1))^2, and with beta 0.5
        ({"loss": "ipo"}, 25.0),
        ({"loss": "ipo", "beta": 0.5}, 1.0),
    ],
)
def test_a_loss_with_a_reference_starts_where_it_must_and_falls(trained, data, caplog, told, start):
    with caplog.at_level("INFO"):
        manifest = trained(epochs=4, **told)

    checks = [row["eval_loss"] for row in manifest["rows"] if "eval_loss" in row]
    assert checks[0] == pytest.approx(start, abs=1e-3)
    assert f"as it must be ({start:.4f})" in caplog.text
    assert manifest["last_loss"] < manifest["first_loss"]
    assert manifest["config"] | told == manifest["config"]
    assert len(parts(data)) == 2


def test_simpo_learns_without_measuring_or_naming_a_reference(trained, data):
    manifest = trained(loss="simpo", epochs=4)

    assert manifest["last_loss"] < manifest["first_loss"]
    assert "reference" not in manifest
    assert not (data / "references").exists()
    assert (manifest["config"]["beta"], manifest["config"]["simpo_gamma"]) == (2.0, 0.5)
    # averages of a token, not sums of a response: a uniform guess among 49,152 words is -10.8
    assert -15 < manifest["rows"][0]["eval_logps/chosen"] < -7


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ({"loss": "ipo", "label_smoothing": 0.1}, "--label-smoothing is for --loss sigmoid"),
        ({"loss": "simpo", "label_smoothing": 0.1}, "--label-smoothing is for --loss sigmoid"),
        ({"simpo_gamma": 0.5}, "--simpo-gamma is for --loss simpo, and --loss sigmoid has no use for it"),
        ({"loss": "ipo", "simpo_gamma": 0.0}, "--simpo-gamma is for --loss simpo"),
        ({"loss": "simpo", "reference": "smollm2"}, "--loss simpo has no reference; leave --reference out"),
        ({"label_smoothing": 0.6}, "--label-smoothing 0.6 is outside 0 to 0.5"),
        ({"beta": 0.0}, "--beta 0 must be above 0"),
        ({"micro_batch_tokens": 1}, "--micro-batch-tokens 1 must be at least 2"),
        ({"weights": "nowhere.csv"}, "no file nowhere.csv; --weights names a .parquet, .csv or .jsonl file"),
    ],
)
def test_what_a_loss_has_no_use_for_is_refused(trained, data, told, sentence):
    with pytest.raises(UserError) as refused:
        trained(**told)

    assert sentence in str(refused.value)
    assert not (data / "runs").exists()


def test_a_loss_whose_default_is_named_is_the_same_run(trained, caplog):
    first = trained()

    with caplog.at_level("INFO"):
        again = trained(beta=0.2, loss="sigmoid")

    assert again["finished_at"] == first["finished_at"]


def test_pairs_of_weight_0_are_never_seen(trained, write_weights):
    everything = trained("all", epochs=2)
    weighted = trained("some", epochs=2, weights=write_weights(1, 0, 1, 0, 0, 1, 1))

    # 7 and 4 pairs in steps of 4, twice
    assert (everything["steps"], weighted["steps"]) == (4, 2)
    assert 0.4 < weighted["tokens"] / everything["tokens"] < 0.7
    # held-out pairs count the same all the while
    assert [row["eval_rows"] for row in weighted["rows"] if "eval_rows" in row] == [HELD_OUT] * 3


def test_what_all_weights_have_in_common_does_not_matter(trained, write_weights):
    plain = trained("plain", lr=1e-3)
    # a power of two is multiplied by and divided by without rounding
    fourfold = trained("fourfold", lr=1e-3, weights=write_weights(*[4] * 7))

    plain_losses, losses = ([row["loss"] for row in run["rows"] if "loss" in row] for run in (plain, fourfold))
    assert losses == plain_losses


def test_weights_are_a_part_of_what_a_run_was_asked_for(trained, write_weights):
    first = trained(weights=write_weights(1, 2, 1, 1, 1, 1, 1))

    assert trained(weights=write_weights(1, 2, 1, 1, 1, 1, 1, name="again.csv"))["finished_at"] == first["finished_at"]
    with pytest.raises(UserError, match=r"asked for otherwise \(data\.weights_sha256"):
        trained(weights=write_weights(1, 3, 1, 1, 1, 1, 1))


def test_a_pair_of_the_mix_without_a_weight_is_refused(trained, write_weights):
    with pytest.raises(UserError, match="has no weight for 1 pairs of the mix, such as "):
        trained(weights=write_weights(1, 1, 1, 1, 1, 1))


def test_another_run_against_the_same_reference_measures_nothing(trained, data, caplog):
    trained("first")
    before = {path: path.stat().st_mtime_ns for path in parts(data)}
    caplog.clear()

    with caplog.at_level("INFO"):
        trained("second", loss="ipo", epochs=2)

    assert len(before) == 2
    assert {path: path.stat().st_mtime_ns for path in parts(data)} == before
    assert "all 7 rows were measured before" in caplog.text
    assert "rows measured" not in caplog.text


def test_a_part_of_the_reference_that_is_cut_in_half_is_measured_again(trained, data, caplog):
    first = trained()
    shutil.rmtree(data / "runs")
    damaged = parts(data)[0]
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[: len(whole) // 2])

    again = trained()

    assert f"{damaged} is not whole" in caplog.text
    assert damaged.read_bytes() == whole
    assert again["bytes"] == first["bytes"]


def test_a_changed_chat_template_makes_new_tokens_and_a_new_reference(trained, data, tiny_llama, tmp_path):
    trained("first")
    before = set((data / "tokens").iterdir()), set(parts(data))
    other = shutil.copytree(tiny_llama, tmp_path / "other")
    template = other / "chat_template.jinja"
    template.write_text(template.read_text().replace("<|im_start|>", "<|im_start|>the "))

    trained("second", base=str(other))

    assert len(set((data / "tokens").iterdir()) - before[0]) == 1
    assert len(set(parts(data)) - before[1]) == 2


@pytest.mark.parametrize("word", ["tea", "chess"], ids=["train", "heldout"])
@pytest.mark.parametrize("how", ["sigmoid", "simpo", "sft"])
def test_tokens_of_another_model_s_tokenizer_are_refused(trained, data, tiny_llama, tmp_path, how, word):
    """A tokenizer that knows more words than the weights."""
    from transformers import AutoTokenizer

    other = shutil.copytree(tiny_llama, tmp_path / "other")
    tokenizer = AutoTokenizer.from_pretrained(other)
    tokenizer.add_tokens([word])
    tokenizer.save_pretrained(other)

    with pytest.raises(UserError, match="writes token 49152, and its vocabulary ends at 49151"):
        if how == "sft":
            train_sft(SFTConfig(base=str(other), mix="v1", data=data))
        else:
            trained(base=str(other), loss=how)
