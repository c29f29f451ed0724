import hashlib
import json
import sqlite3
import subprocess
import sys
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import ScriptedModel, responses, user

from curate.ledger.entries import Entry, call_identity, call_key, read_answer, write_answer
from curate.ledger.ledger import VERSION, Ledger
from curate.ledger.recorder import Recorder
from schemas.calls import CallResult, Request, Response
from schemas.errors import UserError


def ask(text: str, **sampling: float) -> Request:
    return Request("generate", user(text), sampling=sampling)


def test_no_requests_make_no_call(recorder):
    model = ScriptedModel(lambda request: responses("x"))

    assert recorder.ask(model, []) == []
    assert model.asked == []


def test_a_recorded_call_is_not_made_again(recorder):
    model = ScriptedModel(lambda request: responses(request.messages[0]["content"].upper()))

    first = recorder.ask(model, [ask("a"), ask("b")])
    second = recorder.ask(model, [ask("b"), ask("c"), ask("a")])

    assert [answer.responses[0].text for answer in second] == ["B", "C", "A"]
    assert first == [second[2], second[0]]
    assert len(model.asked) == 3
    assert (recorder.tally.calls, recorder.tally.reused_calls) == (3, 2)


def test_the_same_request_twice_in_one_part_is_one_call(recorder):
    model = ScriptedModel(lambda request: responses("x"))

    answers = recorder.ask(model, [ask("a"), ask("a")])

    assert len(model.asked) == 1
    assert answers[0] == answers[1]


def test_sampling_stands_beside_the_identity_of_a_call():
    model = ScriptedModel(lambda request: responses("x"))
    cold, warm = ask("a", temperature=0.1), ask("a", temperature=0.9)

    assert call_identity(model, cold) == call_identity(model, warm)
    assert call_key(model, cold) != call_key(model, warm)


@pytest.mark.parametrize(
    "other",
    [
        Request("generate", user("b")),
        Request("generate", user("a"), n=2),
        Request("generate", user("a"), first_sample=1),
        Request("generate", user("a"), schema={"type": "object"}),
        Request("score", user("a")),
    ],
)
def test_whatever_is_asked_is_part_of_the_identity(other):
    model = ScriptedModel(lambda request: responses("x"))

    assert call_identity(model, other) != call_identity(model, Request("generate", user("a")))


def test_other_weights_are_another_call(recorder):
    model = ScriptedModel(lambda request: responses("old"))
    recorder.ask(model, [ask("a")])
    model = ScriptedModel(lambda request: responses("new"))
    model.digest = "other-weights"

    assert recorder.ask(model, [ask("a")])[0].responses[0].text == "new"


def test_a_failed_call_is_made_again_next_time_but_a_refusal_is_an_answer(recorder):
    replies = {
        "down": CallResult(failure="failed_call", error="HTTP 500"),
        "no": CallResult(failure="refused", error="no"),
    }
    model = ScriptedModel(lambda request: replies.get(request.messages[0]["content"], responses("fine")))
    requests = [ask(text) for text in ("down", "no", *"abcdefgh")]

    recorder.ask(model, requests)
    asked_first = len(model.asked)
    recorder.ask(model, requests)

    assert asked_first == 10
    assert [request.messages[0]["content"] for request in model.asked[10:]] == ["down"]
    assert recorder.tally.failed_calls == 2


def test_an_endpoint_that_mostly_fails_stops_the_run_and_keeps_what_was_answered(recorder):
    model = ScriptedModel(
        lambda request: (
            responses("x")
            if request.messages[0]["content"] == "0"
            else CallResult(failure="failed_call", error="HTTP 500")
        )
    )

    with pytest.raises(UserError, match="5 of 6 calls to scripted failed, the last with: HTTP 500"):
        recorder.ask(model, [ask(str(i)) for i in range(100)])

    assert recorder.ledger.counts() == {"answered": 1, "failed": 5}


def test_one_call_that_fails_for_good_does_not_stop_a_run_whose_other_calls_are_recorded(recorder):
    model = ScriptedModel(lambda request: responses("x"))
    recorder.ask(model, [ask(str(i)) for i in range(9)])
    model = ScriptedModel(lambda request: CallResult(failure="failed_call", error="HTTP 500"))

    answers = recorder.ask(model, [ask(str(i)) for i in range(10)])

    assert [answer.failure for answer in answers] == [None] * 9 + ["failed_call"]


@given(
    texts=st.lists(st.tuples(st.text(), st.none() | st.sampled_from(["stop", "length"]), st.text()), max_size=3),
    values=st.lists(st.floats(allow_nan=False), max_size=3),
)
def test_an_answer_reads_back_as_it_was_written(texts, values):
    answer = CallResult(tuple(Response(*text) for text in texts), tuple(values), input_tokens=3, output_tokens=4)

    text, numbers = write_answer(Entry("id", Request("score", []), "answered", answer, []))

    assert read_answer("score", text, numbers, 3, 4) == answer


def test_a_response_without_reasoning_is_written_as_it_always_was():
    answer = CallResult((Response("Fine.", "stop"),))

    text, _ = write_answer(Entry("id", ask("a"), "answered", answer, []))

    assert json.loads(text)["responses"] == [["Fine.", "stop"]]


def test_a_file_that_is_no_ledger_is_named(tmp_path):
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"not a database at all, but long enough to be looked at" * 100)

    with pytest.raises(UserError, match="is damaged"):
        Ledger(path)


def test_a_killed_process_loses_only_the_calls_in_flight(tmp_path):
    path = tmp_path / "ledger.sqlite"
    program = textwrap.dedent(
        f"""
        import os, signal, sys
        sys.path[:0] = {sys.path!r}
        from pathlib import Path
        from scripted import ScriptedModel, responses, user
        from schemas.calls import Request
        from curate.ledger.ledger import VERSION, Ledger
        from curate.ledger.recorder import Recorder

        def reply(request):
            if request.messages[0]["content"] == "3":
                os.kill(os.getpid(), signal.SIGKILL)
            return responses("x")

        with Ledger(Path({str(path)!r})) as ledger:
            Recorder(ledger).ask(ScriptedModel(reply), [Request("generate", user(str(i))) for i in range(6)])
        """
    )

    killed = subprocess.run([sys.executable, "-c", program])

    assert killed.returncode == -9
    model = ScriptedModel(lambda request: responses("x"))
    with Ledger(path) as ledger:
        assert ledger.counts() == {"answered": 3, "asked": 3}
        assert ledger.faults() == []
        recorder = Recorder(ledger)
        recorder.ask(model, [Request("generate", user(str(i))) for i in range(6)])
        assert (recorder.tally.calls, recorder.tally.reused_calls) == (3, 3)


def test_two_processes_share_one_ledger(tmp_path):
    path = tmp_path / "ledger.sqlite"
    model = ScriptedModel(lambda request: responses("x"))
    with Ledger(path) as one, Ledger(path) as two:
        Recorder(one).ask(model, [ask("a")])
        Recorder(two).ask(model, [ask("a"), ask("b")])

    assert [request.messages[0]["content"] for request in model.asked] == ["a", "b"]


@pytest.mark.parametrize(
    ("version", "way_on"),
    [(VERSION + 1, "upgrade"), (VERSION - 1, "give another --data folder")],
    ids=["newer", "older"],
)
def test_a_ledger_of_another_version_is_refused_and_left_as_it_is(tmp_path, version, way_on):
    path = tmp_path / "ledger.sqlite"
    database = sqlite3.connect(path)
    database.executescript(f"CREATE TABLE calls (call_id TEXT, secret_sauce TEXT); PRAGMA user_version = {version};")
    database.close()
    before = hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns

    with pytest.raises(
        UserError, match=rf"another pairwright \(version {version}, this one reads {VERSION}\); {way_on}"
    ):
        Ledger(path)

    assert (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns) == before
    assert [found.name for found in tmp_path.iterdir()] == ["ledger.sqlite"]
