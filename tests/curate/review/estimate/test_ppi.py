"""The agreement rate with the help of margins."""

import numpy as np
import polars as pl
import pytest

from curate.review.estimate.ppi import MIN_RECORDS, assign_folds, fit_logistic, predicted_rate
from curate.review.estimate.rates import agreement_rates


def dataset(draw: np.random.Generator, slope: float, pairs: int = 2000) -> pl.DataFrame:
    """Pairs in one wide band, the larger the margin the likelier `agree`."""
    margin = draw.standard_normal(pairs)
    agree = draw.random(pairs) < 1 / (1 + np.exp(-1 - slope * margin))
    return pl.DataFrame({"margin": margin, "agree": agree.astype(float)}).with_columns(
        source=pl.lit("s"), band=pl.lit("all")
    )


def strata_of(population: pl.DataFrame) -> pl.DataFrame:
    return population.group_by("source", "band", maintain_order=True).agg(pairs=pl.len())


def test_too_few_records_predict_nothing():
    population = dataset(np.random.default_rng(30), 2.0)

    assert predicted_rate(population.head(0), strata_of(population), population) is None
    assert predicted_rate(population.head(MIN_RECORDS - 1), strata_of(population), population) is None
    assert predicted_rate(population.head(MIN_RECORDS), strata_of(population), population) is not None


def test_margins_that_tell_much_narrow_the_interval():
    population = dataset(np.random.default_rng(30), 4.0)
    strata, judged = strata_of(population), population.head(300)

    plain = agreement_rates(judged, strata).overall
    found = predicted_rate(judged, strata, population)

    assert plain is not None and found is not None
    assert found.helps
    assert found.gain > 1.5
    assert 0.7 < found.trust <= 1
    assert found.rate.high - found.rate.low < 0.85 * (plain.high - plain.low)
    assert abs(found.rate.estimate - population["agree"].mean()) < 0.05


def test_margins_that_tell_nothing_are_not_followed():
    population = dataset(np.random.default_rng(30), 0.0)
    strata, judged = strata_of(population), population.head(300)

    plain = agreement_rates(judged, strata).overall
    found = predicted_rate(judged, strata, population)

    assert plain is not None and found is not None
    assert not found.helps
    assert found.gain == pytest.approx(1, abs=0.02)
    assert found.rate.estimate == pytest.approx(plain.estimate, abs=0.02)


@pytest.mark.parametrize("agree", [0.0, 1.0])
def test_answers_that_are_all_the_same_gain_nothing(agree):
    population = dataset(np.random.default_rng(30), 1.0).with_columns(agree=pl.lit(agree))

    found = predicted_rate(population.head(150), strata_of(population), population)

    assert found is not None
    assert not found.helps
    assert found.rate.estimate == pytest.approx(agree)


def test_pairs_without_a_margin_are_told_by_the_audit_alone():
    population = dataset(np.random.default_rng(30), 1.0).with_columns(margin=pl.lit(None, dtype=pl.Float64))
    strata, judged = strata_of(population), population.head(150)

    plain = agreement_rates(judged, strata).overall
    found = predicted_rate(judged, strata, population)

    assert plain is not None and found is not None
    assert found.rate.estimate == pytest.approx(plain.estimate, abs=1e-6)
    assert not found.helps


def test_dataset_that_was_judged_whole_stays_exact():
    population = dataset(np.random.default_rng(30), 3.0, pairs=200)

    found = predicted_rate(population, strata_of(population), population)

    assert found is not None
    assert found.rate.low == found.rate.high == pytest.approx(population["agree"].mean())
    assert found.gain == 1.0


def test_bands_without_answers_are_predicted_with_the_band_that_stands_for_them():
    population = dataset(np.random.default_rng(30), 2.0).with_columns(
        band=pl.when(pl.int_range(pl.len()) < 1500).then(pl.lit("all")).otherwise(pl.lit("later"))
    )

    found = predicted_rate(population.head(200), strata_of(population), population)

    assert found is not None
    assert found.rate.pairs == 2000


def test_folds_are_spread_over_every_stratum():
    stratum = np.repeat([0, 1, 2], [50, 25, 10])

    fold = assign_folds(stratum)

    assert [np.bincount(fold[stratum == i]).tolist() for i in range(3)] == [[10] * 5, [5] * 5, [2] * 5]


def test_regression_finds_the_slope_it_was_drawn_with():
    draw = np.random.default_rng(30)
    x = draw.uniform(-1, 1, 20_000)
    shares = (draw.random(x.size) < 1 / (1 + np.exp(-0.5 - 2 * x))).astype(float)

    assert fit_logistic(np.column_stack([np.ones(x.size), x]), shares) == pytest.approx([0.5, 2.0], abs=0.1)


def test_margins_that_part_the_records_without_an_error_still_have_a_slope():
    x = np.linspace(-0.5, 0.5, 100)

    weights = fit_logistic(np.column_stack([np.ones(x.size), x]), (x > 0).astype(float))

    assert np.all(np.isfinite(weights))
    assert weights[1] > 5


def test_interval_covers_the_rate():
    draw = np.random.default_rng(30)
    covered = 0
    for _ in range(200):
        population = dataset(draw, 2.0)
        found = predicted_rate(population.head(150), strata_of(population), population)
        assert found is not None
        covered += found.rate.low <= population["agree"].mean() <= found.rate.high

    assert 0.9 <= covered / 200 <= 0.99
