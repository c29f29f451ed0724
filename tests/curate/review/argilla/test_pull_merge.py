"""What pulls bring in, joined to the history: in any order, any number of times."""

from datetime import UTC, datetime, timedelta

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from curate.review.answers import answer_row, answer_table, merge_answers, withdraw_answers
from curate.screen.human import latest_answers

START = datetime(2026, 1, 1, tzinfo=UTC)
SCHEMA = {"record_id": pl.String, "reviewer": pl.String, "answered_at": pl.Datetime("us", "UTC")}


def version(minute: int, better: str = "a", record: str = "x", reviewer: str = "r1") -> dict:
    moment = START + timedelta(minutes=minute)
    return answer_row(record, reviewer, moment, better=better, sure=None, wrong=None, note=None)


def history(*versions: dict) -> pl.DataFrame:
    return merge_answers(answer_table([]), answer_table(versions))


def taken_back(minute: int | None, record: str = "x", reviewer: str = "r1") -> pl.DataFrame:
    moment = None if minute is None else START + timedelta(minutes=minute)
    return pl.DataFrame([(record, reviewer, moment)], schema=SCHEMA, orient="row")


def after(before: pl.DataFrame, gone: pl.DataFrame) -> pl.DataFrame:
    return merge_answers(before, withdraw_answers(before, gone))


def test_nothing_taken_back_changes_nothing():
    before = history(version(0))

    assert withdraw_answers(before, taken_back(5).clear()).is_empty()
    assert withdraw_answers(answer_table([]), taken_back(5)).is_empty()


def test_what_is_taken_back_is_withdrawn_without_its_content_and_stays_in_the_history():
    found = after(history(version(0, "b")), taken_back(5))

    assert found.select("status", "better", "answered_at").rows() == [
        ("submitted", "b", START),
        ("withdrawn", None, START + timedelta(minutes=5)),
    ]


def test_an_answer_that_is_gone_is_withdrawn_the_moment_after_it_was_given():
    found = after(history(version(3)), taken_back(None))

    assert found["answered_at"][-1] == START + timedelta(minutes=3, microseconds=1)
    assert after(found, taken_back(None)).equals(found)


def test_what_is_withdrawn_already_is_not_withdrawn_again():
    found = after(history(version(0)), taken_back(5))

    assert after(found, taken_back(6)).equals(found)


def test_a_draft_older_than_the_answer_takes_nothing_back():
    before = history(version(5))

    assert after(before, taken_back(4)).equals(before)
    assert after(before, taken_back(5)).equals(before)


def test_an_answer_given_after_it_was_withdrawn_counts():
    found = merge_answers(after(history(version(0)), taken_back(5)), answer_table([version(9, "equal")]))

    assert latest_answers(found)["better"].to_list() == ["equal"]
    assert len(found) == 3


def test_an_unreadable_answer_can_be_taken_back():
    found = after(history(version(0, "perhaps")), taken_back(1))

    assert found["status"].to_list() == ["unreadable", "withdrawn"]


VERSIONS = st.lists(
    st.builds(
        version,
        st.integers(0, 50),
        st.sampled_from(["a", "b", "equal", "both_bad", "unknown"]),
        st.sampled_from("xyz"),
        st.sampled_from(["r1", "r2"]),
    ),
    max_size=12,
    unique_by=lambda row: (row["record_id"], row["reviewer"], row["answered_at"]),
)


@given(VERSIONS, st.randoms(use_true_random=False))
def test_the_order_of_pulls_does_not_matter(versions, random):
    shuffled = random.sample(versions, len(versions))
    cut = random.randint(0, len(versions))

    at_once = history(*versions)
    in_turn = merge_answers(history(*shuffled[:cut]), answer_table(shuffled[cut:]))

    assert in_turn.equals(at_once)


@given(VERSIONS, st.sampled_from("xyz"), st.integers(0, 60) | st.none())
def test_a_pull_twice_is_a_pull_once(versions, record, minute):
    before = history(*versions)
    once = after(before, taken_back(minute, record))

    assert merge_answers(once, answer_table(versions)).equals(once)
    assert after(once, taken_back(minute, record)).equals(once)
