"""Prediction-powered inference: a narrower interval of the agreement rate where margins predict agreement."""

import math
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.review.estimate.rates import Estimate, StratifiedSample, find_stand_ins, merge_strata

MIN_RECORDS = 100
MIN_GAIN = 1.03
FOLDS = 5
SEED = 30
RIDGE = 0.1
"""Keeps the slope finite where the margin parts the agreeing records from the others without an error."""


@dataclass(frozen=True)
class Predicted:
    """The agreement rate with the help of what the margins of all pairs predict."""

    rate: Estimate
    gain: float
    """Variance of the stratified estimate by the variance of this one."""
    trust: float
    """Weight of the predictions: 0 is the stratified estimate, 1 takes them in full."""

    @property
    def helps(self) -> bool:
        """Whether the gain is worth a second number."""
        return self.gain >= MIN_GAIN


def predicted_rate(audited: pl.DataFrame, strata: pl.DataFrame, population: pl.DataFrame) -> Predicted | None:
    """The overall rate by prediction-powered inference, from as many as `MIN_RECORDS` records, else None.

    `audited` and `strata` are as for `agreement_rates`; `population` has `source`, `band` and `margin` of every pair
    of the dataset. PPI++ (Angelopoulos, Duchi and Zrnic, arXiv 2311.01453) in each stratum: the mean prediction of
    all its pairs, plus the mean of what the records of the audit are above their predictions. Predictions are
    multiplied by `trust`, which is chosen for the least variance and lies between 0 and 1. A
    record is predicted by records of other folds (Zrnic and Candès, PNAS 121, 2024): a logistic regression of its
    agreement on the rank of its margin in its source.

    The interval is that of `agreement_rates` on an effective sample size larger by the gain, which is estimated from
    the variances within strata, one degree of freedom less for `trust`. Strata of margin bands have most of what a
    margin can tell, so the gain is small unless bands are wide.
    """
    table = find_stand_ins(audited, strata)
    groups = merge_strata(table)
    drawn = StratifiedSample.of(audited, groups)
    if drawn is None or drawn.agree.size < MIN_RECORDS:
        return None
    strata_of_pairs = table.join(groups.select("source", "stratum", stands="band"), on=["source", "stands"])
    everyone = population.join(strata_of_pairs, on=["source", "band"], how="inner", maintain_order="left")
    features, all_features = (margin_features(rows, population) for rows in (audited, everyone))
    fold = assign_folds(drawn.stratum)
    own = np.zeros(drawn.agree.size)
    everywhere = np.bincount(everyone["stratum"].to_numpy(), minlength=drawn.pairs.size)
    for k in range(FOLDS):
        weights = fit_logistic(features[fold != k], drawn.agree[fold != k])
        sums = np.bincount(everyone["stratum"].to_numpy(), sigmoid(all_features @ weights), drawn.pairs.size)
        mean = sums / np.maximum(everywhere, 1)
        mine = fold == k
        # What is predicted above the mean prediction of all pairs of the stratum: 0 on average over its pairs.
        own[mine] = sigmoid(features[mine] @ weights) - mean[drawn.stratum[mine]]
    trust = choose_trust(drawn, own)
    estimate = min(max(drawn.mean(drawn.agree - trust * own), 0.0), 1.0)
    freedom = float(np.maximum(drawn.records - 1, 0).sum())
    before, after = stratified_variance(drawn, drawn.agree), stratified_variance(drawn, drawn.agree - trust * own)
    gain = before / after * (freedom - 1) / freedom if after > 0 else 1.0
    return Predicted(drawn.estimate(estimate, gain), gain, trust)


def margin_features(rows: pl.DataFrame, population: pl.DataFrame) -> NDArray[np.float64]:
    """(rows, 3): 1, the share of pairs of its source below it less one half, and whether it has no margin."""
    sources = rows["source"].to_numpy()
    margins = rows["margin"].cast(pl.Float64).fill_null(math.nan).to_numpy()
    is_finite = np.isfinite(margins)
    rank = np.zeros(rows.height)
    for (source,), pairs in population.filter(pl.col("margin").is_finite()).group_by("source"):
        known = pairs["margin"].sort().to_numpy()
        here = is_finite & (sources == source)
        below = np.searchsorted(known, margins[here], "left") + np.searchsorted(known, margins[here], "right")
        rank[here] = below / (2 * known.size) - 0.5
    return np.column_stack([np.ones(rows.height), rank, ~is_finite])


def assign_folds(stratum: NDArray[np.int64]) -> NDArray[np.int64]:
    """The fold of each record: at random, and spread evenly over every stratum."""
    shuffled = np.random.default_rng(SEED).permutation(stratum.size)
    order = shuffled[np.argsort(stratum[shuffled], kind="stable")]
    fold = np.empty(stratum.size, dtype=np.int64)
    fold[order] = np.arange(stratum.size) % FOLDS
    return fold


def fit_logistic(features: NDArray[np.float64], shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights of a logistic regression of shares in [0, 1], by Newton's method with a small ridge."""
    weights = np.zeros(features.shape[1])
    ridge = RIDGE * np.eye(weights.size)
    for _ in range(12):
        means = sigmoid(features @ weights)
        slope = features.T @ (shares - means) - ridge @ weights
        weights = weights + np.linalg.solve((features.T * (means * (1 - means))) @ features + ridge, slope)
    return weights


def sigmoid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-np.clip(values, -30, 30)))


def choose_trust(drawn: StratifiedSample, predictions: NDArray[np.float64]) -> float:
    """How far predictions are followed for the least variance: covariance with the answers by variance, 0 to 1."""
    spread = stratified_variance(drawn, predictions)
    if spread <= 0:
        return 0.0
    both = stratified_variance(drawn, drawn.agree + predictions) - stratified_variance(drawn, drawn.agree) - spread
    return min(max(both / (2 * spread), 0.0), 1.0)


def stratified_variance(drawn: StratifiedSample, values: NDArray[np.float64]) -> float:
    """Of the stratified mean of a value of each record, from the strata with two records or more."""
    n = drawn.records
    means = np.bincount(drawn.stratum, values, n.size) / n
    squares = np.bincount(drawn.stratum, (values - means[drawn.stratum]) ** 2, n.size)
    return float(drawn.shares(is_finite=True) @ (squares / np.maximum(n - 1, 1)))
