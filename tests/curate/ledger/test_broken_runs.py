"""Runs that end before they are done, and clocks that jump: what was answered stays, and only the rest is asked."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from contextlib import contextmanager

import pytest
from misbehaving import after, answers, fails, hangs, says

from curate.ledger.leases import Leases

PROGRAM = """
    import sys
    sys.path[:0] = {path!r}
    from pathlib import Path
    # As every command does: with it Ctrl-C does not end a wait that has no end of its own.
    import polars
    from scripted import user
    from curate.ledger.spend_cap import Budget
    from schemas.calls import Request
    from curate.models.chat_api import ChatAPI
    from curate.ledger.ledger import Ledger
    from curate.models.limits import EndpointConfig
    from curate.ledger.recorder import Recorder
    from curate.flags import run_command, show_notes
    from curate.store.engine import run_in_order

    def main(_):
        show_notes("curate")
        budget = Budget()
        api = ChatAPI("test", {url!r}, "tiny", "PAIRWRIGHT_API_KEY", EndpointConfig(concurrency=3, budget=budget))
        sampling = {{"temperature": 0.7, "max_tokens": 16}}
        requests = [Request("generate", user(text), n={n}, sampling=sampling) for text in {texts!r}]
        with Ledger(Path({ledger!r})) as ledger:
            recorder = Recorder(ledger, budget)
            parts = [requests[i :: {parts}] for i in range({parts})]
            list(run_in_order(lambda i: recorder.for_part().ask(api, parts[i]), {parts}, {parts}, budget))

    sys.exit(run_command(main, None))
"""

AWAITED_S = 0.5
"""After its calls have come a busy machine may take this long to let the process wait for their answers."""


@contextmanager
def other_run(runs, server, texts, n=1, parts=1):
    """A run in a process of its own, which is gone afterwards."""
    told = {"path": sys.path, "url": server.url, "ledger": str(runs.ledger), "texts": texts, "n": n, "parts": parts}
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM.format(**told))]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("parts", [1, 2], ids=["in the main thread", "in two threads"])
def test_ctrl_c_records_the_calls_in_flight_and_the_next_run_asks_only_the_rest(server, runs, parts):
    may_answer = threading.Event()
    server.act = lambda call: after(may_answer, answers)
    texts = list("abcdef")

    with other_run(runs, server, texts, parts=parts) as process:
        server.wait_for(3)
        time.sleep(AWAITED_S)
        process.send_signal(signal.SIGINT)
        assert "waiting for the calls in flight" in process.stderr.readline()
        may_answer.set()
        said = process.stderr.read()
        code = process.wait()

    assert code == 130
    assert said == "interrupted; everything so far is saved, the same command goes on\n"
    assert len(server.calls) == 3
    assert runs.in_state("answered") == set(server.texts)

    runs.ask(server, texts)

    assert Counter(server.texts) == dict.fromkeys(texts, 1)


def test_ctrl_c_waits_for_each_part_however_late_its_answers_come(server, runs):
    may_answer = {text: threading.Event() for text in "ab"}
    server.act = lambda call: after(may_answer[call.text], answers)

    with other_run(runs, server, ["a", "b"], parts=2) as process:
        server.wait_for(2)
        time.sleep(AWAITED_S)
        process.send_signal(signal.SIGINT)
        assert "waiting for the calls in flight" in process.stderr.readline()
        may_answer["b"].set()
        while runs.in_state("answered") != {"b"}:
            time.sleep(0.01)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        may_answer["a"].set()
        code = process.wait(20)

    assert code == 130
    assert runs.states() == {"a": "answered", "b": "answered"}


@pytest.mark.parametrize("parts", [1, 2], ids=["in the main thread", "in two threads"])
def test_a_second_ctrl_c_does_not_wait(server, runs, parts):
    server.act = lambda call: hangs

    with other_run(runs, server, list("abcdef"), parts=parts) as process:
        server.wait_for(3)
        time.sleep(AWAITED_S)
        process.send_signal(signal.SIGINT)
        assert "waiting for the calls in flight" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        code = process.wait(10)

    assert code == 130
    assert len(server.calls) == 3

    server.act = lambda call: answers
    found = runs.ask(server, list("abcdef"))

    assert [answer.responses[0].text for answer in found.values()] == list("ABCDEF")


def test_choices_that_were_paid_for_before_a_kill_are_not_paid_again(server, runs):
    """A model that ignores n gives one choice a call; the run is killed while the third is made."""
    server.act = lambda call: says(str(call.number)) if call.number < 2 else hangs

    with other_run(runs, server, ["a"], n=4) as process:
        server.wait_for(3)
        process.kill()
        process.wait()

    assert [call.n for call in server.calls] == [4, 3, 2]
    assert runs.states() == {"a": "partial"}

    server.act = lambda call: answers
    found = runs.ask(server, ["a"], n=4)

    assert [response.text for response in found["a"].responses] == ["0", "1", "A", "A"]
    assert [call.n for call in server.calls] == [4, 3, 2, 2]
    assert runs.ask(server, ["a"], n=4)["a"].responses == found["a"].responses
    assert len(server.calls) == 4


def test_a_kill_loses_no_answer_that_had_come(server, runs):
    held = threading.Event()
    server.act = lambda call: answers if call.text in "abc" else after(held, answers)
    texts = list("abcdef")

    with other_run(runs, server, texts) as process:
        server.wait_for(6)
        while len(runs.in_state("answered")) < 3:
            time.sleep(0.01)
        process.kill()
        process.wait()

    held.set()
    server.calls.clear()
    found = runs.ask(server, texts)

    assert sorted(server.texts) == ["d", "e", "f"]
    assert [answer.responses[0].text for answer in found.values()] == list("ABCDEF")


def test_a_clock_that_jumps_back_while_calls_are_made_changes_nothing(server, runs, monkeypatch):
    true_time = time.time
    offset = [0.0]
    monkeypatch.setattr(time, "time", lambda: true_time() + offset[0])

    async def jump(call):
        offset[0] = -3600.0
        await answers(call)

    server.act = lambda call: jump
    texts = [str(i) for i in range(8)]

    found = runs.ask(server, texts, requests_per_minute=6000)

    assert [answer.responses[0].text for answer in found.values()] == texts
    assert runs.ask(server, texts) == found
    assert Counter(server.texts) == dict.fromkeys(texts, 1)


@pytest.mark.parametrize("offset_s", [-3600.0, 3600.0])
def test_processes_whose_clocks_differ_still_share_their_calls(server, runs, monkeypatch, offset_s):
    may_answer = threading.Event()
    server.act = lambda call: after(may_answer, answers)
    true_time = time.time
    found = {}

    with other_run(runs, server, ["a", "b"]) as process:
        server.wait_for(2)
        monkeypatch.setattr(time, "time", lambda: true_time() + offset_s)
        asking = threading.Thread(target=lambda: found.update(runs.ask(server, ["a", "b", "c"])))
        asking.start()
        server.wait_for(3)
        may_answer.set()
        code = process.wait(20)
        asking.join(20)

    assert code == 0
    assert [answer.responses[0].text for answer in found.values()] == ["A", "B", "C"]
    assert Counter(server.texts) == {"a": 1, "b": 1, "c": 1}


def test_a_call_that_failed_before_is_not_made_by_two_processes_at_once(server, runs):
    server.act = lambda call: fails(400)
    runs.ask(server, ["a"])
    assert runs.states() == {"a": "failed"}
    may_answer = threading.Event()
    server.act = lambda call: after(may_answer, answers)
    server.calls.clear()

    with other_run(runs, server, ["a"]) as process:
        server.wait_for(1)
        asking = threading.Thread(target=runs.ask, args=(server, ["a", "b"]))
        asking.start()
        # "b" goes out with whatever else this process takes on
        server.wait_for(2)
        time.sleep(0.2)
        may_answer.set()
        process.wait(20)
        asking.join(20)

    assert Counter(server.texts) == {"a": 1, "b": 1}


def test_threads_that_begin_at_once_hold_one_lease(tmp_path):
    for turn in range(10):
        leases = Leases(tmp_path / str(turn))
        together = threading.Barrier(8)

        def hold(leases=leases, together=together):
            together.wait()
            leases.hold()

        beginning = [threading.Thread(target=hold, daemon=True) for _ in range(8)]
        for thread in beginning:
            thread.start()
        for thread in beginning:
            thread.join(5)
            assert not thread.is_alive()
        other = Leases(tmp_path / str(turn))
        assert other.is_alive(leases.owner)

        leases.drop()

        assert not other.is_alive(leases.owner)
        assert list((tmp_path / str(turn)).iterdir()) == []
