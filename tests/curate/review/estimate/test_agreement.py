"""Kappa, alpha and the scorer against people, on worked examples and on real annotators."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shared_data import DATASETS

from curate.review.estimate.agreement import cohen_kappa, krippendorff_alpha, pairwise_kappa, scorer_agreement

PANDALM = DATASETS / "pandalm_pairs_3humans_2judges.parquet"
LONG = {"record_id": pl.String, "reviewer": pl.String, "label": pl.String}


def long(**labels: str) -> pl.DataFrame:
    """Labels of each reviewer, one word a record, `.` where the reviewer did not judge it."""
    rows = [
        (str(record), reviewer, label)
        for reviewer, said in labels.items()
        for record, label in enumerate(said.split())
        if label != "."
    ]
    return pl.DataFrame(rows, schema=LONG, orient="row")


def test_no_answers_have_neither_kappa_nor_alpha():
    nothing = long()

    assert pairwise_kappa(nothing) == []
    assert krippendorff_alpha(nothing) is None


def test_reviewers_who_share_no_record_have_no_kappa():
    assert pairwise_kappa(long(r1="a b .", r2=". . a")) == []


def test_one_label_for_everything_has_no_kappa_since_chance_explains_it():
    (found,) = pairwise_kappa(long(r1="a a a", r2="a a a"))

    assert (found.n, found.kappa, found.low, found.high) == (3, None, None, None)
    assert krippendorff_alpha(long(r1="a a a", r2="a a a")) is None


def test_kappa_of_a_textbook_table_is_040():
    # 20 both yes, 5 yes and no, 10 no and yes, 15 both no: observed 0.70, expected 0.5 * 0.6 + 0.5 * 0.4 = 0.50
    one = pl.Series(["yes"] * 25 + ["no"] * 25)
    other = pl.Series(["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15)

    kappa, low, high = cohen_kappa(one, other)

    assert kappa == pytest.approx(0.4)
    # The delta method, worked numerically, gives a standard error of 0.1270: as of 0.7 * 0.3 / (0.127 * 0.5)² = 52.1
    # records, of which 0.70 has the interval 0.5654 to 0.8072 by Wilson.
    assert (low, high) == pytest.approx((0.1307, 0.6143), abs=2e-4)


def test_full_agreement_of_a_few_records_is_not_certain():
    (few,) = pairwise_kappa(long(r1="a b a b", r2="a b a b"))
    (more,) = pairwise_kappa(long(r1="a b " * 100, r2="a b " * 100))

    assert few.kappa == more.kappa == 1.0
    assert few.low is not None and more.low is not None
    assert few.low < 0.1 and 0.9 < more.low < 1


def test_reviewers_who_always_disagree_have_a_negative_kappa():
    (found,) = pairwise_kappa(long(r1="a b a b", r2="b a b a"))

    assert found.kappa == -1.0
    assert found.low == -1.0


def test_alpha_of_two_observers_and_binary_data_is_0095():
    """Part A of Krippendorff, Computing Krippendorff's Alpha-Reliability."""
    assert krippendorff_alpha(long(meg="0 1 0 0 0 0 0 0 1 0", owen="1 1 1 0 0 1 0 0 0 0")) == pytest.approx(
        0.095, abs=5e-4
    )


def test_alpha_of_two_observers_and_nominal_data_is_0692():
    """Part B."""
    assert krippendorff_alpha(long(ben="a a b b d c c c e d d a", gerry="b a b b b c c c e d d d")) == pytest.approx(
        0.692, abs=5e-4
    )


def test_alpha_of_four_observers_with_missing_data_is_0743():
    """Part C: record 12 has one answer and says nothing."""
    answers = long(
        a="1 2 3 3 2 1 4 1 2 . . .",
        b="1 2 3 3 2 2 4 1 2 5 . 3",
        c=". 3 3 3 2 3 4 2 2 5 1 .",
        d="1 2 3 3 2 4 4 1 2 5 1 .",
    )

    assert krippendorff_alpha(answers) == pytest.approx(0.743, abs=5e-4)


def test_records_with_one_answer_do_not_change_alpha():
    alone = long(r1="a b a a", r2="a b b a")
    more = pl.concat([alone, long(r3=". . . . b a b b")])

    assert krippendorff_alpha(more) == krippendorff_alpha(alone)


labels = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=1, max_size=30)


@given(labels)
def test_kappa_lies_in_its_interval_and_is_the_same_both_ways(pairs):
    one, other = (pl.Series([pair[side] for pair in pairs]) for side in (0, 1))

    kappa, low, high = cohen_kappa(one, other)

    assert (kappa, low, high) == pytest.approx(cohen_kappa(other, one))
    if kappa is not None:
        assert -1 <= low <= kappa + 1e-12 and kappa - 1e-12 <= high <= 1 + 1e-12


@given(labels, st.randoms())
def test_alpha_does_not_depend_on_the_order_of_rows_or_the_names_of_labels(pairs, random):
    answers = long(r1=" ".join(pair[0] for pair in pairs), r2=" ".join(pair[1] for pair in pairs))
    order = list(range(answers.height))
    random.shuffle(order)

    alpha = krippendorff_alpha(answers)

    assert krippendorff_alpha(answers[order]) == pytest.approx(alpha)
    assert krippendorff_alpha(answers.with_columns("x" + pl.col("label"))) == pytest.approx(alpha)


@pytest.mark.skipif(not PANDALM.exists(), reason="the shared datasets are not here")
def test_kappas_of_the_three_annotators_of_pandalm():
    answers = (
        pl.read_parquet(PANDALM)
        .select(
            record_id=pl.int_range(pl.len()).cast(pl.String),
            **{f"r{i}": pl.col(f"annotator{i}").cast(pl.String) for i in (1, 2, 3)},
        )
        .unpivot(index="record_id", variable_name="reviewer", value_name="label")
    )

    found = pairwise_kappa(answers)

    assert [(kappa.reviewers, kappa.n) for kappa in found] == [
        (("r1", "r2"), 999),
        (("r1", "r3"), 999),
        (("r2", "r3"), 999),
    ]
    assert [round(kappa.kappa, 3) for kappa in found if kappa.kappa is not None] == [0.852, 0.879, 0.862]
    assert krippendorff_alpha(answers) == pytest.approx(0.864, abs=5e-4)


def test_scorer_is_right_in_a_band_where_people_name_what_it_prefers():
    named = pl.DataFrame(
        {
            "record_id": ["1", "2", "3", "4", "5", "6", "7", "8"],
            "sampler": ["random"] * 7 + ["suspicious"],
            "source": ["s"] * 8,
            "band": ["low", "low", "high", "high", "high", "low", "none", "high"],
            # below 0 the scorer prefers the rejected response, at 0 neither, and null is no score
            "margin": [-0.2, 0.1, 1.0, 2.0, 3.0, 0.0, None, 1.5],
            "named": ["rejected", "rejected", "chosen", "chosen", "equal", "chosen", "chosen", "rejected"],
        }
    )

    found = scorer_agreement(named)

    assert found.select("band", "smallest", "decided", "agree").rows() == [("low", -0.2, 2, 0.5), ("high", 1.0, 2, 1.0)]
    assert found["low"].to_list() == pytest.approx([0.095, 0.342], abs=1e-3)
    assert found["high"].to_list() == pytest.approx([0.905, 1.0], abs=1e-3)


def test_scorer_without_a_decided_answer_has_no_bands():
    empty = pl.DataFrame(
        schema={
            "record_id": pl.String,
            "sampler": pl.String,
            "source": pl.String,
            "band": pl.String,
            "margin": pl.Float64,
            "named": pl.String,
        }
    )

    assert scorer_agreement(empty).columns == ["source", "band", "smallest", "decided", "agree", "low", "high"]
