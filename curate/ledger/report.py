"""Report of the ledger: totals by model and day, failures, calls without an answer; and export to Parquet."""

import json
import os
import re
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from curate.ledger.entries import NUMBERS, PendingCall, find_cut_slots
from curate.ledger.ledger import IS_DAMAGED, Ledger, chunks, damaged_call
from schemas.calls import Request
from schemas.errors import UserError

CALLS_PER_PAGE = 1000
WORDS_OF_ERROR = 6

COLUMNS = (
    *("call_id", "identity", "kind", "model", "digest", "request", "sampling", "state", "owner"),
    *("asked_at", "answered_at", "answer", "numbers", "input_tokens", "output_tokens"),
    *("failure", "seconds", "cost_usd", "reused_from"),
)

TOTALS = """
SELECT count(*), count(failure), sum(input_tokens), sum(output_tokens), sum(cost_usd), count(*) - count(cost_usd),
    model, strftime('%Y-%m-%d', answered_at, 'unixepoch') AS day
FROM calls WHERE answered_at IS NOT NULL GROUP BY model, day ORDER BY day, model
"""
"""In the order of the fields of `ModelDay`."""

FAILURES = """
SELECT failure, CASE WHEN json_valid(answer) THEN substr(json_extract(answer, '$.error'), 1, 200) END AS error, count(*)
FROM calls WHERE failure IS NOT NULL GROUP BY failure, error
"""

WAITING = "SELECT owner, count(*) FROM calls WHERE answered_at IS NULL OR asked_at > answered_at GROUP BY owner"
"""A call that failed is asked again under the time of its first answer."""

SPENT = """
SELECT kind, request, sampling, reused_from, input_tokens, output_tokens, seconds FROM calls
WHERE state = 'answered' AND failure IS NULL AND call_id IN
"""


@dataclass(frozen=True)
class SpentCall:
    """What an answered call took."""

    request: Request
    is_repeat: bool
    """It was for responses in place of those that a smaller `--max-tokens` truncated."""
    input_tokens: int
    output_tokens: int
    seconds: float


@dataclass(frozen=True)
class CallTotals:
    """Calls that were answered, summed."""

    calls: int
    failed: int
    input_tokens: int
    output_tokens: int
    cost_usd: float | None
    """The sum of the known costs; null where none is known."""
    unknown_cost: int
    """Calls whose cost is not known."""


@dataclass(frozen=True)
class ModelDay(CallTotals):
    """The calls to one model on one UTC day."""

    model: str
    day: str


@dataclass(frozen=True)
class FailureCount:
    """Calls that failed for one reason."""

    failure: str
    error: str
    """What errors of the kind have in common."""
    calls: int


@dataclass(frozen=True)
class LedgerReport:
    """Totals, failures and unanswered calls of a ledger."""

    path: Path
    bytes: int
    totals: list[ModelDay]
    """By day, then model."""
    failures: list[FailureCount]
    """The most frequent first."""
    under_way: int
    never_answered: int
    """Calls of processes that are gone; those that were sent may have been charged."""

    @property
    def total(self) -> CallTotals:
        """Of all models and days."""
        known = [row.cost_usd for row in self.totals if row.cost_usd is not None]
        return CallTotals(
            calls=sum(row.calls for row in self.totals),
            failed=sum(row.failed for row in self.totals),
            input_tokens=sum(row.input_tokens for row in self.totals),
            output_tokens=sum(row.output_tokens for row in self.totals),
            cost_usd=sum(known) if known else None,
            unknown_cost=sum(row.unknown_cost for row in self.totals),
        )

    def summary(self) -> dict[str, Any]:
        """The JSON object of `curate ledger --json`."""
        return {
            "path": str(self.path),
            "bytes": self.bytes,
            **asdict(self.total),
            "under_way": self.under_way,
            "never_answered": self.never_answered,
            "totals": [{"model": row.model, "day": row.day} | asdict(row) for row in self.totals],
            "failures": [asdict(failure) for failure in self.failures],
        }


@dataclass(frozen=True)
class ExportedCalls:
    """A Parquet file with every call."""

    path: Path
    calls: int
    bytes: int

    def summary(self) -> dict[str, Any]:
        return {**asdict(self), "path": str(self.path)}


def report_ledger(path: Path) -> LedgerReport:
    """Totals by model and UTC day, failures by kind, calls without an answer, and the size of the file."""
    with open_ledger(path) as ledger:
        totals = [ModelDay(*row) for row in ledger.read(TOTALS)]
        failures: Counter[tuple[str, str]] = Counter()
        for failure, error, calls in ledger.read(FAILURES):
            failures[failure, kind_of_error(error or "")] += calls
        waiting = {"under_way": 0, "never_answered": 0}
        for owner, calls in ledger.read(WAITING):
            waiting["under_way" if ledger.owner_is_alive(owner) else "never_answered"] += calls
    return LedgerReport(
        path=path,
        bytes=ledger_bytes(path),
        totals=totals,
        failures=[FailureCount(failure, error, calls) for (failure, error), calls in failures.most_common()],
        **waiting,
    )


def export_calls(path: Path, target: Path) -> ExportedCalls:
    """Every call of the ledger at `path` as a row of a new Parquet file, page by page, with its numbers unpacked.

    Of a call without an answer the cost is null: it may have been charged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if target.exists():
        raise UserError(f"{target} exists already; name another file, or remove it")
    types = {"numbers": pa.list_(pa.float64()), "input_tokens": pa.int64(), "output_tokens": pa.int64()}
    types |= dict.fromkeys(("asked_at", "answered_at", "seconds", "cost_usd"), pa.float64())
    schema = pa.schema([(name, types.get(name, pa.string())) for name in COLUMNS])
    scratch = target.with_name(f".{target.name}.{os.getpid()}")
    calls = 0
    with open_ledger(path) as ledger:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with scratch.open("wb") as stream:
                with pq.ParquetWriter(stream, schema, compression="zstd") as writer:
                    for page in read_pages(ledger):
                        if bad := next((call for call in page if call["is_damaged"]), None):
                            raise damaged_call(path, bad["call_id"])
                        writer.write_table(pa.Table.from_pylist([export_row(call) for call in page], schema))
                        calls += len(page)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(scratch, target)
        except OSError as error:
            raise UserError(f"cannot write {target}: {error.strerror or error}; name another file") from error
        finally:
            with suppress(OSError):
                scratch.unlink(missing_ok=True)
    return ExportedCalls(target, calls, target.stat().st_size)


def export_row(call: dict[str, Any]) -> dict[str, Any]:
    """A call as a row of the Parquet file."""
    try:
        numbers = read_numbers(call)
    except ValueError as error:
        raise UserError(f"call {call['call_id']} is damaged ({error}); see: curate ledger --check") from error
    cost = None if call["answered_at"] is None else call["cost_usd"]
    return {**call, "numbers": numbers, "cost_usd": cost}


def read_numbers(call: dict[str, Any]) -> list[float] | None:
    """The numbers of a call. Raises ValueError for a blob that holds none."""
    if call["numbers"] is None:
        return None
    if call["kind"] not in NUMBERS:
        raise ValueError(f"a call to {call['kind']} has no numbers")
    return array(NUMBERS[call["kind"]], call["numbers"]).tolist()


def read_pages(ledger: Ledger, where: str = "") -> Iterator[list[dict[str, Any]]]:
    """All calls by id, or those of a condition, a page at a time, so that memory does not grow with the ledger."""
    columns = (*COLUMNS, "sha256", f"{IS_DAMAGED} AS is_damaged")
    query = f"SELECT {', '.join(columns)} FROM calls WHERE call_id > ? {where} "
    query += f"ORDER BY call_id LIMIT {CALLS_PER_PAGE}"
    last = ""
    while rows := ledger.read(query, [last]):
        yield [dict(zip((*COLUMNS, "sha256", "is_damaged"), row, strict=True)) for row in rows]
        last = rows[-1][0]


def read_spent(ledger: Ledger, call_ids: Sequence[str]) -> list[SpentCall]:
    """Of the calls, those that were made and answered; one that found all it needed in another was not made."""
    ledger.refuse_damaged(call_ids)
    rows = [row for some, marks in chunks(call_ids) for row in ledger.read(f"{SPENT} ({marks})", some)]
    cut: dict[str, PendingCall] = {}
    for some, marks in chunks([row[3] for row in rows if row[3]]):
        for call_id, text in ledger.read(f"SELECT call_id, answer FROM calls WHERE call_id IN ({marks})", some):
            cut[call_id] = find_cut_slots(call_id, text)
    return [
        SpentCall(Request(kind, **json.loads(request), sampling=json.loads(sampling)), donor is not None, *took)
        for kind, request, sampling, donor, *took in rows
        if donor not in cut or None in cut[donor].slots
    ]


def open_ledger(path: Path) -> Ledger:
    """The ledger at `path`. Raises UserError where there is none; looking makes none."""
    if not path.exists():
        raise UserError(f"no ledger in {path.parent} yet; make calls with: curate build")
    return Ledger(path, to_read=True)


def ledger_bytes(path: Path) -> int:
    """Size of the ledger with what was not yet moved into its main file."""
    files = (path, path.with_name(f"{path.name}-wal"))
    return sum(file.stat().st_size for file in files if file.exists())


def kind_of_error(error: str) -> str:
    """What errors of one kind have in common: the HTTP status, else the first words."""
    if status := re.match(r"HTTP \d{3}", error):
        return status[0]
    said = re.split(r": |, after | \(", error)[0]
    return " ".join(said.split()[:WORDS_OF_ERROR])
