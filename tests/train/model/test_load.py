"""Policy and reference are the weights they are said to be, and the adapter loads in plain PEFT."""

import json
import warnings

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from curate.store.folders import read_folder, write_folder
from curate.store.runs import find_run
from schemas.errors import UserError
from train.config import DPOConfig, SFTConfig
from train.dpo import train_dpo
from train.model.load import choose_device, choose_sides, load_chat, load_frozen, load_trainable, resolve_weights
from train.sft import train_sft

CPU = torch.device("cpu")


@pytest.fixture
def data(make_mix, few_pairs, tiny_llama):
    """A mix, and an SFT run on it."""
    folder = make_mix(few_pairs, heldout=2)
    train_sft(SFTConfig(base=str(tiny_llama), epochs=1, lr=1e-2, data=folder))
    return folder


def logits(model):
    with torch.no_grad():
        return model.eval()(input_ids=torch.arange(20)[None]).logits


def plain_peft(folder, adapter):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)
        return PeftModel.from_pretrained(
            AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), str(adapter)
        )


@pytest.mark.parametrize(
    ("policy", "reference", "is_same"),
    [
        ("", "", True),
        ("sft-v1", "sft-v1", True),
        ("BASE", "sft-v1", False),
        ("sft-v1", "BASE", False),
        ("BASE", "BASE", True),
    ],
)
def test_every_pair_of_policy_and_reference_trains_one_adapter_on_the_base(
    data, tiny_llama, policy, reference, is_same, caplog
):
    names = [name.replace("BASE", str(tiny_llama)) for name in (policy, reference)]

    with caplog.at_level("INFO"):
        train_dpo(DPOConfig(policy=names[0], reference=names[1], epochs=1, lr=1e-2, name="d", data=data))

    manifest = json.loads((data / "runs" / "d" / "manifest.json").read_text())
    base = f"hf:{tiny_llama}"
    expected = [base if name == "BASE" else "sft-v1" for name in (policy, reference)]
    assert [manifest["policy"]["name"], manifest["reference"]["name"]] == expected
    assert (manifest["policy"]["digest"] == manifest["reference"]["digest"]) == is_same
    assert manifest["base"] == base
    assert ("as it must be (0.6931)" in caplog.text) == is_same
    first_check = json.loads((data / "runs" / "d" / "metrics.jsonl").read_text().splitlines()[0])
    assert (first_check["eval_loss"] == pytest.approx(0.693147, abs=1e-4)) == is_same
    model = plain_peft(tiny_llama, data / "runs" / "d" / "adapter")
    assert list(model.peft_config) == ["default"]


def test_the_saved_adapter_gives_the_logits_of_training_in_plain_peft(data, tiny_llama):
    run = resolve_weights("sft-v1", data)
    ours = logits(load_frozen(run, 64, CPU))

    assert torch.equal(logits(plain_peft(tiny_llama, data / "runs" / "sft-v1" / "adapter")), ours)
    continued = load_trainable(run, DPOConfig(max_length=64), CPU)
    assert torch.equal(logits(continued), ours)
    assert not torch.equal(logits(load_frozen(resolve_weights(str(tiny_llama), data), 64, CPU)), ours)


def test_a_policy_that_goes_on_from_a_run_trains_with_the_dropout_asked_for(data):
    model = load_trainable(resolve_weights("sft-v1", data), DPOConfig(lora_dropout=0.25), CPU)

    rates = {module.p for name, module in model.named_modules() if isinstance(module, torch.nn.Dropout)}
    assert rates == {0.25}
    assert all("lora_" in name for name, value in model.named_parameters() if value.requires_grad)


def test_a_reference_on_another_base_is_a_model_of_its_own(data, tiny_qwen):
    train_dpo(DPOConfig(reference=str(tiny_qwen), epochs=1, name="d", data=data))

    manifest = json.loads((data / "runs" / "d" / "manifest.json").read_text())
    assert manifest["reference"]["name"] == f"hf:{tiny_qwen}"


def test_the_newest_run_on_the_base_that_is_named_is_taken(data, tiny_llama, tiny_qwen):
    assert choose_sides(data, "", "", "")[0].name == "sft-v1"
    assert choose_sides(data, str(tiny_llama), "", "")[0].name == "sft-v1"
    assert choose_sides(data, str(tiny_qwen), "", "")[0].name == f"hf:{tiny_qwen}"


def test_what_cannot_be_policy_or_reference_is_refused(data, tiny_llama, tiny_qwen):
    with pytest.raises(UserError, match=r"no run or model 'sft-v2' \(did you mean 'sft-v1'\?\)"):
        choose_sides(data, "", "sft-v2", "")
    with pytest.raises(UserError, match="belongs to the base model"):
        choose_sides(data, str(tiny_qwen), "sft-v1", "")
    with pytest.raises(
        UserError, match="rank 8 and alpha 16; training goes on from it with --lora-rank 8 --lora-alpha 16"
    ):
        load_trainable(resolve_weights("sft-v1", data), DPOConfig(lora_rank=4), CPU)
    with pytest.raises(UserError, match="--max-length 2000 is over the context"):
        load_frozen(resolve_weights(str(tiny_llama), data), 2000, CPU)


def test_an_adapter_on_other_weights_than_it_was_trained_on_is_refused(data, tiny_qwen):
    path = data / "runs" / "sft-v1" / "manifest.json"
    manifest = read_folder(path, "sft-v1", "")
    write_folder(path, "sft-v1", manifest | {"base": f"hf:{tiny_qwen}"}, manifest["files"])

    with pytest.raises(UserError, match="was trained on other weights of hf:"):
        resolve_weights("sft-v1", data)


def test_an_adapter_that_does_not_fit_its_base_is_refused(data, tokenizer, tmp_path):
    from transformers import LlamaConfig, LlamaForCausalLM

    path = data / "runs" / "sft-v1" / "manifest.json"
    manifest = read_folder(path, "sft-v1", "")
    wide = LlamaConfig(
        vocab_size=49_152, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2
    )
    LlamaForCausalLM(wide).save_pretrained(tmp_path / "wide")
    tokenizer.save_pretrained(tmp_path / "wide")
    early = {name: value for name, value in manifest.items() if name != "base_digest"}
    write_folder(path, "sft-v1", early | {"base": f"hf:{tmp_path}/wide"}, manifest["files"])

    with pytest.raises(UserError, match="it is of another base"):
        load_frozen(resolve_weights("sft-v1", data), 64, CPU)


def test_a_gpu_that_is_named_and_absent_is_refused(monkeypatch):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")

    with pytest.raises(UserError, match="--device cuda names a GPU, but torch sees none"):
        choose_device("cuda")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    with pytest.raises(UserError, match="CUDA_VISIBLE_DEVICES=3 names a GPU"):
        choose_device("auto")
    assert choose_device("cpu").type == "cpu"


def test_a_folder_that_is_no_model_is_refused(tmp_path):
    with pytest.raises(UserError, match="is not a transformers model folder"):
        load_chat(resolve_weights(str(tmp_path), tmp_path))


def test_a_run_tells_its_base_as_generators_are_named(data, tiny_llama):
    assert find_run(data, "sft-v1").base == f"hf:{tiny_llama}"
