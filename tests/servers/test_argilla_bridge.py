"""The bridge on a real Argilla server: records put there, answers brought back, and what people do to both."""

import html
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from asking import asked_rows, begin
from garden import write_rows
from servers.argilla_fixture import ArgillaServer
from websites import Call, Reply, Site, passed_on

from curate.config import BuildConfig
from curate.pipeline.build import build
from curate.review.argilla.accounts import invite
from curate.review.argilla.client import NetworkError, connect
from curate.review.argilla.pull import pull
from curate.review.argilla.push import Pushed, push, read_uploaded
from curate.review.collected import CollectedAnswers
from curate.review.config import InviteConfig, PullConfig, PushConfig
from curate.store.reviews import read_answers, read_review, review_folder
from schemas.errors import UserError

pytestmark = pytest.mark.server

NO_VECTORS = ("off_topic", "semantic_duplicate_prompt", "semantic_duplicate_pair")


class Room:
    """A review in a workspace of its own, and what its reviewers do on the server."""

    def __init__(self, server: ArgillaServer, data: Path, name: str, opened: ExitStack) -> None:
        self.server, self.data, self.name, self.opened = server, data, name, opened
        self.owner = self.client(server.headers)

    def client(self, headers: dict[str, str]) -> httpx.Client:
        client = httpx.Client(base_url=f"{self.server.url}/api/v1", headers=headers, timeout=60, trust_env=False)
        return self.opened.enter_context(client)

    @property
    def place(self) -> dict[str, Any]:
        return {"data": self.data, "url": self.server.url, "workspace": self.name}

    def push(self, **flags: Any) -> Pushed:
        return push(PushConfig(name=self.name, **{**self.place, **flags}))

    def pull(self, **flags: Any) -> CollectedAnswers:
        return pull(PullConfig(name=self.name, **{**self.place, **flags}))

    def said(self) -> list[tuple[Any, ...]]:
        """Record, status and label of every version of every answer."""
        return read_answers(self.data, self.name).select("record_id", "status", "better").rows()

    def dataset(self, suffix: str = "") -> str:
        review = read_review(self.data, self.name)
        assert review
        return review.datasets[self.name + suffix]["id"]

    def reviewer(self, username: str) -> httpx.Client:
        """A new reviewer, signed in."""
        account = invite(InviteConfig(username=f"{self.name}-{username}", **self.place))
        form = {"username": account.username, "password": account.password}
        token = answer(self.client({}).post("/token", data=form))["access_token"]
        return self.client({"Authorization": f"Bearer {token}"})

    def records(self, suffix: str = "", client: httpx.Client | None = None) -> dict[str, dict[str, Any]]:
        """Our id -> record."""
        path = f"/me/datasets/{self.dataset(suffix)}/records/search"
        items = answer((client or self.owner).post(path, params={"limit": 1000}, json={}))["items"]
        return {item["record"]["external_id"]: item["record"] for item in items}


def answer(reply: httpx.Response) -> Any:
    assert reply.is_success, reply.text
    return reply.json() if reply.content else None


def submit(client: httpx.Client, record: dict[str, Any], better: str = "a", **values: Any) -> str:
    """Answer a record; the id of the response."""
    filled = {name: {"value": value} for name, value in {"better": better, **values}.items()}
    body = {"status": "submitted", "values": filled}
    return str(answer(client.post(f"/records/{record['id']}/responses", json=body))["id"])


def change(client: httpx.Client, response: str, better: str, status: str = "submitted") -> None:
    body = {"status": status, "values": {"better": {"value": better}}}
    answer(client.put(f"/responses/{response}", json=body))


@pytest.fixture
def room(argilla_server: ArgillaServer, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch) -> Iterator[Room]:
    """A review of the name of the test, with nothing asked yet."""
    monkeypatch.setenv("ARGILLA_API_KEY", argilla_server.api_key)
    monkeypatch.delenv("ARGILLA_API_URL", raising=False)
    name = re.sub(r"\W", "-", request.node.name.removeprefix("test_"))[:60]
    with ExitStack() as opened:
        yield Room(argilla_server, tmp_path, name, opened)


# The SDK itself uses what pydantic has deprecated.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_sdk_reads_the_dataset(room):
    import argilla

    asked = begin(room.data, room.name, asked_rows(5, flags=[["needs_review"], [], [], [], []]))

    pushed = room.push()

    assert pushed.summary()["datasets"] == {room.name: 5}
    client = argilla.Argilla(api_url=room.server.url, api_key=room.server.api_key)
    room.opened.callback(client.http_client.close)
    dataset = client.datasets(room.name, workspace=room.name)
    assert [field.name for field in dataset.settings.fields] == ["prompt", "response_a", "response_b"]
    assert [question.name for question in dataset.settings.questions] == ["better", "sure", "wrong", "note"]
    assert dataset.settings.questions["better"].labels == ["a", "b", "equal", "both_bad"]
    assert [question.name for question in dataset.settings.questions if question.required] == ["better"]
    assert dataset.settings.distribution.min_submitted == 1
    records = {record.id: record for record in dataset.records}
    assert set(records) == set(asked["record_id"])
    first = asked.row(0, named=True)
    assert records[first["record_id"]].fields["response_a"] == first["response_a"]
    prompt = records[first["record_id"]].fields["prompt"]
    assert [{"role": turn.role, "content": turn.content} for turn in prompt] == first["messages"]
    assert dict(records[first["record_id"]].metadata) == {
        "source": "garden",
        "flags": ["needs_review"],
        "margin_band": first["band"],
    }


def test_reviewers_see_neither_metadata_nor_ids_of_ours(room):
    begin(room.data, room.name, asked_rows(2))
    room.push()
    ann = room.reviewer("ann")

    found = room.records(client=ann)

    assert len(found) == 2
    assert all(not record["metadata"] for record in found.values())
    assert not answer(ann.get(f"/me/datasets/{room.dataset()}/metadata-properties"))["items"]


def test_every_reviewer_counts_and_two_are_asked_in_the_overlap(room):
    asked = begin(room.data, room.name, asked_rows(4, is_overlap=[False, False, True, True]))
    assert room.push().summary()["datasets"] == {room.name: 2, f"{room.name}-overlap": 2}
    ann, bob = room.reviewer("ann"), room.reviewer("bob")

    alone, shared = room.records(), room.records("-overlap")
    for record in alone.values():
        submit(ann, record, "a", sure=3, wrong=["logic", "factual"], note=" so it is ")
    for client, label in ((ann, "a"), (bob, "b")):
        for record in shared.values():
            submit(client, record, label)
    pulled = room.pull()

    assert pulled.submitted == 6
    assert pulled.needs_review == 2
    answers = read_answers(room.data, room.name)
    assert set(alone) == set(asked["record_id"][:2])
    assert answers["reviewer"].n_unique() == 2
    row = answers.filter(record_id=asked["record_id"][0]).row(0, named=True)
    assert (row["better"], row["sure"], row["wrong"], row["note"]) == ("a", 3, ["factual", "logic"], "so it is")
    progress = answer(room.owner.get(f"/datasets/{room.dataset('-overlap')}/progress"))
    assert progress["completed"] == 2


def test_pulling_again_writes_the_same_bytes(room):
    begin(room.data, room.name, asked_rows(3))
    room.push()
    for record in room.records().values():
        submit(room.owner, record)

    first = room.pull()
    folder = review_folder(room.data, room.name)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    second = room.pull()
    (folder / "pulled.json").unlink()
    in_full = room.pull()

    assert len(room.said()) == 3
    assert first.summary() == second.summary() == in_full.summary()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_an_edit_supersedes_and_the_history_stays(room):
    asked = begin(room.data, room.name, asked_rows(1))
    room.push()
    record_id = asked["record_id"][0]
    response = submit(room.owner, room.records()[record_id], "a")
    room.pull()

    change(room.owner, response, "equal")
    pulled = room.pull()

    assert room.said() == [(record_id, "submitted", "a"), (record_id, "submitted", "equal")]
    assert pulled.summary()["verdicts"] == {"accept": 0, "swap": 0, "tie": 1, "reject": 0}


@pytest.mark.parametrize("status", ["draft", "discarded", "deleted"])
def test_what_is_taken_back_is_withdrawn_and_may_be_given_again(room, status):
    asked = begin(room.data, room.name, asked_rows(2))
    room.push()
    first, second = (room.records()[record_id] for record_id in asked["record_id"])
    submit(room.owner, first)
    response = submit(room.owner, second, "b")
    room.pull()

    if status == "deleted":
        answer(room.owner.delete(f"/responses/{response}"))
    else:
        change(room.owner, response, "b", status)
    taken_back, again = room.pull(), room.pull()

    assert taken_back.summary() == again.summary()
    assert taken_back.submitted == 1
    assert sum(taken_back.verdicts.values()) == 1
    assert room.said()[1:] == [(asked["record_id"][1], "submitted", "b"), (asked["record_id"][1], "withdrawn", None)]

    if status == "deleted":
        submit(room.owner, second, "equal")
    else:
        change(room.owner, response, "equal")
    assert room.pull().verdicts["tie"] == 1
    assert room.said()[-1] == (asked["record_id"][1], "submitted", "equal")


def test_drafts_and_discarded_answers_are_counted_and_leave_no_row(room):
    asked = begin(room.data, room.name, asked_rows(3))
    room.push()
    records = room.records()
    for record_id, status in zip(asked["record_id"], ("draft", "discarded", "submitted"), strict=True):
        body = {"status": status, "values": {"better": {"value": "a"}}}
        answer(room.owner.post(f"/records/{records[record_id]['id']}/responses", json=body))

    pulled = room.pull()

    assert (pulled.submitted, pulled.drafts, pulled.discarded) == (1, 1, 1)
    assert room.said() == [(asked["record_id"][2], "submitted", "a")]


def test_answers_of_deleted_records_and_reviewers_stay(room):
    asked = begin(room.data, room.name, asked_rows(3))
    room.push()
    ann, bob = room.reviewer("ann"), room.reviewer("bob")
    records = room.records()
    for record in records.values():
        submit(ann, record)
        submit(bob, record)
    before, said = room.pull(), room.said()

    gone = records[asked["record_id"][0]]["id"]
    answer(room.owner.delete(f"/datasets/{room.dataset()}/records", params={"ids": gone}))
    answer(room.owner.delete(f"/users/{answer(bob.get('/me'))['id']}"))
    after = room.pull()

    assert room.said() == said
    assert after.verdicts == before.verdicts
    assert after.submitted == 2


def test_a_deleted_dataset_is_made_anew_for_records_without_answers(room, caplog):
    asked = begin(room.data, room.name, asked_rows(4, is_overlap=[False, False, False, True]))
    room.push()
    submit(room.owner, room.records()[asked["record_id"][0]])
    room.pull()
    first = room.dataset()

    answer(room.owner.delete(f"/datasets/{first}"))
    still = room.pull()
    pushed = room.push()

    assert "is not on" in caplog.text
    assert still.verdicts["accept"] + still.verdicts["swap"] == 1
    assert room.dataset() != first
    assert pushed.summary()["datasets"] == {room.name: 2, f"{room.name}-overlap": 1}
    assert (pushed.added, pushed.answered) == (2, 1)
    said = room.said()
    room.pull()
    assert room.said() == said

    for suffix in ("", "-overlap"):
        answer(room.owner.delete(f"/datasets/{room.dataset(suffix)}"))
    with pytest.raises(UserError, match=r"no dataset of review .* what was pulled is kept"):
        room.pull()


def test_a_dataset_of_somebody_else_is_refused_and_left_alone(room):
    begin(room.data, room.name, asked_rows(1))
    workspace = answer(room.owner.post("/workspaces", json={"name": room.name}))["id"]
    body = {"name": room.name, "workspace_id": workspace, "metadata": {"made_by": "pairwright"}}
    other = answer(room.owner.post("/datasets", json=body))["id"]
    text = {"name": "text", "title": "Text", "required": True, "settings": {"type": "text"}}
    answer(room.owner.post(f"/datasets/{other}/fields", json=text))
    question = {"name": "q", "title": "Q", "required": True, "settings": {"type": "text"}}
    answer(room.owner.post(f"/datasets/{other}/questions", json=question))
    answer(room.owner.put(f"/datasets/{other}/publish"))

    with pytest.raises(UserError, match=f"there is another dataset '{room.name}'.*rename or delete it there"):
        room.push()
    assert answer(room.owner.get(f"/datasets/{other}/progress"))["total"] == 0


def test_a_draft_that_an_interrupted_push_left_is_replaced(room):
    begin(room.data, room.name, asked_rows(1))
    workspace = answer(room.owner.post("/workspaces", json={"name": room.name}))["id"]
    body = {"name": room.name, "workspace_id": workspace, "metadata": {"made_by": "pairwright"}}
    draft = answer(room.owner.post("/datasets", json=body))["id"]

    assert room.push().added == 1
    assert room.owner.get(f"/datasets/{draft}").status_code == 404


def test_an_edited_field_is_refused_and_edited_titles_are_fine(room):
    begin(room.data, room.name, asked_rows(2))
    room.push()
    questions = {
        item["name"]: item for item in answer(room.owner.get(f"/datasets/{room.dataset()}/questions"))["items"]
    }
    answer(room.owner.patch(f"/questions/{questions['better']['id']}", json={"title": "Welche ist besser?"}))
    answer(room.owner.patch(f"/datasets/{room.dataset()}", json={"guidelines": "Look closely.", "name": "renamed"}))
    assert room.pull().submitted == 0

    fields = {item["name"]: item for item in answer(room.owner.get(f"/datasets/{room.dataset()}/fields"))["items"]}
    markdown = {"settings": {"type": "text", "use_markdown": True}}
    answer(room.owner.patch(f"/fields/{fields['response_a']['id']}", json=markdown))

    with pytest.raises(UserError, match=f"field 'response_a' of dataset '{room.name}'.*now shows markdown"):
        room.pull()


def test_labels_that_are_not_ours_are_kept_apart(room, caplog):
    asked = begin(room.data, room.name, asked_rows(2))
    room.push()
    records = room.records()
    submit(room.owner, records[asked["record_id"][0]])
    # As an SDK logs answers together with records, whose labels Argilla checks less.
    me = answer(room.owner.get("/me"))["id"]
    values = {"better": {"value": "a"}, "sure": {"value": 3}}
    strange = {"external_id": "strange", "fields": {"prompt": [{"role": "user", "content": "x"}], "response_a": "a"}}
    strange["fields"] |= {"response_b": "b"}
    strange["responses"] = [{"user_id": me, "status": "submitted", "values": values}]
    answer(room.owner.put(f"/datasets/{room.dataset()}/records/bulk", json={"items": [strange]}))

    pulled = room.pull()

    assert pulled.submitted == 1
    assert "1 answers are to records that were not asked here" in caplog.text


def test_answers_logged_with_records_are_seen(room):
    asked = begin(room.data, room.name, asked_rows(2))
    room.push()
    assert room.pull().submitted == 0

    me = answer(room.owner.get("/me"))["id"]
    response = {"user_id": me, "status": "submitted", "values": {"better": {"value": "a"}}}
    items = [{"external_id": record_id, "responses": [response]} for record_id in asked["record_id"]]
    answer(room.owner.put(f"/datasets/{room.dataset()}/records/bulk", json={"items": items}))

    assert room.pull().submitted == 2


def test_long_empty_and_marked_up_texts_arrive_as_text(room):
    markup = "<script>alert(1)</script> **bold** [link](javascript:alert(1)) <img src=x onerror=alert(1)>"
    asked = begin(
        room.data,
        room.name,
        asked_rows(
            3,
            response_a=["x" * 500_000, "", markup],
            response_b=["nul \0 here", " \n", "fine"],
            messages=[
                [{"role": "user", "content": "y" * 500_000}],
                [{"role": "assistant", "content": ""}, {"role": "user", "content": markup}],
                [{"role": "a role with a very long name", "content": "hello"}] * 600,
            ],
        ),
    )

    pushed = room.push()

    assert (pushed.added, pushed.cut) == (3, 1)
    first, second, third = (room.records()[record_id]["fields"] for record_id in asked["record_id"])
    assert len(first["response_a"]) <= 20_000 and "characters are left out here" in first["response_a"]
    assert len(first["prompt"][0]["content"]) <= 20_000
    assert second["response_a"] == second["response_b"] == "(empty response)"
    # Argilla puts texts into its page as HTML.
    assert third["response_a"] == second["prompt"][1]["content"] == html.escape(markup, quote=False)
    assert len(third["prompt"]) <= 500
    fields = answer(room.owner.get(f"/datasets/{room.dataset()}/fields"))["items"]
    assert [field["settings"]["use_markdown"] for field in fields] == [False, False, False]


def test_a_suggestion_is_what_the_scorer_prefers(room):
    rows = asked_rows(4, margin=[1.0, -1.0, 0.0, None], a_is_chosen=[True, True, False, False])
    asked = begin(room.data, room.name, rows)

    room.push(suggest=True)

    path = f"/datasets/{room.dataset()}/records/search"
    items = answer(room.owner.post(path, params={"include": "suggestions"}, json={}))["items"]
    found = {item["record"]["external_id"]: item["record"]["suggestions"] for item in items}
    values = [[suggestion["value"] for suggestion in found[record_id]] for record_id in asked["record_id"]]
    assert values == [["a"], ["b"], ["equal"], []]


def test_a_lost_network_tells_how_far_it_came_and_the_next_push_sends_the_rest(room):
    begin(room.data, room.name, asked_rows(1_100))
    bulks = []

    def handler(call: Call) -> Reply | None:
        if not call.path.endswith("/records/bulk"):
            return passed_on(room.server.url, call)
        bulks.append(call)
        # The second part arrives, and its answer gets lost; then nothing gets through.
        reply = passed_on(room.server.url, call) if len(bulks) <= 2 else None
        return reply if len(bulks) == 1 else None

    shaky = Site(handler)
    try:
        with pytest.raises(NetworkError, match="500 of 1,100 records are there: give the same command again"):
            room.push(url=shaky.url)
    finally:
        shaky.close()
    pushed = room.push()

    assert (pushed.already_there, pushed.added, pushed.is_resumed) == (500, 100, True)
    assert pushed.summary()["records"] == 1_100


def test_a_push_that_is_killed_resumes(room):
    asked = begin(room.data, room.name, asked_rows(600))
    script = (
        "import sys; from pathlib import Path; from curate.review.argilla.push import push;"
        "from curate.review.config import PushConfig;"
        "push(PushConfig(name=sys.argv[1], data=Path(sys.argv[2]), url=sys.argv[3], workspace=sys.argv[1]))"
    )
    started: list[subprocess.Popen[bytes]] = []

    def handler(call: Call) -> Reply | None:
        reply = passed_on(room.server.url, call)
        if call.path.endswith("/records/bulk"):
            os.kill(started[0].pid, signal.SIGKILL)
        return reply

    site = Site(handler)
    try:
        started.append(subprocess.Popen([sys.executable, "-c", script, room.name, str(room.data), site.url]))
        assert started[0].wait(120) == -signal.SIGKILL
    finally:
        site.close()
    assert read_uploaded(room.data, room.name).get(room.dataset(), set()) == set()
    pushed = room.push()

    assert (pushed.already_there, pushed.added) == (500, 100)
    assert set(room.records()) == set(asked["record_id"])


def test_pushing_again_adds_others_and_nothing_twice(room, tmp_path):
    build(BuildConfig(source=write_rows(tmp_path / "rows.jsonl"), name=room.name, skip_rule=NO_VECTORS, data=tmp_path))

    first, second, third = (room.push(records=4, overlap=0.5) for _ in range(3))

    assert [(pushed.added, pushed.is_resumed) for pushed in (first, second, third)] == [
        (4, False),
        (4, False),
        (2, False),
    ]
    assert third.summary()["records"] == 10
    assert len(room.records()) + len(room.records("-overlap")) == 10


def test_two_pushes_at_once_wait_for_each_other(room, tmp_path):
    build(BuildConfig(source=write_rows(tmp_path / "rows.jsonl"), name=room.name, skip_rule=NO_VECTORS, data=tmp_path))

    with ThreadPoolExecutor() as pool:
        pushes = [pool.submit(room.push, records=3, overlap=0) for _ in range(3)]
        found = sorted(push.result().summary()["records"] for push in pushes)

    assert found == [3, 6, 9]
    assert len(room.records()) == 9


def test_a_network_lost_while_pulling_changes_nothing(room):
    begin(room.data, room.name, asked_rows(4, is_overlap=[False, False, True, True]))
    room.push()
    for suffix in ("", "-overlap"):
        for record in room.records(suffix).values():
            submit(room.owner, record)
    before = {path.name: path.read_bytes() for path in review_folder(room.data, room.name).iterdir()}
    overlap = room.dataset("-overlap")

    def handler(call: Call) -> Reply | None:
        return None if overlap in call.path and "search" in call.path else passed_on(room.server.url, call)

    shaky = Site(handler)
    try:
        with pytest.raises(NetworkError, match="was lost"):
            room.pull(url=shaky.url)
    finally:
        shaky.close()

    assert {path.name: path.read_bytes() for path in review_folder(room.data, room.name).iterdir()} == before
    assert room.pull().submitted == 4


def test_an_annotators_key_is_told_what_it_may_not_do(room, monkeypatch):
    begin(room.data, room.name, asked_rows(1))
    room.push()
    ann = room.reviewer("ann")
    monkeypatch.setenv("ARGILLA_API_KEY", answer(ann.get("/me"))["api_key"])

    with pytest.raises(UserError, match="the key has no right to"):
        room.pull()
    with pytest.raises(UserError, match="the key has no right to"):
        invite(InviteConfig(username="x", **room.place))


def test_a_wrong_key_is_told(room, monkeypatch):
    monkeypatch.setenv("ARGILLA_API_KEY", "wrong")

    with pytest.raises(UserError, match="does not know the key"):
        connect(PullConfig(name=room.name, **room.place))


def test_a_taken_name_gets_no_second_account(room):
    room.reviewer("ann")

    with pytest.raises(UserError, match=f"there is a user '{room.name}-ann' .* already"):
        room.reviewer("ann")
