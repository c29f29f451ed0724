"""Ledger of model calls: every call is recorded before and after it is made.

A call is identified by what is asked (kind, model and weight digest, messages, response schema, first
sample, n) and by its sampling parameters. A recorded call is never made again, and a call that another
process is making is waited for. A response that ended by itself under a smaller `max_tokens` would
have ended under a larger one: only truncated responses are asked for again.
"""

import errno
import json
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from curate.files import Damaged, can_write
from curate.ledger.entries import (
    FIGURES,
    TEXTS,
    Entry,
    PartialResponses,
    PendingCall,
    call_identity,
    call_sha256,
    find_cut_slots,
    other_sampling,
    read_answer,
    read_slots,
    request_content,
    write_answer,
)
from curate.ledger.leases import DiskReserve, Leases
from curate.ledger.read_only import connect_read_only
from schemas.calls import Backend, CallResult, Request
from schemas.errors import UserError

VERSION = 2
IDS_PER_QUERY = 500
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

TABLES = """
CREATE TABLE IF NOT EXISTS calls (
    call_id TEXT PRIMARY KEY,
    identity TEXT NOT NULL,
    kind TEXT NOT NULL,
    model TEXT NOT NULL,
    digest TEXT NOT NULL,
    request TEXT NOT NULL,
    sampling TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('asked', 'partial', 'answered', 'failed')),
    owner TEXT NOT NULL,
    asked_at REAL NOT NULL,
    answered_at REAL,
    answer TEXT,
    numbers BLOB,
    input_tokens INTEGER NOT NULL DEFAULT 0,
    output_tokens INTEGER NOT NULL DEFAULT 0,
    failure TEXT,
    seconds REAL NOT NULL DEFAULT 0,
    cost_usd REAL DEFAULT 0,
    reused_from TEXT,
    sha256 TEXT
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS calls_identity ON calls (identity);
"""

# As bytes, since a damaged text may be no text at all.
DIGEST = f"call_sha256({', '.join([*(f'CAST({column} AS BLOB)' for column in TEXTS), *FIGURES])})"
ADD_DIGEST = f"UPDATE calls SET sha256 = {DIGEST}"
IS_DAMAGED = f"(sha256 IS NOT NULL AND sha256 <> {DIGEST})"
"""Of a call that is not what was recorded; one that an earlier version wrote has no digest."""


@dataclass
class Claim:
    """Result of `Ledger.claim`."""

    answers: dict[str, CallResult] = field(default_factory=dict)
    """Recorded ones, whole."""
    held: dict[str, PendingCall] = field(default_factory=dict)
    """To be made by the caller, who must then record or release them."""
    busy: list[str] = field(default_factory=list)
    """Being made by another process, or by another thread of this one."""


class Ledger:
    """One SQLite file, in write-ahead mode, shared by all processes of a data directory and all threads of each."""

    def __init__(self, path: Path, *, to_read: bool = False) -> None:
        """`to_read` is for a ledger that is only looked at: it may then lie in a folder that is read-only."""
        self.path = path
        self._lock = threading.RLock()
        self._making: set[str] = set()
        self._leases = Leases(path.parent / "leases")
        self._spare = DiskReserve(path.with_name("ledger.spare"))
        self._scratch: TemporaryDirectory[str] | None = None
        try:
            if to_read and not can_write(path.parent):
                self._scratch = TemporaryDirectory(prefix="pairwright-ledger-")
                db = connect_read_only(path, self._scratch) if path.exists() else sqlite3.connect(":memory:")
                self._db = with_digests(db)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._db = connect(path)
            self._make_tables()
        except (sqlite3.DatabaseError, OSError) as error:
            raise ledger_error(path, error) from error

    def _make_tables(self) -> None:
        found = int(self._db.execute("PRAGMA user_version").fetchone()[0])
        if found not in (0, VERSION):
            raise UserError(
                f"{self.path} was written by another pairwright (version {found}, this one reads {VERSION}); "
                + ("upgrade" if found > VERSION else "give another --data folder")
            )
        has_digests = any(column == "sha256" for _, column, *_ in self._db.execute("PRAGMA table_info(calls)"))
        if found and self._scratch:
            if not has_digests:
                raise UserError(
                    f"{self.path} is of an earlier pairwright and cannot be changed here; read it once where it can be"
                )
            return
        self._db.execute("PRAGMA journal_mode = WAL")
        # An answer that was paid for must outlive a power cut, not only a killed process.
        self._db.execute("PRAGMA synchronous = FULL")
        if not found:
            # Another process may be doing the same: every statement may come twice.
            with self._writing():
                for statement in TABLES.split(";"):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {VERSION}")
        elif not has_digests:
            self._db.execute("ALTER TABLE calls ADD COLUMN sha256 TEXT")

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_: object) -> None:
        self._leases.drop()
        with self._lock:
            self._db.close()
        if self._scratch:
            self._scratch.cleanup()

    @property
    def is_full(self) -> bool:
        """The disk has room only for the answers of calls in flight."""
        return self._spare.is_used

    def look(self, backend: Backend, requests: Sequence[tuple[str, Request]]) -> Claim:
        """The result of `claim`, without claiming anything."""
        claim = Claim()
        found = self._look_up([call_id for call_id, _ in requests], claim)
        missing = [(call_id, request) for call_id, request in requests if call_id not in claim.answers]
        self._hold(missing, {call_id: call_identity(backend, request) for call_id, request in missing}, found, claim)
        return claim

    def claim(self, backend: Backend, requests: Sequence[tuple[str, Request]]) -> Claim:
        """Recorded answers, and the right to make the rest: written down, in one transaction, before any is made."""
        claim = Claim()
        self._look_up([call_id for call_id, _ in requests], claim)
        missing = [(call_id, request) for call_id, request in requests if call_id not in claim.answers]
        if not missing:
            return claim
        if self.is_full:
            raise disk_full_error(self.path, "the reserve for answers is used up")
        try:
            self._leases.hold()
            self._spare.keep()
        except OSError as error:
            raise ledger_error(self.path, error) from error
        identities = {call_id: call_identity(backend, request) for call_id, request in missing}
        now = time.time()
        with self._lock:
            with self._writing():
                found = self._look_up(list(identities), claim)
                self._hold(missing, identities, found, claim)
                self._db.executemany(
                    "INSERT INTO calls "
                    "(call_id, identity, kind, model, digest, request, sampling, state, owner, asked_at) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?, 'asked', ?, ?) ON CONFLICT (call_id) DO UPDATE SET "
                    "owner = excluded.owner, asked_at = excluded.asked_at, "
                    # What was asked is that of the id again, should it have been damaged.
                    "identity = excluded.identity, kind = excluded.kind, model = excluded.model, "
                    "digest = excluded.digest, request = excluded.request, sampling = excluded.sampling, "
                    "state = CASE state WHEN 'failed' THEN 'asked' ELSE state END, "
                    "sha256 = CASE state WHEN 'failed' THEN NULL ELSE sha256 END WHERE state <> 'answered'",
                    (
                        (
                            call_id,
                            identities[call_id],
                            request.kind,
                            backend.model,
                            backend.digest,
                            json.dumps(request_content(request), ensure_ascii=False),
                            json.dumps(request.sampling, sort_keys=True),
                            self._leases.owner,
                            now,
                        )
                        for call_id, request in missing
                        if call_id in claim.held
                    ),
                )
            self._making.update(claim.held)
        return claim

    def release(self, call_ids: Iterable[str]) -> None:
        """The calls are no longer being made by this thread; those without an answer are anybody's."""
        with self._lock:
            left = sorted(self._making.intersection(call_ids))
            self._making.difference_update(left)
            for some, marks in chunks(left):
                # Where this cannot be written, other processes wait until this one has ended.
                with suppress(UserError), self._writing():
                    self._db.execute(f"UPDATE calls SET owner = '' WHERE call_id IN ({marks})", some)

    def forget(self, call_ids: Iterable[str]) -> None:
        """Of calls that this thread holds, those that it never made: nothing was asked, so nothing is owed."""
        with self._lock:
            for some, marks in chunks(sorted(self._making.intersection(call_ids))):
                with suppress(UserError), self._writing():
                    self._db.execute(
                        f"DELETE FROM calls WHERE call_id IN ({marks}) AND state = 'asked' AND answered_at IS NULL",
                        some,
                    )

    def record(self, entries: Sequence[Entry]) -> dict[str, CallResult]:
        """Write down, in one transaction, what the models answered.

        Returns the answers of calls that had been answered before, by another process: those count.
        """
        now = time.time()
        late: list[str] = []

        def write() -> None:
            late.clear()
            for entry in entries:
                answer = entry.answer
                text, numbers = write_answer(entry)
                values = (entry.state, now, text, numbers, answer.input_tokens, answer.output_tokens, answer.failure)
                changed = self._db.execute(
                    "UPDATE calls SET state = ?, answered_at = ?, answer = ?, numbers = ?, "
                    "input_tokens = input_tokens + ?, output_tokens = output_tokens + ?, failure = ?, "
                    "seconds = seconds + ?, cost_usd = cost_usd + ?, reused_from = coalesce(?, reused_from) "
                    "WHERE call_id = ? AND state <> 'answered'",
                    (*values, answer.seconds, answer.cost_usd, entry.reused_from, entry.call_id),
                )
                if changed.rowcount:
                    self._db.execute(f"{ADD_DIGEST} WHERE call_id = ?", [entry.call_id])
                else:
                    late.append(entry.call_id)

        with self._lock:
            try:
                with self._writing():
                    write()
            except UserError as error:
                cause = error.__cause__
                if not isinstance(cause, sqlite3.OperationalError) or not is_full(cause) or not self._spare.use():
                    raise
                # Once more, in the room that was kept for answers.
                with self._writing():
                    write()
            self._making.difference_update(entry.call_id for entry in entries if entry.state in ("answered", "failed"))
        return self.answers(late) if late else {}

    def answers(self, call_ids: Sequence[str]) -> dict[str, CallResult]:
        """The recorded answers among `call_ids`; calls that failed or are not whole are not among them."""
        claim = Claim()
        self._look_up(call_ids, claim)
        return claim.answers

    def describe(self, call_ids: Sequence[str]) -> list[dict[str, Any]]:
        """Model, sampling, time, tokens and cost of each recorded call, for people to read."""
        spent = ("asked_at", "answered_at", "seconds", "input_tokens", "output_tokens", "cost_usd", "reused_from")
        columns = ("call_id", "kind", "model", "digest", "sampling", "state", *spent)
        marks = ",".join("?" * len(call_ids))
        query = f"SELECT {', '.join(columns)} FROM calls WHERE call_id IN ({marks}) ORDER BY asked_at, call_id"
        self.refuse_damaged(call_ids)
        return [dict(zip(columns, row, strict=True)) for row in self.read(query, list(call_ids))]

    def refuse_damaged(self, call_ids: Sequence[str]) -> None:
        """Raises Damaged where one of the calls is not what was recorded."""
        for some, marks in chunks(call_ids):
            for (call_id,) in self.read(f"SELECT call_id FROM calls WHERE call_id IN ({marks}) AND {IS_DAMAGED}", some):
                raise damaged_call(self.path, call_id)

    def add_digests(self, call_ids: Sequence[str]) -> None:
        """Give digests to calls that have none yet."""
        for some, marks in chunks(call_ids):
            with self._writing():
                self._db.execute(f"{ADD_DIGEST} WHERE sha256 IS NULL AND call_id IN ({marks})", some)

    def counts(self) -> dict[str, int]:
        """State -> calls."""
        return dict(self.read("SELECT state, count(*) FROM calls GROUP BY state ORDER BY state"))

    def faults(self) -> list[str]:
        """Faults of the file that SQLite's own check finds."""
        try:
            with self._lock:
                found = [str(row[0]) for row in self._db.execute("PRAGMA integrity_check")]
        except sqlite3.DatabaseError as error:
            return [str(error)]
        return [] if found == ["ok"] else found

    def owner_is_alive(self, owner: str) -> bool:
        """Whether the process that made a claim still works."""
        return self._leases.is_alive(owner)

    def read(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        """The rows of a query."""
        try:
            with self._lock:
                return self._db.execute(query, values).fetchall()
        except sqlite3.DatabaseError as error:
            raise ledger_error(self.path, error) from error

    def _hold(
        self,
        missing: Sequence[tuple[str, Request]],
        identities: dict[str, str],
        found: dict[str, tuple[str, PartialResponses | None]],
        claim: Claim,
    ) -> None:
        """Sort the calls that are not recorded into those to make, with what is there of them, and those being made."""
        alive = {owner: self._leases.is_alive(owner) for owner in {owner for owner, _ in found.values()} if owner}
        donors = self._donors([request for _, request in missing], list(identities.values()))
        for call_id, request in missing:
            if call_id in claim.answers:
                continue
            owner, slots = found.get(call_id, ("", None))
            is_others = owner != self._leases.owner and alive.get(owner, False)
            if is_others or call_id in self._making:
                claim.busy.append(call_id)
                continue
            donor = donors.get((identities[call_id], other_sampling(request)))
            claim.held[call_id] = PendingCall(slots) if slots else donor or PendingCall([None] * request.n)

    def _look_up(self, call_ids: Sequence[str], claim: Claim) -> dict[str, tuple[str, PartialResponses | None]]:
        """Adds whole answers to `claim`; returns owner and, of a partial answer, the slots of every other call."""
        others: dict[str, tuple[str, PartialResponses | None]] = {}
        for some, marks in chunks(call_ids):
            query = (
                f"SELECT call_id, {IS_DAMAGED}, state, owner, kind, answer, numbers, input_tokens, output_tokens "
                f"FROM calls WHERE call_id IN ({marks})"
            )
            for call_id, is_damaged, state, owner, kind, text, *rest in self.read(query, some):
                if is_damaged:
                    raise damaged_call(self.path, call_id)
                if state == "answered":
                    claim.answers[call_id] = read_answer(kind, text, *rest)
                else:
                    slots = read_slots(json.loads(text)) if state == "partial" else None
                    others[call_id] = (owner if state in ("asked", "partial") else "", slots)
        return others

    def _donors(self, requests: Sequence[Request], identities: Sequence[str]) -> dict[tuple[str, str], PendingCall]:
        """Identity and other sampling -> what the call under the largest smaller `max_tokens` leaves to make."""
        limits = {
            (identity, other_sampling(request)): request.sampling["max_tokens"]
            for identity, request in zip(identities, requests, strict=True)
            if request.kind == "generate" and "max_tokens" in request.sampling
        }
        best: dict[tuple[str, str], tuple[int, str, str]] = {}
        for some, marks in chunks(list(dict.fromkeys(identity for identity, _ in limits))):
            query = (
                f"SELECT call_id, {IS_DAMAGED}, identity, sampling, answer FROM calls "
                f"WHERE identity IN ({marks}) AND state = 'answered'"
            )
            for call_id, is_damaged, identity, sampling, text in self.read(query, some):
                if is_damaged:
                    raise damaged_call(self.path, call_id)
                told = json.loads(sampling)
                limit = told.pop("max_tokens", None)
                key = (identity, json.dumps(told, sort_keys=True))
                if limit is not None and best.get(key, (0,))[0] < limit < limits.get(key, 0):
                    best[key] = (limit, call_id, text)
        return {key: find_cut_slots(call_id, text) for key, (_, call_id, text) in best.items()}

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One transaction. Raises UserError where it cannot be written."""
        try:
            with self._lock, self._db:
                self._db.execute("BEGIN IMMEDIATE")
                yield
        except sqlite3.DatabaseError as error:
            raise ledger_error(self.path, error) from error


def connect(path: Path) -> sqlite3.Connection:
    """The file, to read and write."""
    return with_digests(sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False))


def with_digests(db: sqlite3.Connection) -> sqlite3.Connection:
    """The connection with the function that makes digests of calls."""
    # A text that is damaged can be read, and is found by its digest.
    db.text_factory = lambda content: content.decode(errors="replace")
    db.create_function("call_sha256", len(TEXTS) + len(FIGURES), call_sha256, deterministic=True)
    return db


def chunks(values: Sequence[str]) -> Iterator[tuple[Sequence[str], str]]:
    """`values` in pieces that fit one query, each with its question marks."""
    for start in range(0, len(values), IDS_PER_QUERY):
        some = values[start : start + IDS_PER_QUERY]
        yield some, ",".join("?" * len(some))


def damaged_call(path: Path, call_id: str) -> Damaged:
    """The error for a call that is not what was recorded."""
    return Damaged(
        f"call {call_id} in {path} is damaged: it is not what was recorded",
        "forget its answer with curate ledger --compact, then give the build command again, which asks once more",
    )


def is_full(error: Exception) -> bool:
    """The disk, a quota or the largest file size allowed is reached."""
    return "full" in str(error) or "disk I/O" in str(error) or (isinstance(error, OSError) and error.errno in NO_ROOM)


def disk_full_error(path: Path, why: object) -> UserError:
    return UserError(
        f"no room to write {path} ({why}); free some space, then give the same command again: "
        "everything so far is saved"
    )


def ledger_error(path: Path, error: Exception) -> UserError:
    """The error for a ledger that cannot be used, with what to do."""
    if is_full(error):
        return disk_full_error(path, error)
    if "not a database" in str(error) or "malformed" in str(error):
        return UserError(f"{path} is damaged ({error}); move it away to start a new ledger")
    return UserError(f"cannot use the ledger {path}: {error}; name another folder with --data")
