"""What the answers of all reviewers come to, pair by pair."""

import polars as pl

from schemas.names import VERDICTS
from schemas.tables import Verdict

VERDICT_OF = {"chosen": "accept", "rejected": "swap", "equal": "tie", "both_bad": "reject"}
TURNED = {"accept": "swap", "swap": "accept"}


def current(answers: pl.DataFrame) -> pl.DataFrame:
    """The answers that count: of each reviewer on each record the latest version, where it is submitted.

    Takes rows of `Answer`; they come back in the order of record and reviewer.
    """
    latest = answers.sort("record_id", "reviewer", "answered_at").unique(
        ["record_id", "reviewer"], keep="last", maintain_order=True
    )
    return latest.filter(pl.col("status") == "submitted")


def named(answers: pl.DataFrame, asked: pl.DataFrame) -> pl.DataFrame:
    """The answers that count, with the columns of `asked` and `named`, the response that was found better.

    `named` is `chosen` or `rejected`, by the label as it was when the record was asked, `equal` or `both_bad`.
    Answers on records that were not asked are left out.
    """
    better = pl.col("better").cast(pl.String)
    names_chosen = (better == "a") == pl.col("a_is_chosen")
    side = pl.when(names_chosen).then(pl.lit("chosen")).otherwise(pl.lit("rejected"))
    joined = current(answers).join(asked, on="record_id", how="inner", maintain_order="left")
    return joined.with_columns(named=pl.when(better.is_in(["a", "b"])).then(side).otherwise(better))


def verdicts(answers: pl.DataFrame, asked: pl.DataFrame) -> pl.DataFrame:
    """Rows of `Verdict`, one for each pair with an answer that counts, sorted by pair.

    `answers` are rows of `Answer` in any order; `asked` has the columns `record_id`, `pair_id`, `sampler`,
    `a_is_chosen` and `is_swapped`, and may have several records of one pair. More than half of the answers decide.
    Records with a known answer have no verdict. A verdict is on the pair as it was made: where people had swapped
    its label before they were asked again, who names the chosen response says `swap`.
    """
    on_pairs = asked.filter(pl.col("sampler") != "gold")
    said = pl.col("named").replace_strict(VERDICT_OF, return_dtype=pl.String)
    votes = named(answers, on_pairs).select(
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
