"""What the answers of several reviewers come to."""

from datetime import UTC, datetime, timedelta

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from curate.screen.human import current_answers, named_answers, verdicts
from schemas.tables import Annotation, Verdict

START = datetime(2026, 1, 5, 9, tzinfo=UTC)
ASKED = {
    "record_id": pl.String,
    "pair_id": pl.String,
    "sampler": pl.String,
    "a_is_chosen": pl.Boolean,
    "is_swapped": pl.Boolean,
}


def answers(*rows: tuple[str, str, str | None], statuses: tuple[str, ...] = ()) -> pl.DataFrame:
    """Record, reviewer and which is better, a second apart."""
    return pl.DataFrame(
        [
            {
                "record_id": record,
                "reviewer": reviewer,
                "answered_at": START + timedelta(seconds=i),
                "status": statuses[i] if statuses else "submitted",
                "better": better,
                "sure": None,
                "wrong": [],
                "note": None,
            }
            for i, (record, reviewer, better) in enumerate(rows)
        ],
        schema=Annotation.create_empty().schema,
    )


def asked(*rows: tuple[str, bool, bool], sampler: str = "random") -> pl.DataFrame:
    """Record, whether A is the chosen response, and whether people had swapped it; the pair is called like it."""
    return pl.DataFrame(
        [(record, record, sampler, a_is_chosen, is_swapped) for record, a_is_chosen, is_swapped in rows],
        schema=ASKED,
        orient="row",
    )


def found(table: pl.DataFrame) -> dict[str, str | None]:
    return dict(table.select("pair_id", pl.col("verdict").cast(pl.String)).rows())


def test_no_answers_make_no_verdicts():
    assert verdicts(answers(), asked(("p", True, False))).is_empty()
    assert verdicts(answers(("p", "r1", "a")), asked()).is_empty()


def test_each_answer_is_the_verdict_it_stands_for():
    records = asked(*((name, name != "2", False) for name in "12345"))
    said = answers(("1", "r1", "a"), ("2", "r1", "a"), ("3", "r1", "b"), ("4", "r1", "equal"), ("5", "r1", "both_bad"))

    assert found(verdicts(said, records)) == {"1": "accept", "2": "swap", "3": "swap", "4": "tie", "5": "reject"}


def test_verdict_on_a_swapped_pair_is_about_the_pair_as_it_was_made():
    records = asked(("1", True, True), ("2", True, True), ("3", True, True))
    said = answers(("1", "r1", "a"), ("2", "r1", "b"), ("3", "r1", "equal"))

    assert found(verdicts(said, records)) == {"1": "swap", "2": "accept", "3": "tie"}
    assert named_answers(said, records)["named"].to_list() == ["chosen", "rejected", "equal"]


def test_more_than_half_of_the_answers_decide():
    said = answers(("1", "r1", "a"), ("1", "r2", "a"), ("1", "r3", "equal"))

    (row,) = verdicts(said, asked(("1", True, False))).to_dicts()

    assert row == {"pair_id": "1", "verdict": "accept", "answers": 3, "reviewers": ["r1", "r2"]}


def test_even_split_and_a_mere_plurality_need_review():
    records = asked(("1", True, False), ("2", True, False))
    said = answers(("1", "r1", "a"), ("1", "r2", "b"), *(("2", f"r{i}", b) for i, b in enumerate("aab")))
    said = pl.concat([said, answers(("2", "r3", "equal"))])

    rows = verdicts(said, records).to_dicts()

    assert [(row["verdict"], row["answers"], row["reviewers"]) for row in rows] == [(None, 2, []), (None, 4, [])]


def test_later_version_supersedes_the_earlier_one():
    said = answers(("1", "r1", "a"), ("1", "r1", "b"))

    assert found(verdicts(said, asked(("1", True, False)))) == {"1": "swap"}


def test_withdrawn_answer_does_not_count_nor_does_the_one_before_it():
    statuses = ("submitted", "withdrawn", "submitted", "unreadable")
    said = answers(("1", "r1", "a"), ("1", "r1", "a"), ("2", "r1", "a"), ("2", "r1", None), statuses=statuses)

    assert verdicts(said, asked(("1", True, False), ("2", True, False))).is_empty()


def test_answer_given_again_after_it_was_withdrawn_counts():
    statuses = ("submitted", "withdrawn", "submitted")
    said = answers(("1", "r1", "a"), ("1", "r1", "a"), ("1", "r1", "b"), statuses=statuses)

    assert found(verdicts(said, asked(("1", True, False)))) == {"1": "swap"}


def test_known_answers_and_foreign_records_have_no_verdict():
    said = answers(("gold", "r1", "a"), ("foreign", "r1", "a"))

    assert verdicts(said, asked(("gold", True, False), sampler="gold")).is_empty()


def test_records_of_one_pair_are_counted_together():
    records = asked(("v1/1", True, False), ("v2/1", False, True)).with_columns(pair_id=pl.lit("1"))
    # in the second review the label was swapped: B is its chosen response, which the pair was made with as rejected
    said = answers(("v1/1", "r1", "b"), ("v2/1", "r1", "b"), ("v2/1", "r2", "a"))

    (row,) = verdicts(said, records).to_dicts()

    assert row == {"pair_id": "1", "verdict": "swap", "answers": 3, "reviewers": ["r1"]}


versions = st.lists(
    st.tuples(
        st.sampled_from("123"),
        st.sampled_from(["r1", "r2", "r3"]),
        st.sampled_from(["a", "b", "equal", "both_bad"]),
        st.sampled_from(["submitted", "submitted", "withdrawn"]),
    ),
    max_size=20,
)


@given(versions, st.randoms())
def test_verdicts_do_not_depend_on_the_order_of_rows(rows, random):
    said = answers(*(row[:3] for row in rows), statuses=tuple(row[3] for row in rows))
    records = asked(("1", True, False), ("2", False, False), ("3", False, True))
    order = list(range(said.height))
    random.shuffle(order)

    expected = verdicts(said, records)

    assert verdicts(said[order], records[[2, 0, 1]]).equals(expected)
    Verdict.validate(expected)


@given(versions)
def test_answers_that_count_come_to_the_same_when_read_again(rows):
    said = answers(*(row[:3] for row in rows), statuses=tuple(row[3] for row in rows))
    records = asked(("1", True, False), ("2", False, False), ("3", False, True))

    assert current_answers(current_answers(said)).equals(current_answers(said))
    assert verdicts(current_answers(said), records).equals(verdicts(said, records))
    assert verdicts(said, records)["answers"].sum() == current_answers(said).height
