"""TRL trains on the folder of a mix as it is."""

import json
import warnings

import pytest
from datasets import load_dataset

from curate.config import BuildConfig, MixConfig
from curate.mix.mix import mix
from curate.pipeline.build import build


@pytest.fixture
def mixed(tmp_path):
    """A mix of pairs with a system message, several turns and a call of a tool among others."""
    sides = {"chosen": "Light scatters, and blue scatters most.", "rejected": "It mirrors the sea below it."}
    call = {"type": "function", "function": {"name": "sky", "arguments": {"day": "monday"}}}
    prompts = [
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why is the sky blue?"}],
        [{"role": role, "content": f"{role} says this"} for role in ("user", "assistant", "user")],
        [
            {"role": "user", "content": "And on Monday?"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": "gray"},
        ],
        *([{"role": "user", "content": f"What is {i * i} good for?"}] for i in range(5)),
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps({"prompt": prompt, **sides}) + "\n" for prompt in prompts))
    build(BuildConfig(source=str(path), max_cosine=1.0, max_jaccard=1.0, skip_rule=("off_topic",), data=tmp_path))
    return mix(MixConfig(name="v1", add=("pairs",), data=tmp_path))


def test_a_dpo_step_is_made_on_the_conversation(mixed, tiny_llama, tokenizer, tmp_path):
    from transformers import AutoModelForCausalLM
    from trl import DPOConfig, DPOTrainer

    loaded = load_dataset(str(mixed.path), cache_dir=str(tmp_path / "cache"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = DPOTrainer(
            AutoModelForCausalLM.from_pretrained(tiny_llama),
            args=DPOConfig(
                output_dir=str(tmp_path / "trl"),
                max_steps=1,
                per_device_train_batch_size=2,
                gradient_checkpointing=False,
                report_to=[],
                use_cpu=True,
                disable_tqdm=True,
                save_strategy="no",
            ),
            train_dataset=loaded["train"],
            eval_dataset=loaded["test"],
            processing_class=tokenizer,
        )
        done = trainer.train()

    prompts = [tokenizer.decode(row["prompt_ids"]) for row in trainer.train_dataset]
    expected = [
        tokenizer.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True)
        for row in loaded["train"]
    ]
    assert done.global_step == 1
    assert len(loaded["test"]) == len(trainer.eval_dataset) == mixed.lock.heldout > 0
    assert prompts == expected
    assert all(row["prompt"][-1]["content"] in prompt for row, prompt in zip(loaded["train"], prompts, strict=True))
