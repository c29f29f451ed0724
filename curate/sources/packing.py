"""Open a file for reading, unpacked and, where it is text, as UTF-8."""

import codecs
import gzip
import io
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from schemas.errors import UserError

PACKINGS = (".gz", ".zst")
"""Endings of packed files, which follow the ending that tells what is packed."""
NO_TEXT = {
    b"PAR1": "is Parquet; let its name end in .parquet",
    b"ARROW1": "is an Arrow file; let its name end in .arrow",
    b"\x1f\x8b": "is packed by gzip; let its name end in .gz",
    b"\x28\xb5\x2f\xfd": "is packed by zstd; let its name end in .zst",
    b"PK\x03\x04": "is a zip archive; give a file that was in it",
}
"""First bytes of what is no text, and what to do with it."""
UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
CHUNK = 2**16


def packing_of(name: str) -> str:
    """How a file is packed, as its name tells; empty where it is not."""
    return next((packing for packing in PACKINGS if name.lower().endswith(packing)), "")


@contextmanager
def open_unpacked(path: str) -> Iterator[io.BufferedReader]:
    """The bytes of a file, unpacked as they are read."""
    packing = packing_of(path)
    try:
        with open_packed(path, packing) as stream:
            yield stream
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path} is not a whole gzip file: {error}") from error
    except OSError as error:
        # without a number it is the library's, not the system's
        if packing != ".zst" or error.errno is not None:
            raise
        raise UserError(f"{path} is not a whole zstd file: {error}") from error


def open_packed(path: str, packing: str) -> io.BufferedReader:
    match packing:
        case ".gz":
            return io.BufferedReader(gzip.open(path))
        case ".zst":
            import pyarrow as pa

            return io.BufferedReader(pa.input_stream(path, compression="zstd"))
    return open(path, "rb")


@contextmanager
def open_text(path: str) -> Iterator[io.BufferedReader]:
    """The bytes of a text file as UTF-8; a byte order mark that says so stays at their start.

    Raises UserError where the first bytes are those of another kind of file.
    """
    with open_unpacked(path) as stream:
        start = stream.peek(8)
        for sign, said in NO_TEXT.items():
            if start.startswith(sign):
                raise UserError(f"{path} {said}")
        yield io.BufferedReader(Recoded(stream, path)) if start.startswith(UTF16) else stream


@contextmanager
def open_seekable(stream: io.BufferedReader) -> Iterator[IO[bytes]]:
    """The same bytes in a file; what does not lie in one is copied to a temporary file."""
    if isinstance(stream.raw, io.FileIO):
        yield stream
        return
    with tempfile.TemporaryFile() as copy:
        with told_of_no_room():
            shutil.copyfileobj(stream, copy)
            copy.seek(0)
        yield copy


@contextmanager
def told_of_no_room() -> Iterator[None]:
    """Turn errors of writing a temporary file into a UserError."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise UserError(
            f"cannot write to {tempfile.gettempdir()}, where rows are put in order: {error.strerror}; name another "
            "folder by TMPDIR"
        ) from error


class Recoded(io.RawIOBase):
    """UTF-16 with a byte order mark as UTF-8 without."""

    def __init__(self, stream: io.BufferedReader, path: str) -> None:
        self._text = io.TextIOWrapper(stream, encoding="utf-16", newline="")
        self._path = path
        self._ready = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            self._ready = self._ready or self._text.read(CHUNK).encode()
        except UnicodeError as error:
            raise UserError(f"{self._path} begins like UTF-16 and is not: {error}; save it as UTF-8") from error
        size = min(len(buffer), len(self._ready))
        buffer[:size], self._ready = self._ready[:size], self._ready[size:]
        return size
