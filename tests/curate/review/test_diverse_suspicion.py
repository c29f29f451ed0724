"""Which labels are taken to be wrong."""

import math

import numpy as np
import polars as pl
import pytest

from curate.review.diverse import WEIGHTS, suspicion_score
from schemas.names import FLAGS

# Of two normal distributions that lie so far apart a draw of one is above a draw of the other 8 times of 10.
APART_AT_08 = math.sqrt(2) * 0.8416212


def rows(**columns) -> pl.DataFrame:
    count = len(next(iter(columns.values())))
    given = {
        "source": ["real"] * count,
        "margin": [None] * count,
        "flags": [[]] * count,
        "is_disputed": [False] * count,
    }
    schema = {"source": pl.String, "margin": pl.Float64, "flags": pl.List(pl.Enum(FLAGS)), "is_disputed": pl.Boolean}
    return pl.DataFrame(given | columns, schema=schema)


def order(given: pl.DataFrame) -> list[int]:
    """The rows, the most suspicious first."""
    return given.with_row_index("row").sort(suspicion_score(), descending=True, maintain_order=True)["row"].to_list()


def test_every_flag_has_a_weight():
    assert set(WEIGHTS) == set(FLAGS)


def test_no_pairs_are_not_suspicious():
    assert rows(margin=[]).select(suspicion_score()).to_series().to_list() == []


def test_the_smallest_margin_comes_first_and_a_negative_one_before_it():
    assert order(rows(margin=[0.5, -2.0, 0.1])) == [1, 2, 0]


def test_margins_count_within_their_source():
    given = rows(margin=[1.0, 2.0, 100.0, 200.0], source=["a", "a", "b", "b"])

    values = given.select(suspicion_score()).to_series().to_list()

    assert values[:2] == values[2:]


def test_a_pair_without_margin_stands_in_the_middle():
    assert order(rows(margin=[1.0, 2.0, 3.0, None])) == [0, 3, 1, 2]


def test_equal_margins_are_equally_suspicious():
    assert rows(margin=[1.0, 1.0, 1.0]).select(suspicion_score()).to_series().n_unique() == 1


@pytest.mark.parametrize("flag", FLAGS)
def test_a_flag_makes_a_pair_more_suspicious(flag):
    assert order(rows(margin=[1.0, 1.0], flags=[[], [flag]])) == [1, 0]


def test_what_scorers_disagree_about_is_more_suspicious():
    assert order(rows(margin=[1.0, 1.0], is_disputed=[False, True])) == [1, 0]


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_of_a_signal_of_auroc_08_the_first_are_wrong_at_least_three_times_as_often(noise):
    """80 of 10,000 pairs, a tenth of which are wrong; with flags that mean nothing on a tenth of them too."""
    rng = np.random.default_rng(30)
    found = []
    for _ in range(40):
        wrong = rng.random(10_000) < 0.1
        margin = rng.normal(size=wrong.size) - APART_AT_08 * wrong
        flags = [["maybe_truncated"] if has_flag else [] for has_flag in rng.random(wrong.size) < noise]
        first = order(rows(margin=margin, flags=flags))[:80]
        found.append(wrong[first].mean() / wrong.mean())

    assert np.quantile(found, 0.025) > 3
