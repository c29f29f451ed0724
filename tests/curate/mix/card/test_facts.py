import polars as pl

from curate.mix.card.facts import quantiles


def test_lengths_of_no_rows_are_zero():
    assert quantiles(pl.Series([], dtype=pl.UInt32)) == {"low": 0, "median": 0, "high": 0}
