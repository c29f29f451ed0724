"""Texts a second of the sentence encoder beside plain sentence-transformers, on real texts.

Short texts have 14 to 40 word pieces, long ones 90 to 256. The two take turns, each loaded and warm; figures are
medians of the rounds, and the ratios are of CPU seconds of the whole process and of wall time. The smallest cosine
between the two is over all texts, with both truncating from the left. `--data` names a folder with the public
files; `--json` prints one line.
"""

import argparse
import gzip
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from curate.flags import set_defaults

set_defaults()
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np  # noqa: E402
import polars as pl  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from sentence_transformers import SentenceTransformer  # noqa: E402

from curate.models.embedded import embedded_folder  # noqa: E402
from curate.models.encoder import MOST_CHARACTERS, minilm_encoder  # noqa: E402

DATASETS = Path(__file__).parents[2] / "shared" / "datasets"
LENGTHS = {"short": (14, 40), "long": (90, 256)}
TEXTS = {"short": 1024, "long": 192}

Encode = Callable[[list[str]], NDArray[np.float32]]


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATASETS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    cfg = parser.parse_args()

    encoder = minilm_encoder()
    peer = SentenceTransformer(str(embedded_folder("minilm")), device="cpu")
    encoders: dict[str, Encode] = {"ours": encoder.encode, "sentence_transformers": lambda texts: peer.encode(texts)}
    texts = real_texts(cfg.data)
    counts = np.array([len(ids) for ids in peer.tokenizer(texts, truncation=True, max_length=256)["input_ids"]])
    found: dict[str, Any] = {}
    for name, (low, high) in LENGTHS.items():
        places = np.flatnonzero((counts >= low) & (counts <= high))
        chosen = np.random.default_rng(30).permutation(places)[: TEXTS[name]]
        found[name] = compare(encoders, [texts[i] for i in chosen], cfg.rounds)
        found[name]["tokens"] = round(float(counts[chosen].mean()), 1)
    peer.tokenizer.truncation_side = "left"
    every = np.random.default_rng(31).permutation(len(texts))[:1024]
    found["min_cosine"] = round(smallest_cosine(encoders, [texts[i] for i in every]), 6)
    if cfg.json:
        print(json.dumps(found))
    else:
        print_table(found)


def real_texts(data: Path) -> list[str]:
    """Distinct questions, answers and code of three public files, without those that we cut before the model."""
    pairs = pl.read_parquet(data / "ultrafeedback_pairs.parquet")
    texts = pairs["prompt"].to_list() + pairs["chosen"].to_list()
    columns = {"gsm8k_train_sft": ("question", "answer"), "gpteacher_codegen_sft": ("instruction", "response")}
    for name, fields in columns.items():
        with gzip.open(data / f"{name}.jsonl.gz", "rt") as lines:
            texts += [row[field] for row in map(json.loads, lines) for field in fields]
    return list(dict.fromkeys(text for text in texts if 0 < len(text) <= MOST_CHARACTERS))


def compare(encoders: dict[str, Encode], texts: list[str], rounds: int) -> dict[str, Any]:
    """Texts a second of wall time of each, and how many times the peer's seconds are ours."""
    cpu: dict[str, list[float]] = {name: [] for name in encoders}
    wall: dict[str, list[float]] = {name: [] for name in encoders}
    for turn in range(rounds):
        for name in sorted(encoders, reverse=turn % 2 == 1):
            encoders[name](texts[:32])
            spent, began = time.process_time(), time.perf_counter()
            encoders[name](texts)
            cpu[name].append(time.process_time() - spent)
            wall[name].append(time.perf_counter() - began)
    cpu_s = {name: statistics.median(values) for name, values in cpu.items()}
    wall_s = {name: statistics.median(values) for name, values in wall.items()}
    return {
        **{name: round(len(texts) / seconds, 1) for name, seconds in wall_s.items()},
        "ratio": round(wall_s["sentence_transformers"] / wall_s["ours"], 2),
        "cpu_ms": {name: round(1000 * seconds / len(texts), 2) for name, seconds in cpu_s.items()},
        "cpu_ratio": round(cpu_s["sentence_transformers"] / cpu_s["ours"], 2),
        "texts": len(texts),
    }


def smallest_cosine(encoders: dict[str, Encode], texts: list[str]) -> float:
    """The smallest cosine between the two vectors of one text."""
    ours, peer = (encode(texts).astype(np.float64) for encode in encoders.values())
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(peer, axis=1)
    return float(((ours * peer).sum(axis=1) / lengths).min())


def print_table(found: dict[str, Any]) -> None:
    """One line a length, and the cosine."""
    for name in LENGTHS:
        one = found[name]
        print(
            f"{name:5} {one['texts']} texts of {one['tokens']} word pieces: "
            f"{one['ours']} a second against {one['sentence_transformers']} of sentence-transformers, "
            f"{one['ratio']} times; CPU ms a text {one['cpu_ms']['ours']} against "
            f"{one['cpu_ms']['sentence_transformers']}, {one['cpu_ratio']} times"
        )
    print(f"smallest cosine between the two: {found['min_cosine']}")


if __name__ == "__main__":
    main()
