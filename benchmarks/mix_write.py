"""The rows of a mix of a million pairs, written as `curate mix` does, beside polars' gather and write of the same.

    python benchmarks/mix_write.py --pairs 1000000

The pairs lie in a table of parts, as a build leaves them, and are written in a random order with one in ten held out.
Ours reads every part against its digest, writes shards of training and test rows and the lineage, and digests them.
Polars reads the same columns, gathers them in the same order and writes one file, without a digest. Each run is a
process of its own, in turns; figures are medians of CPU seconds (user and system), and the largest memory.
"""

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from curate.mix.write import PAIR_COLUMNS, write_rows
from curate.store.session import open_session
from curate.store.store import Part, Table, load_table
from schemas.stages import StageName
from schemas.tables import Dropped, Pair

ROWS_PER_PART = 4096
WORDS = np.array([f"{a}{b}{c}" for a in ("ba", "ko", "ri", "te") for b in "aeioulmnrst" for c in ("n", "ck", "sh", "")])
LENGTHS = {"prompt": 25, "chosen": 110, "rejected": 90}
"""Mean words of a text."""


@dataclass(frozen=True)
class TextsConfig:
    """Pairs of random words."""

    pairs: int
    seed: int = 0


def make_pairs(cfg: TextsConfig) -> Iterator[Part]:
    """Parts of pairs of random words."""
    random = np.random.default_rng(cfg.seed)
    for first in range(0, cfg.pairs, ROWS_PER_PART):
        count = min(ROWS_PER_PART, cfg.pairs - first)
        texts = {name: random_texts(random, count, mean) for name, mean in LENGTHS.items()}
        ids = [f"{first + i:016x}" for i in range(count)]
        rows = pl.DataFrame(
            {
                **{name: ids for name in ("pair_id", "prompt_id", "prompt_group")},
                "messages": [[{"role": "user", "content": text}] for text in texts["prompt"]],
                **{side: texts[side] for side in ("chosen", "rejected")},
                **{name: random.normal(size=count) for name in ("score_chosen", "score_rejected")},
            }
        ).with_columns(
            scorer=pl.lit("reward-mini"),
            failed_score=pl.lit(False),
            origin=pl.lit("real"),
            license=pl.lit("MIT"),
            is_heldout=pl.lit(False),
        )
        whole = pl.concat([Pair.create_empty(), rows], how="diagonal_relaxed").pipe(Pair.cast)
        yield Part(whole, Dropped.create_empty())


def random_texts(random: np.random.Generator, count: int, mean: int) -> list[str]:
    """Texts of random words, of very different lengths."""
    words = WORDS[random.integers(0, len(WORDS), count * mean * 2)]
    ends = np.minimum(np.cumsum(random.geometric(1 / mean, count)), len(words) - 1)
    return [" ".join(words[begin : end + 1]) for begin, end in zip([0, *ends[:-1]], ends, strict=True)]


def chosen_rows(pairs: int) -> pl.DataFrame:
    """The rows of a mix of all pairs, as `choose_rows` gives them."""
    order = np.random.default_rng(1).permutation(pairs).astype(np.uint32)
    return pl.DataFrame({"at": order}).with_columns(
        source=pl.lit("bench"),
        split=pl.when(pl.int_range(pl.len()) % 10 == 0).then(pl.lit("heldout")).otherwise(pl.lit("train")),
        flags=pl.lit([], dtype=pl.List(pl.String)),
        verdict=pl.lit(None, dtype=pl.String),
        answers=pl.lit(0, dtype=pl.UInt32),
    )


def write_ours(table: Table, rows: pl.DataFrame, folder: Path) -> None:
    write_rows(rows, {"bench": table}, folder)


def write_polars(table: Table, rows: pl.DataFrame, folder: Path) -> None:
    files = sorted(table.folder.glob("part-*.parquet"))
    read = pl.read_parquet(files, columns=list(PAIR_COLUMNS))
    order = pl.concat([rows.filter(split="train"), rows.filter(split="heldout")])["at"]
    read[order].write_parquet(folder / "rows.parquet", compression="zstd")


ARMS = {"ours": write_ours, "polars": write_polars}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--work", type=Path, help="folder for the table, kept for a later run")
    parser.add_argument("--arm", choices=ARMS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.arm:
        run_arm(asked.arm, asked.work)
        return
    with tempfile.TemporaryDirectory() as scratch:
        work = asked.work or Path(scratch)
        prepare(work, asked.pairs)
        found: dict[str, list[dict[str, float]]] = {name: [] for name in ARMS}
        for _ in range(asked.runs):
            for name in ARMS:
                command = [sys.executable, __file__, "--arm", name, "--work", str(work)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                found[name].append(json.loads(done.stdout))
    medians = {name: statistics.median(run["cpu_s"] for run in runs) for name, runs in found.items()}
    print(
        json.dumps(
            {
                "pairs": asked.pairs,
                **{f"{name}_cpu_s": round(median, 2) for name, median in medians.items()},
                "ratio": round(medians["ours"] / medians["polars"], 3),
                **{f"{name}_peak_mb": round(max(run["peak_mb"] for run in runs)) for name, runs in found.items()},
                **{f"{name}_mb": round(runs[0]["mb"]) for name, runs in found.items()},
            }
        )
    )


def prepare(work: Path, pairs: int) -> None:
    """The table of pairs, made once."""
    if (work / "table.json").exists():
        return
    with open_session(work) as session:
        table = session.store.read(StageName.READ_PAIRS, make_pairs, TextsConfig(pairs), writes=Pair)
    (work / "table.json").write_text(json.dumps({"folder": str(table.folder), "pairs": pairs}))


def run_arm(name: str, work: Path) -> None:
    """One run in this process, without what reading the config took."""
    told = json.loads((work / "table.json").read_text())
    table = load_table(Path(told["folder"]))
    assert table
    rows = chosen_rows(told["pairs"])
    folder = work / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    before = cpu_seconds()
    ARMS[name](table, rows, folder)
    size = sum(path.stat().st_size for path in folder.iterdir())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"cpu_s": cpu_seconds() - before, "peak_mb": peak, "mb": size / 1e6}))


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
