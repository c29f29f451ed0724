"""The ledger: every call to a model is written down before and after it is made.

A call is known by what is asked (kind, model and weight digest, messages, response schema, first
sample, n) and, beside it, how it is sampled. What the ledger holds is never asked again.
"""

import json
import os
import socket
import sqlite3
import time
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from curate.backends.calls import Answer, Backend, Request, Response
from curate.progress import Progress
from schemas.errors import UserError
from schemas.ids import digest

VERSION = 1
IDS_PER_QUERY = 500
NUMBERS = {"score": "d", "embed": "f"}
"""How the numbers of a call are packed: scores as doubles, vectors as floats."""

TABLES = f"""
CREATE TABLE IF NOT EXISTS calls (
    call_id TEXT PRIMARY KEY,
    identity TEXT NOT NULL,
    kind TEXT NOT NULL,
    model TEXT NOT NULL,
    digest TEXT NOT NULL,
    request TEXT NOT NULL,
    sampling TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('asked', 'answered', 'failed')),
    owner TEXT NOT NULL,
    asked_at REAL NOT NULL,
    answered_at REAL,
    answer TEXT,
    numbers BLOB,
    input_tokens INTEGER NOT NULL DEFAULT 0,
    output_tokens INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
PRAGMA user_version = {VERSION};
"""


@dataclass
class Tally:
    """What a run has asked of models so far."""

    calls: int = 0
    """Calls made, failed ones included."""
    reused_calls: int = 0
    failed_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def copy(self) -> "Tally":
        return replace(self)

    def since(self, before: "Tally") -> "Tally":
        """What was added after `before` was copied."""
        old = asdict(before)
        return Tally(**{name: value - old[name] for name, value in asdict(self).items()})


class Ledger:
    """One SQLite file, in write-ahead mode, shared by all processes of a data directory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.owner = f"{socket.gethostname()}:{os.getpid()}"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=60, isolation_level=None)
            found = int(self._db.execute("PRAGMA user_version").fetchone()[0])
            if found > VERSION:
                raise UserError(
                    f"{path} was written by a newer pairwright (version {found}, this one reads {VERSION}); upgrade"
                )
            self._db.execute("PRAGMA journal_mode = WAL")
            # An answer that was paid for must outlive a power cut, not only a killed process.
            self._db.execute("PRAGMA synchronous = FULL")
            if found < VERSION:
                self._db.executescript(TABLES)
        except (sqlite3.DatabaseError, OSError) as error:
            raise unusable(path, error) from error

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def answers(self, call_ids: Sequence[str]) -> dict[str, Answer]:
        """The recorded answers among `call_ids`; calls that failed are not among them."""
        found: dict[str, Answer] = {}
        for start in range(0, len(call_ids), IDS_PER_QUERY):
            some = call_ids[start : start + IDS_PER_QUERY]
            marks = ",".join("?" * len(some))
            query = (
                "SELECT call_id, kind, answer, numbers, input_tokens, output_tokens FROM calls "
                f"WHERE state = 'answered' AND call_id IN ({marks})"
            )
            for call_id, *row in self._read(query, some):
                found[call_id] = read_answer(*row)
        return found

    def intend(self, backend: Backend, requests: Iterable[tuple[str, Request]]) -> None:
        """Write down, in one transaction, the calls that are about to be made."""
        now = time.time()
        rows = [
            (
                call_id,
                call_identity(backend, request),
                request.kind,
                backend.model,
                backend.digest,
                json.dumps(request_content(request), ensure_ascii=False),
                json.dumps(request.sampling, sort_keys=True),
                self.owner,
                now,
            )
            for call_id, request in requests
        ]
        self._many(
            "INSERT INTO calls (call_id, identity, kind, model, digest, request, sampling, state, owner, asked_at) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, 'asked', ?, ?) ON CONFLICT (call_id) DO UPDATE SET "
            "owner = excluded.owner, asked_at = excluded.asked_at WHERE state <> 'answered'",
            rows,
        )

    def record(self, answers: Iterable[tuple[str, Request, Answer]]) -> None:
        """Write down, in one transaction, what the models said."""
        now = time.time()
        rows = []
        for call_id, request, answer in answers:
            # A call that failed for a reason of the moment is asked again next time; a refusal is an answer.
            state = "failed" if answer.failure == "failed_call" else "answered"
            text, numbers = write_answer(request, answer)
            rows.append((state, now, text, numbers, answer.input_tokens, answer.output_tokens, call_id))
        self._many(
            "UPDATE calls SET state = ?, answered_at = ?, answer = ?, numbers = ?, input_tokens = ?, output_tokens = ? "
            "WHERE call_id = ? AND state <> 'answered'",
            rows,
        )

    def describe(self, call_ids: Sequence[str]) -> list[dict[str, Any]]:
        """Model, sampling, time and tokens of each recorded call, for people to read."""
        times = ("asked_at", "answered_at", "input_tokens", "output_tokens")
        columns = ("call_id", "kind", "model", "digest", "sampling", "state", *times)
        marks = ",".join("?" * len(call_ids))
        query = f"SELECT {', '.join(columns)} FROM calls WHERE call_id IN ({marks}) ORDER BY asked_at, call_id"
        return [dict(zip(columns, row, strict=True)) for row in self._read(query, list(call_ids))]

    def counts(self) -> dict[str, int]:
        """State -> calls."""
        return dict(self._read("SELECT state, count(*) FROM calls GROUP BY state ORDER BY state"))

    def faults(self) -> list[str]:
        """What SQLite's own check finds wrong with the file."""
        try:
            found = [str(row[0]) for row in self._db.execute("PRAGMA integrity_check")]
        except sqlite3.DatabaseError as error:
            return [str(error)]
        return [] if found == ["ok"] else found

    def _read(self, query: str, values: Sequence[str] = ()) -> list[Any]:
        try:
            return self._db.execute(query, values).fetchall()
        except sqlite3.DatabaseError as error:
            raise unusable(self.path, error) from error

    def _many(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(statement, rows)
            self._db.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise unusable(self.path, error) from error


class Recorder:
    """Asks models through the ledger, and counts."""

    def __init__(self, ledger: Ledger, max_failed: float = 0.5) -> None:
        self.ledger = ledger
        self.tally = Tally()
        self.progress = Progress("calls")
        self._max_failed = max_failed

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Show the progress of the calls made inside as that of the stage `name`."""
        self.progress = Progress(name)
        try:
            yield
        finally:
            self.progress.close()

    def ask(self, backend: Backend, requests: Sequence[Request]) -> list[Answer]:
        """One answer a request, in order: from the ledger, else from the model.

        Raises UserError when more than `max_failed` of at least eight calls fail: an endpoint in that
        state would only turn prompts into dropped rows.
        """
        ids = [call_key(backend, request) for request in requests]
        answers = self.ledger.answers(list(dict.fromkeys(ids)))
        first = {call_id: i for i, call_id in reversed(list(enumerate(ids)))}
        needed = {i for call_id, i in first.items() if call_id not in answers}
        known = len(first) - len(needed)
        self.tally.reused_calls += known
        self.progress.begin(len(first))
        self.progress.reuse(known)
        if needed:
            self.ledger.intend(backend, ((ids[i], requests[i]) for i in sorted(needed)))
        failed: list[Answer] = []
        done = known
        for group in backend.answer(requests, needed) if needed else ():
            self.ledger.record((ids[i], requests[i], answer) for i, answer in group)
            # Another process may have had its answer written first: then that one is the recorded one.
            recorded = self.ledger.answers([ids[i] for i, _ in group])
            for i, answer in group:
                answers[ids[i]] = recorded.get(ids[i], answer)
                self.tally.calls += 1
                self.tally.input_tokens += answer.input_tokens
                self.tally.output_tokens += answer.output_tokens
                if answer.failure == "failed_call":
                    failed.append(answer)
            done += len(group)
            self.progress.advance(len(group), self.tally.failed_calls + len(failed))
            if len(failed) > self._max_failed * max(done, min(8, len(first))):
                raise UserError(
                    f"{len(failed)} of {done} calls to {backend.model} failed, the last with: {failed[-1].error}; "
                    "answered calls are saved, the same command goes on from them"
                )
        self.tally.failed_calls += len(failed)
        return [answers[call_id] for call_id in ids]


def request_content(request: Request) -> dict[str, Any]:
    """What is asked, without how it is sampled."""
    return {
        "messages": request.messages,
        "schema": request.schema,
        "first_sample": request.first_sample,
        "n": request.n,
    }


def call_identity(backend: Backend, request: Request) -> str:
    """Digest of what is asked of whom."""
    return digest([request.kind, backend.model, backend.digest, request_content(request)])


def call_key(backend: Backend, request: Request) -> str:
    """Digest of a call: its identity and its sampling parameters."""
    return digest([call_identity(backend, request), request.sampling])[:32]


def write_answer(request: Request, answer: Answer) -> tuple[str, bytes | None]:
    """An answer as JSON text and packed numbers."""
    text = json.dumps(
        {
            "responses": [[response.text, response.finish_reason] for response in answer.responses],
            "failure": answer.failure,
            "error": answer.error,
        },
        ensure_ascii=False,
    )
    return text, array(NUMBERS[request.kind], answer.values).tobytes() if answer.values else None


def read_answer(kind: str, text: str, numbers: bytes | None, input_tokens: int, output_tokens: int) -> Answer:
    """What `write_answer` wrote."""
    content = json.loads(text)
    values = array(NUMBERS[kind], numbers) if numbers else ()
    return Answer(
        responses=tuple(Response(text, finish_reason) for text, finish_reason in content["responses"]),
        values=tuple(values),
        failure=content["failure"],
        error=content["error"],
        input_tokens=input_tokens,
        output_tokens=output_tokens,
    )


def unusable(path: Path, error: Exception) -> UserError:
    """Why the ledger cannot be used, in a sentence that says what to do."""
    if "full" in str(error) or "disk I/O" in str(error):
        return UserError(
            f"no room to write {path} ({error}); free some space, then give the same command again: "
            "everything so far is saved"
        )
    if "not a database" in str(error) or "malformed" in str(error):
        return UserError(f"{path} is damaged ({error}); move it away to start a new ledger")
    return UserError(f"cannot use the ledger {path}: {error}; name another folder with --data")
