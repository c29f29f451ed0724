"""Verdicts of reviewers on the pairs of a build, over all reviews, and the labels they swapped."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from curate.store.reviews import read_answers, read_asked, review_names
from curate.store.store import Part, Table, config_in_key
from schemas.ids import digest
from schemas.names import VERDICTS
from schemas.tables import Dropped, Pair, Verdict

NOT_SCORED = ("score_chosen", "score_rejected", "z_chosen", "z_rejected", "scorer", "flaw")

VERDICT_OF = {"chosen": "accept", "rejected": "swap", "equal": "tie", "both_bad": "reject"}
TURNED = {"accept": "swap", "swap": "accept"}


def are_applied(verdicts: pl.DataFrame, judged: Table | None) -> bool:
    """Whether a build was screened by these verdicts on its pairs.

    `judged` is its table of `collect_human_verdicts`, if any.
    """
    if judged is None:
        return verdicts.is_empty()
    return judged.manifest.config == config_in_key(human_verdicts_config(verdicts))


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
        pair_id = text_key("record_id").alias("pair_id")
        asked.append(rows.select(in_review, pair_id, "sampler", "a_is_chosen", "is_swapped"))
        answers.append(read_answers(data, name).with_columns(in_review))
    if not asked:
        return Verdict.create_empty()
    return verdicts(pl.concat(answers), pl.concat(asked))


def verdicts_on(pairs: pl.LazyFrame, verdicts: pl.DataFrame) -> pl.DataFrame:
    """The verdicts among `all_verdicts` that are on one of these pairs."""
    here = pairs.select(key=text_key()).unique().collect()["key"]
    return verdicts.filter(pl.col("pair_id").is_in(here.implode()))


@dataclass(frozen=True)
class HumanVerdictsConfig:
    """Digest of the verdicts."""

    sha256: str
    version: int = 1


def human_verdicts_config(verdicts: pl.DataFrame) -> HumanVerdictsConfig:
    return HumanVerdictsConfig(digest(verdicts.to_dicts()))


def collect_human_verdicts(pairs: pl.LazyFrame, cfg: HumanVerdictsConfig, *, verdicts: pl.DataFrame) -> pl.DataFrame:
    """The verdicts on these pairs, by their own ids and in their order."""
    found = pairs.select("pair_id", key=text_key()).join(
        verdicts.lazy().rename({"pair_id": "key"}), on="key", how="inner", maintain_order="left"
    )
    return found.drop("key").collect().pipe(Verdict.cast)


@dataclass(frozen=True)
class SwapConfig:
    """The pairs whose label reviewers swapped, and who swapped it."""

    swaps: tuple[tuple[str, tuple[str, ...]], ...]
    """Id of the pair, pseudonyms of the reviewers."""
    version: int = 1


def swap_config(judged: pl.DataFrame) -> SwapConfig:
    """The swaps among verdicts on pairs."""
    rows = judged.filter(pl.col("verdict") == "swap").sort("pair_id").select("pair_id", "reviewers").rows()
    return SwapConfig(tuple((pair_id, tuple(reviewers)) for pair_id, reviewers in rows))


def swap_pairs(pairs: pl.DataFrame, cfg: SwapConfig) -> Part:
    """The pairs with chosen and rejected swapped where reviewers decided so; ids stay.

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


def latest_answers(answers: pl.DataFrame) -> pl.DataFrame:
    """Of rows of `Annotation` the last version of every answer, in the order of record and reviewer."""
    ordered = answers.sort("record_id", "reviewer", "answered_at")
    return ordered.unique(["record_id", "reviewer"], keep="last", maintain_order=True)


def current_answers(answers: pl.DataFrame) -> pl.DataFrame:
    """The answers that count: the latest versions that are submitted."""
    return latest_answers(answers).filter(pl.col("status") == "submitted")


def named_answers(answers: pl.DataFrame, asked: pl.DataFrame) -> pl.DataFrame:
    """The answers that count, with the columns of `asked` and `named`, the response that was found better.

    `named` is `chosen` or `rejected`, by the label as it was when the record was asked, `equal` or `both_bad`.
    Answers on records that were not asked are left out.
    """
    better = pl.col("better").cast(pl.String)
    names_chosen = (better == "a") == pl.col("a_is_chosen")
    side = pl.when(names_chosen).then(pl.lit("chosen")).otherwise(pl.lit("rejected"))
    joined = current_answers(answers).join(asked, on="record_id", how="inner", maintain_order="left")
    return joined.with_columns(named=pl.when(better.is_in(["a", "b"])).then(side).otherwise(better))


def verdicts(answers: pl.DataFrame, asked: pl.DataFrame) -> pl.DataFrame:
    """Rows of `Verdict`, one for each pair with an answer that counts, sorted by pair.

    `answers` are rows of `Annotation` in any order; `asked` has the columns `record_id`, `pair_id`, `sampler`,
    `a_is_chosen` and `is_swapped`, and may have several records of one pair. More than half of the answers decide.
    Records with a known answer have no verdict. A verdict is on the pair as it was made: where reviewers had swapped
    its label before it was asked again, an answer for the chosen response means `swap`.
    """
    on_pairs = asked.filter(pl.col("sampler") != "gold")
    said = pl.col("named").replace_strict(VERDICT_OF, return_dtype=pl.String)
    votes = named_answers(answers, on_pairs).select(
        "pair_id",
        "reviewer",
        verdict=pl.when("is_swapped").then(said.replace(TURNED)).otherwise(said),
    )
    counted = votes.group_by("pair_id", "verdict").agg(votes=pl.len(), reviewers=pl.col("reviewer").unique().sort())
    is_majority = 2 * pl.col("votes") > pl.col("answers")
    decided = counted.with_columns(answers=pl.col("votes").sum().over("pair_id")).with_columns(
        verdict=pl.when(is_majority).then("verdict"),
        reviewers=pl.when(is_majority).then("reviewers").otherwise(pl.lit([], dtype=pl.List(pl.String))),
    )
    # Of a pair without a majority every row says the same by now; of the others the one with a verdict stays.
    rows = decided.sort("pair_id", "verdict", nulls_last=True).unique("pair_id", keep="first", maintain_order=True)
    return Verdict.cast(rows.select(Verdict.column_names()).with_columns(pl.col("verdict").cast(pl.Enum(VERDICTS))))
