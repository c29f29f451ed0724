"""Write records to the files of an export: JSON Lines, Parquet or a table for spreadsheets."""

import csv
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from curate.mix.export.rows import ROWS_PER_BATCH
from curate.mix.write import TURN, tool_turn

Record = dict[str, Any]

LINE_ENDS = {"\u2028": "\\u2028", "\u2029": "\\u2029", "\x85": "\\u0085"}
"""Signs that some tools end a line at, as escapes that say the same."""
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""First signs of a cell that a spreadsheet runs, in some languages in full width too."""
LONGEST_CELL = 32_767
"""Characters that a cell of a spreadsheet holds."""

TEXT, NUMBER = pa.string(), pa.float64()
TYPES: dict[str, pa.DataType] = {
    "label": pa.bool_(),
    "score_chosen": NUMBER,
    "score_rejected": NUMBER,
    "history": pa.list_(pa.list_(TEXT)),
}
"""Columns that are no text."""


@dataclass(frozen=True)
class Turns:
    """Columns of a Parquet file with lists of messages."""

    columns: tuple[str, ...]
    call_tools: bool
    """Some of the messages call tools."""


class RecordFile(Protocol):
    """A file that records are added to."""

    notes: Counter[str]
    """What was changed or may be cut, with the number of cells."""

    def add(self, record: Record) -> None: ...


@contextmanager
def open_records(path: Path, kind: str, columns: tuple[str, ...], turns: Turns) -> Iterator[RecordFile]:
    """A new file of records with these columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "parquet":
        # The datasets library gives arguments of the JSON type as objects, with the fields of this very call.
        schema = parquet_schema(columns, turns, pa.json_(TEXT))
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            table = ParquetFile(writer, parquet_schema(columns, turns, TEXT))
            yield table
            table.flush()
        return
    with path.open("w", encoding="utf-8-sig" if kind == "csv" else "utf-8", newline="") as stream:
        yield CsvFile(stream, columns) if kind == "csv" else JsonlFile(stream)


class JsonlFile:
    """One JSON object a line."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.notes: Counter[str] = Counter()

    def add(self, record: Record) -> None:
        text = json.dumps(record, ensure_ascii=False, allow_nan=False)
        for sign, escape in LINE_ENDS.items():
            text = text.replace(sign, escape)
        self._stream.write(f"{text}\n")


class ParquetFile:
    """Columns of typed values, written a batch at a time."""

    def __init__(self, writer: pq.ParquetWriter, plain: pa.Schema) -> None:
        self._writer = writer
        self._plain = plain
        """The schema of records as Python has them."""
        self._records: list[Record] = []
        self.notes: Counter[str] = Counter()

    def add(self, record: Record) -> None:
        self._records.append(record)
        if len(self._records) == ROWS_PER_BATCH:
            self.flush()

    def flush(self) -> None:
        """Write what has been added; no group without rows, at which the datasets library stops."""
        if not self._records:
            return
        rows = pa.Table.from_pylist(self._records, schema=self._plain)
        self._writer.write_table(rows.cast(self._writer.schema))
        self._records.clear()


def parquet_schema(columns: tuple[str, ...], turns: Turns, arguments: pa.DataType) -> pa.Schema:
    """The types of the columns; messages have the fields of calls only where some call tools."""
    messages = pa.list_(tool_turn(arguments) if turns.call_tools else TURN)
    return pa.schema([(name, messages if name in turns.columns else TYPES.get(name, TEXT)) for name in columns])


class CsvFile:
    """A table for spreadsheets, which run a text that begins as a formula does: such a text gets an apostrophe."""

    def __init__(self, stream: Any, columns: tuple[str, ...]) -> None:
        self._writer = csv.DictWriter(stream, columns)
        self._writer.writeheader()
        self.notes: Counter[str] = Counter()

    def add(self, record: Record) -> None:
        self._writer.writerow({name: self._cell(value) for name, value in record.items()})

    def _cell(self, value: Any) -> Any:
        if isinstance(value, list):
            value = ", ".join(value)
        if not isinstance(value, str):
            return value
        if value.startswith(FORMULA):
            self.notes["defused"] += 1
            value = f"'{value}"
        self.notes["long"] += len(value) > LONGEST_CELL
        return value
