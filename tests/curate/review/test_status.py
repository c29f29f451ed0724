"""What a review tells, from answers on a build of ten pairs."""

from dataclasses import replace

import pytest
from garden import write_rows
from judging import answer, ask_about

from curate.config import BuildConfig
from curate.pipeline.build import build
from curate.review.config import StatusConfig
from curate.review.status import review_status
from curate.store.reviews import Stratum, begun_review, read_answers, save_answers, save_asked, save_review
from schemas.errors import UserError

NO_VECTORS = ("off_topic", "semantic_duplicate_prompt", "semantic_duplicate_pair")


@pytest.fixture
def data(tmp_path):
    """A data folder with the build 'garden' whose ten pairs were all drawn for the audit."""
    build(BuildConfig(source=write_rows(tmp_path / "garden.jsonl"), name="garden", skip_rule=NO_VECTORS, data=tmp_path))
    ask_about(tmp_path, "garden", band="any")
    review = begun_review(tmp_path, "garden")
    save_review(tmp_path, replace(review, edges={"garden": []}, strata=(Stratum("garden", "any", 10, 10),)))
    return tmp_path


def found(data):
    return review_status(StatusConfig(name="garden", data=data))


def test_a_review_that_was_not_begun_is_refused_with_the_way_to_begin(tmp_path):
    with pytest.raises(UserError, match="curate review push garden"):
        review_status(StatusConfig(name="garden", data=tmp_path))


def test_before_any_answer_nothing_is_told_of_the_dataset(data):
    told = found(data)

    assert (told.records, told.judged, told.wanted, told.missing) == (10, 0, 10, 10)
    assert told.labels.agreement.overall is told.labels.corrected is told.labels.predicted is None
    assert told.labels.more_records is None
    assert told.alpha is None
    assert "no estimate yet" in "\n".join(told.lines())


def test_a_judged_audit_tells_the_share_that_agrees(data):
    asked = ask_about(data, "garden", band="any")
    review = begun_review(data, "garden")
    save_review(data, replace(review, strata=(Stratum("garden", "any", 100, 10),)))
    answer(data, "garden", asked, {row: "chosen" if row < 8 else "rejected" for row in range(10)})

    told = found(data)

    assert told.labels.agreement.overall.estimate == pytest.approx(0.8)
    assert told.labels.agreement.overall.low < 0.8 < told.labels.agreement.overall.high
    assert told.labels.agreement.by_source["garden"] == told.labels.agreement.overall
    assert told.verdicts == {"accept": 8, "swap": 2, "tie": 0, "reject": 0}
    assert told.summary()["more_records"]["0.05"] == told.labels.more_records[0.05] > 0
    lines = told.lines()
    assert lines[0] == "review 'garden': 10 of 10 records judged (10 random)"
    assert any(line.startswith("reviewers agree with 80.0% (") for line in lines)


def test_what_was_not_drawn_by_chance_changes_no_rate(data):
    asked = ask_about(data, "garden", band="any")
    save_review(data, replace(begun_review(data, "garden"), strata=(Stratum("garden", "any", 100, 4),)))
    picked = asked.with_columns(sampler=asked["sampler"].scatter(list(range(4, 10)), "suspicious"))
    save_asked(data, "garden", picked)
    answer(data, "garden", picked, {row: "chosen" if row < 4 else "both_bad" for row in range(10)})

    told = found(data)

    assert told.labels.agreement.overall.records == 4
    assert told.labels.agreement.overall.estimate == 1.0
    assert told.labels.agreement.overall.low < 1.0


def test_two_reviewers_are_compared_and_split_pairs_are_named(data):
    asked = ask_about(data, "garden", is_overlap=True, band="any")
    save_review(data, replace(begun_review(data, "garden"), strata=(Stratum("garden", "any", 10, 10),)))
    answer(data, "garden", asked, {row: "chosen" for row in range(10)})
    answer(data, "garden", asked, {0: "rejected", 1: "chosen", 2: "chosen"}, reviewer="r2")

    told = found(data)

    assert told.needs_review == [asked["record_id"][0]]
    assert (told.wanted, told.missing) == (20, 7)
    assert [kappa.reviewers for kappa in told.kappas] == [("r1", "r2")]
    assert [row["answers"] for row in told.reviewers] == [10, 3]
    assert told.answers_an_hour == pytest.approx(360)


def test_known_answers_correct_the_rate_or_say_why_not(data):
    asked = ask_about(data, "garden", band="any")
    save_review(data, replace(begun_review(data, "garden"), strata=(Stratum("garden", "any", 100, 5),)))
    known = asked.with_columns(
        sampler=asked["sampler"].scatter(list(range(5, 10)), "gold"),
        source=asked["source"].scatter(list(range(5, 10)), "gold"),
    )
    save_asked(data, "garden", known)
    answer(data, "garden", known, {row: "chosen" for row in range(10)})

    told = found(data)

    assert told.labels.corrected.estimate is None
    assert "it takes 10 answers" in told.labels.corrected.reason
    assert told.by_sampler["gold"] == 5
    assert told.verdicts["accept"] == 5
    assert told.reviewers[0]["right"] == 1.0


def test_a_review_outlives_its_build(data):
    asked = ask_about(data, "garden", band="any")
    save_review(data, replace(begun_review(data, "garden"), strata=(Stratum("garden", "any", 10, 10),)))
    answer(data, "garden", asked, {row: "chosen" for row in range(10)})
    (data / "builds" / "garden.json").unlink()

    assert found(data).labels.agreement.overall.estimate == 1.0


def test_unreadable_answers_are_counted_and_do_not_count(data):
    asked = ask_about(data, "garden", band="any")
    save_review(data, replace(begun_review(data, "garden"), strata=(Stratum("garden", "any", 10, 10),)))
    answer(data, "garden", asked, {0: "chosen"})
    answers = read_answers(data, "garden")
    save_answers(data, "garden", answers.with_columns(status=answers["status"].scatter(0, "unreadable")))

    told = found(data)

    assert (told.unreadable, told.answers) == (1, 0)


def test_a_batch_counts_by_its_share_of_the_audit_and_not_by_how_much_of_it_was_judged(data):
    asked = ask_about(data, "garden", band="any")
    save_review(data, replace(begun_review(data, "garden"), strata=(Stratum("garden", "any", 100, 10),)))
    later = asked.with_columns(batch=asked["batch"].scatter(list(range(5, 10)), 1))
    save_asked(data, "garden", later)
    answer(data, "garden", later, {row: "chosen" if row < 4 else "both_bad" for row in range(5)})
    answer(data, "garden", later, {5: "chosen"})

    told = found(data)

    # half of the audit agrees in 4 of 5, the other half in the one that was judged
    assert told.labels.agreement.overall.estimate == pytest.approx(0.5 * 0.8 + 0.5 * 1.0)
