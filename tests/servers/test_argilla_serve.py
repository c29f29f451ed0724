"""The real server of `curate review serve`: how it starts, who may use it, and what it keeps when it is killed."""

import json
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from servers.argilla_fixture import ArgillaServer, StartArgilla

from curate.review.server.serve import find_server

pytestmark = pytest.mark.server

SUBMITTED = {"status": "submitted", "values": {"better": {"value": "A"}}}


def client_of(server: ArgillaServer, **headers: str) -> httpx.Client:
    """Requests as the owner, or as whom the headers name."""
    return httpx.Client(base_url=f"{server.url}/api/v1", headers=headers or server.headers, timeout=60, trust_env=False)


def answer(reply: httpx.Response) -> Any:
    assert reply.is_success, reply.text
    return reply.json() if reply.content else None


def token(server: ArgillaServer, username: str, password: str) -> httpx.Response:
    with client_of(server) as client:
        return client.post("/token", data={"username": username, "password": password})


def make_dataset(client: httpx.Client, name: str, records: int) -> tuple[str, list[str]]:
    """Ids of a published dataset in a workspace of the same name, and of its records."""
    workspace = answer(client.post("/workspaces", json={"name": name}))["id"]
    dataset = answer(client.post("/datasets", json={"name": name, "workspace_id": workspace}))["id"]
    settings = {"type": "text", "use_markdown": False}
    answer(
        client.post(
            f"/datasets/{dataset}/fields",
            json={"name": "prompt", "title": "Prompt", "required": True, "settings": settings},
        )
    )
    options = [{"value": value, "text": value} for value in ("A", "B")]
    question = {"name": "better", "title": "Which is better?", "required": True}
    answer(
        client.post(
            f"/datasets/{dataset}/questions",
            json={**question, "settings": {"type": "label_selection", "options": options}},
        )
    )
    answer(client.put(f"/datasets/{dataset}/publish"))
    items = [{"external_id": f"{i}", "fields": {"prompt": f"Question {i}"}} for i in range(records)]
    made = answer(client.put(f"/datasets/{dataset}/records/bulk", json={"items": items}))
    return dataset, [record["id"] for record in made["items"]]


def make_reviewer(server: ArgillaServer, owner: httpx.Client, username: str, workspace: str) -> httpx.Client:
    """Requests as a new reviewer of the workspace."""
    user = {"username": username, "first_name": username, "role": "annotator", "password": "a long password"}
    user_id = answer(owner.post("/users", json=user))["id"]
    workspaces = answer(owner.get("/me/workspaces"))["items"]
    workspace_id = next(found["id"] for found in workspaces if found["name"] == workspace)
    answer(owner.post(f"/workspaces/{workspace_id}/users", json={"user_id": user_id}))
    bearer = answer(token(server, username, "a long password"))["access_token"]
    return client_of(server, Authorization=f"Bearer {bearer}")


def submitted(client: httpx.Client, dataset: str) -> int:
    """Answers that the server has, as it tells whoever pulls them."""
    only = {"type": "terms", "scope": {"entity": "response", "property": "status"}, "values": ["submitted"]}
    found = answer(
        client.post(
            f"/datasets/{dataset}/records/search",
            params={"include": "responses", "limit": 1000},
            json={"filters": {"type": "and", "and": [only]}},
        )
    )
    return sum(len(item["record"]["responses"]) for item in found["items"])


def whole(home: Path) -> str:
    with sqlite3.connect(home / "argilla.db") as connection:
        found = str(connection.execute("PRAGMA integrity_check").fetchone()[0])
    connection.close()
    return found


def refusal(*arguments: str) -> str:
    """What `curate review serve` says when it does not serve."""
    command = [sys.executable, "-m", "curate.cli.main", "review", "serve", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2, done.stderr
    return done.stderr


def test_only_the_json_line_is_on_stdout_and_its_key_and_password_let_the_owner_in(
    start_argilla: StartArgilla, tmp_path: Path
) -> None:
    server = start_argilla(tmp_path / "home")
    with client_of(server) as client:
        assert answer(client.get("/me"))["role"] == "owner"
    assert answer(token(server, server.username, server.password))["access_token"]
    assert token(server, server.username, "another").status_code == 401

    server.process.terminate()
    rest, _ = server.process.communicate(timeout=30)

    assert rest == ""


def test_it_is_argilla_2_8_with_its_web_page(argilla_server: ArgillaServer) -> None:
    page = httpx.get(argilla_server.url, trust_env=False)
    described = httpx.get(f"{argilla_server.url}/openapi.json", trust_env=False).json()

    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert (described["info"]["title"], described["info"]["version"]) == ("Argilla", "2.8.0")


def test_only_the_user_can_read_the_home(argilla_server: ArgillaServer) -> None:
    home = argilla_server.home

    modes = {path.name: path.stat().st_mode & 0o777 for path in home.iterdir() if path.is_file()}

    assert home.stat().st_mode & 0o777 == 0o700
    assert {"argilla.db", "owner.json", "secret_key", "server.json"} <= modes.keys()
    assert set(modes.values()) == {0o600}


def test_it_listens_on_this_machine_alone_and_calls_nobody(argilla_server: ArgillaServer) -> None:
    process = psutil.Process(argilla_server.process.pid)

    connections = process.net_connections("inet")

    assert {connection.laddr for connection in connections} == {("127.0.0.1", argilla_server.port)}
    assert not process.children()


def test_other_pages_in_the_browser_may_not_read_it(argilla_server: ArgillaServer) -> None:
    reply = httpx.get(
        f"{argilla_server.url}/api/v1/version", headers={"Origin": "http://elsewhere.example"}, trust_env=False
    )

    assert "access-control-allow-origin" not in reply.headers


def test_memory_is_moderate_at_the_start(argilla_server: ArgillaServer) -> None:
    assert psutil.Process(argilla_server.process.pid).memory_info().rss < 250e6


def test_secrets_of_the_user_are_not_in_the_server(start_argilla: StartArgilla, tmp_path: Path) -> None:
    given = {"OPENAI_API_KEY": "sk-secret", "ARGILLA_SEARCH_ENGINE": "elasticsearch", "PYTHONPATH": "/nowhere"}

    server = start_argilla(tmp_path / "home", variables=given)

    variables = psutil.Process(server.process.pid).environ()
    assert not given.keys() & variables.keys()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_it_cleanly(start_argilla: StartArgilla, tmp_path: Path, number: signal.Signals) -> None:
    home = tmp_path / "a home of 50% & more?"
    server = start_argilla(home)
    assert find_server(home) == (server.url, server.api_key)

    server.process.send_signal(number)
    server.process.communicate(timeout=30)

    assert server.process.returncode == 0
    assert "Traceback" not in server.log.read_text()
    assert find_server(home) is None
    assert sorted(path.name for path in home.iterdir()) == [
        *("argilla.db", "owner.json", "secret_key", "server.lock", "server_id.dat")
    ]


def test_a_signal_during_the_start_stops_it_cleanly(tmp_path: Path) -> None:
    home, log = tmp_path / "home", tmp_path / "log"
    command = [sys.executable, "-m", "curate.cli.main", "review", "serve", "--home", str(home), "--port", "0"]
    with log.open("w") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream)
    # made by the launcher, before it loads Argilla
    while not (home / "secret_key").exists():
        assert process.poll() is None, log.read_text()
        time.sleep(0.01)

    process.terminate()

    assert process.wait(30) == 0, log.read_text()
    assert "Traceback" not in log.read_text()


def test_restart_keeps_owner_sign_ins_and_port(start_argilla: StartArgilla, tmp_path: Path) -> None:
    first = start_argilla(tmp_path / "home")
    bearer = answer(token(first, first.username, first.password))["access_token"]
    assert first.stop() == 0

    second = start_argilla(tmp_path / "home", first.port)

    assert (second.url, second.username, second.password, second.api_key) == (
        *(first.url, first.username, first.password, first.api_key),
    )
    with client_of(second, Authorization=f"Bearer {bearer}") as client:
        assert answer(client.get("/me"))["username"] == "owner"


def test_a_new_owner_file_lets_the_owner_of_an_old_database_in(start_argilla: StartArgilla, tmp_path: Path) -> None:
    first = start_argilla(tmp_path / "home")
    first.stop()
    (tmp_path / "home" / "owner.json").unlink()

    second = start_argilla(tmp_path / "home")

    assert second.password != first.password
    assert answer(token(second, "owner", second.password))
    assert token(second, "owner", first.password).status_code == 401
    with client_of(second) as client:
        assert answer(client.get("/me"))["username"] == "owner"


def test_second_server_on_a_home_is_refused_with_the_address_of_the_first(argilla_server: ArgillaServer) -> None:
    said = refusal("--home", str(argilla_server.home), "--port", "0")

    assert f"runs on {argilla_server.home} at {argilla_server.url} already" in said


def test_taken_port_is_named(argilla_server: ArgillaServer, tmp_path: Path) -> None:
    said = refusal("--home", str(tmp_path), "--port", str(argilla_server.port))

    assert f"cannot listen on port {argilla_server.port} of 127.0.0.1: Address already in use" in said
    assert "--port" in said


def test_database_of_a_newer_argilla_is_refused(start_argilla: StartArgilla, tmp_path: Path) -> None:
    start_argilla(tmp_path / "home").stop()
    with sqlite3.connect(tmp_path / "home" / "argilla.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'from the future'")
    connection.close()

    said = refusal("--home", str(tmp_path / "home"), "--port", "0")

    assert "argilla.db was made by another version of Argilla" in said
    assert "Traceback" not in said


def test_kill_between_two_answers_loses_nothing(start_argilla: StartArgilla, tmp_path: Path) -> None:
    home = tmp_path / "home"
    server = start_argilla(home)
    with client_of(server) as client:
        dataset, records = make_dataset(client, "killed", 6)

    for number, record in enumerate(records, 1):
        with client_of(server) as client:
            assert client.post(f"/records/{record}/responses", json=SUBMITTED).status_code == 201
            server.kill()
        assert find_server(home) is None
        assert whole(home) == "ok"
        server = start_argilla(home)
        with client_of(server) as client:
            assert submitted(client, dataset) == number
            assert answer(client.get(f"/datasets/{dataset}/progress"))["completed"] == number


def test_kill_during_a_storm_of_answers_loses_none_that_was_confirmed(
    start_argilla: StartArgilla, tmp_path: Path
) -> None:
    server = start_argilla(tmp_path / "home")
    with client_of(server) as client:
        dataset, records = make_dataset(client, "storm", 400)
    confirmed: list[str] = []

    def submit(record: str) -> None:
        try:
            with client_of(server) as client:
                if client.post(f"/records/{record}/responses", json=SUBMITTED).status_code == 201:
                    confirmed.append(record)
        except httpx.TransportError:
            pass
        if len(confirmed) == 40:
            server.process.kill()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(submit, records))
    server.kill()

    assert whole(tmp_path / "home") == "ok"
    second = start_argilla(tmp_path / "home")
    with client_of(second) as client:
        kept = submitted(client, dataset)
        progress = answer(client.get(f"/datasets/{dataset}/progress"))
    # Up to eight were under way, and may have been written without anybody hearing of it.
    assert 40 <= len(confirmed) <= kept <= len(confirmed) + 8
    assert progress["completed"] == kept


def test_status_that_a_kill_left_behind_is_settled_at_the_start(start_argilla: StartArgilla, tmp_path: Path) -> None:
    home = tmp_path / "home"
    server = start_argilla(home)
    with client_of(server) as client:
        _, records = make_dataset(client, "unsettled", 3)
        answer(client.post(f"/records/{records[0]}/responses", json=SUBMITTED))
    server.kill()
    with sqlite3.connect(home / "argilla.db") as connection:
        connection.execute("UPDATE records SET status = iif(external_id = '1', 'completed', 'pending')")
    connection.close()

    second = start_argilla(home)

    with client_of(second) as client:
        statuses = [answer(client.get(f"/records/{record}"))["status"] for record in records]
    assert statuses == ["completed", "pending", "pending"]


def test_reviewers_submit_at_once(argilla_server: ArgillaServer) -> None:
    with client_of(argilla_server) as owner:
        dataset, records = make_dataset(owner, "at-once", 40)
        reviewers = [make_reviewer(argilla_server, owner, f"at-once-{i}", "at-once") for i in range(5)]

        def review(reviewer: httpx.Client) -> list[int]:
            with reviewer:
                return [reviewer.post(f"/records/{r}/responses", json=SUBMITTED).status_code for r in records]

        with ThreadPoolExecutor(len(reviewers)) as pool:
            codes = list(pool.map(review, reviewers))

        assert codes == [[201] * 40] * 5
        assert submitted(owner, dataset) == 200
        assert answer(owner.get(f"/datasets/{dataset}/progress"))["completed"] == 40
    assert argilla_server.process.poll() is None


def test_home_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    said = refusal("--home", str(tmp_path / "file" / "home"), "--port", "0")

    assert "cannot use" in said and "--home" in said


def test_json_says_why_it_does_not_serve(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "curate.cli.main", "review", "serve", "--json"]
        command += ["--home", str(tmp_path), "--port", str(port)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)

    assert json.loads(done.stdout)["exit_code"] == 2
    assert str(port) in json.loads(done.stdout)["error"]
