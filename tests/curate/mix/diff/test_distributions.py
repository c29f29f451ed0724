import numpy as np
import polars as pl
import pytest
from scipy.stats import chi2_contingency, ks_2samp

from curate.mix.diff.distributions import compare_categories, compare_numbers, find_moved

NO_ROWS = pl.DataFrame({"a": [], "b": []}, schema={"a": pl.UInt32, "b": pl.UInt32})


def overlapping(draw, common, only_a, only_b, values):
    """Two sets of values with so many rows in common, and the numbers of these rows."""
    shared = values(draw, common)
    a, b = (pl.Series(np.append(shared, values(draw, more))) for more in (only_a, only_b))
    rows = pl.int_range(common, dtype=pl.UInt32, eager=True)
    return a, b, pl.DataFrame({"a": rows, "b": rows})


def normal(draw, count):
    return draw.normal(size=count)


def letters(draw, count):
    return draw.choice(["x", "y", "z"], count, p=[0.5, 0.3, 0.2]).astype(object)


def test_without_common_pairs_the_tests_are_the_usual_ones():
    draw = np.random.default_rng(1)
    a, b, _ = overlapping(draw, 0, 300, 500, normal)
    x, y, _ = overlapping(draw, 0, 300, 500, letters)
    table = [[(side == name).sum() for name in "xyz"] for side in (x, y)]

    numbers, categories = compare_numbers("n", a, b, NO_ROWS), compare_categories("c", x, y, NO_ROWS)

    usual = ks_2samp(a, b, method="asymp")
    assert numbers.effect == pytest.approx(usual.statistic)
    # scipy's asymptotic p-value is that of a rounded effective size
    assert numbers.p == pytest.approx(usual.pvalue, abs=0.03)
    assert categories.p == pytest.approx(chi2_contingency(table).pvalue)


@pytest.mark.parametrize(("common", "only_a", "only_b"), [(0, 200, 200), (900, 60, 90), (500, 100, 0), (300, 20, 800)])
def test_pairs_of_one_distribution_seldom_count_as_moved(common, only_a, only_b):
    draw = np.random.default_rng(2)
    found = []
    for _ in range(400):
        found.append(compare_numbers("n", *overlapping(draw, common, only_a, only_b, normal)).p)
        found.append(compare_categories("c", *overlapping(draw, common, only_a, only_b, letters)).p)

    # 800 p-values: by chance a share of 0.05 lies under 0.071 in all but one of 100 cases
    assert 0.01 < np.mean(np.array(found) < 0.05) < 0.071


def test_a_shift_of_the_few_pairs_that_differ_is_found_among_many_in_common():
    draw = np.random.default_rng(3)
    a, b, both = overlapping(draw, 5000, 80, 80, normal)
    b = pl.concat([b.head(5000), b.tail(80) + 1.5])

    found = compare_numbers("n", a, b, both)

    assert found.differing == 160
    assert found.p < 1e-6
    # Taken for independent samples, the same sets show nothing.
    assert ks_2samp(a, b).pvalue > 0.5


def test_a_removal_by_length_is_found_and_a_random_one_is_not():
    draw = np.random.default_rng(4)
    values = pl.Series(draw.normal(size=1000))
    rows = pl.int_range(1000, dtype=pl.UInt32, eager=True)

    def without(is_gone):
        left = rows.filter(~is_gone)
        both = pl.DataFrame({"a": left, "b": pl.int_range(left.len(), dtype=pl.UInt32, eager=True)})
        return compare_numbers("n", values, values.filter(~is_gone), both).p

    assert without(values > 1.2) < 1e-6
    assert without(pl.Series(draw.random(1000) < 0.1)) > 0.05


def test_sides_of_one_value_or_none_or_with_few_differing_pairs_are_not_tested():
    rows = pl.int_range(9, dtype=pl.UInt32, eager=True)
    both = pl.DataFrame({"a": rows, "b": rows})
    values = pl.Series([float(i) for i in range(9)])
    nothing = pl.Series([None] * 20, dtype=pl.Float64)

    assert compare_numbers("n", values, values, both) is None
    assert compare_numbers("n", values, pl.concat([values, values]), both) is None  # nine rows differ
    assert compare_numbers("n", nothing, nothing, both) is None
    assert compare_numbers("n", pl.Series([1.0] * 40), pl.Series([1.0] * 20), NO_ROWS) is None
    assert compare_categories("c", pl.Series(["x"] * 40), pl.Series(["x"] * 20), both) is None


def test_p_values_are_corrected_for_the_number_of_tests():
    draw = np.random.default_rng(5)
    rows = [
        pl.DataFrame(
            {
                "chosen_length": draw.integers(10, 100, 200) + shift,
                "rejected_length": draw.integers(10, 100, 200),
                "score_chosen": [None] * 200,
                "score_rejected": [None] * 200,
                "flaw": [None] * 200,
                "language": ["en"] * 200,
            },
            schema_overrides={"score_chosen": pl.Float64, "score_rejected": pl.Float64, "flaw": pl.String},
        )
        for shift in (0, 60)
    ]

    found = find_moved(*rows, NO_ROWS)

    assert [moved.feature for moved in found if moved.is_moved] == ["chosen length", "length difference"]
    # Three tests: the smallest p-value counts three times, the largest once.
    assert found[0].p_holm == pytest.approx(3 * found[0].p)
    assert found[-1].p_holm == pytest.approx(max(found[-1].p, found[-2].p_holm))
