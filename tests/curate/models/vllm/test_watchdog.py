import os
import signal
import subprocess
import sys
import time

import pytest

from curate.models.vllm.watchdog import start_watched, stop_watched

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
)
PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(600)
"""


def watched(folder, *arguments):
    return start_watched([sys.executable, *arguments], os.environ, folder, folder / "log")


def written(log):
    """The first line of a log, once it is there."""
    deadline = time.monotonic() + 20
    while "\n" not in (text := log.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return text.splitlines()[0]


def is_gone(pid):
    """No such process, or one that is dead and that nobody has asked after."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return not state or state.startswith("Z")


@pytest.mark.parametrize(("code", "status"), [("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 9)", 137)])
def test_the_status_is_that_of_the_command(tmp_path, code, status):
    process = watched(tmp_path, "-c", code)

    assert process.wait(10) == status
    stop_watched(process)


def test_a_command_that_is_no_program_ends_with_a_status(tmp_path):
    process = start_watched([str(tmp_path / "none")], os.environ, tmp_path, tmp_path / "log")

    assert process.wait(10) != 0
    assert "FileNotFoundError" in (tmp_path / "log").read_text()
    stop_watched(process)


def test_what_the_command_started_ends_with_it_even_if_it_will_not(tmp_path):
    process = watched(tmp_path, "-c", PARENT, STUBBORN)
    grandchild = int(written(tmp_path / "log"))

    stop_watched(process)

    assert is_gone(grandchild)


def test_a_command_that_dies_leaves_nothing_behind(tmp_path):
    process = watched(tmp_path, "-c", PARENT.replace("time.sleep(600)", "sys.exit(7)"), STUBBORN)
    grandchild = int(written(tmp_path / "log"))

    assert process.wait(10) == 7
    assert is_gone(grandchild)
    stop_watched(process)


def test_stopping_twice_does_nothing(tmp_path):
    process = watched(tmp_path, "-c", "import time; time.sleep(600)")

    stop_watched(process)
    stop_watched(process)

    assert process.returncode == 128 + signal.SIGTERM


def test_the_watchdog_ends_its_command_when_it_is_asked_to_end(tmp_path):
    process = watched(tmp_path, "-c", PARENT, STUBBORN)
    grandchild = int(written(tmp_path / "log"))

    process.terminate()

    assert process.wait(10) == 128 + signal.SIGTERM
    assert is_gone(grandchild)
    stop_watched(process)
