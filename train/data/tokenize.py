"""Tokenize rows of text, on all cores and in order: the same bytes for any number of processes.

Imports neither torch nor polars, for every process that makes tokens imports it.
"""

import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from multiprocessing import get_context, parent_process
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from schemas.errors import UserError
from train.data.chat import Chat
from train.data.tokens import Preflight, Row, conversation_row, pair_row

Kind = Literal["pair", "conversation"]
ENCODERS: dict[Kind, Any] = {"pair": pair_row, "conversation": conversation_row}
SEGMENTS: dict[Kind, int] = {"pair": 3, "conversation": 2}
"""Stretches of tokens in a row: its prompt and its responses."""

LEARNED = np.uint32(1 << 31)
"""Set in a token that is learned."""
CHUNK = 256
"""Rows that a process is given at a time."""
FEW = 8
"""Chunks that this process is done with before others have started."""


@dataclass(frozen=True)
class Encoded:
    """Some rows as tokens, one after another."""

    tokens: NDArray[np.uint32]
    """Prompt and responses of each row; the top bit of each token says whether it is learned."""
    lengths: NDArray[np.int64]
    """(rows x segments,) tokens of each."""
    row_ids: list[str]
    preflight: Preflight


def encode_all(
    chat: Chat, kind: Kind, rows: Iterable[tuple[Any, ...]], max_length: int, count: int | None, workers: int | None
) -> Generator[Encoded, None, None]:
    """The tokens of all rows, some at a time; `count` is how many there are, where that is known.

    Each row is what the encoder of its kind takes: id, messages, of a pair chosen and rejected, and tools. Few rows
    are encoded in this process, more of them in `workers` others, by default one a core where there
    are enough rows for all.
    """
    chunks = chunks_of(iter(rows))
    few = list(islice(chunks, FEW))
    if workers is None:
        workers = usable_cores() if count is None else min(usable_cores(), 1 + count // (FEW * CHUNK))
    make = partial(encode_rows, chat, kind, max_length)
    is_alone = len(few) < FEW or workers == 1
    every = chain(few, chunks)
    results = (make(chunk) for chunk in every) if is_alone else map_in_processes(make, every, workers)
    with closing(results), tqdm(total=count, desc="tokens", unit="row", delay=1.0, leave=False, disable=None) as bar:
        for made in results:
            bar.update(made.preflight.rows)
            yield made


def usable_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def chunks_of(rows: Iterator[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    """The rows, `CHUNK` at a time."""
    while chunk := list(islice(rows, CHUNK)):
        yield chunk


def encode_rows(chat: Chat, kind: Kind, max_length: int, rows: Sequence[tuple[Any, ...]]) -> Encoded:
    """The rows that fit."""
    preflight = Preflight()
    made = [ENCODERS[kind](chat, *row[:-1], max_length, preflight, row[-1]) for row in rows]
    return pack_rows([row for row in made if row is not None], preflight)


def pack_rows(rows: Sequence[Row], preflight: Preflight) -> Encoded:
    """Rows in the form they are written in."""
    segments = []
    for row in rows:
        segments.append(row.prompt)
        segments += [np.where(each.learned, each.ids | LEARNED, each.ids) for each in row.responses]
    return Encoded(
        np.concatenate([np.empty(0, np.uint32), *segments]),
        np.array([len(segment) for segment in segments], dtype=np.int64),
        [row.row_id for row in rows],
        preflight,
    )


def map_in_processes(
    make: "partial[Encoded]", chunks: Iterable[list[tuple[Any, ...]]], workers: int
) -> Generator[Encoded, None, None]:
    """`make` of each chunk, in order, with a bounded number of them under way.

    Raises UserError where a process was killed.
    """
    running: deque[Future[Encoded]] = deque()
    # Pickled here, not by the pool: a tokenizer that cannot travel fails in this process, with its own error.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), begin_worker, (pickle.dumps(make),))
    try:
        for chunk in chunks:
            with hold_interrupts():
                running.append(pool.submit(make_chunk, chunk))
            if len(running) > 3 * workers:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    except BrokenProcessPool as error:
        raise UserError(
            "a process that made tokens was killed, most often because memory ran out; "
            "free some memory, then give the same command again"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def hold_interrupts() -> Iterator[None]:
    """Processes started in here never see Ctrl-C, which the terminal sends to all; this one sees it afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_make: "partial[Encoded]"
"""In a process of the pool: what it does with a chunk."""


def begin_worker(pickled: bytes) -> None:
    """Make this process ready for its chunks."""
    global _make
    # The cores are shared out by processes already.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    threading.Thread(target=end_with_parent, daemon=True).start()
    _make = pickle.loads(pickled)


def end_with_parent() -> None:
    """Leave no process behind where the one that started it is killed."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def make_chunk(rows: list[tuple[Any, ...]]) -> Encoded:
    return _make(rows)
