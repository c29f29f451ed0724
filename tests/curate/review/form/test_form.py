"""Records written to a file, and answers read back from one."""

import json
import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from asking import asked_rows, begin
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from curate.review.answers import answer_row, answer_table, merge_answers, reviewer_id
from curate.review.config import ExportConfig, ImportConfig
from curate.review.form.form import ImportedAnswers, export_records, import_answers, make_form, script_json
from curate.screen.human import latest_answers
from curate.store.reviews import read_answers
from schemas.errors import UserError
from schemas.names import BETTER, FLAWS

NOON = "2026-03-01T12:00:00.000Z"
LATER = "2026-03-01T12:05:00.000Z"


@pytest.fixture
def asked(tmp_path: Path) -> pl.DataFrame:
    """A review `garden` of five records; response A is the chosen one in all but the last."""
    return begin(tmp_path, "garden", asked_rows(5, a_is_chosen=[True, True, True, True, False]))


def line(record: str, better: Any = "a", **given: Any) -> dict[str, Any]:
    labels = {"better": better, "sure": None, "wrong": [], "note": "", "answered_at": NOON}
    return {"review": "garden", "record": record, "reviewer": "Ana", **labels} | given


def brought(data: Path, *lines: Any, name: str = "garden-Ana.jsonl") -> ImportedAnswers:
    """What an import of these lines says."""
    path = data / name
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in lines))
    return import_answers(ImportConfig(data=data, file=path))


def exported(data: Path, out: str) -> Path:
    export_records(ExportConfig(data=data, name="garden", out=data / out))
    return data / out


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in path.read_text().split("\n") if text]


def test_file_of_another_suffix_is_refused(tmp_path, asked):
    with pytest.raises(UserError, match=r"neither \.html, a form, nor \.jsonl"):
        exported(tmp_path, "garden.csv")


def test_file_that_is_no_export_is_not_overwritten(tmp_path, asked):
    for name, content in [
        ("a.jsonl", '{"thesis": 1}'),
        ("b.html", "<h1>Mine</h1>"),
        ("c.jsonl", ""),
        ("d.jsonl", "[]"),
    ]:
        (tmp_path / name).write_text(content)

        with pytest.raises(UserError, match="is there already"):
            exported(tmp_path, name)
        assert (tmp_path / name).read_text() == content


def test_export_is_overwritten_until_somebody_has_filled_it_in(tmp_path, asked):
    path = exported(tmp_path, "garden.jsonl")
    before = path.read_bytes()
    assert exported(tmp_path, "garden.jsonl").read_bytes() == before
    rows = rows_of(path)
    rows[2]["better"] = "b"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    with pytest.raises(UserError, match="is there already"):
        exported(tmp_path, "garden.jsonl")
    exported(tmp_path, "garden.html")
    exported(tmp_path, "garden.html")


def test_export_says_nothing_of_what_stays_with_us(tmp_path):
    secrets = {"sampler": ["gold"], "source": ["secret source"], "band": ["secret band"], "margin": [0.987654]}
    begin(tmp_path, "garden", asked_rows(1, **secrets, flags=[["near_evaluation"]], is_overlap=[True]))

    row = rows_of(exported(tmp_path, "garden.jsonl"))[0]
    page = exported(tmp_path, "garden.html").read_text()

    unanswered = ["better", "sure", "wrong", "note"]
    assert list(row) == ["review", "record", "messages", "response_a", "response_b", *unanswered]
    assert [row[label] for label in unanswered] == [None, None, [], ""]
    for text in ("secret", "987654", "near_evaluation", "gold", "a_is_chosen", "is_overlap"):
        assert text not in page


def test_records_stand_in_an_order_that_does_not_tell_their_sampler(tmp_path):
    begin(tmp_path, "garden", asked_rows(40, sampler=["random"] * 20 + ["gold"] * 20))

    records = [row["record"] for row in rows_of(exported(tmp_path, "garden.jsonl"))]

    assert records == sorted(records)
    assert len(set(records)) == 40


def test_page_holds_no_address_and_forbids_every_request(tmp_path, asked):
    page = exported(tmp_path, "garden.html").read_text()

    assert not re.search(r"https?://|src=|@import|url\(", page)
    assert "default-src 'none'" in page
    assert "unsafe" not in page
    assert "{{" not in page


@given(st.lists(st.text(), min_size=1))
def test_no_text_ends_the_element_it_is_embedded_in(texts):
    written = script_json([*texts, "</script><!--<script>"])

    assert "<" not in written
    assert "\n" not in written
    assert json.loads(written) == [*texts, "</script><!--<script>"]


def test_stub_in_a_response_stays_text():
    page = make_form("garden", asked_rows(1, response_a=["{{script}} {{none}}"]))

    assert page.count("{{script}} {{none}}") == 1


def test_long_and_empty_texts_are_shown_shortened_in_the_form_and_whole_in_the_lines(tmp_path):
    begin(tmp_path, "garden", asked_rows(1, response_a=["x" * 500_000], response_b=[" "]))

    page = exported(tmp_path, "garden.html").read_text()
    row = rows_of(exported(tmp_path, "garden.jsonl"))[0]

    assert "(empty response)" in page
    assert len(page) < 100_000
    assert (len(row["response_a"]), row["response_b"]) == (500_000, " ")


def test_answers_come_to_verdicts(tmp_path, asked):
    labels = ["a", "b", "equal", "both_bad", "a"]

    summary = brought(tmp_path, *map(line, asked["record_id"], labels))

    # the last record has its chosen response as B: whoever prefers A there swaps it
    assert summary.verdicts == {"accept": 1, "swap": 2, "tie": 1, "reject": 1}
    assert (summary.name, summary.submitted, summary.drafts, summary.discarded) == ("garden", 5, 0, 0)
    assert summary.needs_review == 0


def test_people_who_disagree_leave_a_record_that_needs_review(tmp_path, asked):
    record = asked["record_id"][0]

    summary = brought(tmp_path, line(record, "a"), line(record, "b", reviewer="Ben"))

    assert (summary.submitted, summary.needs_review) == (2, 1)


def test_same_file_again_adds_nothing(tmp_path, asked):
    lines = [line(record) for record in asked["record_id"]]
    assert brought(tmp_path, *lines).added == 5
    saved = tmp_path / "reviews" / "garden" / "answers.parquet"
    written = saved.stat().st_mtime_ns

    summary = brought(tmp_path, *lines, name="copy.jsonl")

    assert (summary.added, summary.submitted) == (0, 5)
    assert saved.stat().st_mtime_ns == written


def test_later_answer_supersedes_whatever_file_comes_first(tmp_path, asked):
    record = asked["record_id"][0]
    brought(tmp_path, line(record, "b", answered_at=LATER))

    summary = brought(tmp_path, line(record, "a"))

    assert summary.verdicts["swap"] == 1
    assert read_answers(tmp_path, "garden")["better"].to_list() == ["a", "b"]


def test_answer_that_was_taken_back_does_not_count(tmp_path, asked):
    record, other = asked["record_id"][:2]
    brought(tmp_path, line(record))

    summary = brought(tmp_path, line(record, None, answered_at=LATER), line(other, None, answered_at=LATER))

    assert (summary.submitted, summary.not_judged) == (0, 2)
    # the other one was never submitted: there is nothing to take back
    assert read_answers(tmp_path, "garden")["status"].to_list() == ["submitted", "withdrawn"]


def test_export_that_was_filled_in_by_hand_comes_back(tmp_path, asked):
    rows = rows_of(exported(tmp_path, "ben.jsonl"))
    rows[0] |= {"better": "a", "sure": 3, "wrong": ["logic", "factual"], "note": " wrong sum "}

    summary = brought(tmp_path, *rows, name="ben.jsonl")

    answer = read_answers(tmp_path, "garden").row(0, named=True)
    assert (summary.submitted, summary.not_judged) == (1, 4)
    assert answer["reviewer"] == reviewer_id("Ben")
    assert (answer["sure"], answer["wrong"], answer["note"]) == (3, ["factual", "logic"], "wrong sum")


def test_undated_answers_that_are_saved_again_are_the_same_answers(tmp_path, asked):
    record = asked["record_id"][0]
    undated = line(record, answered_at=None)
    brought(tmp_path, undated)
    os.utime(tmp_path / "garden-Ana.jsonl", (1, 1))
    assert brought(tmp_path, undated).added == 0

    assert brought(tmp_path, undated | {"better": "b"}).added == 1

    assert latest_answers(read_answers(tmp_path, "garden"))["better"].to_list() == ["b"]


def test_time_in_the_future_is_not_believed(tmp_path, asked):
    ahead = (datetime.now(UTC) + timedelta(days=400)).isoformat()
    record = asked["record_id"][0]

    summary = brought(tmp_path, line(record, answered_at=ahead))
    again = brought(tmp_path, line(record, answered_at=ahead))

    assert read_answers(tmp_path, "garden")["answered_at"][0] <= datetime.now(UTC)
    assert (summary.added, again.added) == (1, 0)


def test_time_without_a_zone_is_utc_and_one_with_a_zone_is_moved_there(tmp_path, asked):
    first, second = asked["record_id"][:2]

    brought(
        tmp_path, line(first, answered_at="2026-03-01T12:00:00"), line(second, answered_at="2026-03-01T14:00+02:00")
    )

    assert set(read_answers(tmp_path, "garden")["answered_at"]) == {datetime(2026, 3, 1, 12, tzinfo=UTC)}


@pytest.mark.parametrize("time", ["yesterday", 1700000000, "2026-13-01T00:00:00Z", "", "0001-01-01T00:00:00+14:00"])
def test_time_that_is_none_is_named_with_its_line_and_nothing_is_merged(tmp_path, asked, time):
    first, second = asked["record_id"][:2]

    with pytest.raises(UserError, match="line 2: answered_at"):
        brought(tmp_path, line(first), line(second, answered_at=time))
    assert read_answers(tmp_path, "garden").is_empty()


@pytest.mark.parametrize(
    "wrong",
    [{"better": "A"}, {"better": 1}, {"sure": 4}, {"sure": True}, {"wrong": ["ugly"]}, {"wrong": [[]]}, {"note": 5}],
)
def test_label_that_is_not_ours_makes_an_answer_unreadable(tmp_path, asked, wrong):
    first, second = asked["record_id"][:2]

    summary = brought(tmp_path, line(first, **wrong), line(second))

    assert (summary.unreadable, summary.submitted) == (1, 1)
    assert sorted(read_answers(tmp_path, "garden")["status"].to_list()) == ["submitted", "unreadable"]


def test_label_that_was_corrected_by_hand_is_read(tmp_path, asked):
    record = asked["record_id"][0]
    brought(tmp_path, line(record, "A"))

    summary = brought(tmp_path, line(record, "a"))

    assert (summary.unreadable, summary.submitted) == (0, 1)
    assert read_answers(tmp_path, "garden")["status"].to_list() == ["submitted"]


def test_records_that_were_never_asked_are_named_and_left_out(tmp_path, asked):
    summary = brought(tmp_path, line("f" * 16), line(asked["record_id"][0]))

    assert (summary.never_asked, summary.submitted) == (["f" * 16], 1)


@pytest.mark.parametrize(
    "bad, message",
    [
        ('{"review": "garden", "rec', "line 2 is not JSON, or cut short"),
        ("[1]", "line 2 names no 'review' and 'record'"),
        ('{"review": "garden", "record": 5}', "line 2 names no 'review' and 'record'"),
        ('{"review": "field", "record": "x"}', "on line 2, of 'field'"),
        ('{"review": "garden", "record": "RECORD", "reviewer": 5, "better": "a"}', "line 2: reviewer 5 is no name"),
    ],
)
def test_line_that_cannot_be_read_is_named_and_nothing_is_merged(tmp_path, asked, bad, message):
    with pytest.raises(UserError, match=message):
        brought(tmp_path, line(asked["record_id"][0]), bad.replace("RECORD", asked["record_id"][1]))
    assert read_answers(tmp_path, "garden").is_empty()


def test_file_without_answers_is_refused(tmp_path, asked):
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe\x00")
    for name, message in [("gone.jsonl", "cannot read"), ("bytes.jsonl", "cannot read"), ("form.html", "form itself")]:
        if name == "form.html":
            exported(tmp_path, name)
        with pytest.raises(UserError, match=message):
            import_answers(ImportConfig(data=tmp_path, file=tmp_path / name))
    with pytest.raises(UserError, match="is empty"):
        brought(tmp_path, "", " ")


@pytest.mark.parametrize("name", ["gardens", "../garden", "."])
def test_review_that_is_not_here_is_refused(tmp_path, asked, name):
    with pytest.raises(UserError, match="no review"):
        brought(tmp_path, line(asked["record_id"][0], review=name))


def test_name_of_a_reviewer_is_kept_nowhere(tmp_path, asked):
    brought(tmp_path, line(asked["record_id"][0], reviewer=" Rosalind FRANKLIN "))

    assert reviewer_id("rosalind franklin") == read_answers(tmp_path, "garden")["reviewer"][0]
    kept = [path.read_bytes().lower() for path in (tmp_path / "reviews").rglob("*") if path.is_file()]
    assert not any(b"franklin" in content for content in kept)


VERSIONS = st.lists(
    st.builds(
        answer_row,
        st.sampled_from(["1" * 16, "2" * 16]),
        st.sampled_from(["r1", "r2"]),
        st.sampled_from([datetime(2026, 1, day, tzinfo=UTC) for day in (1, 2, 3)]),
        better=st.sampled_from([*BETTER, "c"]),
        sure=st.sampled_from([None, 1, 3, 4]),
        wrong=st.lists(st.sampled_from(FLAWS), max_size=2),
        note=st.none(),
    ),
    max_size=12,
).map(answer_table)


@given(VERSIONS, VERSIONS)
def test_merging_twice_is_merging_once_and_loses_no_version(history, new):
    history = merge_answers(history.clear(), history)
    once = merge_answers(history, new)

    assert_frame_equal(merge_answers(once, new), once)
    assert_frame_equal(merge_answers(once, once), once)
    key = ["record_id", "reviewer", "answered_at"]
    assert set(once.select(key).rows()) == set(history.select(key).rows()) | set(new.select(key).rows())
