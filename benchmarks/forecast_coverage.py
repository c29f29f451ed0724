"""Simulate how often the 95% interval of a forecast holds what the calls then took.

    .venv/bin/python benchmarks/forecast_coverage.py [--repeats 1000]

Each repeat draws the responses of a pilot and those still to be made from the same lengths. Real lengths are those of
chosen responses in ../shared/datasets where that is there, else in the samples that come with pairwright. Prints a
table and, last, one JSON line.
"""

import argparse
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.files import asset
from curate.pipeline.forecast.intervals import sum_range
from curate.sources.pairs import read_pairs
from curate.sources.rows import rows_config

SHARED = Path(__file__).parents[2] / "shared" / "datasets"
FILES = ("hh_harmless_pairs.jsonl.gz", "ultrafeedback_pairs.parquet", "llamafactory_dpo_en.json")
PILOT = 20
"""Responses that were made."""
CALLS = 1000
"""Responses still to be made."""
CHARACTERS_PER_TOKEN = 4
LONG_SHARE, TIMES_AS_LONG = 0.05, 20
"""Of one kind of lengths: a share of the responses that are so many times as long as the others."""

Draw = Callable[[np.random.Generator, int], NDArray[np.float64]]
"""So many lengths, in tokens."""


@dataclass(frozen=True)
class Coverage:
    """What the intervals of all repeats say together."""

    coverage: float
    """Share of the intervals that hold the sum."""
    low: float
    """Median of the lower ends, as a share of the estimate."""
    high: float
    """Median of the upper ends, as a share of the estimate."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=1000)
    repeats = parser.parse_args().repeats
    found = {name: cover(draw, repeats) for name, draw in kinds().items()}
    print(f"{repeats} repeats, pilot {PILOT}, {CALLS} calls to make; ends as a share of the estimate")
    width = max(map(len, found))
    print(f"{'lengths':{width}}  coverage  median low  median high")
    for name, row in found.items():
        print(f"{name:{width}}  {row.coverage:8.1%}  {row.low:10.2f}  {row.high:11.2f}")
    print(json.dumps({name: asdict(row) for name, row in found.items()}))


def kinds() -> dict[str, Draw]:
    """Kinds of lengths by name."""
    paths = [SHARED / name for name in FILES] if SHARED.exists() else [asset("samples", "pairs.jsonl")]
    real = {path.name.partition(".")[0]: resampled(response_lengths(path)) for path in paths}
    return {**real, "lognormal, sigma 1": lognormal, f"{LONG_SHARE:.0%} {TIMES_AS_LONG} times as long": with_long}


def response_lengths(path: Path) -> NDArray[np.float64]:
    """Tokens of the chosen responses of a file of pairs, at least one each."""
    rows = pl.concat(part.rows for part in read_pairs(rows_config(str(path), None, seed=0)))
    return np.maximum(1.0, rows["chosen"].str.len_chars().to_numpy() / CHARACTERS_PER_TOKEN)


def resampled(lengths: NDArray[np.float64]) -> Draw:
    return lambda rng, count: rng.choice(lengths, count)


def lognormal(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    return rng.lognormal(0.0, 1.0, count)


def with_long(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    return np.where(rng.random(count) < LONG_SHARE, float(TIMES_AS_LONG), 1.0)


def cover(draw: Draw, repeats: int, seed: int = 30) -> Coverage:
    """Forecasts from a pilot of `PILOT` responses, held against `CALLS` others."""
    rng = np.random.default_rng(seed)
    held, lows, highs = 0, [], []
    for _ in range(repeats):
        found = sum_range(draw(rng, PILOT).tolist(), CALLS, most=math.inf)
        held += found.low <= draw(rng, CALLS).sum() <= found.high
        lows.append(found.low / found.estimate)
        highs.append(found.high / found.estimate)
    return Coverage(held / repeats, float(np.median(lows)), float(np.median(highs)))


if __name__ == "__main__":
    main()
