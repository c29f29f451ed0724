"""Compact and check the ledger: drop calls without an answer, and verify every call against its digest."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from curate.files import refuse_read_only
from curate.ledger.ledger import ADD_DIGEST, IS_DAMAGED, Ledger, connect, ledger_error
from curate.ledger.report import ledger_bytes, open_ledger, read_numbers, read_pages
from schemas.calls import Failure
from schemas.errors import UserError
from schemas.ids import digest

IS_FREE = "input_tokens + output_tokens = 0 AND cost_usd = 0"
"""A call that was charged, or may have been, stays: it is part of what was spent."""

FORGET = """
UPDATE calls SET state = 'failed', answer = ?, numbers = NULL, failure = 'failed_call',
input_tokens = max(0, CAST(input_tokens AS INTEGER)), output_tokens = max(0, CAST(output_tokens AS INTEGER)),
seconds = max(0.0, CAST(seconds AS REAL)), cost_usd = CASE WHEN cost_usd >= 0.0 THEN cost_usd END
"""
"""What the call took stays, as far as it is known."""
FORGOTTEN = json.dumps({"responses": [], "failure": "failed_call", "error": "the recorded answer was damaged"})

ORPHANS = """
SELECT call_id, reused_from FROM calls
WHERE reused_from IS NOT NULL AND reused_from NOT IN (SELECT call_id FROM calls) ORDER BY call_id
"""


@dataclass(frozen=True)
class CompactedLedger:
    """Calls dropped, and the size of the ledger before and after."""

    failed: int
    abandoned: int
    damaged: int
    """Calls that were not what was recorded: they are asked again when they are needed."""
    bytes_before: int
    bytes_after: int

    def summary(self) -> dict[str, int]:
        return asdict(self)


@dataclass(frozen=True)
class CheckedLedger:
    """Faults of a ledger."""

    faults: list[str]
    """One sentence each."""

    def summary(self) -> dict[str, Any]:
        return {"good": not self.faults, "faults": self.faults}


def compact_ledger(path: Path) -> CompactedLedger:
    """Drop calls that failed or were never answered, forget damaged answers, and free their disk space.

    All other answered calls stay, and get digests where an earlier version wrote them.

    Raises UserError while another process is at work: it would find its calls gone.
    """
    refuse_read_only(path.parent)
    with open_ledger(path) as ledger:
        before = ledger_bytes(path)
        try:
            dropped = drop_unanswered(ledger)
        except sqlite3.DatabaseError as error:
            raise ledger_error(ledger.path, error) from error
        add_digests(ledger)
        return CompactedLedger(*dropped, before, ledger_bytes(path))


def drop_unanswered(ledger: Ledger) -> tuple[int, int, int]:
    """The calls that were dropped: failed ones, abandoned ones, damaged ones."""
    db = connect(ledger.path)
    try:
        # A claim is written down in such a transaction too, so nobody begins between the look and the deletion.
        db.execute("BEGIN IMMEDIATE")
        for (owner,) in db.execute("SELECT DISTINCT owner FROM calls").fetchall():
            if ledger.owner_is_alive(owner):
                raise UserError(f"process {owner} is making calls; wait until it has ended, then compact")
        failed = db.execute(f"DELETE FROM calls WHERE state = 'failed' AND {IS_FREE}").rowcount
        abandoned = db.execute(f"DELETE FROM calls WHERE state = 'asked' AND {IS_FREE}").rowcount
        damaged = [call_id for (call_id,) in db.execute(f"SELECT call_id FROM calls WHERE {IS_DAMAGED}").fetchall()]
        for call_id in damaged:
            db.execute(f"{FORGET} WHERE call_id = ?", [FORGOTTEN, call_id])
            db.execute(f"{ADD_DIGEST} WHERE call_id = ?", [call_id])
        db.execute("COMMIT")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        db.execute("VACUUM")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return failed, abandoned, len(damaged)
    finally:
        db.close()


def check_ledger(path: Path) -> CheckedLedger:
    """Check the file and every call in it against their digests."""
    faults: list[str] = []
    damaged: set[str] = set()
    try:
        with open_ledger(path) as ledger:
            faults += ledger.faults()
            for page in read_pages(ledger):
                damaged.update(call["call_id"] for call in page if call["is_damaged"])
                for call in page:
                    faults += [f"call {call['call_id']}: {fault}" for fault in call_faults(call)]
            add_digests(ledger)
            for call_id, donor in ledger.read(ORPHANS):
                faults.append(f"call {call_id}: took over responses of {donor}, which is not there")
        # Where more is known of what is wrong, that is said.
        damaged.difference_update(fault.split(":")[0].removeprefix("call ") for fault in list(faults))
        faults += [f"call {call_id}: not what was recorded" for call_id in sorted(damaged)]
    except UserError as error:
        # Damage is a finding; a file that is locked or not readable is for the user to fix.
        cause = error.__cause__
        if not isinstance(cause, sqlite3.DatabaseError) or isinstance(cause, sqlite3.OperationalError):
            raise
        faults.append(str(error))
    return CheckedLedger(faults)


def add_digests(ledger: Ledger) -> None:
    """Give digests to the calls that an earlier version wrote, where nothing is wrong with them."""
    for page in read_pages(ledger, "AND sha256 IS NULL AND state <> 'asked'"):
        # A folder that can only be read is as good as it was.
        with suppress(UserError):
            ledger.add_digests([call["call_id"] for call in page if not any(call_faults(call))])


def call_faults(call: dict[str, Any]) -> Iterator[str]:
    """Faults of one call, but that it is not what was recorded."""
    try:
        request, sampling = json.loads(call["request"]), json.loads(call["sampling"])
    except ValueError as error:
        yield f"what was asked is not JSON ({error})"
        return
    if call["identity"] != digest([call["kind"], call["model"], call["digest"], request]):
        yield "the identity is not the digest of what was asked"
    if call["call_id"] != digest([call["identity"], sampling])[:32]:
        yield "the id is not the digest of identity and sampling"
    for name in ("input_tokens", "output_tokens", "seconds", "cost_usd"):
        if call[name] is not None and not (isinstance(call[name], int | float) and call[name] >= 0):
            yield f"{name} is {call[name]!r}"
    if call["state"] != "asked":
        yield from answer_faults(call, request)


def answer_faults(call: dict[str, Any], request: dict[str, Any]) -> Iterator[str]:
    """Faults of the answer to a call."""
    if call["answered_at"] is None:
        yield f"{call['state']}, but without a time"
    try:
        content = json.loads(call["answer"] or "")
        slots, failure = content["responses"], content["failure"]
        texts = [text for text, _, *_ in filter(None, slots) if isinstance(text, str)]
        numbers = read_numbers(call) or []
    except (ValueError, TypeError, KeyError) as error:
        yield f"the answer cannot be read ({type(error).__name__}: {error})"
        return
    if failure != call["failure"] or failure not in (None, *get_args(Failure)):
        yield f"the failure is {failure!r} in the answer and {call['failure']!r} beside it"
    if call["state"] == "answered" and failure is None:
        # A model that refuses after some responses leaves fewer.
        if call["kind"] == "generate" and not 0 < len(texts) <= request["n"]:
            yield f"{len(texts)} responses, {request['n']} were asked for"
        if call["kind"] != "generate" and not numbers:
            yield "no numbers"
    if call["state"] == "failed" and failure is None:
        yield "failed, but without a reason"
