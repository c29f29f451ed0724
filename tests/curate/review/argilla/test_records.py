import html
import json

import polars as pl
import pytest
from asking import asked_rows
from hypothesis import given
from hypothesis import strategies as st

from curate.review.argilla.dataset import Dataset
from curate.review.argilla.records import (
    MOST_BYTES,
    MOST_RECORDS,
    escape_text,
    has_cut_text,
    make_record,
    preferred_response,
    split_requests,
)
from curate.review.display import LONGEST


@pytest.mark.parametrize(
    "margin, a_is_chosen, expected",
    [
        (1.0, True, "a"),
        (1.0, False, "b"),
        (-1.0, True, "b"),
        (-1.0, False, "a"),
        (0.0, True, "equal"),
        (None, True, None),
    ],
)
def test_the_scorer_prefers_by_the_sign_of_the_margin(margin, a_is_chosen, expected):
    rows = asked_rows(1, margin=[margin], a_is_chosen=[a_is_chosen])

    assert rows.select(preferred=preferred_response())["preferred"].to_list() == [expected]


def test_a_record_tells_neither_score_nor_sampler_nor_which_is_chosen():
    row = (
        asked_rows(1, margin=[0.987], sampler=["gold"], flags=[[]])
        .with_columns(preferred=pl.lit(None))
        .row(0, named=True)
    )

    record = make_record(row, Dataset("garden", "d", "w", "", "q"))

    assert set(record) == {"external_id", "fields", "metadata"}
    assert record["metadata"] == {"source": "garden", "flags": ["none"], "margin_band": "0.0 to 1.0"}
    assert "0.987" not in json.dumps(record) and "gold" not in json.dumps(record)


@given(st.lists(st.integers(0, 3_000_000), max_size=20))
def test_parts_hold_every_record_once_in_order_and_no_more_than_a_request_may(sizes):
    records = [{"text": "x" * size, "i": i} for i, size in enumerate(sizes)]

    found = list(split_requests(iter(records)))

    assert [record for part in found for record in part] == records
    for part in found:
        assert len(part) == 1 or sum(len(json.dumps(record)) for record in part) <= MOST_BYTES


def test_no_part_has_more_records_than_argilla_takes():
    assert [len(part) for part in split_requests({"i": i} for i in range(2 * MOST_RECORDS + 1))] == [
        MOST_RECORDS,
        MOST_RECORDS,
        1,
    ]


@pytest.mark.parametrize("column", ["response_a", "response_b", "messages"])
def test_a_cut_text_is_found_wherever_it_is(column):
    long = "x" * 20_001
    values = {column: ["short", long]}
    if column == "messages":
        values = {column: [[{"role": "user", "content": text}] for text in values[column]]}

    assert asked_rows(2, **values).select(cut=has_cut_text())["cut"].to_list() == [False, True]


@given(st.text(alphabet="<>&a \n", max_size=300), st.integers(1, 200))
def test_an_escaped_text_holds_no_markup_and_keeps_to_the_limit(text, times):
    found = escape_text(text * times)

    assert len(found) <= LONGEST
    assert "<" not in found and ">" not in found
    if text.strip() and len(found) < LONGEST // 6:
        assert html.unescape(found) == text * times
