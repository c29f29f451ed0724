"""What the embedded search engine answers, asked over REST as Argilla's page and SDK ask it."""

import itertools
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from servers.argilla_fixture import ArgillaServer

pytestmark = pytest.mark.server

PASSWORD = "12345678"
COUNT = itertools.count()

Json = dict[str, Any]


class Client:
    """One user's requests; an answer that is no success fails the test."""

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        self.http = httpx.Client(base_url=f"{url}/api/v1", headers=headers, timeout=60)

    def ask(self, method: str, path: str, **options: Any) -> Any:
        answer = self.http.request(method, path, **options)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text[:500]}"
        return answer.json() if answer.content else None

    def search(self, path: str, limit: int = 1000, offset: int = 0, **body: Any) -> Json:
        found = self.ask("POST", f"{path}/records/search", params={"limit": limit, "offset": offset}, json=body)
        assert isinstance(found, dict)
        return found


class Dataset:
    """A published dataset and short ways to ask for its records by external id."""

    def __init__(self, owner: Client, workspace_id: str, fields: Json, metadata: Json, vectors: Json) -> None:
        self.owner = owner
        body = {"name": f"data-{next(COUNT)}", "workspace_id": workspace_id}
        distribution = {"strategy": "overlap", "min_submitted": 2}
        self.id = owner.ask("POST", "/datasets", json={**body, "distribution": distribution})["id"]
        self.path = f"/datasets/{self.id}"
        for name, settings in fields.items():
            owner.ask("POST", f"{self.path}/fields", json={"name": name, "title": name, "settings": settings})
        self.questions = {
            name: owner.ask("POST", f"{self.path}/questions", json={"name": name, "title": name, **body})["id"]
            for name, body in QUESTIONS.items()
        }
        self.metadata = {
            name: owner.ask(
                "POST",
                f"{self.path}/metadata-properties",
                json={"name": name, "title": name, "settings": settings, "visible_for_annotators": True},
            )["id"]
            for name, settings in metadata.items()
        }
        for name, dimensions in vectors.items():
            body = {"name": name, "title": name, "dimensions": dimensions}
            owner.ask("POST", f"{self.path}/vectors-settings", json=body)
        owner.ask("PUT", f"{self.path}/publish")
        self.ids: dict[str, str] = {}

    def add(self, *records: Json) -> None:
        """Make or change records, known by their external ids."""
        answer = self.owner.ask("PUT", f"{self.path}/records/bulk", json={"items": list(records)})
        self.ids |= {record["external_id"]: record["id"] for record in answer["items"]}

    def suggestion(self, question: str, value: Any, **properties: Any) -> Json:
        return {"question_id": self.questions[question], "value": value, **properties}

    def search(self, by: Client | None = None, **body: Any) -> Json:
        """All that a search finds: of everybody's responses, or `by` a user of their own."""
        return by.search(f"/me{self.path}", **body) if by else self.owner.search(self.path, **body)

    def found(self, by: Client | None = None, **body: Any) -> list[str]:
        """External ids in the order of the answer."""
        answer = self.search(by, **body)
        names = [item["record"]["external_id"] for item in answer["items"]]
        assert answer["total"] == len(names)
        return names

    def kept(self, *filters: Json, by: Client | None = None) -> str:
        """External ids that pass filters, in the order of the alphabet, with a space between."""
        return " ".join(sorted(self.found(by, filters={"and": list(filters)})))

    def sorted(self, scope: Json, order: str, by: Client | None = None) -> str:
        return " ".join(self.found(by, sort=[{"scope": scope, "order": order}]))

    def text(self, query: str, field: str | None = None) -> str:
        """External ids a text query finds, in the order of the alphabet."""
        return " ".join(sorted(self.found(query={"text": {"q": query, "field": field}})))

    def answer(self, by: Client, name: str, status: str, **values: Any) -> Json:
        body = {"status": status, "values": {question: {"value": value} for question, value in values.items()} or None}
        answer = by.ask("POST", f"/records/{self.ids[name]}/responses", json=body)
        assert isinstance(answer, dict)
        return answer


TEXT = {"type": "text"}
QUESTIONS = {
    "better": {
        "required": True,
        "settings": {
            "type": "label_selection",
            "options": [{"value": value, "text": value} for value in ("a", "b", "tie")],
            "visible_options": 3,
        },
    },
    "flaws": {
        "required": False,
        "settings": {
            "type": "multi_label_selection",
            "options": [{"value": value, "text": value} for value in ("rude", "wrong", "long")],
            "visible_options": 3,
        },
    },
    "rating": {"required": False, "settings": {"type": "rating", "options": [{"value": value} for value in range(6)]}},
    "note": {"required": False, "settings": {"type": "text"}},
}
METADATA = {
    "source": {"type": "terms"},
    "length": {"type": "integer"},
    "margin": {"type": "float"},
    'odd "name".x': {"type": "terms"},
}


def terms(scope: Json, *values: Any) -> Json:
    return {"type": "terms", "scope": scope, "values": list(values)}


def between(scope: Json, ge: Any = None, le: Any = None) -> Json:
    return {"type": "range", "scope": scope, "ge": ge, "le": le}


def of_metadata(name: str) -> Json:
    return {"entity": "metadata", "metadata_property": name}


def of_record(name: str) -> Json:
    return {"entity": "record", "property": name}


def of_suggestion(question: str, name: str = "value") -> Json:
    return {"entity": "suggestion", "question": question, "property": name}


def of_response(question: str) -> Json:
    return {"entity": "response", "question": question}


STATUS = {"entity": "response", "property": "status"}


@pytest.fixture(scope="module")
def owner(argilla_server: ArgillaServer) -> Iterator[Client]:
    client = Client(argilla_server.url, argilla_server.headers)
    yield client
    client.http.close()


@pytest.fixture(scope="module")
def workspace_id(owner: Client) -> str:
    name = f"search-{time.time_ns()}"
    return str(owner.ask("POST", "/workspaces", json={"name": name})["id"])


@pytest.fixture(scope="module")
def reviewers(argilla_server: ArgillaServer, owner: Client, workspace_id: str) -> Iterator[list[Client]]:
    """Three users with accounts of their own."""

    def sign_in(name: str) -> Client:
        user = {"username": name, "first_name": name, "password": PASSWORD, "role": "annotator"}
        user_id = owner.ask("POST", "/users", json=user)["id"]
        owner.ask("POST", f"/workspaces/{workspace_id}/users", json={"user_id": user_id})
        token = owner.ask("POST", "/token", data={"username": name, "password": PASSWORD})["access_token"]
        return Client(argilla_server.url, {"Authorization": f"Bearer {token}"})

    stamp = time.time_ns()
    clients = [sign_in(f"{name}-{stamp}") for name in ("ada", "ben", "cyn")]
    yield clients
    for client in clients:
        client.http.close()


MakeDataset = Callable[..., Dataset]


@pytest.fixture(scope="module")
def make_dataset(owner: Client, workspace_id: str) -> MakeDataset:
    def make(fields: Json | None = None, metadata: Json | None = None, vectors: Json | None = None) -> Dataset:
        return Dataset(owner, workspace_id, fields or {"prompt": TEXT, "response": TEXT}, metadata or {}, vectors or {})

    return make


@pytest.fixture(scope="module")
def pets(make_dataset: MakeDataset, reviewers: list[Client]) -> Dataset:
    """Four records: two of them answered by the first two reviewers, one half answered, `d` with nothing at all.

    b is completed (two submitted), a is discarded by the first, c a draft of the first.
    """
    made = make_dataset(metadata=METADATA)
    made.add(
        {
            "external_id": "a",
            "fields": {"prompt": "cat", "response": "purr"},
            "metadata": {"source": "web", "length": 3, "margin": 0.5, 'odd "name".x': "y.z"},
            "suggestions": [
                made.suggestion("better", "a", score=0.9, agent="judge", type="model"),
                made.suggestion("flaws", ["rude", "wrong"], score=[0.2, 0.6]),
            ],
        },
        {
            "external_id": "b",
            "fields": {"prompt": "dog", "response": "bark"},
            "metadata": {"source": ["web", "book"], "length": 10, "margin": -1.25},
            "suggestions": [
                made.suggestion("better", "b", score=0.4, agent="Ada", type="human"),
                made.suggestion("rating", 4),
            ],
        },
        {
            "external_id": "c",
            "fields": {"prompt": "cow", "response": "moo"},
            "metadata": {"source": "book", "length": 7},
            "suggestions": [made.suggestion("rating", 2, agent="judge")],
        },
        {"external_id": "d", "fields": {"prompt": "owl"}, "metadata": None},
    )
    ada, ben, _ = reviewers
    made.answer(ada, "a", "discarded")
    made.answer(ada, "b", "submitted", better="a", rating=5, flaws=["long"])
    made.answer(ada, "c", "draft", rating=0)
    made.answer(ben, "b", "submitted", better="b", rating=2)
    made.answer(ben, "a", "submitted", better="tie", rating=3, note='it\'s "so", really')
    return made


def test_metadata_terms(pets: Dataset) -> None:
    source = of_metadata("source")

    assert pets.kept(terms(source, "web")) == "a b"
    assert pets.kept(terms(source, "book")) == "b c"
    assert pets.kept(terms(source, "web", "book")) == "a b c"
    assert pets.kept(terms(source, "we")) == ""
    assert pets.kept(terms(source, "' OR 1=1 --", '"')) == ""
    assert pets.kept(terms(source, "web"), terms(source, "book")) == "b"


def test_metadata_whose_name_holds_quotes_and_dots(pets: Dataset) -> None:
    odd = of_metadata('odd "name".x')

    assert pets.kept(terms(odd, "y.z")) == "a"
    assert pets.sorted(odd, "asc") == "a b c d"
    odd_id = pets.metadata['odd "name".x']
    assert pets.owner.ask("GET", f"/metadata-properties/{odd_id}/metrics")["total"] == 1


def test_metadata_numbers_within_a_range(pets: Dataset) -> None:
    assert pets.kept(between(of_metadata("length"), ge=7)) == "b c"
    assert pets.kept(between(of_metadata("length"), ge=3, le=7)) == "a c"
    assert pets.kept(between(of_metadata("length"), ge="7", le="7")) == "c"
    assert pets.kept(between(of_metadata("margin"), le=0)) == "b"
    assert pets.kept(between(of_metadata("margin"), ge=-1.25, le=0.5)) == "a b"
    assert pets.kept(between(of_metadata("margin"), ge="much")) == ""
    assert pets.kept(terms(of_metadata("length"), "10", "3.0")) == "a b"
    assert pets.kept(between(of_metadata("length"), ge=4), terms(of_metadata("source"), "book")) == "b c"


@pytest.mark.parametrize(
    ("name", "ascending", "descending"),
    [
        # least of several terms if ascending, greatest if descending: b has book and web
        ("source", "b c a d", "a b c d"),
        ("length", "a c b d", "b c a d"),
        ("margin", "b a c d", "a b c d"),
    ],
)
def test_records_without_the_metadata_come_last_in_both_orders(
    pets: Dataset, name: str, ascending: str, descending: str
) -> None:
    assert pets.sorted(of_metadata(name), "asc") == ascending
    assert pets.sorted(of_metadata(name), "desc") == descending


def test_a_second_sort_key_settles_ties_of_the_first(pets: Dataset) -> None:
    sort = [{"scope": of_record("status"), "order": "desc"}, {"scope": of_metadata("length"), "order": "desc"}]

    assert pets.found(sort=sort) == ["c", "a", "d", "b"]


@pytest.mark.parametrize(
    ("statuses", "of_ada", "of_ben", "of_cyn", "of_anybody"),
    [
        ("pending", "d", "c d", "a b c d", "d"),
        ("draft", "c", "", "", "c"),
        ("submitted", "b", "a b", "", "a b"),
        ("discarded", "a", "", "", "a"),
        ("pending draft", "c d", "c d", "a b c d", "c d"),
        ("submitted discarded", "a b", "a b", "", "a b"),
        ("pending submitted", "b d", "a b c d", "a b c d", "a b d"),
        ("pending draft submitted discarded", "a b c d", "a b c d", "a b c d", "a b c d"),
    ],
)
def test_response_statuses(
    pets: Dataset,
    reviewers: list[Client],
    statuses: str,
    of_ada: str,
    of_ben: str,
    of_cyn: str,
    of_anybody: str,
) -> None:
    status = terms(STATUS, *statuses.split())

    assert [pets.kept(status, by=reviewer) for reviewer in reviewers] == [of_ada, of_ben, of_cyn]
    assert pets.kept(status) == of_anybody


def test_response_values_are_of_the_user_who_asks_or_of_anybody(pets: Dataset, reviewers: list[Client]) -> None:
    ada, ben, cyn = reviewers

    assert pets.kept(terms(of_response("better"), "a")) == "b"
    assert pets.kept(terms(of_response("better"), "a"), by=ben) == ""
    assert pets.kept(terms(of_response("better"), "b", "tie"), by=ben) == "a b"
    assert pets.kept(terms(of_response("flaws"), "long"), by=ada) == "b"
    assert pets.kept(between(of_response("rating"), ge=3)) == "a b"
    assert pets.kept(between(of_response("rating"), ge=3), by=ben) == "a"
    assert pets.kept(between(of_response("rating"), le=0), by=ada) == "c"
    assert pets.kept(between(of_response("rating"), ge=0), by=cyn) == ""
    assert pets.kept(terms(of_response("rating"), 5)) == "b"
    assert pets.kept(terms(STATUS, "submitted"), terms(of_response("rating"), "2"), by=ben) == "b"


def test_suggestions(pets: Dataset) -> None:
    assert pets.kept(terms(of_suggestion("better"), "a")) == "a"
    assert pets.kept(terms(of_suggestion("flaws"), "wrong", "long")) == "a"
    assert pets.kept(between(of_suggestion("rating"), ge=3)) == "b"
    assert pets.kept(terms(of_suggestion("rating"), "2", "4")) == "b c"
    assert pets.kept(between(of_suggestion("better", "score"), ge=0.5)) == "a"
    assert pets.kept(between(of_suggestion("flaws", "score"), ge=0.5)) == "a"
    assert pets.kept(between(of_suggestion("flaws", "score"), ge=0.7)) == ""
    assert pets.kept(terms(of_suggestion("better", "agent"), "judge")) == "a"
    assert pets.kept(terms(of_suggestion("rating", "agent"), "judge")) == "c"
    assert pets.kept(terms(of_suggestion("better", "type"), "human")) == "b"
    assert pets.kept(terms(of_suggestion("better", "type"), "human", "model")) == "a b"


@pytest.mark.parametrize(
    ("question", "name", "ascending", "descending"),
    [
        ("better", "value", "a b c d", "b a c d"),
        ("better", "score", "b a c d", "a b c d"),
        ("better", "agent", "b a c d", "a b c d"),
        ("better", "type", "b a c d", "a b c d"),
        ("rating", "value", "c b a d", "b c a d"),
        ("flaws", "score", "a b c d", "a b c d"),
    ],
)
def test_sort_by_suggestion(pets: Dataset, question: str, name: str, ascending: str, descending: str) -> None:
    assert pets.sorted(of_suggestion(question, name), "asc") == ascending
    assert pets.sorted(of_suggestion(question, name), "desc") == descending


def test_sort_by_response_takes_the_mean_or_the_user_s_own(pets: Dataset, reviewers: list[Client]) -> None:
    ada, ben, cyn = reviewers

    # ratings: a 3, b (5 + 2) / 2, c 0, d none
    assert pets.sorted(of_response("rating"), "asc") == "c a b d"
    assert pets.sorted(of_response("rating"), "desc") == "b a c d"
    assert pets.sorted(of_response("rating"), "asc", by=ada) == "c b a d"
    assert pets.sorted(of_response("rating"), "asc", by=ben) == "b a c d"
    assert pets.sorted(of_response("rating"), "desc", by=cyn) == "a b c d"
    assert pets.sorted(of_response("better"), "asc", by=ben) == "b a c d"
    assert pets.sorted(STATUS, "asc", by=ada) == "a c b d"
    assert pets.sorted(STATUS, "desc", by=ada) == "b c a d"


def test_properties_of_the_record(pets: Dataset) -> None:
    records = {item["record"]["external_id"]: item["record"] for item in pets.search()["items"]}
    first = records["a"]

    assert pets.kept(terms(of_record("status"), "completed")) == "b"
    assert pets.kept(terms(of_record("status"), "pending")) == "a c d"
    assert pets.kept(terms(of_record("status"), "nonsense")) == ""
    assert pets.kept(terms(of_record("external_id"), "a", "d")) == "a d"
    assert pets.kept(terms(of_record("id"), first["id"], "nonsense")) == "a"
    assert pets.kept(terms(of_record("inserted_at"), first["inserted_at"])) >= "a"
    assert pets.kept(between(of_record("inserted_at"), ge=first["inserted_at"])) == "a b c d"
    assert pets.kept(between(of_record("inserted_at"), le="2001-01-01")) == ""
    assert pets.kept(between(of_record("updated_at"), ge=first["inserted_at"][:10])) == "a b c d"
    assert pets.kept(between(of_record("updated_at"), le=first["updated_at"][:10])) == "a b c d"
    assert pets.kept(between(of_record("updated_at"), ge=0, le=4_000_000_000_000)) == "a b c d"
    assert pets.kept(between(of_record("external_id"), ge="b", le="c")) == "b c"


@pytest.mark.parametrize("name", ["id", "external_id", "inserted_at", "updated_at", "status"])
def test_sort_by_properties_of_the_record(pets: Dataset, name: str) -> None:
    records = [item["record"] for item in pets.search()["items"]]

    for order in ("asc", "desc"):
        values = [record[name] for record in records]
        got = [item["record"][name] for item in pets.search(sort=[{"scope": of_record(name), "order": order}])["items"]]
        assert got == sorted(values, reverse=order == "desc")


@pytest.mark.parametrize(
    "body",
    [
        {"filters": {"and": [between(of_record("inserted_at"), ge="yesterday")]}},
        {"filters": {"and": [terms({"entity": "response"}, "a")]}},
        {"filters": {"and": [between(STATUS, ge=1)]}},
        {"filters": {"and": [terms(of_suggestion("better") | {"property": None}, "a")]}},
        {"sort": [{"scope": {"entity": "response"}, "order": "asc"}]},
        {"query": {"text": {"q": "cat", "field": "unknown"}}},
    ],
)
def test_a_request_without_a_meaning_is_refused(pets: Dataset, body: Json) -> None:
    assert pets.owner.http.post(f"{pets.path}/records/search", json=body).status_code == 422


def test_progress_counts_records_and_responses_of_each_user(pets: Dataset, reviewers: list[Client]) -> None:
    progress = pets.owner.ask("GET", f"{pets.path}/progress")
    metrics = [reviewer.ask("GET", f"/me{pets.path}/metrics")["responses"] for reviewer in reviewers]
    users = pets.owner.ask("GET", f"{pets.path}/users/progress")["users"]

    assert (progress["total"], progress["completed"], progress["pending"]) == (4, 1, 3)
    assert metrics[0] == {"total": 4, "submitted": 1, "discarded": 1, "draft": 1, "pending": 1}
    assert metrics[1] == {"total": 4, "submitted": 2, "discarded": 0, "draft": 0, "pending": 2}
    assert metrics[2] == {"total": 4, "submitted": 0, "discarded": 0, "draft": 0, "pending": 4}
    counts = {user["username"].partition("-")[0]: (user["completed"], user["pending"]) for user in users}
    assert counts["ada"] == (
        {"submitted": 1, "draft": 0, "discarded": 0},
        {"submitted": 0, "draft": 1, "discarded": 1},
    )
    assert counts["ben"][0]["submitted"] == 1


def test_metadata_metrics(pets: Dataset, make_dataset: MakeDataset) -> None:
    def metrics(dataset: Dataset, name: str) -> Json:
        answer = dataset.owner.ask("GET", f"/metadata-properties/{dataset.metadata[name]}/metrics")
        assert isinstance(answer, dict)
        return answer

    source = metrics(pets, "source")
    assert source["total"] == 4
    assert source["values"] == [{"term": "book", "count": 2}, {"term": "web", "count": 2}]
    assert metrics(pets, "length") == {"type": "integer", "min": 3, "max": 10}
    assert metrics(pets, "margin") == {"type": "float", "min": -1.25, "max": 0.5}

    empty = make_dataset(metadata=METADATA)
    assert metrics(empty, "source") == {"type": "terms", "total": 0, "values": []}
    assert metrics(empty, "margin") == {"type": "float", "min": None, "max": None}


def test_agents_offered_for_suggestions(pets: Dataset) -> None:
    items = pets.owner.ask("GET", f"{pets.path}/records/search/suggestions/options")["items"]

    agents = {item["question"]["name"]: sorted(item["agents"]) for item in items}
    assert agents == {"better": ["Ada", "judge"], "flaws": [], "rating": ["judge"], "note": []}


def test_draft_dataset_has_no_progress(owner: Client, workspace_id: str) -> None:
    draft = owner.ask("POST", "/datasets", json={"name": f"draft-{next(COUNT)}", "workspace_id": workspace_id})

    assert owner.ask("GET", f"/datasets/{draft['id']}/progress")["total"] == 0


@pytest.fixture(scope="module")
def library(make_dataset: MakeDataset) -> Dataset:
    """Texts to search: a plain field, a chat and a picture."""
    fields = {
        "title": TEXT,
        "talk": {"type": "chat", "use_markdown": True},
        "cover": {"type": "image"},
    }
    made = make_dataset(fields=fields)

    def talk(*messages: str) -> list[Json]:
        return [{"role": role, "content": text} for role, text in zip(("user", "assistant"), messages, strict=False)]

    made.add(
        {"external_id": "one", "fields": {"title": "The quick brown fox", "talk": talk("jumps over", "the lazy dog")}},
        {"external_id": "two", "fields": {"title": "A brown dog, quick!", "talk": talk("Café near the sea")}},
        {
            "external_id": "three",
            "fields": {"title": "dog dog dog", "talk": talk("user guide"), "cover": "http://pictures.test/fox.png"},
        },
        {"external_id": "four", "fields": {"title": "state-of-the-art AND more", "talk": talk("naïve Ærø Straße")}},
        {"external_id": "five", "fields": {"title": "日本語 and русский текст"}},
    )
    return made


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("quick", "one two"),
        ("QUICK", "one two"),
        ("quick fox", "one"),
        # one word in the title, the other in the talk
        ("fox lazy", "one"),
        ("brown sea", "two"),
        ("quick -fox", "two"),
        ("-quick", "five four three"),
        ("-quick -dog", "five four"),
        ("fox | sea", "one two"),
        ("fox|café", "one two"),
        # from left to right, as Elasticsearch reads it
        ("quick fox | guide", "one three"),
        ("guide | quick fox", "one"),
        ("brown (fox | sea)", "one two"),
        ("dog -(fox | guide)", "two"),
        ("dog | -quick", "five four one three two"),
        ('"brown fox"', "one"),
        ('"fox brown"', ""),
        ('-"brown fox" brown', "two"),
        ("qui*", "one two"),
        ("qui", ""),
        ("cafe", "two"),
        ("CAFÉ", "two"),
        ("naive", "four"),
        ("state-of-the-art", "four"),
        ("and", "five four"),
        ("AND", "five four"),
        ("русский", "five"),
        ("日本*", "five"),
        # a phrase ends with its message
        ('"over the"', ""),
        # roles and pictures are no text
        ("assistant", ""),
        ("user", "three"),
        ("pictures", ""),
        ("", "five four one three two"),
        ("  ", "five four one three two"),
        ("*", "five four one three two"),
        ("!!!", ""),
        ("\N{GRINNING FACE}", ""),
        ("quick \N{GRINNING FACE}", "one two"),
    ],
)
def test_text_query(library: Dataset, query: str, names: str) -> None:
    assert library.text(query) == names


def test_text_query_of_one_field(library: Dataset) -> None:
    assert library.text("dog") == "one three two"
    assert library.text("dog", field="title") == "three two"
    assert library.text("dog", field="talk") == "one"
    assert library.text("quick fox", field="title") == "one"
    assert library.text("quick lazy", field="title") == ""
    assert library.text("-dog", field="title") == "five four one"
    assert library.text("fox", field="cover") == ""
    assert library.text("pictures", field="cover") == ""


@pytest.mark.parametrize(
    "query",
    [
        "'; DROP TABLE records; --",
        '"',
        '"""',
        '"quick',
        "(",
        ")",
        "(((quick",
        "quick)))",
        "()",
        "|",
        "| quick |",
        "- -",
        "--quick",
        "-",
        "+quick",
        "* *",
        "*quick",
        "q*k",
        "NEAR(quick fox)",
        "NOT quick",
        "OR",
        "title:quick",
        "title : quick",
        "{title}: quick",
        "^quick",
        "quick~2",
        "\\",
        '\\"quick',
        "%_",
        "a\x00b",
        "\u200d\ufe0f",
        "\U00020bb7\U0001d518",
        "word " * 2000,
        "a|b " * 2500,
        "-x " * 3000,
        "(" * 10_000,
        "(" * 3000 + "quick" + ")" * 3000,
        "a | b (" * 1000,
        "(a | (b " * 8 + "quick",
        "-(" * 3000 + "quick",
        '"' + "quick " * 1600 + '"',
        "x" * 10_000,
    ],
)
def test_whatever_is_typed_is_answered(library: Dataset, query: str) -> None:
    for field in (None, "talk"):
        began = time.monotonic()
        library.search(query={"text": {"q": query, "field": field}})
        assert time.monotonic() - began < 2


def test_better_hits_come_first_with_higher_scores(library: Dataset, reviewers: list[Client]) -> None:
    for by in (None, reviewers[0]):
        answer = library.search(by, query={"text": {"q": "dog"}})
        assert [item["record"]["external_id"] for item in answer["items"]] == ["three", "two", "one"]
        scores = [item["query_score"] for item in answer["items"]]
        assert scores == sorted(scores, reverse=True) and scores[0] > scores[1] > 0


def test_text_query_with_a_sort_and_a_filter(library: Dataset) -> None:
    query = {"text": {"q": "dog"}}

    assert library.found(query=query, sort=[{"scope": of_record("external_id"), "order": "asc"}]) == [
        "one",
        "three",
        "two",
    ]
    assert library.found(query=query, filters={"and": [terms(of_record("external_id"), "one", "five")]}) == ["one"]


def test_new_changed_and_deleted_records_are_found_as_they_are_now(make_dataset: MakeDataset) -> None:
    made = make_dataset()
    made.add({"external_id": "x", "fields": {"prompt": "zebra"}}, {"external_id": "y", "fields": {"prompt": "zebra"}})
    assert made.text("zebra") == "x y"

    made.add({"external_id": "x", "fields": {"prompt": "giraffe"}})
    assert (made.text("zebra"), made.text("giraffe")) == ("y", "x")

    made.owner.ask("PATCH", f"/records/{made.ids['y']}", json={"fields": {"prompt": "gnu", "response": "giraffe"}})
    assert (made.text("zebra"), made.text("gnu giraffe"), made.text("giraffe", field="response")) == ("", "y", "y")

    made.owner.ask("PATCH", f"/records/{made.ids['y']}", json={"metadata": {"any": 1}})
    assert made.text("gnu") == "y"

    made.owner.ask("DELETE", f"{made.path}/records", params={"ids": made.ids["x"]})
    assert made.text("giraffe") == "y"
    assert made.found() == ["y"]


def test_a_deleted_dataset_leaves_nothing_in_the_index(
    make_dataset: MakeDataset, argilla_server: ArgillaServer
) -> None:
    made = make_dataset()
    made.add({"external_id": "x", "fields": {"prompt": "okapi"}})

    def rows() -> list[int]:
        with sqlite3.connect(argilla_server.home / "argilla.db") as database:
            counts = [
                database.execute("SELECT count(*) FROM search_texts WHERE search_texts MATCH 'okapi'"),
                database.execute(
                    "SELECT count(*) FROM search_records WHERE record_id = ?", [made.ids["x"].replace("-", "")]
                ),
            ]
            return [count.fetchone()[0] for count in counts]

    assert rows() == [1, 1]
    made.owner.ask("DELETE", made.path)
    assert rows() == [0, 0]


def test_a_dataset_never_shows_records_of_another(make_dataset: MakeDataset) -> None:
    # the same words in fields of other names and places
    left = make_dataset()
    right = make_dataset(fields={"answer": TEXT, "prompt": TEXT, "zone": TEXT})
    left.add({"external_id": "x", "fields": {"prompt": "lynx", "response": "wolf"}})
    right.add({"external_id": "y", "fields": {"answer": "lynx", "prompt": "wolf", "zone": "bear"}})

    assert (left.text("lynx"), right.text("lynx")) == ("x", "y")
    assert (left.text("lynx", field="prompt"), right.text("lynx", field="prompt")) == ("x", "")
    assert (right.text("lynx", field="answer"), right.text("bear", field="zone")) == ("y", "y")
    assert (left.text("-lynx"), left.text("bear"), left.text(left.id.replace("-", ""))) == ("", "", "")
    assert left.found() == ["x"]
    assert left.kept(terms(STATUS, "pending")) == "x"
    assert left.kept(terms(of_record("id"), right.ids["y"])) == ""


@pytest.fixture(scope="module")
def arrows(make_dataset: MakeDataset) -> Dataset:
    """Directions in a plane, one record without."""
    made = make_dataset(metadata={"side": {"type": "terms"}}, vectors={"arrow": 2})
    directions = {"east": [2, 0], "north-east": [1, 1], "north": [0, 3], "west": [-1, 0]}
    made.add(
        *[
            {
                "external_id": name,
                "fields": {"prompt": name, "response": "arrow"},
                "vectors": {"arrow": vector},
                "metadata": {"side": "right" if vector[0] > 0 else "left"},
            }
            for name, vector in directions.items()
        ],
        {"external_id": "nowhere", "fields": {"prompt": "none", "response": "arrow"}},
    )
    return made


def test_similar_vectors_come_in_the_order_of_their_cosine(arrows: Dataset) -> None:
    answer = arrows.search(query={"vector": {"name": "arrow", "value": [1, 0]}})

    names = [item["record"]["external_id"] for item in answer["items"]]
    scores = [item["query_score"] for item in answer["items"]]
    assert names == ["east", "north-east", "north", "west"]
    # (1 + cosine) / 2
    assert scores == pytest.approx([1, (1 + 0.5**0.5) / 2, 0.5, 0])


def test_least_similar_to_a_record_leaves_the_record_out(arrows: Dataset) -> None:
    vector = {"name": "arrow", "record_id": arrows.ids["east"]}

    assert arrows.found(query={"vector": {**vector, "order": "least_similar"}}) == ["west", "north", "north-east"]
    assert arrows.found(query={"vector": vector}) == ["north-east", "north", "west"]


def test_similarity_with_a_filter_a_text_and_a_limit(arrows: Dataset) -> None:
    vector = {"name": "arrow", "value": [1, 0]}
    left = {"and": [terms(of_metadata("side"), "left")]}

    assert arrows.found(query={"vector": vector}, filters=left) == ["north", "west"]
    assert arrows.found(query={"vector": vector, "text": {"q": "north"}}) == ["north-east", "north"]
    assert arrows.found(query={"vector": vector, "text": {"q": "!!"}}) == []
    items = arrows.search(query={"vector": vector}, limit=1, offset=1)["items"]
    assert [item["record"]["external_id"] for item in items] == ["north-east"]
    body = {"query": {"vector": {**vector, "value": [1, 0, 0]}}}
    assert arrows.owner.http.post(f"{arrows.path}/records/search", json=body).status_code == 422


@pytest.fixture(scope="module")
def many(make_dataset: MakeDataset) -> Dataset:
    """Two hundred records whose metadata have many ties."""
    made = make_dataset(metadata={"bin": {"type": "integer"}})
    made.add(
        *[
            {"external_id": f"{i:03}", "fields": {"prompt": f"number {i}"}, "metadata": {"bin": i % 3}}
            for i in range(200)
        ]
    )
    return made


def pages(dataset: Dataset, by: Client | None, size: int, **body: Any) -> Iterator[str]:
    """External ids, page after page."""
    for offset in itertools.count(0, size):
        items = dataset.search(by, limit=size, offset=offset, **body)["items"]
        yield from (item["record"]["external_id"] for item in items)
        if len(items) < size:
            return


def test_pages_neither_repeat_nor_skip(many: Dataset, reviewers: list[Client]) -> None:
    everything = [f"{i:03}" for i in range(200)]
    asked: list[Json] = [
        {},
        {"filters": {"and": [terms(STATUS, "pending")]}},
        {"query": {"text": {"q": "number"}}},
        {"sort": [{"scope": of_metadata("bin"), "order": "desc"}]},
    ]

    for body, by in itertools.product(asked, [None, reviewers[2]]):
        assert sorted(pages(many, by, 37, **body)) == everything


def test_each_reviewer_has_an_order_of_their_own_that_stays(many: Dataset, reviewers: list[Client]) -> None:
    everything = [f"{i:03}" for i in range(200)]
    orders = [many.found(reviewer) for reviewer in reviewers]

    assert [many.found(reviewer) for reviewer in reviewers] == orders
    assert many.found() == everything
    for one, other in itertools.combinations([*orders, everything], 2):
        # a random order has one record of 200 in its place, on average
        assert sum(map(str.__eq__, one, other)) < 10
    # what is answered leaves the rest as it was
    many.answer(reviewers[0], orders[0][0], "submitted", better="a")
    assert many.found(reviewers[0], filters={"and": [terms(STATUS, "pending")]}) == orders[0][1:]


def test_reviewers_who_submit_at_once_lose_nothing(make_dataset: MakeDataset, reviewers: list[Client]) -> None:
    made = make_dataset()
    names = [f"{i:02}" for i in range(20)]
    made.add(*[{"external_id": name, "fields": {"prompt": f"question {name}"}} for name in names])
    failures: list[BaseException] = []

    def review(by: Client) -> None:
        try:
            while waiting := made.search(by, limit=5, filters={"and": [terms(STATUS, "pending")]})["items"]:
                for item in waiting:
                    made.answer(by, item["record"]["external_id"], "submitted", better="b")
        except BaseException as failure:
            failures.append(failure)

    def edit() -> None:
        try:
            for name in names[:10]:
                made.add({"external_id": name, "fields": {"prompt": f"changed {name}"}})
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=review, args=[reviewer]) for reviewer in reviewers[:2]]
    threads.append(threading.Thread(target=edit))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not failures
    assert made.kept(terms(of_record("status"), "completed")) == " ".join(names)
    for reviewer in reviewers[:2]:
        assert made.kept(terms(STATUS, "submitted"), by=reviewer) == " ".join(names)
        assert reviewer.ask("GET", f"/me{made.path}/metrics")["responses"]["submitted"] == 20
    assert made.text("changed") == " ".join(names[:10])
