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

from curate.mix.export_rows import ROWS_PER_BATCH

Record = dict[str, Any]

LINE_ENDS = {"\u2028": "\\u2028", "\u2029": "\\u2029", "\x85": "\\u0085"}
"""Signs that some tools end a line at, as escapes that say the same."""
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""First signs of a cell that a spreadsheet runs."""
LONGEST_CELL = 32_767
"""Characters that a cell of a spreadsheet holds."""

TEXT, NUMBER = pa.string(), pa.float64()
CALL = pa.struct({"id": TEXT, "type": TEXT, "function": pa.struct({"name": TEXT, "arguments": TEXT})})
TURN = {"role": TEXT, "content": TEXT}
CALLING_TURN = TURN | {"tool_calls": pa.list_(CALL), "tool_call_id": TEXT, "name": TEXT}
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
        with pq.ParquetWriter(path, parquet_schema(columns, turns), compression="zstd") as writer:
            table = ParquetFile(writer)
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

    def __init__(self, writer: pq.ParquetWriter) -> None:
        self._writer = writer
        self._records: list[Record] = []
        self.notes: Counter[str] = Counter()

    def add(self, record: Record) -> None:
        self._records.append(record)
        if len(self._records) == ROWS_PER_BATCH:
            self.flush()

    def flush(self) -> None:
        """Write what has been added; a file without records has its columns all the same."""
        stored = [{name: stored_value(value) for name, value in record.items()} for record in self._records]
        self._writer.write_table(pa.Table.from_pylist(stored, schema=self._writer.schema))
        self._records.clear()


def stored_value(value: Any) -> Any:
    """A value as Parquet holds it: the arguments of a call as JSON text, which `Json` columns are stored as."""
    if not isinstance(value, list) or not any(isinstance(turn, dict) and "tool_calls" in turn for turn in value):
        return value
    return [turn | {"tool_calls": [stored_call(call) for call in turn.get("tool_calls", ())]} for turn in value]


def stored_call(call: Record) -> Record:
    arguments = json.dumps(call["function"]["arguments"], ensure_ascii=False)
    return call | {"function": call["function"] | {"arguments": arguments}}


def parquet_schema(columns: tuple[str, ...], turns: Turns) -> pa.Schema:
    """The types of the columns.

    Where tools are called, the schema tells the datasets library that arguments are JSON: it gives them as objects, with
    the fields of this very call and no others.
    """
    fields = {}
    for name in columns:
        kind = TYPES.get(name, TEXT)
        if name in turns.columns:
            kind = pa.list_(pa.struct(CALLING_TURN if turns.call_tools else TURN))
        fields[name] = kind
    schema = pa.schema(fields)
    if not turns.call_tools:
        return schema
    features = {field.name: feature_of(field.type, field.name) for field in schema}
    return schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def feature_of(kind: pa.DataType, name: str = "") -> Any:
    """A type as the datasets library writes it into the metadata of a file."""
    if name == "arguments":
        return {"_type": "Json"}
    if pa.types.is_list(kind):
        return {"feature": feature_of(kind.value_type), "_type": "List"}
    if pa.types.is_struct(kind):
        return {field.name: feature_of(field.type, field.name) for field in kind}
    return {"dtype": {TEXT: "string", NUMBER: "float64", pa.bool_(): "bool"}[kind], "_type": "Value"}


class CsvFile:
    """A table for spreadsheets, which would run a text that begins as a formula does: it gets an apostrophe in front."""

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
