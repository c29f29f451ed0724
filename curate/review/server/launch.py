"""Argilla as one process: `python launch.py --home H --listen FD [--json]`, in an environment that has argilla-server.

The database is SQLite in the home, Redis is in the process, a thread does the queued jobs and the search engine is
the `engine.py` beside this file. FD is a socket that listens already, so that nobody can take the port on the way.
"""

import argparse
import asyncio
import json
import os
import secrets
import shutil
import signal
import socket
import sqlite3
import sys
import tempfile
import threading
import warnings
from pathlib import Path
from types import ModuleType
from typing import NoReturn

DATABASE = "argilla.db"
BUSY_TIMEOUT_S = 30
"""How long a writer waits for another; SQLite has one at a time."""
GRACE_S = 5
"""Time for requests that are being answered when the server is stopped."""
READY_LOOK_S = 0.02
USERNAME = "owner"

NOT_HERE = {
    "datasets": ("Dataset", "NamedSplit", "features", "load_dataset"),
    "elasticsearch8": ("AsyncElasticsearch", "helpers"),
    "opensearchpy": ("AsyncOpenSearch", "helpers"),
}
"""What Argilla imports and a server without hub, Elasticsearch and OpenSearch never calls: 110 MB of memory."""

# A server that dies between an answer and the status of its record leaves a finished record in everybody's queue.
SETTLE = """
UPDATE records SET status = CASE status WHEN 'pending' THEN 'completed' ELSE 'pending' END
WHERE (status = 'completed') <> (
    (SELECT count(*) FROM responses WHERE record_id = records.id AND responses.status = 'submitted')
    >= (SELECT json_extract(distribution, '$.min_submitted') FROM datasets WHERE datasets.id = records.dataset_id)
)
"""


def main() -> int:
    """Serve until SIGINT, SIGTERM or SIGHUP; the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--listen", type=int, required=True)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    home: Path = given.home.absolute()
    end_on_signals()
    os.umask(0o077)
    # Everything in the home is named without it: its path may hold what an address of a database cannot.
    os.chdir(home)
    scratch = home / "argilla-tmp"
    # A killed server leaves its copy of the web page behind.
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        prepare(home, scratch)
        return run(home, socket.socket(fileno=given.listen), given.json)
    finally:
        (home / "server.json").unlink(missing_ok=True)
        fold_log()
        shutil.rmtree(scratch, ignore_errors=True)


def end_on_signals() -> None:
    """End in an orderly way on Ctrl-C and when a service manager or the closing of a terminal asks for it."""

    def end(*_: object) -> NoReturn:
        sys.exit(0)

    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)
    # uvicorn takes the other two over while it serves. Under nohup this one is ignored and must stay so.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))


def prepare(home: Path, scratch: Path) -> None:
    """Set all that Argilla and its libraries read when they are imported."""
    os.environ |= {
        "ARGILLA_HOME_PATH": str(home),
        "ARGILLA_DATABASE_URL": f"sqlite+aiosqlite:///{DATABASE}?check_same_thread=False",
        "ARGILLA_DATABASE_SQLITE_TIMEOUT": str(BUSY_TIMEOUT_S),
        "ARGILLA_SEARCH_ENGINE": "database",
        "ARGILLA_AUTH_SECRET_KEY": secret_key(home),
        # The page is served from here, so no other page in the browser has business with the server.
        "ARGILLA_CORS_ORIGINS": "[]",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
        "HF_HOME": str(scratch),
        "TMPDIR": str(scratch),
    }
    tempfile.tempdir = str(scratch)
    # Argilla gives it at every push, and its users can do nothing about it.
    warnings.filterwarnings("ignore", message="Object of type <Record> not in session")
    for name, members in NOT_HERE.items():
        module = ModuleType(name)
        vars(module).update({member: not_here(f"{name}.{member}") for member in members})
        sys.modules[name] = module

    import fakeredis
    import redis

    memory = fakeredis.FakeServer()
    redis.from_url = lambda url, **options: fakeredis.FakeRedis(server=memory, **options)


def not_here(name: str) -> type:
    """A class in place of one that cannot be used."""

    def refuse(*_: object, **__: object) -> NoReturn:
        raise RuntimeError(f"{name} is not part of this server")

    return type(name.rpartition(".")[2], (), {"__init__": refuse})


def secret_key(home: Path) -> str:
    """What sign-ins are signed with: kept, so that a restart signs nobody out."""
    kept = home / "secret_key"
    if not kept.exists() or not kept.read_text():
        write_private(kept, secrets.token_hex(32))
    return kept.read_text()


def write_private(path: Path, text: str) -> None:
    """Write a file whole or not at all, readable by its owner alone."""
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(part, path)


def run(home: Path, listener: socket.socket, as_json: bool) -> int:
    """Make or open the database and serve it."""
    migrate()
    index()
    connect_each_time()
    owner = sign_in(home)
    asyncio.run(settle(owner))
    start_jobs()
    url = "http://{}:{}".format(*listener.getsockname())
    return asyncio.run(serve(home, listener, {"url": url, **owner}, as_json))


def migrate() -> None:
    """Bring the database to the tables of this Argilla.

    A new one is made under another name: SQLite commits each step, and one that was cut short could not go on.
    """
    import argilla_server
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError
    from argilla_server.settings import settings

    # Made here and not read from Argilla's file, which would set up logging and print every step.
    config = Config()
    scripts = Path(argilla_server.__file__).with_name("alembic")
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    if Path(DATABASE).exists():
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            print(
                f"error: {Path(DATABASE).absolute()} was made by another version of Argilla ({error})", file=sys.stderr
            )
            sys.exit(2)
        return
    part, served = Path(f"{DATABASE}.part"), settings.database_url
    part.unlink(missing_ok=True)
    settings.database_url = f"sqlite+aiosqlite:///{part}"
    command.upgrade(config, "head")
    settings.database_url = served
    os.replace(part, DATABASE)


def index() -> None:
    """Make the search engine known and its index whole."""
    import engine  # noqa: F401 - registers itself
    import text_index
    from argilla_server.database import sync_engine

    text_index.install(sync_engine)
    sync_engine.dispose()


def connect_each_time() -> None:
    """Give every session a connection of its own: a pool must not be shared by the event loops of two threads."""
    from argilla_server.database import AsyncSessionLocal
    from argilla_server.settings import settings
    from sqlalchemy.ext.asyncio import create_async_engine
    from sqlalchemy.pool import NullPool

    engine = create_async_engine(settings.database_url, poolclass=NullPool, **settings.database_engine_args)
    AsyncSessionLocal.configure(bind=engine)


def fold_log() -> None:
    """Write what SQLite keeps in its log into the database, which is then one file that can be copied."""
    if Path(DATABASE).exists():
        connection = sqlite3.connect(DATABASE)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()


def sign_in(home: Path) -> dict[str, str]:
    """Name, password and key of the owner, as kept in `owner.json`; made up once."""
    kept = home / "owner.json"
    if not kept.exists():
        fresh = {"username": USERNAME, "password": secrets.token_urlsafe(12), "api_key": secrets.token_urlsafe(48)}
        write_private(kept, json.dumps(fresh))
    owner: dict[str, str] = json.loads(kept.read_text())
    return owner


async def settle(owner: dict[str, str]) -> None:
    """Make the database agree with `owner.json`, and the status of every record with its answers."""
    from argilla_server.contexts import accounts
    from argilla_server.database import AsyncSessionLocal
    from argilla_server.enums import UserRole
    from argilla_server.models import User
    from sqlalchemy import text

    async with AsyncSessionLocal() as db:
        user = await User.get_by(db, username=owner["username"])
        if user is None:
            given = {"first_name": "Owner", "last_name": None, "role": UserRole.owner}
            user = await accounts.create_user(db, {**given, **owner})
        if user.api_key != owner["api_key"]:
            user.api_key = owner["api_key"]
        if not accounts.verify_password(owner["password"], user.password_hash):
            user.password_hash = accounts.hash_password(owner["password"])
        await db.execute(text(SETTLE))
        await db.commit()


def start_jobs() -> None:
    """Do the queued jobs in a thread; it ends with the process."""
    from argilla_server.jobs.queues import DEFAULT_QUEUE, HIGH_QUEUE, REDIS_CONNECTION
    from rq import SimpleWorker
    from rq.timeouts import TimerDeathPenalty

    worker = SimpleWorker([HIGH_QUEUE, DEFAULT_QUEUE], connection=REDIS_CONNECTION)
    # Signals, and alarms by signal, belong to the main thread.
    worker.death_penalty_class = TimerDeathPenalty
    worker._install_signal_handlers = lambda: None
    threading.Thread(target=worker.work, kwargs={"logging_level": "WARNING"}, daemon=True).start()


async def serve(home: Path, listener: socket.socket, answer: dict[str, str], as_json: bool) -> int:
    """Answer requests; say where and how to sign in as soon as that works."""
    import argilla_server
    import uvicorn

    server = uvicorn.Server(
        uvicorn.Config(
            argilla_server.app, access_log=False, log_level="warning", ws="none", timeout_graceful_shutdown=GRACE_S
        )
    )
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started and not serving.done():
        await asyncio.sleep(READY_LOOK_S)
    if server.started:
        found = {"url": answer["url"], "api_key": answer["api_key"], "pid": os.getpid()}
        write_private(home / "server.json", json.dumps(found))
        print(json.dumps(answer) if as_json else format_answer(answer), flush=True)
    await serving
    return 0 if server.started else 3


def format_answer(answer: dict[str, str]) -> str:
    """The address and the way in, for a person."""
    return (
        f"Argilla answers at {answer['url']}\n"
        f"sign in as {answer['username']} with password {answer['password']}\n"
        f"api key {answer['api_key']}\n"
        "Ctrl-C stops it; every submitted answer is kept"
    )


def run_and_leave() -> NoReturn:
    """End the process at once when serving is over: a job in the other thread would go on until it is done."""
    try:
        status = main()
    except SystemExit as end:
        status = int(end.code or 0)
    sys.stdout.flush()
    os._exit(status)


if __name__ == "__main__":
    run_and_leave()
