"""What people said of the pairs of a build: verdicts of all reviews, and the pairs they turned round."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from curate.parts import Part
from curate.review.folder import read_answers, read_asked, review_names
from curate.review.verdicts import verdicts
from curate.store import Table, config_in_key
from schemas.ids import digest
from schemas.tables import Dropped, Pair, Verdict

NOT_SCORED = ("score_chosen", "score_rejected", "z_chosen", "z_rejected", "scorer", "flaw")


def are_applied(verdicts: pl.DataFrame, judged: Table | None) -> bool:
    """Whether a build was screened by these verdicts on its pairs; `judged` is its table of `judge_pairs`, if any."""
    if judged is None:
        return verdicts.is_empty()
    return judged.manifest.config == config_in_key(judged_config(verdicts))


def text_key(column: str = "pair_id") -> pl.Expr:
    """What ids of pairs with the same texts share: their first 16 digits, without a number of occurrence."""
    return pl.col(column).str.slice(0, 16)


def all_verdicts(data: Path) -> pl.DataFrame:
    """Rows of `Verdict`, one for each text that was judged in any review; `pair_id` is its `text_key`."""
    asked, answers = [], []
    for name in review_names(data):
        # Reviews ask about a text in their own order, so a record of one is not that of another.
        in_review = pl.concat_str(pl.lit(f"{name}/"), "record_id").alias("record_id")
        rows = read_asked(data, name)
        asked.append(rows.select(in_review, text_key("record_id").alias("pair_id"), *JUDGED_BY))
        answers.append(read_answers(data, name).with_columns(in_review))
    if not asked:
        return Verdict.create_empty()
    return verdicts(pl.concat(answers), pl.concat(asked))


JUDGED_BY = ("sampler", "a_is_chosen", "is_swapped")


def verdicts_on(pairs: pl.LazyFrame, verdicts: pl.DataFrame) -> pl.DataFrame:
    """The verdicts among `all_verdicts` that are on one of these pairs."""
    here = pairs.select(key=text_key()).unique().collect()["key"]
    return verdicts.filter(pl.col("pair_id").is_in(here.implode()))


@dataclass(frozen=True)
class JudgedConfig:
    """Which verdicts there are, by their content."""

    sha256: str
    version: int = 1


def judged_config(verdicts: pl.DataFrame) -> JudgedConfig:
    return JudgedConfig(digest(verdicts.to_dicts()))


def judge_pairs(pairs: pl.LazyFrame, cfg: JudgedConfig, *, verdicts: pl.DataFrame) -> pl.DataFrame:
    """The verdicts on these pairs, by their own ids and in their order."""
    found = pairs.select("pair_id", key=text_key()).join(
        verdicts.lazy().rename({"pair_id": "key"}), on="key", how="inner", maintain_order="left"
    )
    return found.drop("key").collect().pipe(Verdict.cast)


@dataclass(frozen=True)
class SwapConfig:
    """Which pairs people turned round, and who did."""

    swaps: tuple[tuple[str, tuple[str, ...]], ...]
    """Id of the pair, pseudonyms of the reviewers."""
    version: int = 1


def swap_config(judged: pl.DataFrame) -> SwapConfig:
    """The swaps among verdicts on pairs."""
    rows = judged.filter(pl.col("verdict") == "swap").sort("pair_id").select("pair_id", "reviewers").rows()
    return SwapConfig(tuple((pair_id, tuple(reviewers)) for pair_id, reviewers in rows))


def swap_pairs(pairs: pl.DataFrame, cfg: SwapConfig) -> Part:
    """The pairs with chosen and rejected exchanged where people said so; ids stay.

    Such a pair has no scores, for its scorer preferred the other response, and no flaw is known of its rejected one.
    """
    is_swapped = pl.col("pair_id").is_in([pair_id for pair_id, _ in cfg.swaps])
    sides = [name.removeprefix("chosen") for name in pairs.columns if name.startswith("chosen")]
    exchanged = [
        pl.when(is_swapped).then(f"{there}{side}").otherwise(f"{here}{side}").alias(f"{here}{side}")
        for side in sides
        for here, there in (("chosen", "rejected"), ("rejected", "chosen"))
    ]
    emptied = [pl.when(~is_swapped).then(name).alias(name) for name in NOT_SCORED]
    failed = (pl.col("failed_score") & ~is_swapped).alias("failed_score")
    return Part(pairs.with_columns(*exchanged, *emptied, failed).pipe(Pair.cast), Dropped.create_empty())
