"""Any number of pairs made of the real ones by replacing words, in a file of ready pairs."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from screening.pool import RealPair, real_pairs

REPLACED = 0.3
"""Share of the words of a new pair that are replaced: two pairs made of the same real one then share few 3-grams."""
NEAR_COPIES = 0.05
SLIPS = 0.01
"""Share of the words of a near copy that differ from those of the row before it."""
COPIES = 0.02
"""Rows that repeat the one before them word for word."""
SEED = 30


@dataclass(frozen=True)
class Words:
    """The texts of a pair as one array of words; white space other than single spaces stays within the words."""

    words: NDArray[np.object_]
    ends: list[int]
    """Where each text ends: the turns of the prompt, the chosen, the rejected response."""
    roles: list[str]


def write_pairs(path: Path, count: int) -> int:
    """Write `count` pairs of the mean size of the real ones; returns the size of the file in bytes."""
    with path.open("w", encoding="utf-8") as lines:
        for row in perturbed(count):
            lines.write(json.dumps(row, ensure_ascii=False) + "\n")
    return path.stat().st_size


def perturbed(count: int) -> Iterator[dict[str, Any]]:
    """Rows of ready pairs, with made-up scores; the same for the same count."""
    random = np.random.default_rng(SEED)
    pairs = [split(pair) for pair in real_pairs()]
    # as many words are drawn as each has occurrences, so that common words stay common
    vocabulary = np.concatenate([pair.words for pair in pairs])
    last = pairs[0].words
    order: NDArray[np.int64] = random.permutation(len(pairs))
    for number in range(count):
        if number % len(pairs) == 0:
            order = random.permutation(len(pairs))
        kind = random.random()
        if kind >= COPIES + NEAR_COPIES or number == 0:
            pair = pairs[order[number % len(pairs)]]
            last = replaced(pair.words, REPLACED, vocabulary, random)
        elif kind >= COPIES:
            last = replaced(last, SLIPS, vocabulary, random)
        yield row(pair, last, random)


def replaced(
    words: NDArray[np.object_], share: float, vocabulary: NDArray[np.object_], random: np.random.Generator
) -> NDArray[np.object_]:
    """A copy with this share of the words replaced by words of other pairs."""
    places = np.flatnonzero(random.random(len(words)) < share)
    changed = words.copy()
    changed[places] = vocabulary[random.integers(len(vocabulary), size=len(places))]
    return changed


def row(pair: Words, words: NDArray[np.object_], random: np.random.Generator) -> dict[str, Any]:
    """The row of a file of ready pairs."""
    flat = words.tolist()
    starts = [0, *pair.ends]
    *turns, chosen, rejected = (" ".join(flat[start:end]) for start, end in zip(starts, pair.ends, strict=False))
    score, margin = random.normal(5, 2), random.normal(1, 1)
    return {
        "prompt": [{"role": role, "content": text} for role, text in zip(pair.roles, turns, strict=True)],
        "chosen": chosen,
        "rejected": rejected,
        "score_chosen": round(float(score + margin), 3),
        "score_rejected": round(float(score), 3),
    }


def split(pair: RealPair) -> Words:
    texts = [*(message["content"] for message in pair.messages), pair.chosen, pair.rejected]
    words = [text.split(" ") for text in texts]
    ends = np.cumsum([len(part) for part in words]).tolist()
    flat = np.array([word for part in words for word in part], dtype=object)
    return Words(flat, ends, [message["role"] for message in pair.messages])
