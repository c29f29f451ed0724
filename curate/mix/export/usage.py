"""Write what another tool needs to read an export: its config as a file, and the command that is ready to run."""

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MODEL = "Qwen/Qwen2.5-0.5B-Instruct"
"""The model that commands name, for the user to put their own in its place."""


@dataclass(frozen=True)
class Written:
    """Files of an export."""

    name: str
    """Of the mix or build."""
    folder: Path
    files: dict[str, str]
    """Split -> file, those without a record among them."""
    records: dict[str, int]
    """Split -> records."""

    @property
    def train(self) -> str:
        return self.files["train"]

    @property
    def heldout(self) -> str | None:
        """The file of the held-out records; None where there are none, for tools stop at a file without records."""
        return self.files["heldout"] if self.records.get("heldout") else None

    def path(self, name: str) -> str:
        return str(self.folder / name)


@dataclass(frozen=True)
class Usage:
    """How to use an export."""

    command: str
    """Ready to run, or Python."""
    language: str = "bash"
    files: dict[str, str] = field(default_factory=dict)
    """Name of a config file -> content."""


def trl_usage(verb: str) -> Callable[[Written], Usage]:
    """A command of TRL's own, which loads the folder and takes its splits train and test."""

    def usage(written: Written) -> Usage:
        words = ["trl", verb, "--model_name_or_path", MODEL, "--dataset_name", str(written.folder)]
        words += ["--output_dir", f"{written.name}-{verb}", *(["--eval_strategy", "epoch"] if written.heldout else [])]
        return Usage(shlex.join(words))

    return usage


def h4_usage(written: Written) -> Usage:
    splits = ["train_prefs", *(["test_prefs"] if written.heldout else [])]
    lines = ["# Data of a recipe of the alignment handbook", "dataset_mixer:", f"  {quoted(str(written.folder))}: 1.0"]
    lines += ["dataset_splits:", *(f"- {split}" for split in splits)]
    config = {"handbook.yaml": "".join(f"{line}\n" for line in lines)}
    return Usage(load_command(str(written.folder), None, "train_prefs"), "python", config)


def load_command(path: str, kind: str | None, split: str) -> str:
    """Python that loads a split."""
    source = f'"{kind}", data_files={quoted(path)}' if kind else quoted(path)
    return f'from datasets import load_dataset\n\nrows = load_dataset({source}, split="{split}")'


def llamafactory_usage(formatting: str, columns: dict[str, str]) -> Callable[[Written], Usage]:
    """`dataset_info.json`, and a command that trains on what it names."""

    def usage(written: Written) -> Usage:
        entry: dict[str, Any] = {"ranking": True, "formatting": formatting, "columns": columns}
        named = {f"{written.name}_train": written.train}
        if written.heldout:
            named[f"{written.name}_heldout"] = written.heldout
        info = {name: {"file_name": file, **entry} for name, file in named.items()}
        words = ["llamafactory-cli", "train", "--stage", "dpo", "--do_train", "--finetuning_type", "lora"]
        words += ["--model_name_or_path", MODEL, "--template", "qwen", "--dataset_dir", str(written.folder)]
        words += ["--dataset", f"{written.name}_train", "--output_dir", f"{written.name}-dpo"]
        if written.heldout:
            words += ["--eval_dataset", f"{written.name}_heldout", "--eval_strategy", "epoch"]
        return Usage(shlex.join(words), files={"dataset_info.json": f"{json.dumps(info, indent=2)}\n"})

    return usage


SHAREGPT_COLUMNS = {"messages": "conversations", "chosen": "chosen", "rejected": "rejected", "tools": "tools"}
LLAMAFACTORY_COLUMNS = SHAREGPT_COLUMNS | {"system": "system"}
ALPACA_COLUMNS = {
    **{"prompt": "instruction", "query": "input", "chosen": "chosen", "rejected": "rejected"},
    **{"system": "system", "history": "history"},
}


def axolotl_usage(kind: str, head: list[str], fields: list[str]) -> Callable[[Written], Usage]:
    """`axolotl.yaml`, for axolotl to be run where the export lies."""

    def usage(written: Written) -> Usage:
        lines = [f"base_model: {MODEL}", *head, "chat_template: tokenizer_default"]
        for name, file in (("datasets", written.train), ("test_datasets", written.heldout)):
            if file:
                lines += [f"{name}:", f"  - path: {file}", "    ds_type: json", "    split: train", f"    type: {kind}"]
                lines += [f"    {line}" for line in fields]
        lines += ["sequence_len: 2048", "micro_batch_size: 1", "gradient_accumulation_steps: 8", "num_epochs: 1"]
        lines += ["learning_rate: 5.0e-6", "adapter: lora", "lora_r: 16", "lora_alpha: 32", "lora_target_linear: true"]
        lines += [f"output_dir: ./{written.name}-model"]
        content = "".join(f"{line}\n" for line in lines)
        command = f"cd {shlex.quote(str(written.folder))} && axolotl train axolotl.yaml"
        return Usage(command, files={"axolotl.yaml": content})

    return usage


AXOLOTL_FIELDS = [
    *("field_messages: messages", "field_chosen: chosen", "field_rejected: rejected", "message_property_mappings:"),
    *("  role: role", "  content: content", "roles:", '  user: ["user"]', '  assistant: ["assistant"]'),
    '  system: ["system"]',
]


axolotl_dpo = axolotl_usage("chat_template.default", ["rl: dpo"], AXOLOTL_FIELDS)
axolotl_orpo = axolotl_usage(
    "chat_template.argilla", ["rl: orpo", "orpo_alpha: 0.1", "remove_unused_columns: false"], []
)


def openai_usage(written: Written) -> Usage:
    lines = ["from openai import OpenAI", "", "client = OpenAI()", "", "", "def upload(path):"]
    lines += ['    return client.files.create(file=open(path, "rb"), purpose="fine-tune").id', "", ""]
    lines += ["job = client.fine_tuning.jobs.create(", '    model="gpt-4.1-mini-2025-04-14",']
    lines += [f'    training_file=upload("{written.train}"),']
    lines += [f'    validation_file=upload("{written.heldout}"),'] if written.heldout else []
    lines += ['    method={"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.1}}},', ")", "print(job.id)"]
    command = f"cd {shlex.quote(str(written.folder))} && python fine_tune.py"
    return Usage(command, files={"fine_tune.py": "".join(f"{line}\n" for line in lines)})


def nemo_rl_usage(written: Written) -> Usage:
    files = {"train": written.train, "validation": written.heldout}
    lines = ["# Put into a config such as examples/configs/dpo.yaml of NeMo-RL", "data:"]
    words = ["uv", "run", "examples/run_dpo.py", "--config", "examples/configs/dpo.yaml"]
    for split, file in files.items():
        if file is None:
            lines += [f"  {split}: null"]
            words += [f"++data.{split}=null"]
            continue
        # The tool runs in its own checkout.
        path = str((written.folder / file).absolute())
        lines += [f"  {split}:", "    dataset_name: PreferenceDataset", f"    data_path: {quoted(path)}"]
        words += [f"++data.{split}.dataset_name=PreferenceDataset", f"++data.{split}.data_path={path}"]
    return Usage(shlex.join(words), files={"nemo-rl.yaml": "".join(f"{line}\n" for line in lines)})


def quoted(text: str) -> str:
    """A text in YAML or Python."""
    return json.dumps(text, ensure_ascii=False)


def load_usage(kind: str) -> Callable[[Written], Usage]:
    return lambda written: Usage(load_command(written.path(written.train), kind, "train"), "python")


def build_usage(written: Written) -> Usage:
    words = ["curate", "build", "--source", written.path(written.train), "--name", f"{written.name}-again"]
    return Usage(shlex.join(words))
