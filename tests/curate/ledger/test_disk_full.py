"""A disk that fills while answers are on their way: they are recorded, and the run says what to do."""

import os
import shutil
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from contextlib import contextmanager

import pytest
from misbehaving import after, answers, says
from scripted import user

from curate.ledger.ledger import Ledger
from curate.ledger.recorder import Recorder
from curate.models.chat_api import ChatAPI
from curate.models.limits import EndpointConfig
from schemas.calls import Request
from schemas.errors import UserError

PROGRAM = """
    import resource, sys, threading
    sys.path[:0] = {path!r}
    from pathlib import Path
    from scripted import user
    from curate.ledger.spend_cap import Budget
    from schemas.calls import Request
    from curate.models.chat_api import ChatAPI
    from curate.ledger.ledger import Ledger
    from curate.models.limits import EndpointConfig
    from curate.ledger.recorder import Recorder
    from curate.flags import run_command

    ledger = Path({ledger!r})

    def fill():
        if not sys.stdin.readline():
            return
        {fill}
        print("full", flush=True)

    def main(_):
        threading.Thread(target=fill, daemon=True).start()
        budget = Budget()
        api = ChatAPI("test", {url!r}, "tiny", "PAIRWRIGHT_API_KEY", EndpointConfig(concurrency=3, budget=budget))
        sampling = {{"temperature": 0.7, "max_tokens": 16}}
        requests = [Request("generate", user(text), sampling=sampling) for text in {texts!r}]
        with Ledger(ledger) as opened:
            Recorder(opened, budget).ask(api, requests)

    sys.exit(run_command(main, None))
"""
FILL_THE_DISK = """
        try:
            with open(ledger.parent / "filler", "wb", buffering=0) as stream:
                while True:
                    stream.write(bytes(4096))
        except OSError:
            pass
"""
LIMIT_THE_FILES = "resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))"
"""No file may grow any more; what stands in the reserve cannot help here."""


def program(runs, server, texts, fill):
    """Source of a run that lets `fill` loose when it is told so."""
    told = {"path": sys.path, "url": server.url, "ledger": str(runs.ledger), "texts": texts, "fill": fill.strip()}
    return textwrap.dedent(PROGRAM.format(**told))


@contextmanager
def started(*command):
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def tell(process):
    """Have the disk filled, and wait until it is."""
    print("now", file=process.stdin, flush=True)
    assert process.stdout.readline() == "full\n"


def own_disk_or_skip():
    """Namespaces let anybody mount a small disk of their own, where the system allows them."""
    if (
        not shutil.which("unshare")
        or subprocess.run(
            ["unshare", "-Urm", "sh", "-c", "mount -t tmpfs -o size=1m none /mnt"], capture_output=True
        ).returncode
    ):
        pytest.skip("this system lets nobody mount a disk")


def test_answers_in_flight_when_the_disk_fills_are_recorded_in_the_reserve(server, runs, tmp_path):
    own_disk_or_skip()
    small, saved = tmp_path / "small", tmp_path / "saved"
    small.mkdir()
    runs.ledger = small / "ledger.sqlite"
    may_answer = threading.Event()
    # 300 kB a response: the reserve is needed, not a page that happened to be free
    long = "long " * 60_000
    server.act = lambda call: after(may_answer, says(call.text + long))
    texts = list("abcdefgh")
    script = tmp_path / "run.py"
    script.write_text(program(runs, server, texts, FILL_THE_DISK))
    again = tmp_path / "again.py"
    again.write_text(program(runs, server, texts, "pass"))
    steps = (
        f"mount -t tmpfs -o size=8m none {small} && {sys.executable} {script}; code=$?; "
        f"cat /dev/zero > {small}/more 2>/dev/null; {sys.executable} {again} </dev/null >&2; second=$?; "
        f"rm {small}/filler {small}/more; cp -r {small} {saved}; echo $code $second"
    )

    with started("unshare", "-Urm", "sh", "-c", steps) as process:
        server.wait_for(3)
        tell(process)
        may_answer.set()
        codes = process.stdout.readline().split()
        first, second = process.stderr.read().splitlines()

    assert codes == ["2", "2"]
    for said in (first, second):
        assert said.startswith(f"error: no room to write {runs.ledger} (")
        assert "free some space, then give the same command again: everything so far is saved" in said
    # the run that found the disk full from the start sent nothing
    assert len(server.calls) == 3
    runs.ledger = saved / "ledger.sqlite"
    assert runs.in_state("answered") == set(server.texts)

    found = runs.ask(server, texts)

    assert Counter(server.texts) == dict.fromkeys(texts, 1)
    assert [answer.responses[0].text for answer in found.values()] == [text + long for text in texts]


def test_a_disk_without_room_for_the_reserve_loses_no_answer(server, runs, tmp_path):
    own_disk_or_skip()
    small, saved = tmp_path / "small", tmp_path / "saved"
    small.mkdir()
    runs.ledger = small / "ledger.sqlite"
    # three of 400 kB come back, and there is room for one of them
    server.act = lambda call: says("long " * 80_000)
    script = tmp_path / "run.py"
    script.write_text(program(runs, server, list("abcdefgh"), "pass"))
    steps = (
        f"mount -t tmpfs -o size=1m none {small} && {sys.executable} {script} </dev/null >&2; code=$?; "
        f"cp -r {small} {saved}; echo $code"
    )

    with started("unshare", "-Urm", "sh", "-c", steps) as process:
        code = process.stdout.readline().strip()
        said = process.stderr.read()

    assert code == "2"
    assert said.startswith(f"error: no room to write {runs.ledger} (")
    runs.ledger = saved / "ledger.sqlite"
    assert runs.in_state("answered") == set(server.texts)


def test_a_ledger_that_may_not_grow_stops_the_run_and_keeps_what_it_has(server, runs, tmp_path):
    runs.ask(server, ["before"])
    server.calls.clear()
    may_answer = threading.Event()
    server.act = lambda call: after(may_answer, answers)
    texts = ["before", *"abcdefgh"]

    with started(sys.executable, "-c", program(runs, server, texts, LIMIT_THE_FILES)) as process:
        server.wait_for(3)
        tell(process)
        may_answer.set()
        code = process.wait(20)
        said = process.stderr.read()

    assert code == 2
    assert said.startswith(f"error: no room to write {runs.ledger} (")
    assert len(said.splitlines()) == 1
    assert len(server.calls) == 3
    recorded = runs.in_state("answered")
    assert "before" in recorded

    server.calls.clear()
    found = runs.ask(server, texts)

    assert sorted(server.texts) == sorted(set(texts) - recorded)
    assert [answer.responses[0].text for answer in found.values()] == ["BEFORE", *"ABCDEFGH"]
    with Ledger(runs.ledger) as ledger:
        assert ledger.faults() == []


def test_a_ledger_at_its_largest_size_sends_nothing_and_can_be_used_again(server, runs):
    """SQLite's own limit, which any system has: the file is full before the first call."""
    api = ChatAPI("test", server.url, "tiny", "PAIRWRIGHT_API_KEY", EndpointConfig())
    texts = [text * 1000 for text in "abcdefgh"]
    requests = [Request("generate", user(text), sampling={"max_tokens": 16}) for text in texts]
    with Ledger(runs.ledger) as ledger:
        ledger.read("PRAGMA max_page_count = 4")

        with pytest.raises(UserError, match=r"no room to write .*ledger.sqlite .*free some space"):
            Recorder(ledger).ask(api, requests)

    assert server.calls == []
    assert runs.states() == {}

    runs.ask(server, texts)

    assert Counter(server.texts) == dict.fromkeys(texts, 1)


def test_the_reserve_is_set_aside_again_by_the_next_run(server, runs):
    spare = runs.ledger.with_name("ledger.spare")
    runs.ask(server, ["a"])
    size = spare.stat().st_size
    spare.unlink()

    runs.ask(server, ["b"])

    assert size >= 1024**2
    assert spare.stat().st_size == size
    assert sorted(os.listdir(runs.ledger.parent)) == ["leases", "ledger.spare", "ledger.sqlite"]
