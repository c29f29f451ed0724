"""Token store: tokens are written once and then read from disk, so memory does not grow with the rows.

A split lies in `data/tokens/KEY/SPLIT/`, where the key covers everything that decides the tokens:
- `tokens.bin`: uint32 of all rows, one after another; the top bit says that a token is learned
- `ends.bin`: int64, 0 and then where each prompt and each response ends in `tokens.bin`
- `ids.bin`, `id_ends.bin`: the rows' ids as UTF-8, and int64, 0 and then where each ends
- `manifest.json`: the digests of these files, and counts of rows kept, truncated and dropped
Numbers are little endian. The folder gets its name when all of it is written.
"""

import json
import logging
import mmap
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from curate.files import Damaged
from curate.models.digests import file_digests
from curate.store.folders import check_folder, write_folder
from curate.store.workspace import Workspace
from schemas.errors import UserError
from schemas.ids import digest
from schemas.manifest import FORMAT
from train.data.chat import Chat
from train.data.tokenize import LEARNED, SEGMENTS, Encoded, Kind, encode_all
from train.data.tokens import Preflight, Row, Tokens

log = logging.getLogger(__name__)

VERSION = 2
"""Raised when the same texts would give other tokens, or other files."""
MANIFEST = "manifest.json"
FILES = {"tokens.bin": "<u4", "ends.bin": "<i8", "ids.bin": "u1", "id_ends.bin": "<i8"}
"""Name -> type of the numbers in it."""


@dataclass(frozen=True)
class Texts:
    """The rows of one split before they are tokens."""

    kind: Kind
    identity: Mapping[str, Any]
    """Digest of the rows: equal ones hold the same rows in each split."""
    rows: Callable[[], Iterable[tuple[Any, ...]]]
    """Id, messages, of a pair chosen and rejected, and tools; called only where the tokens are not there yet."""
    count: int | None = None
    """How many there are, for the progress bar."""


class TokenRows(Sequence[Row]):
    """The rows of one split in files, of which only the rows that are read come into memory."""

    def __init__(self, folder: Path, manifest: Mapping[str, Any]) -> None:
        self.key: str = manifest["name"]
        """Of everything that decides the tokens, the split with it."""
        self.largest_id: int = manifest["largest_id"]
        """The largest token id of any row; -1 without rows."""
        self.preflight = Preflight.from_json(manifest["preflight"])
        self._segments = SEGMENTS[manifest["kind"]]
        self._maps: list[mmap.mmap] = []
        self._tokens, self._ends, self._ids, self._id_ends = (
            self._map_file(folder / name, numbers) for name, numbers in FILES.items()
        )
        self.sizes: NDArray[np.int64] = np.diff(self._ends[:: self._segments]).astype(np.int64)
        """(rows,) tokens of each row, the prompt counted once."""
        self.release()

    def _map_file(self, path: Path, numbers: str) -> NDArray[Any]:
        if path.stat().st_size == 0:
            return np.empty(0, dtype=numbers)
        with path.open("rb") as stream:
            content = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        # Rows are read in a shuffled order: what lies behind one is not the next.
        content.madvise(mmap.MADV_RANDOM)
        self._maps.append(content)
        return np.frombuffer(content, dtype=numbers)

    def __len__(self) -> int:
        return len(self.sizes)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        row = range(len(self))[index]
        first = row * self._segments
        start, *ends = self._ends[first : first + self._segments + 1].tolist()
        marked = self._tokens[start : ends[-1]]
        # Copies, so that a row holds no page of the file.
        ids, learned = marked & ~LEARNED, marked >= LEARNED
        prompt, *cuts = [end - start for end in ends]
        responses = tuple(Tokens(ids[a:b], learned[a:b]) for a, b in zip([prompt, *cuts], cuts, strict=False))
        id_start, id_end = self._id_ends[row : row + 2].tolist()
        return Row(self._ids[id_start:id_end].tobytes().decode("utf-8", "surrogatepass"), ids[:prompt], responses)

    def release(self) -> None:
        """Give back the memory that holds what was read; it is read again when it is asked for."""
        for content in self._maps:
            content.madvise(mmap.MADV_DONTNEED)


def token_rows(
    data: Path, chat: Chat, texts: Texts, split: str, max_length: int, workers: int | None = None
) -> TokenRows:
    """The rows of a split as tokens, made unless they are there."""
    about = {
        "format": FORMAT,
        "version": VERSION,
        "kind": texts.kind,
        "source": dict(texts.identity),
        "tokenizer": tokenizer_digest(chat),
        "max_length": max_length,
    }
    folder = Workspace(data).tokens / digest(about)[:16] / split
    manifest = read_split(folder)
    if isinstance(manifest, Damaged):
        with report_disk_errors(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{split}.lock")):
            # Another process may have written it meanwhile.
            manifest = read_split(folder)
            if isinstance(manifest, Damaged):
                if folder.exists():
                    log.warning("warning: %s", manifest)
                manifest = write_split(folder, chat, texts, about, workers)
    return TokenRows(folder, manifest)


def tokenizer_digest(chat: Chat) -> str:
    """Digest of everything in a tokenizer and its chat template that decides tokens."""
    tokenizer = chat.tokenizer
    ends = [chat.eos, sorted(chat.ends), chat.suffix]
    if not tokenizer.is_fast:
        with tempfile.TemporaryDirectory() as scratch:
            tokenizer.save_pretrained(scratch)
            return digest([file_digests(Path(scratch)), ends])
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    # Set by each call: not part of what the tokenizer is.
    content.pop("truncation"), content.pop("padding")
    return digest([content, tokenizer.chat_template, tokenizer.special_tokens_map, ends])


def read_split(folder: Path) -> dict[str, Any] | Damaged:
    """The manifest of a split whose files are what was written, else what is wrong."""
    try:
        return check_folder(folder / MANIFEST, split_name(folder), "its tokens are made again")
    except Damaged as error:
        return error


def split_name(folder: Path) -> str:
    return f"{folder.parent.name}-{folder.name}"


def write_split(folder: Path, chat: Chat, texts: Texts, about: dict[str, Any], workers: int | None) -> dict[str, Any]:
    """Write a split beside its place, move it there and return its manifest. Nobody else writes it meanwhile."""
    begun = time.monotonic()
    scratch = folder.with_name(f".{folder.name}.part")
    try:
        with report_disk_errors(folder):
            # What a process that was killed left behind.
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir()
        with closing(encode_all(chat, texts.kind, texts.rows(), about["max_length"], texts.count, workers)) as chunks:
            written = about | write_files(scratch, chunks)
        with report_disk_errors(folder):
            for name in FILES:
                with (scratch / name).open("rb") as stream:
                    os.fsync(stream.fileno())
            manifest = write_folder(scratch / MANIFEST, split_name(folder), written, FILES, folder / MANIFEST)
            shutil.rmtree(folder, ignore_errors=True)
            os.rename(scratch, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    seconds = time.monotonic() - begun
    log.info("%s: %d rows, %d tokens in %.1f s", folder, manifest["preflight"]["kept"], manifest["tokens"], seconds)
    return manifest


def write_files(folder: Path, chunks: Iterable[Encoded]) -> dict[str, Any]:
    """Write all files but the manifest, of which what they hold is returned."""
    preflight, largest_id = Preflight(), -1
    total, id_total = 0, 0
    append(folder, np.empty(0), np.zeros(1), np.empty(0), np.zeros(1))
    for chunk in chunks:
        ids = [row_id.encode("utf-8", "surrogatepass") for row_id in chunk.row_ids]
        append(
            folder,
            chunk.tokens,
            total + np.cumsum(chunk.lengths),
            np.frombuffer(b"".join(ids), dtype=np.uint8),
            id_total + np.cumsum([len(row_id) for row_id in ids]),
        )
        total += len(chunk.tokens)
        id_total += sum(map(len, ids))
        largest_id = max(largest_id, int((chunk.tokens & ~LEARNED).max(initial=0)) if len(chunk.tokens) else -1)
        preflight.add(chunk.preflight)
    return {"tokens": total, "largest_id": largest_id, "preflight": preflight.to_json()}


def append(folder: Path, *numbers: NDArray[Any]) -> None:
    """Write to the end of each of the files."""
    for (name, kind), content in zip(FILES.items(), numbers, strict=True):
        with report_disk_errors(folder), (folder / name).open("ab") as stream:
            stream.write(content.astype(kind).tobytes())


@contextmanager
def report_disk_errors(folder: Path) -> Iterator[None]:
    """Turn what can go wrong with the disk into a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write tokens to {folder}: {error.strerror}; free some space, or name another folder with --data"
        ) from error
