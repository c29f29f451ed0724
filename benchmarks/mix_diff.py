"""`curate diff` and `curate verify` on two mixes of a million pairs, beside polars' own join of the same ids.

    python benchmarks/mix_diff.py [--rows N] [--data FOLDER]

Writes two mixes with known differences into a scratch folder, asserts that every one is named with its count, and
prints wall and CPU seconds and the peak memory of each command as a process of its own; one JSON line comes last.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from curate.files import file_sha256
from curate.mix.recipe import Recipe, Source
from curate.mix.verify.row_ids import text_ids
from curate.mix.write import ROWS_PER_GROUP, ParquetFile, Shards, arrow_schema, as_messages, mix_schema
from curate.store.mixes import CARD, LINEAGE, RECIPE, WORDS, MixLock, PinnedSource, PinnedTable, write_lock
from schemas.stages import StageName
from schemas.tables import MixLineage

ROOT = Path(__file__).parents[1]
POOL = 20_000
WORDS_PER_TEXT = 110
SHIFT = 50
"""One pair in so many is in A alone, and as many in B."""
CURATE = """
from curate.cli.main import main
code = main(sys.argv[1:])
"""
PEER = """
import polars as pl
sides = []
for folder in sys.argv[1:]:
    splits = [pl.scan_parquet(f"{folder}/{word}-*.parquet").select("pair_id", "prompt_id", split=pl.lit(word))
              for word in ("train", "test")]
    sides.append(pl.concat(splits))
both = sides[0].join(sides[1], on="pair_id", how="full", coalesce=False)
a, b = pl.col("pair_id"), pl.col("pair_id_right")
print(both.select(removed=b.is_null().sum(), added=a.is_null().sum(), moved=(pl.col("split") != pl.col("split_right"))
      .sum()).collect(engine="streaming").to_dicts()[0])
code = 0
"""
PEAK = """
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
sys.exit(code)
"""
"""The peak in KiB; what the system tells of an ended process may be that of the one that started it."""


@dataclass(frozen=True)
class Ran:
    """One finished process."""

    printed: str
    wall_s: float
    cpu_s: float
    rss_mb: float

    def figures(self) -> dict[str, float]:
        return {"wall_s": round(self.wall_s, 2), "cpu_s": round(self.cpu_s, 2), "rss_mb": round(self.rss_mb)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="pairs of each mix")
    parser.add_argument("--data", type=Path, help="folder for the two mixes, kept; a scratch folder by default")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        data = arguments.data or Path(scratch)
        for name in ("a", "b"):
            if not (data / "mixes" / name).exists():
                write_mix(data / "mixes" / name, name, arguments.rows)
        measure(data, arguments.rows)


def measure(data: Path, rows: int) -> None:
    """Run each command and print what it took."""
    folders = [str(data / "mixes" / name) for name in ("a", "b")]
    size = sum(path.stat().st_size for folder in folders for path in Path(folder).iterdir())
    ran = {
        "curate diff": run(CURATE, "diff", "a", "b", "--json", "--data", str(data)),
        "curate diff, a mix with itself": run(CURATE, "diff", "a", "a", "--json", "--data", str(data)),
        "polars join of the ids": run(PEER, *folders),
        "curate verify": run(CURATE, "verify", "a", "--json", "--data", str(data)),
    }
    found = json.loads(ran["curate diff"].printed)
    assert found["changes"] == planted(rows), (found["changes"], planted(rows))
    assert json.loads(ran["curate diff, a mix with itself"].printed)["same"]
    print(f"two mixes of {rows:,} pairs, {size / 1e6:,.0f} MB; changes {found['changes']}")
    for name, each in ran.items():
        print(f"{name:32} {each.wall_s:7.1f} s  {each.cpu_s:7.1f} CPU s  {each.rss_mb:7,.0f} MB")
    print(json.dumps({"rows": rows, **{name: each.figures() for name, each in ran.items()}}))


def run(code: str, *arguments: str) -> Ran:
    """Run this Python on some code, and raise RuntimeError where it fails."""
    started = time.perf_counter()
    with tempfile.TemporaryFile() as printed:
        command = [sys.executable, "-c", f"import sys{code}{PEAK}", *arguments]
        process = subprocess.Popen(command, stdout=printed, cwd=ROOT)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        printed.seek(0)
        *lines, peak = printed.read().decode().splitlines()
    if process.returncode:
        raise RuntimeError(f"exit code {process.returncode}: {lines[-3:]}")
    return Ran("\n".join(lines), wall, used.ru_utime + used.ru_stime, int(peak) / 1024)


def planned(name: str, rows: int) -> dict[str, np.ndarray]:
    """The number of each pair of a mix, and what is planted in it."""
    first = rows // SHIFT if name == "b" else 0
    number = np.arange(first, first + rows)
    is_b = name == "b"
    return {
        "number": number,
        "other_rejected": is_b & (number % 100 == 1),
        "exchanged": is_b & (number % 200 == 3),
        "is_test": (number * 7919 % 10 == 0) ^ (is_b & (number % 97 == 0)),
    }


def planted(rows: int) -> dict[str, int]:
    """Change -> pairs, as `curate diff` is to count them."""
    common = np.arange(rows // SHIFT, rows)
    counts = {
        "added": rows // SHIFT,
        "removed": rows // SHIFT,
        "other_sides": int((common % 100 == 1).sum()),
        "swapped": int((common % 200 == 3).sum()),
    }
    replaced = (common % 100 == 1) | (common % 200 == 3)
    return {**counts, "moved": int(((common % 97 == 0) & ~replaced).sum())}


def write_mix(folder: Path, name: str, rows: int) -> None:
    """A published mix, without the build that it would be of."""
    folder.mkdir(parents=True)
    plan = planned(name, rows)
    draw = np.random.default_rng(7)
    words = np.array([f"w{draw.integers(10**6):06d}"[: draw.integers(2, 8)] for _ in range(5_000)])
    lengths = draw.integers(WORDS_PER_TEXT // 2, WORDS_PER_TEXT * 3 // 2, POOL)
    pool = pl.Series([" ".join(words[draw.integers(0, words.size, length)]) for length in lengths])
    files: dict[str, str] = {}
    with ParquetFile(folder / LINEAGE, arrow_schema(MixLineage)) as lineage:
        for split, word in WORDS.items():
            places = np.flatnonzero(plan["is_test"] == (split == "heldout"))
            with Shards(folder, word, mix_schema(False)) as shards:
                for start in range(0, places.size, ROWS_PER_GROUP):
                    group = {field: values[places[start : start + ROWS_PER_GROUP]] for field, values in plan.items()}
                    write_group(group, split, pool, shards, lineage)
            files |= shards.files
    recipe = Recipe(name, 30, 0.1, (Source("made", 1.0),))
    (folder / RECIPE).write_text(recipe.to_toml())
    (folder / CARD).write_text(f"# {name}\n")
    files |= {LINEAGE: lineage.sha256} | {each: file_sha256(folder / each) for each in (RECIPE, CARD)}
    test = int(plan["is_test"].sum())
    pins = PinnedTable(StageName.READ_PAIRS, "0:0"), PinnedTable(StageName.SCREEN_PAIRS, "0:0")
    source = PinnedSource("made", False, *pins, None, kept=rows, rows=rows)
    lock = MixLock(name, recipe.sha256(), (source,), 0, 0, rows, rows - test, test, files, {"mit": rows})
    write_lock(folder, lock)


def write_group(group: dict[str, Any], split: str, pool: pl.Series, shards: Shards, lineage: ParquetFile) -> None:
    """Write some pairs and their lineage."""
    number = pl.Series(group["number"])

    def text(salt: int, word: str) -> pl.Series:
        return word + number.cast(pl.String) + ": " + pool.gather((number * 31 + salt) % POOL)

    made = pl.DataFrame({"one": text(0, "Answer "), "two": text(11, "Reply "), "other": text(23, "Other ")})
    made = made.with_columns(
        exchanged=pl.Series(group["exchanged"]),
        two=pl.when(pl.Series(group["other_rejected"])).then("other").otherwise("two"),
    ).select(
        chosen=pl.when("exchanged").then("two").otherwise("one"),
        rejected=pl.when("exchanged").then("one").otherwise("two"),
        prompt=pl.concat_list(pl.struct(role=pl.lit("user"), content=text(5, "Question ").str.head(300))),
    )
    ids = text_ids(made)
    sides = {
        side: as_messages(pa.chunked_array([made[side].to_arrow().cast(pa.string())]))
        for side in ("chosen", "rejected")
    }
    score = pl.Series(group["number"] % 1000 / 1000)
    nothing = pa.nulls(made.height)
    values = {
        "prompt": made["prompt"].to_arrow(),
        **sides,
        "prompt_id": ids["prompt_key"].to_arrow(),
        "prompt_group": ids["group_key"].to_arrow(),
        "pair_id": ids["pair_key"].to_arrow(),
        "score_chosen": score.to_arrow(),
        "score_rejected": (score - 0.5).to_arrow(),
        **{
            name: pa.array([value] * made.height)
            for name, value in (("source", "made"), ("origin", "real"), ("license", "mit"), ("split", split))
        },
        "flags": pa.array([[]] * made.height, pa.list_(pa.string())),
        "answers": pa.array([0] * made.height, pa.uint32()),
    }
    for file, schema in ((shards, mix_schema(False)), (lineage, arrow_schema(MixLineage))):
        file.write(pa.table({name: values.get(name, nothing) for name in schema.names}).cast(schema))


if __name__ == "__main__":
    main()
