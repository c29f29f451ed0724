"""Real preference pairs as tokens, and which of them make a step; the same for everyone that is measured."""

import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from schemas.errors import UserError

PAIRS_FILE = Path(__file__).parents[2] / "shared" / "datasets" / "ultrafeedback_pairs.parquet"
MICRO = 4
"""Pairs a micro-batch; a step is two of them."""


@dataclass(frozen=True)
class Pair:
    """A pair as both sides read it: texts for who tokenizes by itself, and the tokens they must come to."""

    prompt: str
    """With the chat template around it, up to where the response begins."""
    chosen: str
    rejected: str
    prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]

    def lengths(self) -> tuple[int, int, int]:
        """Tokens of the prompt, the chosen and the rejected response."""
        return len(self.prompt_ids), len(self.chosen_ids), len(self.rejected_ids)

    def longest(self) -> int:
        """Tokens of the prompt with its longer response."""
        prompt, *responses = self.lengths()
        return prompt + max(responses)


def real_pairs(path: Path, tokenizer: Any, max_length: int, seed: int) -> list[Pair]:
    """Every pair of the file that fits untruncated, in a seeded order. Raises UserError without the file."""
    if not path.is_file():
        raise UserError(
            f"no pairs in {path}; give --pairs-file, a Parquet file with the columns prompt, chosen and rejected"
        )
    rows = pl.read_parquet(path, columns=["prompt", "chosen", "rejected"]).unique(maintain_order=True).to_dicts()
    found = [pair for row in rows if (pair := fitting(tokenizer, row, max_length)) is not None]
    random.Random(seed).shuffle(found)
    return found


def fitting(tokenizer: Any, row: dict[str, str], max_length: int) -> Pair | None:
    """The pair, or None where a side is too long, is empty, or joins its first token to the prompt's last."""
    turns = [{"role": "user", "content": row["prompt"]}]
    prompt: str = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    ends = [response + tokenizer.eos_token for response in (row["chosen"], row["rejected"])]
    texts = [prompt, *(prompt + response for response in ends)]
    prompt_ids, *wholes = tokenizer(texts, add_special_tokens=False)["input_ids"]
    at = len(prompt_ids)
    if max(map(len, wholes)) > max_length or any(whole[:at] != prompt_ids for whole in wholes):
        return None
    chosen_ids, rejected_ids = (whole[at:] for whole in wholes)
    if min(len(chosen_ids), len(rejected_ids)) < 2 or chosen_ids == rejected_ids:
        return None
    return Pair(prompt, *ends, prompt_ids, chosen_ids, rejected_ids)


def length_groups(pairs: Sequence[Pair], steps: int, seed: int) -> list[list[list[Pair]]]:
    """`steps` steps of two micro-batches of pairs alike in length, as a length-grouped sampler deals them.

    All pairs are sorted by the length that is padded to and cut into micro-batches; those taken lie evenly over all
    lengths, so a step is as long as the data are on average, and which two make a step is drawn.
    """
    order = sorted(pairs, key=Pair.longest)
    groups = [order[start : start + MICRO] for start in range(0, len(order) - MICRO + 1, MICRO)]
    wanted = 2 * steps
    if len(groups) < wanted:
        raise UserError(f"{steps} steps need {wanted * MICRO} pairs that fit, and there are {len(pairs)}")
    taken = [groups[int((i + 0.5) / wanted * len(groups))] for i in range(wanted)]
    random.Random(seed).shuffle(taken)
    return [taken[2 * i : 2 * i + 2] for i in range(steps)]


def dealt_at_random(steps: Sequence[Sequence[Sequence[Pair]]], seed: int) -> list[list[list[Pair]]]:
    """The same pairs in the same steps, dealt to the micro-batches of a step by chance, as is TRL's default."""
    chance = random.Random(seed)
    dealt = []
    for step in steps:
        pairs = [pair for micro in step for pair in micro]
        chance.shuffle(pairs)
        dealt.append([pairs[start : start + MICRO] for start in range(0, len(pairs), MICRO)])
    return dealt


def write_steps(path: Path, steps: Sequence[Sequence[Sequence[Pair]]]) -> None:
    """Steps, each of micro-batches, each of pairs, for another process."""
    path.write_text(json.dumps([[[asdict(pair) for pair in micro] for micro in step] for step in steps]))


def read_steps(path: Path) -> list[list[list[Pair]]]:
    """What `write_steps` wrote."""
    return [[[Pair(**pair) for pair in micro] for micro in step] for step in json.loads(path.read_text())]
