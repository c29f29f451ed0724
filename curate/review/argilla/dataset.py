"""Datasets of pairwright in Argilla: their fields and questions; made, opened and checked."""

from dataclasses import dataclass
from typing import Any

from curate.review.argilla.client import ArgillaClient
from schemas.errors import UserError
from schemas.names import BETTER, Better, Flaw

MARK = {"made_by": "pairwright"}
"""Metadata of a dataset that we made."""

BETTER_TEXTS: dict[Better, str] = {
    "a": "A is better",
    "b": "B is better",
    "equal": "About equal",
    "both_bad": "Both are bad",
}

WRONG_TEXTS: dict[Flaw, str] = {
    "factual": "Facts are wrong",
    "logic": "Does not follow",
    "incomplete": "Something is missing",
    "broken_constraint": "Breaks an instruction",
    "off_topic": "Off topic",
    "verbose_padding": "Padded",
    "broken_format": "Broken format",
    "needless_refusal": "Needless refusal",
    "truncation": "Cut off",
    "unsupported_detail": "Made-up detail",
    "repetition": "Repeats itself",
    "incoherent": "Incoherent",
    "wrong_language": "Wrong language",
    "bad_code": "Bad code",
}
WRONG_SEEN = 6
"""Of these, buttons before one asks for more: the whole list is a wall of text beside every record."""

GUIDELINES = """\
You see a conversation and two responses to its last message, A and B. Which one would you rather get?

Judge what is said, in this order: is it **right**, does it do **what was asked**, is it **clear**. A longer or \
prettier response is not better for that. Declining is good where answering would do harm, and bad elsewhere.

- **About equal**: you would be as happy with either, or they say the same.
- **Both are bad**: neither should be shown to anybody.
- Markup is shown as it was written, and very long texts are cut in the middle.

Keys **1** to **4** choose, **Enter** submits. The other questions are optional. When unsure, trust your first \
impression, and say so with a 1.
"""

TEXT = {"type": "text", "use_markdown": False}

FIELDS: list[dict[str, Any]] = [
    {"name": "prompt", "title": "Conversation", "settings": {"type": "chat", "use_markdown": False}},
    {"name": "response_a", "title": "Response A", "settings": TEXT},
    {"name": "response_b", "title": "Response B", "settings": TEXT},
]

PROPERTIES: list[dict[str, Any]] = [
    # Reviewers must not see them: they show which response the scorer prefers, and by how much.
    {"name": name, "title": title, "settings": {"type": "terms"}, "visible_for_annotators": False}
    for name, title in (("source", "Source"), ("flags", "Flags"), ("margin_band", "Margin"))
]


# Markdown is off everywhere: with it, what a model wrote could load pictures and links in the page.


def make_options(texts: dict[Any, str]) -> list[dict[str, str]]:
    return [{"value": value, "text": text} for value, text in texts.items()]


QUESTIONS: list[dict[str, Any]] = [
    {
        "name": "better",
        "title": "Which response is better?",
        "required": True,
        "settings": {"type": "label_selection", "options": make_options(BETTER_TEXTS), "visible_options": len(BETTER)},
    },
    {
        "name": "sure",
        "title": "How sure are you?",
        "description": "1 a guess, 2 fairly sure, 3 certain",
        "required": False,
        "settings": {"type": "rating", "options": [{"value": value} for value in (1, 2, 3)]},
    },
    {
        "name": "wrong",
        "title": "What is wrong with the worse one?",
        "required": False,
        "settings": {
            "type": "multi_label_selection",
            "options": make_options(WRONG_TEXTS),
            "visible_options": WRONG_SEEN,
        },
    },
    {"name": "note", "title": "Note", "required": False, "settings": TEXT},
]


@dataclass(frozen=True)
class Dataset:
    """One of our datasets on a server."""

    name: str
    id: str
    workspace_id: str
    last_activity: str
    """When an answer last came or changed, by the server's clock."""
    better_id: str
    """Of the question that a suggestion is for."""


def workspace_id(server: ArgillaClient, name: str) -> str:
    """Id of the workspace, which is made where the key may and there is none."""
    for workspace in server.get("/me/workspaces")["items"]:
        if workspace["name"] == name:
            return str(workspace["id"])
    return str(server.create("/workspaces", {"name": name})["id"])


def draft_dataset(server: ArgillaClient, workspace: str, name: str, min_submitted: int) -> str:
    """Make a dataset with all it needs but unpublished, and return its id.

    A draft that an interrupted push left behind is replaced: nobody can have answered in it. Raises UserError
    where the name belongs to somebody else's dataset.
    """
    for other in server.get("/me/datasets", workspace_id=workspace, name=name)["items"]:
        if other["name"] != name or other["workspace_id"] != workspace:
            continue
        if other["status"] != "draft" or other.get("metadata") != MARK:
            raise UserError(
                f"there is another dataset '{name}' in that workspace on {server.url}, not of this review; "
                "rename or delete it there, or give another --workspace"
            )
        server.delete(f"/datasets/{other['id']}")
    made = server.create(
        "/datasets",
        {
            "name": name,
            "workspace_id": workspace,
            "guidelines": GUIDELINES,
            "allow_extra_metadata": False,
            "distribution": {"strategy": "overlap", "min_submitted": min_submitted},
            "metadata": MARK,
        },
    )
    dataset_id = str(made["id"])
    for field in FIELDS:
        server.create(f"/datasets/{dataset_id}/fields", {"required": True, **field})
    for question in QUESTIONS:
        server.create(f"/datasets/{dataset_id}/questions", question)
    for metadata in PROPERTIES:
        server.create(f"/datasets/{dataset_id}/metadata-properties", metadata)
    return dataset_id


def open_dataset(server: ArgillaClient, name: str, dataset_id: str) -> Dataset | None:
    """A dataset that we made before; None where it is no longer there, or was never published.

    Titles, guidelines, further questions and further labels may have been edited. Raises UserError where something
    is missing that answers are read from.
    """
    found = server.find(f"/datasets/{dataset_id}")
    if found is None or found["status"] != "ready":
        return None
    fields = {field["name"]: field["settings"] for field in server.get(f"/datasets/{dataset_id}/fields")["items"]}
    for field in FIELDS:
        check_setting(server, name, "field", field, fields.get(field["name"]))
    questions = {item["name"]: item for item in server.get(f"/datasets/{dataset_id}/questions")["items"]}
    for question in QUESTIONS:
        asked = questions.get(question["name"])
        check_setting(server, name, "question", question, asked and asked["settings"])
    return Dataset(
        name=name,
        id=dataset_id,
        workspace_id=found["workspace_id"],
        last_activity=found["last_activity_at"],
        better_id=questions["better"]["id"],
    )


def check_setting(
    server: ArgillaClient, dataset: str, what: str, made: dict[str, Any], found: dict[str, Any] | None
) -> None:
    """Raises UserError unless a field or question is still of its type, without markdown and with our labels."""
    settings = made["settings"]
    if found is None:
        problem = "is gone"
    elif found["type"] != settings["type"]:
        problem = f"is now of type {found['type']}, not {settings['type']}"
    elif found.get("use_markdown") and what == "field":
        problem = "now shows markdown, which lets responses load pictures and links"
    elif missing := label_values(settings) - label_values(found):
        problem = f"no longer has {', '.join(sorted(missing))}"
    else:
        return
    raise UserError(
        f"the {what} '{made['name']}' of dataset '{dataset}' on {server.url} {problem}; undo that in Argilla, "
        "or delete the dataset there and push again"
    )


def label_values(settings: dict[str, Any]) -> set[str]:
    """The labels or ratings that can be given."""
    return {str(option["value"]) for option in settings.get("options", [])}
