"""Ledger files of other versions: an older one is taken over with its answers, a newer one is left alone."""

import hashlib
import json
import sqlite3
import subprocess
import sys
import textwrap
from array import array
from collections import Counter

import pytest
from scripted import ScriptedModel, responses, user

from curate.ledger.entries import call_identity, call_key, request_content
from curate.ledger.ledger import VERSION, Ledger
from curate.ledger.recorder import Recorder
from schemas.calls import CallResult, Request, Response
from schemas.errors import UserError

VERSION_1 = """
CREATE TABLE IF NOT EXISTS calls (
    call_id TEXT PRIMARY KEY,
    identity TEXT NOT NULL,
    kind TEXT NOT NULL,
    model TEXT NOT NULL,
    digest TEXT NOT NULL,
    request TEXT NOT NULL,
    sampling TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('asked', 'answered', 'failed')),
    owner TEXT NOT NULL,
    asked_at REAL NOT NULL,
    answered_at REAL,
    answer TEXT,
    numbers BLOB,
    input_tokens INTEGER NOT NULL DEFAULT 0,
    output_tokens INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
PRAGMA user_version = 1;
"""
MODEL = ScriptedModel(lambda request: responses("new"))


def ask(text, kind="generate", **sampling):
    return Request(kind, user(text), sampling=sampling)


RECORDED = {
    "answered": (
        ask("answered", max_tokens=16),
        CallResult((Response("old", "stop"),), input_tokens=3, output_tokens=2),
    ),
    "cut": (
        ask("cut", max_tokens=16),
        CallResult((Response("old and cu", "length"),), input_tokens=3, output_tokens=16),
    ),
    "refused": (ask("refused", max_tokens=16), CallResult(failure="refused", error="no")),
    "score": (ask("score", kind="score"), CallResult(values=(1.5,))),
    "vector": (ask("vector", kind="embed"), CallResult(values=(0.25, -0.5))),
}
LEFT = {
    "failed": (ask("failed", max_tokens=16), CallResult(failure="failed_call", error="HTTP 500")),
    "asked": (ask("asked", max_tokens=16), None),
}


@pytest.fixture
def version_1(tmp_path):
    """A ledger as version 1 left it, its process gone."""
    path = tmp_path / "ledger.sqlite"
    database = sqlite3.connect(path)
    database.executescript("PRAGMA journal_mode = WAL;" + VERSION_1)
    for name, (request, answer) in {**RECORDED, **LEFT}.items():
        text = numbers = None
        if answer:
            told = [[response.text, response.finish_reason] for response in answer.responses]
            text = json.dumps({"responses": told, "failure": answer.failure, "error": answer.error})
            numbers = array({"score": "d"}.get(request.kind, "f"), answer.values).tobytes() if answer.values else None
        database.execute(
            f"INSERT INTO calls VALUES ({', '.join('?' * 15)})",
            (
                call_key(MODEL, request),
                call_identity(MODEL, request),
                request.kind,
                MODEL.model,
                MODEL.digest,
                json.dumps(request_content(request)),
                json.dumps(request.sampling, sort_keys=True),
                name if name in LEFT else "answered",
                "some-machine-1-0123abcd",
                1.0,
                2.0 if answer else None,
                text,
                numbers,
                answer.input_tokens if answer else 0,
                answer.output_tokens if answer else 0,
            ),
        )
    database.commit()
    database.close()
    return path


def test_the_answers_of_version_1_are_used_and_only_the_rest_is_asked(version_1):
    model = ScriptedModel(lambda request: responses("new"))
    wanted = {**RECORDED, **LEFT}

    with Ledger(version_1) as ledger:
        found = Recorder(ledger).ask(model, [request for request, _ in wanted.values()])
        kinds = dict(ledger.read("SELECT json_extract(request, '$.messages[0].content'), failure FROM calls"))
        assert ledger.faults() == []
        assert ledger.read("PRAGMA user_version") == [(VERSION,)]

    assert dict(zip(wanted, found, strict=True)) == {
        **{name: answer for name, (_, answer) in RECORDED.items()},
        **dict.fromkeys(LEFT, responses("new")),
    }
    assert [request.messages[0]["content"] for request in model.asked] == ["failed", "asked"]
    assert kinds == {**dict.fromkeys(wanted), "refused": "refused"}


def test_a_cut_response_of_version_1_is_all_that_a_larger_limit_repeats(version_1):
    model = ScriptedModel(lambda request: responses("new"))

    with Ledger(version_1) as ledger:
        found = Recorder(ledger).ask(model, [ask("answered", max_tokens=64), ask("cut", max_tokens=64)])

    assert [answer.responses[0].text for answer in found] == ["old", "new"]
    assert [request.messages[0]["content"] for request in model.asked] == ["cut"]


def test_a_ledger_is_taken_over_once_whoever_opens_it(version_1):
    program = textwrap.dedent(
        f"""
        from pathlib import Path
        from curate.ledger.ledger import Ledger
        with Ledger(Path({str(version_1)!r})) as ledger:
            print(sum(ledger.counts().values()))
        """
    )
    both = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(3)]

    assert Counter(process.communicate()[0].strip() for process in both) == {"7": 3}
    assert [process.returncode for process in both] == [0, 0, 0]


def test_a_ledger_of_a_newer_version_is_refused_and_left_as_it_is(tmp_path):
    path = tmp_path / "ledger.sqlite"
    database = sqlite3.connect(path)
    database.executescript(
        f"CREATE TABLE calls (call_id TEXT, secret_sauce TEXT); PRAGMA user_version = {VERSION + 1};"
    )
    database.close()
    before = hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns

    with pytest.raises(
        UserError, match=rf"newer pairwright \(version {VERSION + 1}, this one reads {VERSION}\); upgrade"
    ):
        Ledger(path)

    assert (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns) == before
    assert [found.name for found in tmp_path.iterdir()] == ["ledger.sqlite"]
