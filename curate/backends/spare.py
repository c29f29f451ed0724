"""Room on the disk that is set aside, so that answers on their way can still be written when the disk is full."""

import os
import threading
from pathlib import Path

SPARE_BYTES = 4 * 1024**2


class Spare:
    """A file of zeros beside the ledger, given up when there is no other room."""

    def __init__(self, path: Path) -> None:
        self.is_used = False
        self._path = path
        self._lock = threading.Lock()

    def keep(self) -> None:
        """Set the room aside. Raises OSError where there is none: answers could not be written either."""
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
        """Give the room up; False when there was none."""
        with self._lock:
            if self.is_used:
                return True
            try:
                self._path.unlink()
            except OSError:
                return False
            self.is_used = True
            return True
