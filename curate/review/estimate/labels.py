"""Estimates for the labels of the whole dataset, from the audit of a review."""

from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from curate.review.config import StatusConfig
from curate.review.estimate.gold import CorrectedRate, correct_rate, gold_answers
from curate.review.estimate.ppi import Predicted, predicted_rate
from curate.review.estimate.rates import AgreementRates, agreement_rates, audited_records, reviews_needed
from curate.review.population import read_population
from curate.review.strata import add_bands
from curate.store.reviews import Review
from schemas.errors import UserError

HALF_WIDTHS = (0.05, 0.03)
"""Half-widths of an interval for which the records still to be audited are estimated."""

BATCH_BAND = pl.format("{}, batch {}", "band", "batch").alias("band")
"""The band with the batch that a record came with."""


@dataclass(frozen=True)
class LabelEstimates:
    """Share of the labels of the whole dataset that reviewers agree with, and share that is right."""

    agreement: AgreementRates
    corrected: CorrectedRate | None
    """The share of labels that are right; None without records with a known answer."""
    predicted: Predicted | None
    """The agreement with the help of all margins, where that gains something."""
    more_records: dict[float, int | None] | None
    """Half-width of the interval -> records still to be audited; None before any was judged."""

    def summary(self) -> dict[str, Any]:
        overall = self.agreement.overall
        return {
            "agreement": asdict(overall) if overall else None,
            "by_source": {source: asdict(rate) if rate else None for source, rate in self.agreement.by_source.items()},
            "borrowed": [{"source": s, "band": band, "from": other} for s, band, other in self.agreement.borrowed],
            "unanswered": list(self.agreement.unanswered),
            "corrected": asdict(self.corrected) if self.corrected else None,
            "predicted": {**asdict(self.predicted.rate), "gain": self.predicted.gain} if self.predicted else None,
            "more_records": {f"{width:g}": count for width, count in (self.more_records or {}).items()} or None,
        }


def estimate_labels(cfg: StatusConfig, review: Review, asked: pl.DataFrame, answers: pl.DataFrame) -> LabelEstimates:
    """The estimates from the named answers to what was asked.

    Each batch stands for its share of the audit, however much of it was judged: of an audit that was just extended the
    answers there are come from earlier batches alone, among them pairs that had been picked for being suspicious.
    """
    strata = pl.DataFrame(
        [asdict(stratum) for stratum in review.strata],
        schema={"source": pl.String, "band": pl.String, "pairs": pl.Int64, "drawn": pl.Int64},
    )
    rates = agreement_rates(audited_records(answers.with_columns(BATCH_BAND)), strata_by_batch(strata, asked))
    overall, gold = rates.overall, gold_answers(answers)
    return LabelEstimates(
        agreement=rates,
        corrected=correct_rate(overall, gold) if overall and gold.height else None,
        predicted=predict_rate(cfg, review, audited_records(answers), strata),
        more_records={width: reviews_needed(overall, width) for width in HALF_WIDTHS} if overall else None,
    )


def strata_by_batch(strata: pl.DataFrame, asked: pl.DataFrame) -> pl.DataFrame:
    """The strata, each parted by the batches of its audit; one that no record is of stays whole."""
    counted = asked.filter(pl.col("sampler") == "random").group_by("source", "band", "batch").agg(records=pl.len())
    parted = strata.join(counted.sort("batch"), on=["source", "band"], how="left", maintain_order="left_right")
    parted = parted.with_columns(pl.col("batch").fill_null(0), pl.col("records").fill_null(1))
    share = pl.col("records") / pl.col("records").sum().over("source", "band")
    return parted.select("source", BATCH_BAND, pairs=pl.col("pairs") * share)


def predict_rate(cfg: StatusConfig, review: Review, records: pl.DataFrame, strata: pl.DataFrame) -> Predicted | None:
    """The agreement with the help of all margins, where that gains something."""
    try:
        pairs = read_population(cfg.data, cfg.name, include_dropped=False)
    except UserError:
        # The build or mix was removed; the other estimates remain.
        return None
    rows = add_bands(pairs.rows, review.edges).select("source", "band", "margin")
    rows = rows.join(strata, on=["source", "band"], how="semi")
    found = predicted_rate(records, strata, rows)
    return found if found and found.helps else None
