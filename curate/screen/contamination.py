"""Find pairs that contain a part of an evaluation prompt: training on them would make the evaluation worthless."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from curate.screen.benchmark_prompts import Benchmark
from curate.screen.rules import CONTAMINATED_COVERAGE
from curate.screen.text.ngrams import HashedWords, hash_words
from curate.screen.text.word_runs import sum_by_text
from schemas.tables import Contaminated

SHORT, LONG = 8, 13
"""Words of the runs that are counted, and of a run that is enough alone."""
KEPT_COVERAGE = 0.25
"""Least share of a prompt that is written down: a threshold may be lowered to it."""
WHOLE = 0
"""Length of the run that is a whole prompt."""
SEVERAL_PROMPTS = 3
"""A run in so many prompts of one file is the wording of its template, not of a prompt."""
MANY_GROUPS = 50
"""A run in so many prompts of the build is a way of asking, unless nearly the whole evaluation prompt comes with it."""
NEARLY_WHOLE = 0.8
PAIRS_PER_BLOCK = 1024


@dataclass(frozen=True)
class ContaminationConfig:
    """Evaluation prompts that pairs are compared with."""

    benchmarks: tuple[tuple[str, str], ...]
    """Name and SHA-256 of each file of evaluation prompts."""
    version: int = 2
    """Raised when the same pairs would give other rows."""


def find_contamination(
    pairs: pl.LazyFrame, cfg: ContaminationConfig, *, benchmarks: Sequence[Benchmark]
) -> pl.DataFrame:
    """A row of `Contaminated` for each pair with 13 words in a row, or a quarter of the 8-grams, of a prompt.

    Let a letter be a word, and a prompt be "A B C D E F G H I J K L M N". It has 7 runs of eight words (A to H, B to I,
    up to G to N) and 2 runs of 13.

    - "x A B C D E F G H I J K L M y" holds 6 of 7 (coverage 0.86), and A to M, which is enough alone.
    - "A B C D E F G H I J x K L M N" holds 3 of 7 (coverage 0.43) and no 13 in a row.
    - "A B C D E F G H" holds 1 of 7 (coverage 0.14), which is too little for a row.
    - "A B C D" is not found in longer texts: a prompt of fewer than 8 words must be a whole user turn.

    All turns and both responses are searched. Runs of words that stand in several prompts of a file, or in many of the
    build, do not count, but a prompt that is there as a whole user turn always does. Read in blocks: what a pair was
    found to hold is kept once for all pairs that hold the same, so a million copies take no more room than one.
    """
    runs, prompts = benchmark_runs(benchmarks)
    held, sets = find_sets(pairs, runs)
    best = best_prompts(held, sets, runs, prompts)
    rows = held.join(best, on="set", how="inner", maintain_order="left")
    return rows.select(Contaminated.column_names()).pipe(Contaminated.cast)


def benchmark_runs(benchmarks: Sequence[Benchmark]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The runs of words to look for, and the prompts they are of.

    Runs: run (its hash), length (8, 13 or 0 for a whole prompt), prompt, and is_template where several prompts of one
    file share it; a run of several prompts has a row for each. Prompts: prompt (its number), file (its number), against
    (name of the file), place in the file, total (distinct 8-grams).
    """
    words = hash_words(pl.Series([text for benchmark in benchmarks for text in benchmark.prompts], dtype=pl.String))
    prompts = pl.DataFrame(
        {
            "file": [file for file, benchmark in enumerate(benchmarks) for _ in benchmark.prompts],
            "against": [benchmark.name for benchmark in benchmarks for _ in benchmark.prompts],
            "place": [place for benchmark in benchmarks for place in benchmark.places],
        },
        schema={"file": pl.Int64, "against": pl.String, "place": pl.Int64},
    ).with_row_index("prompt")
    sharing = pl.len().over("run", "file").max().over("run")
    runs = (
        pl.concat(text_runs(words, length) for length in (SHORT, LONG, WHOLE))
        .rename({"text": "prompt"})
        .unique()
        .join(prompts.select("prompt", "file"), on="prompt")
        .with_columns(is_template=(pl.col("length") != WHOLE) & (sharing >= SEVERAL_PROMPTS))
        .drop("file")
    )
    totals = runs.filter(pl.col("length") == SHORT).group_by("prompt").agg(total=pl.len())
    counted = prompts.join(totals, on="prompt", how="left", maintain_order="left")
    return runs, counted.with_columns(pl.col("total").fill_null(0))


def text_runs(words: HashedWords, length: int) -> pl.DataFrame:
    """text, run (its hash) and length of each run of `length` words; of `WHOLE`, one run a text with words."""
    if length == WHOLE:
        within = np.arange(len(words.hashes)) - np.repeat(words.starts[:-1], words.counts)
        # A factor for each place, because the order of the words counts.
        hashes = sum_by_text(words, words.hashes * (2 * within + 1).astype(np.uint64))
        texts = np.flatnonzero(words.counts)
        hashes = hashes[texts]
    else:
        grams = words.ngrams(length)
        texts, hashes = grams.owners(), grams.hashes
    found = pl.DataFrame({"text": texts.astype(np.uint32), "run": hashes})
    return found.with_columns(length=pl.lit(length, dtype=pl.UInt8))


def find_sets(pairs: pl.LazyFrame, runs: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The runs that each pair holds: pair_id, prompt_group and set, in the order of the pairs; set and run.

    Only pairs that hold any are there, and equal sets once.
    """
    rows: list[pl.DataFrame] = []
    sets: list[pl.DataFrame] = []
    known = pl.Series([], dtype=pl.UInt64)
    columns = pairs.select("pair_id", "prompt_group", "messages", "chosen", "rejected")
    for block in columns.collect_batches(chunk_size=PAIRS_PER_BLOCK, maintain_order=True):
        hits = block_hits(block, runs)
        if not hits.height:
            continue
        # A set is told by the sum of its mixed numbers, which needs no order.
        mixed = hits.with_columns(mixed=pl.col("run").hash(seed=1))
        told = mixed.group_by("row").agg(set=pl.col("mixed").sum()).sort("row")
        rows.append(block[told["row"].cast(pl.Int64)].select("pair_id", "prompt_group").with_columns(told["set"]))
        new = told.unique("set", keep="first").filter(~pl.col("set").is_in(known.implode()))
        known = pl.concat([known, new["set"]])
        sets.append(hits.join(new, on="row").select("set", "run"))
    none = pl.DataFrame(schema={"pair_id": pl.String, "prompt_group": pl.String, "set": pl.UInt64})
    no_sets = pl.DataFrame(schema={"set": pl.UInt64, "run": pl.UInt64})
    return pl.concat([none, *rows]), pl.concat([no_sets, *sets])


def block_hits(block: pl.DataFrame, runs: pl.DataFrame) -> pl.DataFrame:
    """row (of the block) and run, each once."""
    turns = block.select("messages").with_row_index("row").explode("messages").unnest("messages")
    texts = pl.concat([turns["content"], block["chosen"], block["rejected"]], rechunk=True)
    rows = np.concatenate([turns["row"].to_numpy(), *[np.arange(block.height, dtype=np.uint32)] * 2])
    words = hash_words(texts)
    short = text_runs(words, SHORT).join(runs, on="run", how="semi")
    # Thirteen words of a prompt stand only where eight of it do.
    near = short["text"].unique().to_numpy()
    asked = (turns["role"] == "user").arg_true().to_numpy()
    found = [(short, np.arange(len(texts)))] + [
        (text_runs(words.take(some), length).join(runs, on="run", how="semi"), some)
        for some, length in ((near, LONG), (asked, WHOLE))
    ]
    held = [pl.DataFrame({"row": rows[some[hits["text"].to_numpy()]], "run": hits["run"]}) for hits, some in found]
    counted = runs.filter(~pl.col("is_template"))
    return pl.concat(held).unique().join(counted, on="run", how="semi")


def best_prompts(held: pl.DataFrame, sets: pl.DataFrame, runs: pl.DataFrame, prompts: pl.DataFrame) -> pl.DataFrame:
    """set, and the prompt it shares most with: against, prompt (place in its file), has_13gram, coverage."""
    common = common_runs(held, sets)
    shared = (
        sets.join(runs, on="run")
        .with_columns(counts=~pl.col("run").is_in(common.implode()))
        .group_by("set", "prompt")
        .agg(
            is_whole=(pl.col("length") == WHOLE).any(),
            short=(pl.col("length") == SHORT).sum(),
            short_counted=((pl.col("length") == SHORT) & pl.col("counts")).sum(),
            long=(pl.col("length") == LONG).any(),
            long_counted=((pl.col("length") == LONG) & pl.col("counts")).any(),
        )
        .join(prompts, on="prompt")
    )
    share = pl.col("short") / pl.col("total").clip(1)
    is_near = share >= NEARLY_WHOLE
    counted = pl.when(is_near).then(share).otherwise(pl.col("short_counted") / pl.col("total").clip(1))
    is_long = pl.col("long_counted") | (pl.col("long") & (is_near | pl.col("is_whole")))
    return (
        shared.with_columns(
            coverage=pl.when("is_whole").then(1.0).otherwise(counted).cast(pl.Float32),
            has_13gram=is_long,
        )
        .filter(pl.col("has_13gram") | (pl.col("coverage") >= KEPT_COVERAGE))
        .with_columns(is_hit=pl.col("has_13gram") | (pl.col("coverage") >= CONTAMINATED_COVERAGE))
        .sort("is_hit", "coverage", "has_13gram", "prompt", descending=[True, True, True, False])
        .unique("set", keep="first", maintain_order=True)
        .select("set", "against", "has_13gram", "coverage", prompt="place")
    )


def common_runs(held: pl.DataFrame, sets: pl.DataFrame) -> pl.Series:
    """The runs that stand in many prompt groups of the build."""
    held = held.select("prompt_group", "set").unique()
    # Groups that hold the same sets are counted together, so that nothing is as long as groups times runs.
    together = held.group_by("prompt_group").agg(pl.col("set").sort()).group_by("set").agg(groups=pl.len())
    runs = together.with_row_index("sets").explode("set").join(sets, on="set")
    groups = runs.unique(["sets", "run"]).group_by("run").agg(pl.col("groups").sum())
    return groups.filter(pl.col("groups") >= MANY_GROUPS)["run"]
