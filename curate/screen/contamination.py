"""Find pairs that contain a part of an evaluation prompt: training on them would make the evaluation worthless."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.screen.benchmark_prompts import Benchmark
from curate.screen.text.ngrams import MULTIPLIER, HashedWords, Hashes, hash_words
from schemas.tables import Contaminated

Places = NDArray[np.int64]

SHORT, LONG = 8, 13
"""Words of the runs that are counted, and of a run that is enough alone."""
KEPT_COVERAGE = 0.25
"""Least share of a prompt that is written down: a threshold may be lowered to it."""
DROPPED_COVERAGE = 0.5
"""Share of a prompt that makes a hit: which of several prompts is named goes by it."""
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
    version: int = 1
    """Raised when the same pairs would give other rows."""


def find_contamination(
    pairs: pl.LazyFrame, cfg: ContaminationConfig, *, benchmarks: Sequence[Benchmark]
) -> pl.DataFrame:
    """A row of `Contaminated` for each pair with 13 words in a row, or a quarter of the 8-grams, of a prompt.

    All turns and both responses are searched. A prompt of fewer than 8 words must be a whole user turn. Runs of words
    that stand in several prompts of a file, or in many of the build, do not count, but a prompt that is there as a
    whole user turn always does. Read in blocks: what a pair was found to hold is kept once for all pairs that hold the
    same, so a million copies take no more room than one.
    """
    runs = benchmark_runs(benchmarks)
    found = find_sets(pairs, runs)
    best = best_prompts(found, runs)
    order = pl.DataFrame({"name": range(len(benchmarks)), "against": [benchmark.name for benchmark in benchmarks]})
    return (
        found.pairs.join(best, on="set", how="inner", maintain_order="left")
        .join(order, on="name", how="left", maintain_order="left")
        .select(Contaminated.column_names())
        .pipe(Contaminated.cast)
    )


@dataclass(frozen=True)
class BenchmarkRuns:
    """All runs of words to look for; the place of a run in `table.run` is its number."""

    short: Hashes
    """Sorted; run i is number i."""
    long: Hashes
    """Sorted; run i is number len(short) + i."""
    whole: Hashes
    """Sorted; whole prompts, numbered after the others."""
    table: pl.DataFrame
    """run, length (8, 13 or 0 for a whole prompt) and prompt; a run of several prompts has a row for each."""
    prompts: pl.DataFrame
    """prompt (its number), name (of its file), place in the file, total: distinct 8-grams."""


def benchmark_runs(benchmarks: Sequence[Benchmark]) -> BenchmarkRuns:
    """The runs of all prompts but those that several prompts of one file share."""
    texts = pl.Series([text for benchmark in benchmarks for text in benchmark.prompts], dtype=pl.String)
    words = hash_words(texts)
    prompts = pl.DataFrame(
        {
            "name": [name for name, benchmark in enumerate(benchmarks) for _ in benchmark.prompts],
            "place": [place for benchmark in benchmarks for place in benchmark.places],
        },
        schema={"name": pl.Int64, "place": pl.Int64},
    ).with_row_index("prompt")
    parts, hashes, first = [], [], 0
    for length in (SHORT, LONG, 0):
        grams = words.ngrams(length) if length else whole_texts(words)
        rows = pl.DataFrame({"hash": grams.hashes, "prompt": grams.owners().astype(np.uint32)}).unique()
        if length == SHORT:
            totals = rows.group_by("prompt").agg(total=pl.len())
        if length:
            named = rows.join(prompts.select("prompt", "name"), on="prompt")
            rows = named.filter(pl.len().over("hash", "name").max().over("hash") < SEVERAL_PROMPTS)
        known = rows["hash"].unique().sort().to_numpy()
        numbers = np.searchsorted(known, rows["hash"].to_numpy()) + first
        parts.append(
            rows.select("prompt", run=pl.Series(numbers, dtype=pl.UInt32), length=pl.lit(length, dtype=pl.UInt8))
        )
        hashes.append(known)
        first += len(known)
    counted = prompts.join(totals, on="prompt", how="left", maintain_order="left").with_columns(
        pl.col("total").fill_null(0)
    )
    return BenchmarkRuns(hashes[0], hashes[1], hashes[2], pl.concat(parts), counted)


def whole_texts(words: HashedWords) -> HashedWords:
    """One hash a text with words: of all of them in their order."""
    counts = words.counts
    powers = np.ones(int(counts.max(initial=0)) + 1, dtype=np.uint64)
    np.cumprod(np.full(len(powers) - 1, MULTIPLIER), out=powers[1:])
    within = np.arange(len(words.hashes)) - np.repeat(words.starts[:-1], counts)
    sums = np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(words.hashes * powers[within], dtype=np.uint64)])
    hashes = sums[words.starts[1:]] - sums[words.starts[:-1]]
    has_words = counts > 0
    return HashedWords(hashes[has_words], np.concatenate([[0], np.cumsum(has_words)]))


@dataclass(frozen=True)
class FoundRuns:
    """The runs that pairs contain."""

    pairs: pl.DataFrame
    """pair_id, group and set of each pair that holds any, in the order of the pairs."""
    sets: pl.DataFrame
    """set and run; equal sets once."""


def find_sets(pairs: pl.LazyFrame, runs: BenchmarkRuns) -> FoundRuns:
    """The runs that each pair holds."""
    filter_bits = Bits(runs.short)
    rows: list[pl.DataFrame] = []
    sets: list[pl.DataFrame] = []
    known = pl.Series([], dtype=pl.UInt64)
    columns = pairs.select("pair_id", "prompt_group", "messages", "chosen", "rejected")
    for block in columns.collect_batches(chunk_size=PAIRS_PER_BLOCK, maintain_order=True):
        hits = block_hits(block, runs, filter_bits)
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
    no_sets = pl.DataFrame(schema={"set": pl.UInt64, "run": pl.UInt32})
    return FoundRuns(pl.concat([none, *rows]), pl.concat([no_sets, *sets]))


class Bits:
    """A table that tells most hashes that are not among a few in one look-up."""

    def __init__(self, hashes: Hashes) -> None:
        size = max(16, int(len(hashes) * 32).bit_length())
        self._shift = np.uint64(64 - size)
        self._marked = np.zeros(1 << size, dtype=np.bool_)
        self._marked[hashes >> self._shift] = True
        self._hashes = hashes

    def find(self, hashes: Hashes) -> Places:
        """The places of hashes that are among them."""
        maybe = np.flatnonzero(self._marked[hashes >> self._shift])
        return maybe[is_among(self._hashes, hashes[maybe])]


def is_among(known: Hashes, hashes: Hashes) -> NDArray[np.bool_]:
    """True for each of `hashes` that stands in `known`, which is sorted."""
    if not len(known):
        return np.zeros(len(hashes), dtype=np.bool_)
    return np.asarray(known[np.minimum(np.searchsorted(known, hashes), len(known) - 1)] == hashes)


def block_hits(block: pl.DataFrame, runs: BenchmarkRuns, filter_bits: Bits) -> pl.DataFrame:
    """row (of the block) and run, each once."""
    turns = block.select("messages").with_row_index("row").explode("messages").unnest("messages")
    rows = np.concatenate([turns["row"].to_numpy(), *[np.arange(block.height, dtype=np.uint32)] * 2])
    texts = pl.concat([turns["content"], block["chosen"], block["rejected"]], rechunk=True)
    words = hash_words(texts)
    grams = words.ngrams(SHORT)
    short_at = filter_bits.find(grams.hashes)
    # Text, and place of the run in the words, of each hit.
    text_of = np.searchsorted(grams.starts, short_at, side="right") - 1
    begin = short_at - grams.starts[text_of] + words.starts[text_of]
    parts = [(rows[text_of], np.searchsorted(runs.short, grams.hashes[short_at]))]
    # Thirteen words of a prompt are looked for around each of its eight, for they may begin with those of a template.
    for offset in range(LONG - SHORT + 1):
        start = begin - offset
        fits = (start >= words.starts[text_of]) & (start + LONG <= words.starts[text_of + 1])
        rolled = np.zeros(int(fits.sum()), dtype=np.uint64)
        for place in range(LONG):
            rolled = rolled * MULTIPLIER + words.hashes[start[fits] + place]
        is_long = is_among(runs.long, rolled)
        parts.append((rows[text_of[fits][is_long]], np.searchsorted(runs.long, rolled[is_long]) + len(runs.short)))
    whole = whole_texts(words)
    is_whole = is_among(runs.whole, whole.hashes)
    whole_of = whole.owners()[is_whole]
    is_user = np.concatenate([(turns["role"] == "user").to_numpy(), np.zeros(2 * block.height, dtype=np.bool_)])
    numbers = np.searchsorted(runs.whole, whole.hashes[is_whole]) + len(runs.short) + len(runs.long)
    parts.append((rows[whole_of[is_user[whole_of]]], numbers[is_user[whole_of]]))
    held = {"row": np.concatenate([row for row, _ in parts]), "run": np.concatenate([run for _, run in parts])}
    return pl.DataFrame(held, schema={"row": pl.UInt32, "run": pl.UInt32}).unique()


def best_prompts(found: FoundRuns, runs: BenchmarkRuns) -> pl.DataFrame:
    """set, and the prompt it shares most with: name, prompt (place in its file), has_13gram, coverage."""
    common = common_runs(found)
    shared = (
        found.sets.join(runs.table, on="run")
        .with_columns(counts=~pl.col("run").is_in(common.implode()))
        .group_by("set", "prompt")
        .agg(
            is_whole=(pl.col("length") == 0).any(),
            short=(pl.col("length") == SHORT).sum(),
            short_counted=((pl.col("length") == SHORT) & pl.col("counts")).sum(),
            long=(pl.col("length") == LONG).any(),
            long_counted=((pl.col("length") == LONG) & pl.col("counts")).any(),
        )
        .join(runs.prompts, on="prompt")
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
        .with_columns(is_hit=pl.col("has_13gram") | (pl.col("coverage") >= DROPPED_COVERAGE))
        .sort("is_hit", "coverage", "has_13gram", "prompt", descending=[True, True, True, False])
        .unique("set", keep="first", maintain_order=True)
        .select("set", "name", "has_13gram", "coverage", prompt="place")
    )


def common_runs(found: FoundRuns) -> pl.Series:
    """The runs that stand in many prompt groups of the build."""
    held = found.pairs.select("prompt_group", "set").unique()
    # Groups that hold the same sets are counted together, so that nothing is as long as groups times runs.
    together = held.group_by("prompt_group").agg(pl.col("set").sort()).group_by("set").agg(groups=pl.len())
    runs = together.with_row_index("sets").explode("set").join(found.sets, on="set")
    groups = runs.unique(["sets", "run"]).group_by("run").agg(pl.col("groups").sum())
    return groups.filter(pl.col("groups") >= MANY_GROUPS)["run"]
