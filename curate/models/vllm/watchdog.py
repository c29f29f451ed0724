"""Run a command that ends with the process that started it, even when that one is killed -9.

As a script it is a small process between the two: `python watchdog.py COMMAND...` starts COMMAND in a session of
its own and reads its standard input, a pipe whose other end the owner holds. The system closes that end when the owner
ends in any way. (The signal that Linux sends at a parent's death is no substitute: other systems lack it,
it is already sent when the thread that started the child ends, and it reaches no grandchild.)
"""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

LOOK_EVERY_S = 0.2
STOP_TIMEOUT_S = 10.0
"""Time for an orderly end, after which the command and all processes that it started are killed."""
LAST_TIMEOUT_S = 2.0
"""Time for helper processes that clean up behind the command."""


def start_watched(command: Sequence[str], env: Mapping[str, str], folder: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start a command in `folder`, its output going to `log`; it ends when `stop_watched` is called or we end."""
    # -I and -S: no folder of this file or of the user gets onto the module path, and the start takes milliseconds.
    watchdog = [sys.executable, "-I", "-S", str(Path(__file__).absolute()), *command]
    with log.open("wb") as stream:
        # A session of its own: Ctrl-C in a terminal is ours to handle, and must not end the watchdog before its work.
        return subprocess.Popen(
            watchdog,
            env=env,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def stop_watched(process: subprocess.Popen[bytes]) -> None:
    """End the command of `start_watched` and wait until it is gone."""
    assert process.stdin
    process.stdin.close()
    process.wait()


def main(command: Sequence[str]) -> int:
    """Run the command until it ends or standard input does; its exit status."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        # Nothing is ever written to the pipe: it becomes readable when it is closed.
        while child.poll() is None and not select.select([sys.stdin], [], [], LOOK_EVERY_S)[0]:
            pass
    finally:
        stop_group(child)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def stop_group(child: subprocess.Popen[bytes]) -> None:
    """Ask the child to end, then end what is left of its process group.

    A server whose engine died exits by itself and may leave workers running, so its exit proves nothing.
    """
    child.terminate()
    try:
        child.wait(STOP_TIMEOUT_S)
        deadline = time.monotonic() + LAST_TIMEOUT_S
        while time.monotonic() < deadline:
            os.killpg(child.pid, 0)
            time.sleep(0.05)
    except subprocess.TimeoutExpired:
        pass
    # No such group, or (on macOS) only members that are dead already.
    except (ProcessLookupError, PermissionError):
        return
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
    child.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
