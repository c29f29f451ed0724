"""Tokens a second of `decode` against `generate` of transformers, on the embedded model and the same batch.

Two batches of 64 sequences from the sample prompts: 16 prompts with four responses each, and 64 with
one. The two take turns on two threads; medians of three. On a machine with other work compare the
ratios and the CPU seconds, not the tokens a second. Takes about three minutes on two quiet cores.
"""

import os

os.environ["OMP_NUM_THREADS"] = "2"

import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from curate.files import asset
from curate.flags import set_defaults
from curate.models.decode import decode, pack
from curate.models.embedded import embedded_folder
from curate.models.hf_generator import end_tokens

ROUNDS = 3
SAMPLING = {"temperature": 0.7, "top_p": 0.95, "max_tokens": 24}


def sample_prompts(tokenizer: Any, count: int) -> list[list[int]]:
    """Token numbers of `count` rendered sample prompts, spread over the kinds."""
    lines = asset("samples", "prompts.jsonl").read_text().splitlines()
    found = []
    for line in lines[:: len(lines) // count][:count]:
        prompt = json.loads(line)["prompt"]
        messages = prompt if isinstance(prompt, list) else [{"role": "user", "content": prompt}]
        encoded = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)
        found.append(list(encoded["input_ids"]))
    return sorted(found, key=len)


def ours(model: Any, tokenizer: Any, prompts: list[list[int]], copies: int) -> int:
    """Tokens drawn by `decode`."""
    luck = torch.rand(len(prompts) * copies, SAMPLING["max_tokens"], dtype=torch.float64)
    rows = decode(
        model, prompts, [copies] * len(prompts), luck, SAMPLING, end_tokens(tokenizer, model.generation_config)
    )
    return sum(len(row) for row in rows)


@torch.inference_mode()
def plain(model: Any, tokenizer: Any, prompts: list[list[int]], copies: int) -> int:
    """Tokens drawn by `generate`, counted up to and with the first end token."""
    ends = end_tokens(tokenizer, model.generation_config)
    padded = tokenizer.pad({"input_ids": prompts}, return_tensors="pt")
    drawn = model.generate(
        **padded,
        do_sample=True,
        temperature=SAMPLING["temperature"],
        top_p=SAMPLING["top_p"],
        top_k=0,
        num_return_sequences=copies,
        max_new_tokens=SAMPLING["max_tokens"],
        eos_token_id=ends,
        pad_token_id=tokenizer.pad_token_id,
    )[:, padded["input_ids"].shape[1] :]
    has_ended = torch.isin(drawn, torch.tensor(ends)).cumsum(-1).bool()
    return int((~has_ended).sum() + has_ended.any(-1).sum())


def measured(draw: Callable[[], int]) -> tuple[float, float]:
    """Tokens a second, and CPU seconds a thousand tokens."""
    wall, cpu = time.perf_counter(), time.process_time()
    tokens = draw()
    return tokens / (time.perf_counter() - wall), 1000 * (time.process_time() - cpu) / tokens


def main() -> None:
    """Print a table, and the means over the two batches as one line of JSON."""
    set_defaults()
    torch.set_num_threads(2)
    folder = embedded_folder("smollm2")
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    packed, usual = (AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval() for _ in range(2))
    pack(packed)
    ours(packed, tokenizer, sample_prompts(tokenizer, 2), 1)
    print(f"{'batch':<10} {'':<8} {'tokens/s':>9} {'CPU s/1k tokens':>16}")
    found: dict[str, list[tuple[float, float]]] = {"ours": [], "plain": []}
    for count, copies in ((16, 4), (64, 1)):
        prompts = sample_prompts(tokenizer, count)
        runs: dict[str, list[tuple[float, float]]] = {"ours": [], "plain": []}
        for seed in range(ROUNDS):
            for name, way, model in (("ours", ours, packed), ("plain", plain, usual)):
                torch.manual_seed(seed)
                runs[name].append(measured(partial(way, model, tokenizer, prompts, copies)))
        for name, values in runs.items():
            rate, cpu_s = (statistics.median(column) for column in zip(*values, strict=True))
            found[name].append((rate, cpu_s))
            print(f"{f'{count} x {copies}':<10} {name:<8} {rate:>9.1f} {cpu_s:>16.2f}", flush=True)
    means = {name: [statistics.fmean(column) for column in zip(*rows, strict=True)] for name, rows in found.items()}
    summary = {
        "tokens_per_s": means["ours"][0],
        "plain_tokens_per_s": means["plain"][0],
        "ratio": means["ours"][0] / means["plain"][0],
        "cpu_s_per_1k_tokens": means["ours"][1],
        "plain_cpu_s_per_1k_tokens": means["plain"][1],
    }
    print(json.dumps({name: round(value, 2) for name, value in summary.items()}))


if __name__ == "__main__":
    main()
