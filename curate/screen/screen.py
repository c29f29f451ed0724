"""The rules in their order: the first that matches drops the pair, and nothing is deleted."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from curate.backends.calls import Backend, Request
from curate.backends.recorder import Recorder
from curate.screen.duplicates import Vectors, first_of_prompts, near_prompts, same_text
from curate.screen.guards import is_empty
from schemas.tables import Screened

PAIRS_PER_BLOCK = 1024


@dataclass(frozen=True)
class ScreenConfig:
    """What decides which pairs are kept."""

    min_margin: float
    max_cosine: float
    embedder: str
    embedder_digest: str
    noise: float = 0.0
    """What a margin must be larger than, up or down: the error of the scorer's margins, 0 where it was never
    measured."""
    keep: int | None = None
    """Pairs kept of those that pass the other rules; all by default."""
    quotas: tuple[tuple[str, int], ...] = ()
    """Flaw -> pairs of it among the `keep`, as far as there are so many; the first others fill up."""
    version: int = 2
    """Raised when the same pairs would be screened otherwise."""


def text_rules(cfg: ScreenConfig) -> dict[str, pl.Expr]:
    """Reason -> expression true for a pair to drop, in the order they are tried."""
    return {
        "failed_score": pl.col("failed_score"),
        "empty": is_empty("chosen") | is_empty("rejected"),
        "tie": pl.col("margin").abs() <= cfg.noise,
        "identical": plain("chosen") == plain("rejected"),
        "low_margin": pl.col("margin") < cfg.min_margin,
    }


def screen_pairs(pairs: pl.LazyFrame, cfg: ScreenConfig, *, embedder: Backend, recorder: Recorder) -> pl.DataFrame:
    """One verdict a pair, in the order of the pairs; pairs without scores pass the rules about scores.

    Texts are read in blocks and prompts are embedded only where no cheaper rule has matched.
    """
    first_match = pl.coalesce(
        pl.when(rule.fill_null(False)).then(pl.lit(reason)) for reason, rule in text_rules(cfg).items()
    )
    verdicts = (
        pairs.with_columns(margin=pl.col("score_chosen") - pl.col("score_rejected"))
        .select(
            "pair_id",
            "flaw",
            "margin",
            # Several pairs made of one prompt stand together; ready pairs that repeat a prompt do not.
            prompt_id=pl.when(pl.col("origin") == "synthetic").then("prompt_id").otherwise("pair_id"),
            dropped_by=first_match,
            text_key=pl.col("pair_id").str.slice(0, 16),
        )
        .collect()
    )
    duplicates: dict[str, tuple[str, float | None]] = {}
    passed = verdicts.filter(pl.col("dropped_by").is_null())
    for pair_id, kept in same_text(passed).items():
        duplicates[pair_id] = (kept, None)
    passed = passed.filter(~pl.col("pair_id").is_in(list(duplicates)))
    vectors = prompt_vectors(pairs, first_of_prompts(passed)["pair_id"].to_list(), embedder, recorder)
    near = near_prompts(passed, vectors, cfg.max_cosine)
    found = [
        {"pair_id": pair_id, "duplicate_of": kept, "similarity": similarity, "duplicate": reason}
        for reason, group in (("duplicate_pair", duplicates), ("near_duplicate_prompt", near))
        for pair_id, (kept, similarity) in group.items()
    ]
    schema = {"pair_id": pl.String, "duplicate_of": pl.String, "similarity": pl.Float32, "duplicate": pl.String}
    judged = verdicts.join(pl.DataFrame(found, schema=schema), on="pair_id", how="left", maintain_order="left")
    # Rounded, because the last digits of a product depend on how many rows were multiplied at once.
    judged = judged.with_columns(pl.coalesce("dropped_by", "duplicate"), pl.col("similarity").round(4))
    first_ids = first(judged.filter(pl.col("dropped_by").is_null()), cfg)
    is_surplus = pl.col("dropped_by").is_null() & ~pl.col("pair_id").is_in(first_ids)
    return (
        judged.with_columns(dropped_by=pl.when(is_surplus).then(pl.lit("surplus")).otherwise("dropped_by"))
        .select(Screened.column_names())
        .pipe(Screened.cast)
    )


def first(accepted: pl.DataFrame, cfg: ScreenConfig) -> list[str]:
    """The ids of the pairs to keep: the first of each flaw up to its quota, then the first of the others."""
    quota = pl.col("flaw").cast(pl.String).replace_strict(dict(cfg.quotas), default=0, return_dtype=pl.Int64)
    place = pl.int_range(pl.len(), dtype=pl.Int64).over("flaw")
    ordered = accepted.sort(place >= quota, maintain_order=True)
    return ordered["pair_id"].head(ordered.height if cfg.keep is None else cfg.keep).to_list()


def prompt_vectors(pairs: pl.LazyFrame, pair_ids: list[str], embedder: Backend, recorder: Recorder) -> Vectors:
    """(pairs, dimensions) unit vectors of the prompts of `pair_ids`, in that order."""
    if not pair_ids:
        return np.zeros((0, 0), dtype=np.float32)
    vectors = []
    recorder.progress.expect(len(pair_ids))
    for start in range(0, len(pair_ids), PAIRS_PER_BLOCK):
        block = pl.LazyFrame({"pair_id": pair_ids[start : start + PAIRS_PER_BLOCK]})
        prompts = block.join(pairs.select("pair_id", "messages"), on="pair_id", how="left", maintain_order="left")
        requests = [prompt_request(messages) for messages in prompts.collect()["messages"].to_list()]
        recorder.progress.begin_rows(len(requests))
        vectors.append(np.array([answer.values for answer in recorder.ask(embedder, requests)], dtype=np.float32))
        recorder.progress.end_rows(len(requests), None)
    return np.concatenate(vectors)


def prompt_request(messages: list[dict[str, str]]) -> Request:
    """The request for the vector of a conversation: of all that was said, in order."""
    text = "\n\n".join(message["content"] for message in messages)
    return Request("embed", [{"role": "user", "content": text}])


def plain(column: str) -> pl.Expr:
    """Text with letter case, Unicode form and spacing levelled; punctuation stays, because code lives by it."""
    return pl.col(column).str.normalize("NFKC").str.to_lowercase().str.replace_all(r"\s+", " ").str.strip_chars(" ")


def threshold_for_a_quarter(screened: pl.DataFrame) -> float | None:
    """The `--min-margin` that a quarter of the pairs dropped as `low_margin` would reach."""
    margins = screened.filter(pl.col("dropped_by") == "low_margin")["margin"]
    quantile = margins.quantile(0.75, interpolation="higher")
    return None if quantile is None else float(quantile)
