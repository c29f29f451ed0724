"""TRL's own trainers take an exported folder as it is, and train on the whole prompt."""

import copy
import warnings

import pytest
from datasets import load_dataset
from exporting import CASES, PLAIN, Rows
from transformers import AutoModelForCausalLM

from curate.mix.export.export import write_export

TEMPLATE = (
    "{% for tool in tools or [] %}tool {{ tool.function.name }};{% endfor %}"
    "{% for turn in messages %}{{ turn.role }}: {{ turn.content }}"
    "{% for call in turn.tool_calls or [] %}call {{ call.function.name }}({{ call.function.arguments | tojson }})"
    "{% endfor %};{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
)
ROWS = [PLAIN, *CASES["system"], *CASES["several turns"], *CASES["tools"]]
PROMPTS = [
    "user: What is a plain row?;assistant:",
    "system: Be brief.;user: Why does bread rise?;assistant:",
    "user: Hi;assistant: Hello.;user: Why does bread rise?;assistant:",
    'tool oven;user: How warm is it?;assistant: call oven({"unit": "C", "rack": 2});tool: 210;assistant:',
]


@pytest.mark.parametrize("to", ["trl", "trl-implicit", "kto"])
def test_trl_trains_a_step_on_an_export_and_sees_the_whole_prompt(tiny_llama, tokenizer, tmp_path, to):
    folder = write_export(Rows(ROWS, ROWS[:2]), to, tmp_path / "out", "").folder
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = TEMPLATE
    splits = load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer

        kind, config = (KTOTrainer, KTOConfig) if to == "kto" else (DPOTrainer, DPOConfig)
        args = config(
            output_dir=str(tmp_path / "trained"),
            per_device_train_batch_size=4,
            max_steps=1,
            max_length=None,
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=True,
            report_to="none",
            dataloader_pin_memory=False,
            disable_tqdm=True,
            save_strategy="no",
        )
        trainer = kind(
            model=AutoModelForCausalLM.from_pretrained(tiny_llama),
            args=args,
            train_dataset=splits["train"],
            eval_dataset=splits["test"],
            processing_class=tokenizer,
        )
        trainer.train()

    found = [tokenizer.decode(row["prompt_ids"], skip_special_tokens=True) for row in trainer.train_dataset]
    assert sorted(set(found)) == sorted(PROMPTS)
    assert trainer.state.global_step == 1
