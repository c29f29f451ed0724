"""What happens before Argilla starts: the environment, the home, the port."""

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from curate.review.server.serve import (
    PINS,
    STAMP,
    check_python,
    environment_folder,
    environment_python,
    find_home,
    find_server,
    lock_home,
    make_home,
    open_listener,
    server_environment,
)
from schemas.errors import UserError

HOLDER = """
import sys
from pathlib import Path
from curate.review.server.serve import lock_home
lock_home(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process that holds the home `tmp_path`, as a server does."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


@pytest.fixture
def nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pins of no package at all, with a cache of the test's own and no network."""
    monkeypatch.setenv("PAIRWRIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    pins = tmp_path / "pins.txt"
    pins.write_text("")
    return pins


def announce(home: Path) -> None:
    """Leave what a server that answers leaves."""
    found = {"url": "http://127.0.0.1:6900", "api_key": "the key", "pid": 1}
    (home / "server.json").write_text(json.dumps(found))


def test_pins_are_exact_versions_and_nothing_else() -> None:
    lines = PINS.read_text().splitlines()

    assert "argilla-server==2.8.0" in lines
    assert any(line.startswith("fakeredis==") for line in lines)
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []
    assert len({line.partition("==")[0].lower() for line in lines}) == len(lines)


def test_other_pins_and_another_python_have_another_environment() -> None:
    folders = {environment_folder(*given) for given in (("a==1", (3, 11)), ("a==2", (3, 11)), ("a==1", (3, 12)))}

    assert len(folders) == 3
    assert environment_folder("a==1", (3, 11)) in folders


@pytest.mark.parametrize("version", [(3, 10), (3, 14)])
def test_python_without_wheels_for_the_pins_is_refused(version: tuple[int, int]) -> None:
    with pytest.raises(UserError, match=rf"needs Python 3\.11 to 3\.13, and this is 3\.{version[1]}; .* --url"):
        check_python(version)


def test_environment_is_made_once_and_again_when_it_is_damaged(nothing: Path) -> None:
    folder = environment_folder("", sys.version_info[:2])
    folder.mkdir(parents=True)
    (folder / "left by an install that was cut short").write_text("")

    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(environment_python, [nothing, nothing]))

    assert made == [folder / "bin" / "python"] * 2
    assert not (folder / "left by an install that was cut short").exists()
    stamped = (folder / STAMP).stat().st_mtime_ns
    assert subprocess.run([made[0], "-c", ""]).returncode == 0

    environment_python(nothing)
    assert (folder / STAMP).stat().st_mtime_ns == stamped

    # The Python that it was made from is gone.
    made[0].unlink()
    made[0].symlink_to(folder / "no such Python")
    environment_python(nothing)
    assert (folder / STAMP).stat().st_mtime_ns != stamped
    assert subprocess.run([made[0], "-c", ""]).returncode == 0


def test_install_that_fails_says_why_and_is_not_taken_for_whole(nothing: Path) -> None:
    nothing.write_text("pairwright-has-no-such-package==1.0")

    with pytest.raises(UserError, match=r"cannot install Argilla's server \(.*pairwright-has-no-such-package"):
        environment_python(nothing)

    assert not (environment_folder(nothing.read_text(), sys.version_info[:2]) / STAMP).exists()


def test_cache_that_cannot_be_made_is_refused(nothing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAIRWRIGHT_CACHE", str(nothing / "cache"))

    with pytest.raises(UserError, match="set PAIRWRIGHT_CACHE"):
        environment_python(nothing)


def test_secrets_and_settings_of_the_user_are_not_passed_on() -> None:
    kept = {"PATH": "/bin", "HOME": "/home/me", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
    dropped = {
        "OPENAI_API_KEY": "sk-1",
        "HF_TOKEN": "hf_1",
        "ARGILLA_API_KEY": "key",
        "ARGILLA_DATABASE_URL": "postgresql://elsewhere",
        "PYTHONPATH": "/mine",
        "SPACE_ID": "me/space",
        "HTTPS_PROXY": "http://proxy",
    }

    assert server_environment(kept | dropped) == kept


def test_taken_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(UserError, match=rf"cannot listen on port {port} of 127\.0\.0\.1: .* in use; .* --port"):
            open_listener(port)


@pytest.mark.parametrize("port", [-1, 65536])
def test_impossible_port_is_refused(port: int) -> None:
    with pytest.raises(UserError, match=f"cannot listen on port {port} .*there is no such port; .*--port"):
        open_listener(port)


def test_port_of_a_server_that_has_just_ended_is_free() -> None:
    with open_listener(0) as first:
        port = first.getsockname()[1]
        caller = socket.create_connection(("127.0.0.1", port))
        taken, _ = first.accept()
    # The side that closes first keeps the port busy for a minute.
    taken.close()
    caller.close()

    open_listener(port).close()


def test_home_is_open_to_the_user_alone(tmp_path: Path) -> None:
    home = tmp_path / "data" / "argilla"

    make_home(home)

    assert home.stat().st_mode & 0o777 == 0o700


def test_home_that_is_a_file_is_refused(tmp_path: Path) -> None:
    home = tmp_path / "file"
    home.write_text("")

    with pytest.raises(UserError, match=f"cannot use {home} as Argilla's home: .*; name another with --home"):
        make_home(home)


def test_home_lies_in_the_data_folder_unless_it_is_named(tmp_path: Path) -> None:
    assert find_home(tmp_path, None) == tmp_path / "argilla"
    assert find_home(tmp_path, tmp_path / "other") == tmp_path / "other"
    assert find_home(Path("data"), None).is_absolute()


def test_nothing_is_found_where_no_server_ever_ran(tmp_path: Path) -> None:
    assert find_server(tmp_path) is None
    assert find_server(tmp_path / "missing") is None


def test_running_server_is_found_and_its_home_refused(tmp_path: Path, holder: "subprocess.Popen[str]") -> None:
    announce(tmp_path)

    assert find_server(tmp_path) == ("http://127.0.0.1:6900", "the key")
    with pytest.raises(UserError, match=rf"runs on {tmp_path} at http://127\.0\.0\.1:6900 already; .* --home"):
        lock_home(tmp_path)


def test_server_that_does_not_answer_yet_is_not_found_but_holds_its_home(
    tmp_path: Path, holder: "subprocess.Popen[str]"
) -> None:
    assert find_server(tmp_path) is None
    with pytest.raises(UserError, match=f"is being started on {tmp_path} already"):
        lock_home(tmp_path)


def test_home_of_a_killed_server_is_free_and_its_address_not_trusted(
    tmp_path: Path, holder: "subprocess.Popen[str]"
) -> None:
    announce(tmp_path)
    holder.send_signal(signal.SIGKILL)
    holder.wait()

    assert find_server(tmp_path) is None
    # Nor is it taken for that of the next server, before that one answers.
    assert lock_home(tmp_path) > 0
    assert find_server(tmp_path) is None
