"""Read a ledger in a folder where nothing can be written, which SQLite's write-ahead mode wants to do."""

import shutil
import sqlite3
import tempfile
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote


def connect_read_only(path: Path, scratch: tempfile.TemporaryDirectory[str]) -> sqlite3.Connection:
    """A connection that writes nothing beside `path`, and sees what the log of a broken or running writer holds.

    While somebody has the ledger open SQLite can share their index of the log. Without one a ledger without a log is
    read as a file that does not change, and one with a log from a copy of both in `scratch`.
    """
    address = f"file:{quote(str(path.absolute()))}?mode=ro"
    with suppress(sqlite3.OperationalError):
        return connect(address)
    log = path.with_name(f"{path.name}-wal")
    if not log.exists() or not log.stat().st_size:
        return connect(f"{address}&immutable=1")
    copy = Path(scratch.name) / path.name
    for file in (path, log):
        shutil.copyfile(file, Path(scratch.name) / file.name)
    return connect(f"file:{quote(str(copy))}")


def connect(address: str) -> sqlite3.Connection:
    """A connection that has been read from: only then does SQLite say that it cannot."""
    connection = sqlite3.connect(address, uri=True, timeout=60, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.DatabaseError:
        connection.close()
        raise
    return connection
