"""Semantic duplicates, topicality of responses and proximity to evaluation prompts, by cosines of vectors."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from curate.screen.arrays import Cosines, Rows, Vectors
from curate.screen.benchmark_prompts import Benchmark
from curate.screen.similar.greedy import keep_order, round_threshold, similar_frame
from schemas.tables import EvalProximity, Topicality

Embed = Callable[[Iterable[pl.Series], int], Vectors]
"""Blocks of texts, and how many they are, to their vectors: (texts, dimensions) of length 1, NaN for none."""
ROWS_PER_BLOCK = 4096
PROMPT_CHARACTERS = 4000
"""The end of a prompt that is embedded; the encoder reads less of it."""
LATIN_SHARE = 0.9
RESPONSE_CHARACTERS = 512
"""The beginning of a response that is embedded: it says what the response is about, at a third of the time."""


@dataclass(frozen=True)
class SemanticConfig:
    """By which vectors neighbors are looked for, and how far."""

    embedder: str
    embedder_digest: str
    floor: float
    """Smallest cosine that is kept."""
    version: int = 1


@dataclass(frozen=True)
class TopicalityConfig:
    """By which vectors responses are held against all prompts."""

    embedder: str
    embedder_digest: str
    version: int = 1


@dataclass(frozen=True)
class EvalProximityConfig:
    """What prompts are held against."""

    embedder: str
    embedder_digest: str
    benchmarks: tuple[str, ...]
    """SHA-256 of each file of evaluation prompts."""
    version: int = 1


def find_semantic_duplicates(
    pairs: pl.LazyFrame, measured: pl.LazyFrame, cfg: SemanticConfig, *, embed: Embed
) -> pl.DataFrame:
    """All pairs of different prompts, and of different prompts with chosen responses, that are alike.

    Of pairs with the same text the first stands for all. The cosine of two prompts is the smaller of those of all that
    was said but the system message, and of the last turns: two dialogues that begin alike ask different things. The
    cosine of a pair is the mean of those of its prompt and of its chosen response, which is that of the two vectors
    end to end. The encoder knows English: texts in other letters are like none.
    """
    columns = ("pair_id", "z_margin", "margin", "prompt_hash", "chosen_hash")
    hashes = measured.select(columns).with_row_index("row").collect()
    prompts, prompt_of = distinct_texts(hashes, "prompt_hash")
    of_prompts = embed(prompt_texts(pairs, prompts), len(prompts))
    of_prompts[~are_latin(prompt_texts(pairs, prompts)).to_numpy()] = np.nan
    begun_alike = find_neighbors("prompt", prompts, of_prompts, cfg.floor, nearest_prompts(hashes, "prompt_hash"))
    of_prompt = match_last_turns(begun_alike, pairs, cfg.floor, embed)
    rows, _ = distinct_texts(hashes, "chosen_hash")
    of_chosen = embed(response_texts(pairs, "chosen", rows), len(rows))
    of_chosen[~are_latin(response_texts(pairs, "chosen", rows)).to_numpy()] = np.nan
    together = concatenate(of_prompts, prompt_of[rows], of_chosen)
    del of_prompts, of_chosen
    of_pair = find_neighbors("pair", rows, together, cfg.floor, nearest_prompts(hashes, "chosen_hash"))
    return pl.concat([of_prompt, of_pair])


def measure_topicality(
    pairs: pl.LazyFrame, measured: pl.LazyFrame, cfg: TopicalityConfig, *, embed: Embed
) -> pl.DataFrame:
    """How near each response is to its prompt and to the others.

    The encoder knows English: a response is placed only where it and its prompt are in Latin letters.
    """
    from curate.screen.similar.neighbors import nearest_cosines

    hashes = measured.select("pair_id", "prompt_hash").with_row_index("row").collect()
    prompts, prompt_of = distinct_texts(hashes, "prompt_hash")
    of_prompts = embed(prompt_texts(pairs, prompts), len(prompts))
    columns: dict[str, pl.Series] = {}
    every = np.arange(hashes.height)
    has_latin_prompt = are_latin(prompt_texts(pairs, prompts)).gather(prompt_of)
    for side in ("chosen", "rejected"):
        of_responses = embed(response_texts(pairs, side, every), hashes.height)
        is_known = are_latin(response_texts(pairs, side, every)) & has_latin_prompt
        own = round_or_null(row_cosines(of_responses, of_prompts, prompt_of))
        other = round_or_null(nearest_cosines(of_responses, of_prompts, prompt_of))
        columns |= {
            f"{side}_cos_prompt": own.set(~is_known, None),
            f"{side}_cos_other_prompt": other.set(~is_known, None),
        }
    return hashes.select("pair_id", **columns).pipe(Topicality.cast)


def measure_eval_proximity(
    pairs: pl.LazyFrame,
    measured: pl.LazyFrame,
    cfg: EvalProximityConfig,
    *,
    embed: Embed,
    benchmarks: Sequence[Benchmark],
) -> pl.DataFrame:
    """How near each prompt is to the evaluation prompts."""
    from curate.screen.similar.neighbors import nearest_cosines

    hashes = measured.select("pair_id", "prompt_hash").with_row_index("row").collect()
    prompts, prompt_of = distinct_texts(hashes, "prompt_hash")
    of_prompts = embed(prompt_texts(pairs, prompts), len(prompts))
    of_prompts[~are_latin(prompt_texts(pairs, prompts)).to_numpy()] = np.nan
    texts = [prompt[-PROMPT_CHARACTERS:] for benchmark in benchmarks for prompt in benchmark.prompts]
    of_evaluation = embed([pl.Series(texts, dtype=pl.String)], len(texts))
    found = round_or_null(nearest_cosines(of_prompts, of_evaluation)[prompt_of])
    return hashes.select("pair_id", max_cos_eval=found).pipe(EvalProximity.cast)


def match_last_turns(found: pl.DataFrame, pairs: pl.LazyFrame, floor: float, embed: Embed) -> pl.DataFrame:
    """Of pairs of prompts that are alike those whose last turns are too, with the smaller of both cosines."""
    if found.is_empty():
        return found
    rows = np.unique(np.concatenate([found["left"].to_numpy(), found["right"].to_numpy()])).astype(np.int64)
    turn = pl.col("messages").list.last().struct.field("content")
    of_turns = embed(texts_at(pairs, turn.str.tail(PROMPT_CHARACTERS), rows), len(rows))
    left, right = (np.searchsorted(rows, found[side].to_numpy()) for side in ("left", "right"))
    cosines = round_or_null(row_cosines(of_turns[left], of_turns, right))
    both = found.with_columns(similarity=pl.min_horizontal("similarity", cosines.fill_null(0)))
    return both.filter(pl.col("similarity") >= round_threshold(floor))


def concatenate(of_prompts: Vectors, places: Rows, of_chosen: Vectors) -> Vectors:
    """The vectors of prompts and chosen responses end to end, of length 1, with no other copy of them in between."""
    width = of_prompts.shape[1]
    together = np.empty((len(places), 2 * width), dtype=np.float16)
    for start in range(0, len(places), ROWS_PER_BLOCK):
        block = slice(start, start + ROWS_PER_BLOCK)
        together[block, :width] = of_prompts[places[block]]
        together[block, width:] = of_chosen[block]
    together *= np.float16(0.5**0.5)
    return together


def distinct_texts(hashes: pl.DataFrame, of_text: str) -> tuple[Rows, Rows]:
    """The first row of each distinct text in order, and for every row the place of its text among them."""
    firsts = hashes.unique(of_text, keep="first", maintain_order=True).select("row", of_text).with_row_index("place")
    places = hashes.join(firsts.select("place", of_text), on=of_text, how="left", maintain_order="left")["place"]
    return firsts["row"].to_numpy().astype(np.int64), places.to_numpy().astype(np.int64)


def nearest_prompts(hashes: pl.DataFrame, of_text: str) -> Rows:
    """For each distinct text, in the order of `distinct`, the place of its best pair in the order of keeping."""
    places = hashes.select(of_text, place=pl.Series(keep_order(hashes)))
    return places.group_by(of_text, maintain_order=True).agg(pl.col("place").min())["place"].to_numpy()


def find_neighbors(kind: str, rows: Rows, of_rows: Vectors, floor: float, places: Rows) -> pl.DataFrame:
    """The neighbors among vectors as rows of `Similar`; vector i is that of row `rows[i]`, which ascend."""
    # Not above: it loads torch, which a screening of measured pairs does without.
    from curate.screen.similar.neighbors import similar_rows

    left, right, cosine = similar_rows(of_rows, floor, places)
    return similar_frame(kind, rows[left], rows[right], cosine)


def prompt_texts(pairs: pl.LazyFrame, rows: Rows) -> Iterator[pl.Series]:
    """The end of what was said in the prompts of `rows`, which ascend, in blocks; system messages are left out."""
    spoken = pl.element().filter(pl.element().struct.field("role") != "system")
    said = pl.col("messages").list.eval(spoken.struct.field("content")).list.join("\n\n")
    return texts_at(pairs, said.str.tail(PROMPT_CHARACTERS), rows)


def response_texts(pairs: pl.LazyFrame, side: str, rows: Rows) -> Iterator[pl.Series]:
    """The beginnings of the responses of `rows`, which ascend, in blocks."""
    return texts_at(pairs, pl.col(side).str.head(RESPONSE_CHARACTERS), rows)


def texts_at(pairs: pl.LazyFrame, text: pl.Expr, rows: Rows) -> Iterator[pl.Series]:
    """One text a row of `rows`, which ascend, in blocks."""
    start = 0
    for block in pairs.select(text=text).collect_batches(chunk_size=ROWS_PER_BLOCK, maintain_order=True):
        first, last = np.searchsorted(rows, [start, start + block.height])
        start += block.height
        yield block["text"].gather(rows[first:last] - (start - block.height))


def are_latin(blocks: Iterable[pl.Series]) -> pl.Series:
    """True for texts whose letters are nearly all those of English."""
    found = [
        texts.str.count_matches(r"[A-Za-z]") >= LATIN_SHARE * texts.str.count_matches(r"\p{L}") for texts in blocks
    ]
    return pl.concat([pl.Series([], dtype=pl.Boolean), *found])


def row_cosines(ones: Vectors, others: Vectors, place: Rows) -> Cosines:
    """The cosine of each of `ones` to `others[place]` of its row."""
    found = np.empty(len(ones), dtype=np.float32)
    for start in range(0, len(ones), ROWS_PER_BLOCK):
        block = slice(start, start + ROWS_PER_BLOCK)
        found[block] = np.einsum("ij,ij->i", ones[block].astype(np.float32), others[place[block]].astype(np.float32))
    return found


def round_or_null(cosines: Cosines) -> pl.Series:
    """Cosines to 4 digits, because the last ones depend on how many rows were multiplied; not a number is null."""
    return pl.Series(cosines, dtype=pl.Float32).round(4).fill_nan(None)
