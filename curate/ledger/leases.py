"""Process leases: a lock file and heartbeat per process, so two processes never make the same call."""

import errno
import os
import socket
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

HEARTBEAT_S = 5.0
SILENCE_S = 60.0

SPARE_BYTES = 4 * 1024**2


class Leases:
    """The lease of this process on the calls it has claimed, and a check of the leases of others.

    A process that was killed has lost the lock of its file at once. One that hangs, or whose machine is
    gone, no longer touches its file. Only whether the time of a file changes counts, never which time it
    shows, so clocks that differ or go backwards do no harm.
    """

    def __init__(self, folder: Path) -> None:
        self.owner = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._folder = folder
        self._path = folder / self.owner
        # Taken by whichever thread claims first, given back by another.
        self._lock = FileLock(self._path, thread_local=False)
        self._holding = threading.Lock()
        self._stopped = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._seen: dict[str, tuple[int, float]] = {}

    def hold(self) -> None:
        """Take the lease; to be done before the first claim is written down."""
        with self._holding:
            if not self._heart.is_alive():
                self._folder.mkdir(parents=True, exist_ok=True)
                self._lock.acquire()
                self._heart.start()

    def drop(self) -> None:
        """Give the lease back."""
        self._stopped.set()
        if self._heart.is_alive():
            self._heart.join()
            self._lock.release()
            self._path.unlink(missing_ok=True)

    def is_alive(self, owner: str) -> bool:
        """Whether the process that calls itself `owner` still works; one that hangs counts as dead after a minute."""
        if owner == self.owner:
            return True
        if not owner:
            return False
        path = self._folder / owner
        try:
            touched = path.stat().st_mtime_ns
            with FileLock(path, timeout=0):
                path.unlink(missing_ok=True)
            return False
        except Timeout:
            now = time.monotonic()
            before, since = self._seen.get(owner, (touched, now))
            self._seen[owner] = (touched, since if before == touched else now)
            return now - self._seen[owner][1] < SILENCE_S
        except OSError as error:
            # In a folder that is read-only nothing can be locked, and the time of the file has to do.
            return error.errno in (errno.EACCES, errno.EROFS, errno.EPERM) and time.time() - touched / 1e9 < SILENCE_S

    def _beat(self) -> None:
        while not self._stopped.wait(HEARTBEAT_S):
            with suppress(OSError):
                os.utime(self._path)


class DiskReserve:
    """A file of zeros beside the ledger, deleted when the disk is otherwise full."""

    def __init__(self, path: Path) -> None:
        self.is_used = False
        self._path = path
        self._lock = threading.Lock()

    def keep(self) -> None:
        """Reserve the disk space. Raises OSError where there is none: answers could not be written either."""
        with self._lock:
            if self.is_used or (self._path.exists() and self._path.stat().st_size == SPARE_BYTES):
                return
            scratch = self._path.with_name(f"{self._path.name}.{os.getpid()}")
            try:
                with scratch.open("wb") as stream:
                    stream.write(bytes(SPARE_BYTES))
                    os.fsync(stream.fileno())
                os.replace(scratch, self._path)
            finally:
                scratch.unlink(missing_ok=True)

    def use(self) -> bool:
        """Free the reserved space; False when there was none."""
        with self._lock:
            if self.is_used:
                return True
            try:
                self._path.unlink()
            except OSError:
                return False
            self.is_used = True
            return True
