"""Cells stand under each other."""

from curate.cli.columns import align_columns

ROWS = [("flaw", "asked", "cost"), ("a longer name", "7", "0 USD"), ("x", "1,234", "")]


def test_a_column_is_as_wide_as_its_widest_cell():
    assert align_columns(ROWS) == [
        "flaw           asked  cost",
        "a longer name  7      0 USD",
        "x              1,234",
    ]


def test_figures_are_flush_right_behind_the_names():
    assert align_columns(ROWS, names=1) == [
        "flaw           asked   cost",
        "a longer name      7  0 USD",
        "x              1,234",
    ]
