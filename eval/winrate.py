"""Count wins, losses and ties of a run against a baseline, from two scores a prompt."""

from dataclasses import dataclass

import polars as pl

from curate.screen.text.guards import is_empty
from schemas.errors import UserError

POINTS = {"win": 1.0, "tie": 0.5, "loss": 0.0}


@dataclass(frozen=True)
class WinRate:
    """Counts of the judged prompts, seen from the run."""

    n: int
    """Judged prompts: wins, losses and ties together."""
    wins: int
    losses: int
    ties: int
    """Prompts with equal scores."""
    unjudged: dict[str, int]
    """Reason -> prompts that count neither for nor against the run."""
    mean_length_run: float | None
    """Characters, over the judged prompts."""
    mean_length_baseline: float | None
    longer_won: int
    """Prompts won by the longer response, of `decided_by_length`."""
    decided_by_length: int
    """Prompts with a winner and two responses of different length."""
    degenerate_run: int
    """Responses without any text, judged or not."""
    degenerate_baseline: int

    @property
    def win_rate(self) -> float | None:
        """(wins + ties/2) / n."""
        return (self.wins + self.ties / 2) / self.n if self.n else None

    @property
    def win_rate_strict(self) -> float | None:
        """wins / n, so that a tie counts as a loss."""
        return self.wins / self.n if self.n else None


def add_outcomes(paired: pl.DataFrame) -> pl.DataFrame:
    """Adds `outcome`: win, loss, tie or unjudged; `unjudged` gets a reason for every score that is missing.

    `paired` has one row a prompt: `response_run`, `response_baseline`, `score_run`, `score_baseline` and
    `unjudged`, null or why nothing could be compared.
    """
    run, baseline = pl.col("score_run"), pl.col("score_baseline")
    is_missing = [~score.is_finite().fill_null(False) for score in (run, baseline)]
    reason = (
        pl.when(is_missing[0] & is_missing[1])
        .then(pl.lit("both: failed_score"))
        .when(is_missing[0])
        .then(pl.lit("run: failed_score"))
        .when(is_missing[1])
        .then(pl.lit("baseline: failed_score"))
    )
    outcome = (
        pl.when(pl.col("unjudged").is_not_null())
        .then(pl.lit("unjudged"))
        .when(run > baseline)
        .then(pl.lit("win"))
        .when(run < baseline)
        .then(pl.lit("loss"))
        .otherwise(pl.lit("tie"))
    )
    return paired.with_columns(unjudged=pl.coalesce("unjudged", reason)).with_columns(outcome=outcome)


def count_wins(judged: pl.DataFrame) -> WinRate:
    """The counts of the rows of `add_outcomes`."""
    outcome, run, baseline = pl.col("outcome"), pl.col("length_run"), pl.col("length_baseline")
    is_decided = (outcome != "tie") & (run != baseline)
    compared = judged.filter(outcome != "unjudged").with_columns(
        length_run=pl.col("response_run").str.len_chars(), length_baseline=pl.col("response_baseline").str.len_chars()
    )
    counts = compared.select(
        n=pl.len(),
        wins=(outcome == "win").sum(),
        losses=(outcome == "loss").sum(),
        ties=(outcome == "tie").sum(),
        mean_length_run=run.mean(),
        mean_length_baseline=baseline.mean(),
        longer_won=(is_decided & ((outcome == "win") == (run > baseline))).sum(),
        decided_by_length=is_decided.sum(),
    )
    reasons = judged.filter(outcome == "unjudged")["unjudged"].value_counts().sort("unjudged")
    return WinRate(
        **counts.row(0, named=True),
        unjudged=dict(reasons.rows()),
        degenerate_run=judged.filter(is_empty("response_run")).height,
        degenerate_baseline=judged.filter(is_empty("response_baseline")).height,
    )


def outcome_points(judged: pl.DataFrame) -> list[float]:
    """One number a judged prompt, whose mean is the win rate."""
    return [POINTS[outcome] for outcome in judged["outcome"] if outcome in POINTS]


def refuse_equal_responses(paired: pl.DataFrame, run: str, baseline: str) -> None:
    """Stop where not one response of the run differs from the baseline's: there is nothing to judge."""
    both = paired.filter(pl.col("response_run").is_not_null() & pl.col("response_baseline").is_not_null())
    if both.height and (both["response_run"] == both["response_baseline"]).all():
        raise UserError(
            f"the adapter changes no response: '{run}' and '{baseline}' said the same to all {both.height} prompts; "
            "either it was trained too little, or it is not applied"
        )
