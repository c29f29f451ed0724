import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from websites import Call, Handler, Reply, Site

from curate.review.argilla.client import ArgillaClient, NetworkError, connect, plain_url
from curate.review.config import ServerConfig
from schemas.errors import UserError

KEY = "a-secret-key"


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Site]]:
    monkeypatch.setenv("ARGILLA_API_KEY", KEY)
    monkeypatch.delenv("ARGILLA_API_URL", raising=False)
    started: list[Site] = []

    def start(handler: Handler) -> Site:
        started.append(Site(handler))
        return started[-1]

    yield start
    for running in started:
        running.close()


def argilla(version: str = "2.8.0", **paths: Reply) -> Handler:
    """An Argilla of some version; `paths` maps the last part of a path to what it answers otherwise."""

    def reply(call: Call) -> Reply:
        last = call.path.rpartition("/")[2]
        if last in paths:
            return paths[last]
        return (200, {}, {"version": version} if last == "version" else {"role": "owner", "id": "1"})

    return reply


def config(url: str = "", tmp_path: Any = None) -> ServerConfig:
    return ServerConfig(url=url, data=tmp_path, home=tmp_path / "argilla") if tmp_path else ServerConfig(url=url)


def test_without_any_server_the_command_that_starts_one_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("ARGILLA_API_URL", raising=False)

    with pytest.raises(UserError, match="start one with: curate review serve"):
        connect(config(tmp_path=tmp_path))


def test_an_address_where_nothing_listens_is_told_at_once(monkeypatch):
    monkeypatch.setenv("ARGILLA_API_KEY", KEY)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"

        with pytest.raises(UserError, match=f"no server answers at {url}; start one with: curate review serve"):
            connect(config(url))


@pytest.mark.parametrize(
    "reply",
    [
        (200, {"Content-Type": "text/html"}, "<html><body>Welcome to nginx!</body></html>"),
        (200, {}, {"name": "something else"}),
        (200, {}, ["a", "list"]),
        (200, {}, {"version": 3}),
        (200, {}, ""),
        (404, {}, {"detail": "Not Found"}),
        (404, {}, "404 page not found"),
    ],
)
def test_what_is_no_argilla_is_told_from_one(site, reply):
    other = site(lambda call: reply)

    with pytest.raises(UserError, match="is not an Argilla server; check the address and the port"):
        connect(config(other.url))


@pytest.mark.parametrize("version", ["1.29.1", "3.0.0", "20.1.0", "unknown"])
def test_another_major_version_is_refused_by_name(site, version):
    old = site(argilla(version))

    with pytest.raises(UserError, match=f"runs Argilla {version}; Argilla 2 is needed"):
        connect(config(old.url))


@pytest.mark.parametrize("version", ["2.0.0", "2.8.0", "2.9.0rc1"])
def test_every_version_2_is_taken(site, version):
    running = site(argilla(version))

    with connect(config(running.url)) as server:
        assert server.url == running.url


def test_a_wrong_key_is_told_without_the_key(site):
    locked = site(argilla(me=(401, {}, {"detail": {"code": "unauthorized"}})))

    with pytest.raises(UserError, match="does not know the key; check ARGILLA_API_KEY") as caught:
        connect(config(locked.url))
    assert KEY not in str(caught.value)


def test_what_the_key_may_not_do_is_told(site):
    narrow = site(argilla(users=(403, {}, {"detail": {"code": "forbidden"}})))

    with connect(config(narrow.url)) as server, pytest.raises(UserError, match="no right to /users"):
        server.get("/users")


def test_a_missing_key_is_asked_for(site, monkeypatch):
    monkeypatch.delenv("ARGILLA_API_KEY")
    running = site(argilla())

    with pytest.raises(UserError, match="needs a key: set ARGILLA_API_KEY"):
        connect(config(running.url))
    assert running.calls == []


def test_the_address_may_come_from_the_environment_and_the_flag_comes_first(site, monkeypatch):
    named, other = site(argilla()), site(argilla())
    monkeypatch.setenv("ARGILLA_API_URL", f"{named.url}/")

    with connect(config()) as server:
        assert server.url == named.url
    with connect(config(other.url)) as server:
        assert server.url == other.url


def test_the_key_does_not_follow_a_redirect(site):
    thief = site(argilla())
    moved = site(lambda call: (307, {"Location": f"{thief.url}{call.path}?token=t"}, ""))

    with pytest.raises(UserError, match=r"sends requests on to http://127\.0\.0\.1; give the address") as caught:
        connect(config(moved.url))
    assert thief.calls == []
    assert "token" not in str(caught.value)


def test_a_key_with_odd_characters_is_the_users_mistake(site, monkeypatch):
    monkeypatch.setenv("ARGILLA_API_KEY", "schlüssel")

    with pytest.raises(UserError, match="ARGILLA_API_KEY holds characters that no key has"):
        connect(config(site(argilla()).url))


@pytest.mark.parametrize("url", ["localhost:6900", "ftp://host", "http://", "http://host:port", "http://[::1", "x"])
def test_what_is_no_address_is_refused(url):
    with pytest.raises(UserError, match="looks like http"):
        plain_url(url)


@pytest.mark.parametrize("url", ["http://me:pass@host", "https://host/?key=pass", "https://host/#pass"])
def test_an_address_with_a_secret_is_refused_without_repeating_it(url):
    with pytest.raises(UserError, match="put no user name, password or query") as caught:
        plain_url(url)
    assert "pass@" not in str(caught.value) and "=pass" not in str(caught.value)


@pytest.mark.parametrize("passing", [(503, {}, "busy"), (429, {"Retry-After": "0"}, {}), None])
def test_a_passing_failure_is_asked_again(site, passing):
    answers = iter([passing, passing, (200, {}, {"items": [1]})])
    shaky = site(lambda call: next(answers) if call.path.endswith("/users") else argilla()(call))

    with connect(config(shaky.url)) as server:
        assert server.get("/users") == {"items": [1]}


def test_what_makes_something_is_sent_once(site):
    shaky = site(argilla(datasets=(503, {}, "busy")))

    with connect(config(shaky.url)) as server, pytest.raises(NetworkError, match="answers with status 503"):
        server.create("/datasets", {"name": "x"})
    assert [call.path for call in shaky.calls].count("/api/v1/datasets") == 1


def test_a_lost_network_is_told_in_one_sentence(site):
    gone = site(lambda call: None if call.path.endswith("/users") else argilla()(call))

    with connect(config(gone.url)) as server, pytest.raises(NetworkError, match=r"the connection to .* was lost"):
        server.get("/users")
    assert [call.path for call in gone.calls].count("/api/v1/users") == 5


def test_a_refusal_is_told_with_its_reason_on_one_line(site):
    strict = site(argilla(bulk=(422, {}, {"detail": "record 3 is\nnot valid " + "x" * 1000})))

    with connect(config(strict.url)) as server, pytest.raises(UserError) as caught:
        server.put("/datasets/1/records/bulk", {})
    assert "refused /datasets/1/records/bulk with status 422: record 3 is not valid" in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_what_is_not_there_is_none_for_who_looks_for_it(site):
    empty = site(argilla(gone=(404, {}, {"detail": "not found"})))

    with connect(config(empty.url)) as server:
        assert server.find("/datasets/gone") is None
        with pytest.raises(UserError, match="status 404"):
            server.get("/datasets/gone")


def test_the_key_is_sent_in_the_header_alone(site):
    running = site(argilla())

    with ArgillaClient(running.url, KEY) as server:
        server.check()

    assert {call.headers["X-Argilla-Api-Key"] for call in running.calls} == {KEY}
    assert not any(KEY in call.path for call in running.calls)
