import copy
from collections.abc import Iterator
from typing import Any

import pytest
from websites import Call, Reply, Site

from curate.review.argilla.client import ArgillaClient
from curate.review.argilla.dataset import (
    BETTER_TEXTS,
    FIELDS,
    GUIDELINES,
    PROPERTIES,
    QUESTIONS,
    WRONG_TEXTS,
    draft_dataset,
    open_dataset,
)
from schemas.errors import UserError
from schemas.names import BETTER, FLAWS


class Kept:
    """A site that has one dataset, whose parts a test may edit by hand."""

    def __init__(self) -> None:
        self.dataset: dict[str, Any] | None = {
            "id": "d",
            "name": "garden",
            "status": "ready",
            "workspace_id": "w",
            "last_activity_at": "2026-01-01T00:00:00",
            "metadata": {"made_by": "pairwright"},
        }
        self.fields = copy.deepcopy(FIELDS)
        self.questions = [{"id": question["name"], **copy.deepcopy(question)} for question in QUESTIONS]
        self.site = Site(self.answer)
        self.server = ArgillaClient(self.site.url, "key")

    def answer(self, call: Call) -> Reply:
        path = call.path.partition("?")[0].removeprefix("/api/v1")
        found = {
            "/datasets/d": self.dataset,
            "/datasets/d/fields": {"items": self.fields},
            "/datasets/d/questions": {"items": self.questions},
            "/me/datasets": {"items": [self.dataset] if self.dataset else []},
        }.get(path)
        return (200, {}, found) if found else (404, {}, {"detail": "not found"})

    def question(self, name: str) -> dict[str, Any]:
        return next(question for question in self.questions if question["name"] == name)


@pytest.fixture
def kept() -> Iterator[Kept]:
    made = Kept()
    with made.server:
        yield made
    made.site.close()


def test_every_label_and_flaw_has_words_in_the_order_of_the_names():
    assert tuple(BETTER_TEXTS) == BETTER
    assert tuple(WRONG_TEXTS) == FLAWS


def test_only_which_is_better_must_be_answered():
    assert [question["name"] for question in QUESTIONS if question["required"]] == ["better"]


def test_nothing_is_shown_as_markdown():
    settings = [part["settings"] for part in (*FIELDS, *QUESTIONS)]

    assert not any(part.get("use_markdown") for part in settings)
    assert [field["settings"]["use_markdown"] for field in FIELDS] == [False, False, False]


def test_reviewers_see_no_metadata():
    assert not any(metadata["visible_for_annotators"] for metadata in PROPERTIES)


def test_the_guidelines_are_short():
    assert len(GUIDELINES.split()) <= 130


def test_a_dataset_as_it_was_made_is_taken(kept):
    found = open_dataset(kept.server, "garden", "d")

    assert found is not None
    assert (found.id, found.workspace_id, found.better_id) == ("d", "w", "better")


def test_a_dataset_that_is_gone_or_was_never_published_is_none(kept):
    assert open_dataset(kept.server, "garden", "other") is None

    kept.dataset["status"] = "draft"

    assert open_dataset(kept.server, "garden", "d") is None


def test_new_titles_further_questions_and_further_labels_are_fine(kept):
    kept.question("better")["title"] = "Welche ist besser?"
    kept.question("better")["settings"]["options"].append({"value": "none", "text": "Neither"})
    kept.questions.append({"id": "x", "name": "x", "settings": {"type": "text"}})
    kept.fields[0]["title"] = "Gespräch"

    assert open_dataset(kept.server, "garden", "d") is not None


@pytest.mark.parametrize("name", ["better", "sure", "wrong", "note"])
def test_a_deleted_question_is_named(kept, name):
    kept.questions.remove(kept.question(name))

    with pytest.raises(UserError, match=f"the question '{name}' of dataset 'garden' on .* is gone; undo that"):
        open_dataset(kept.server, "garden", "d")


def test_a_question_of_another_type_is_named(kept):
    kept.question("sure")["settings"] = {"type": "text", "use_markdown": False}

    with pytest.raises(UserError, match=r"'sure' .* is now of type text, not rating"):
        open_dataset(kept.server, "garden", "d")


@pytest.mark.parametrize("name, value", [("better", "equal"), ("wrong", "logic"), ("sure", "3")])
def test_a_missing_label_is_named(kept, name, value):
    settings = kept.question(name)["settings"]
    settings["options"] = [option for option in settings["options"] if str(option["value"]) != value]

    with pytest.raises(UserError, match=f"question '{name}' .* no longer has {value};"):
        open_dataset(kept.server, "garden", "d")


def test_a_field_that_shows_markdown_is_refused(kept):
    kept.fields[2]["settings"] = {"type": "text", "use_markdown": True}

    with pytest.raises(UserError, match=r"field 'response_b' .* now shows markdown"):
        open_dataset(kept.server, "garden", "d")


@pytest.mark.parametrize("change", [{"status": "ready"}, {"status": "draft", "metadata": None}])
def test_a_name_that_is_taken_is_refused(kept, change):
    kept.dataset |= change

    with pytest.raises(UserError, match=r"there is another dataset 'garden' .* or give another --workspace"):
        draft_dataset(kept.server, "w", "garden", 1)
    assert {call.method for call in kept.site.calls} == {"GET"}
