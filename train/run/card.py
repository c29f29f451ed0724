"""The model card of a run, written from its manifest."""

from collections.abc import Mapping
from typing import Any

HOW = {
    "sft": "supervised fine-tuning: the loss is on the tokens of responses alone",
    "sigmoid": "direct preference optimization, equation 7 of https://arxiv.org/abs/2305.18290",
    "ipo": "identity preference optimization, equation 17 of https://arxiv.org/abs/2310.12036, of the average token",
    "simpo": "simple preference optimization, equation 6 of https://arxiv.org/abs/2405.14734",
}
"""By the loss, or by the kind of a run that has but one."""


def run_card(manifest: Mapping[str, Any]) -> str:
    """README.md of a run."""
    config = manifest["config"]
    base = manifest["base"].removeprefix("hf:")
    return f"""# {manifest["name"]}

A LoRA adapter for `{base}`, made by {HOW[config.get("loss", manifest["kind"])]}.

## How it was made

| what | value |
|---|---|
{format_table(list_settings(manifest))}

Rows before training: {describe_rows(manifest)}.

## How training went

{manifest["steps"]:,} steps, {manifest["tokens"]:,} tokens, {manifest["seconds"]:,} seconds. The training loss was
{manifest["first_loss"]:.4f} at the first step and {manifest["last_loss"]:.4f} at the last.
{describe_check(manifest)}

{describe_warnings(manifest)}

`metrics.jsonl` has every step, `curves.png` draws them, `manifest.json` has digests and versions.

## Use

```python
from peft import PeftModel
from transformers import AutoModelForCausalLM

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(BASE), "adapter")
```

`BASE` is `{base}`. vLLM serves the adapter with
`--enable-lora --lora-modules {manifest["name"]}=adapter --max-lora-rank {max(8, config["lora_rank"])}`.

## Limits

It has the license and the limits of its base model and of its data. Losses and rewards on held-out pairs say what was
learned of the pairs; only a comparison of responses says whether they got better.
"""


def list_settings(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The rows of the table, in order."""
    sides = [side for side in ("policy", "reference") if manifest["kind"] == "dpo" and side in manifest]
    named = {side: f"{manifest[side]['name']} ({manifest[side]['digest'][:12]})" for side in sides}
    return {
        "base": f"{manifest['base']} ({manifest['base_digest'][:12]})",
        **named,
        **manifest["data"],
        **manifest["config"],
    }


def format_table(values: Mapping[str, Any]) -> str:
    return "\n".join(f"| {name.replace('_', ' ')} | `{value}` |" for name, value in values.items())


def describe_rows(manifest: Mapping[str, Any]) -> str:
    """Counts of rows kept, truncated and dropped of each split."""
    parts = []
    for split, counts in manifest["preflight"].items():
        lost = f"truncated {format_counts(counts['cut'])}, dropped {format_counts(counts['dropped'])}"
        parts.append(f"{split} {counts['rows']:,} in, {counts['kept']:,} kept, {lost}")
    return "; ".join(parts)


def format_counts(values: Mapping[str, int]) -> str:
    """`3 prompt, 1 chosen`, or none."""
    return ", ".join(f"{count:,} {name}" for name, count in values.items() if count) or "none"


def describe_check(manifest: Mapping[str, Any]) -> str:
    check = manifest["last_check"]
    if check is None:
        return "There were no held-out rows."
    accuracy = check.get("eval_rewards/accuracies")
    right = (
        "" if accuracy is None else f", and the chosen response had the larger reward in {accuracy:.3f} of the pairs"
    )
    return f"On held-out rows the loss was {check['eval_loss']:.4f} at the end{right}."


def describe_warnings(manifest: Mapping[str, Any]) -> str:
    return "\n".join(f"- Warning: {text}." for text in manifest["warnings"]) or "There were no warnings."
