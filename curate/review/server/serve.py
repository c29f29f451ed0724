"""`curate review serve`: run Argilla's own server, in its own environment, as one process on this machine."""

import fcntl
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from filelock import FileLock

from curate.files import cache_folder
from curate.review.config import ServeConfig
from curate.store.workspace import Workspace
from schemas.errors import UserError
from schemas.ids import short_id

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
EMBEDDED = Path(__file__).parent
PINS = EMBEDDED / "pins.txt"
STAMP = "installed.txt"
"""Written last: an environment without it was cut short."""
PYTHONS = ((3, 11), (3, 13))
"""First and last Python for which everything that the server is pinned to has wheels."""

KEPT = {"HOME", "LANG", "LANGUAGE", "LD_LIBRARY_PATH", "LOGNAME", "NO_COLOR", "PATH", "TERM", "TZ", "USER"}
"""Variables that the server gets, beside `LC_*`. It needs no keys."""

LOCK_TRIES = 5
"""`find_server` holds the lock for an instant when it looks whether anybody does."""


def serve(cfg: ServeConfig, as_json: bool = False) -> NoReturn:
    """Become the server: signals then reach it, and nothing is left to end when it ends.

    Raises UserError where the home or the port is in use, or the server cannot be installed.
    """
    home = find_home(cfg.data, cfg.home)
    make_home(home)
    lock = lock_home(home)
    open_listener(cfg.port).close()
    python = environment_python(PINS)
    # The socket and the lock go over to the server: nobody can take the port or the home on the way.
    listener = open_listener(cfg.port)
    for descriptor in (lock, listener.fileno()):
        os.set_inheritable(descriptor, True)
    log.info("starting Argilla on http://%s:%d, its home is %s", HOST, listener.getsockname()[1], home)
    # -E and -s: no variable and no folder of the user's puts other modules in the place of the server's.
    command = [str(python), "-E", "-s", str(EMBEDDED / "launch.py"), "--home", str(home)]
    command += ["--listen", str(listener.fileno()), *(["--json"] if as_json else [])]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(python, command, server_environment(os.environ))


def find_home(data: Path, home: Path | None) -> Path:
    """The folder of the server's database: the one named, else `argilla` in the data folder."""
    return (home or Workspace(data).argilla).absolute()


def make_home(home: Path) -> None:
    """Make the folder, open to this user alone."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        home.chmod(0o700)
    except OSError as error:
        raise UserError(f"cannot use {home} as Argilla's home: {error.strerror}; name another with --home") from error


def lock_home(home: Path) -> int:
    """Lock the home until this process ends, whatever it has become by then; the lock's descriptor."""
    path = home / "server.lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise UserError(f"cannot write to {path}: {error.strerror}; name another folder with --home") from error
    for _ in range(LOCK_TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # What a killed server left would be taken for the address of this one.
            (home / "server.json").unlink(missing_ok=True)
            return descriptor
        except BlockingIOError:
            time.sleep(0.05)
    os.close(descriptor)
    found = find_server(home)
    where = f"runs on {home} at {found[0]}" if found else f"is being started on {home}"
    raise UserError(f"a server {where} already; use that one, or name another folder with --home")


def find_server(home: Path) -> tuple[str, str] | None:
    """Address and key of the server that runs on this home; None where none does."""
    try:
        descriptor = os.open(home / "server.lock", os.O_RDWR)
    except OSError:
        return None
    try:
        # A killed server leaves its address behind, and by now another program may answer there.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        pass
    finally:
        os.close(descriptor)
    try:
        found = json.loads((home / "server.json").read_text())
    except FileNotFoundError:
        return None
    return found["url"], found["api_key"]


def open_listener(port: int) -> socket.socket:
    """A socket that listens on this machine alone; connections wait in it until the server takes them."""
    listener = socket.socket()
    # Connections of a server that has just ended would otherwise keep the port for a minute.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen()
    except (OSError, OverflowError) as error:
        listener.close()
        reason = error.strerror if isinstance(error, OSError) else "there is no such port"
        raise UserError(f"cannot listen on port {port} of {HOST}: {reason}; name another with --port") from error
    return listener


def server_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """The environment variables that the server gets."""
    return {name: value for name, value in variables.items() if name in KEPT or name.startswith("LC_")}


def environment_python(pins: Path) -> Path:
    """The Python of the environment with these packages; made on first use, and again where that was cut short.

    Two processes may ask at once: one installs and the other waits.
    """
    version = sys.version_info[:2]
    check_python(version)
    folder = environment_folder(pins.read_text(), version)
    if is_whole(folder):
        return python_of(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        problem = f"cannot make the cache folder {folder.parent}: {error.strerror}"
        raise UserError(f"{problem}; set PAIRWRIGHT_CACHE to another") from error
    with FileLock(folder.with_suffix(".lock")):
        if not is_whole(folder):
            install_server(folder, pins)
    return python_of(folder)


def check_python(version: tuple[int, int]) -> None:
    """Raises UserError where the pinned packages are not made for this Python."""
    first, last = PYTHONS
    if not first <= version <= last:
        raise UserError(
            f"Argilla's server needs Python {format_version(first)} to {format_version(last)}, "
            f"and this is {format_version(version)}; "
            "install pairwright under one of those, or run a server elsewhere and name it with --url"
        )


def format_version(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


def environment_folder(pins: str, version: tuple[int, int]) -> Path:
    """One folder for each set of pins and Python: what is pinned otherwise is installed anew."""
    return cache_folder() / f"argilla-{short_id([pins, format_version(version)])}"


def python_of(folder: Path) -> Path:
    return folder / "bin" / "python"


def is_whole(folder: Path) -> bool:
    """Installed to the end, by a Python that is still there."""
    return (folder / STAMP).exists() and python_of(folder).exists()


def install_server(folder: Path, pins: Path) -> None:
    """Make the environment with exactly the pinned packages."""
    wanted = [line for line in pins.read_text().splitlines() if line]
    log.info("installing Argilla's server (%d packages, 250 MB) in %s, once; a minute or so", len(wanted), folder)
    started = time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    run_step([sys.executable, "-m", "venv", str(folder)])
    # --no-deps: the pins are all that is needed, and leave out what the server asks for and never uses.
    pip = [str(python_of(folder)), "-I", "-m", "pip", "--disable-pip-version-check", "--no-input"]
    run_step([*pip, "install", "--quiet", "--no-deps", "--requirement", str(pins)])
    (folder / STAMP).write_text("\n".join(wanted))
    log.info("installed in %.0f s", time.monotonic() - started)


def run_step(command: list[str]) -> None:
    """Run a step of the installation. Raises UserError with the last thing it says if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        reason = ((done.stderr.strip() or done.stdout.strip()) or "no message").splitlines()[-1]
        raise UserError(
            f"cannot install Argilla's server ({reason}); check the network and the disk and run the command again, "
            "or run a server elsewhere and name it with --url"
        )
