"""Read rows of Parquet and Arrow files, a few at a time."""

import json
import mmap
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.sources.row import BadRow, Row, bad_row, plain
from schemas.errors import UserError

BYTES_AT_ONCE = 2**22
ROWS_AT_ONCE = 1024

Decode = Callable[[Any], Any]

LISTS = (pa.ListType, pa.LargeListType, pa.FixedSizeListType, pa.ListViewType, pa.LargeListViewType)


def parquet_rows(stream: IO[bytes], path: str) -> Iterator[Row | BadRow]:
    """Rows of a Parquet file; structs come as dicts, nulls as None, JSON as what it says."""
    with told_of_damage(path, "parquet"):
        content = map_file(stream)
        # buffered, else a group of rows is read whole, and a file may be one group
        table = pq.ParquetFile(pa.BufferReader(pa.py_buffer(content)), buffer_size=BYTES_AT_ONCE)
        groups = range(table.metadata.num_row_groups)
        size = sum(table.metadata.row_group(group).total_byte_size for group in groups)
        step = rows_at_once(size, table.metadata.num_rows)
        yield from table_rows(table.iter_batches(step, use_threads=False), content, path)


def arrow_rows(stream: IO[bytes], path: str) -> Iterator[Row | BadRow]:
    """Rows of an Arrow file of either kind: with the index of its batches at the end, or a stream of them."""
    with told_of_damage(path, "arrow"):
        content = map_file(stream)
        source = pa.BufferReader(pa.py_buffer(content))
        if content[:6] == b"ARROW1":
            file = pa.ipc.open_file(source)
            batches: Iterable[pa.RecordBatch] = map(file.get_batch, range(file.num_record_batches))
        else:
            batches = pa.ipc.open_stream(source)
        yield from table_rows(cut_batches(batches), content, path)


def cut_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same rows, a few at a time."""
    for batch in batches:
        batch.validate()
        step = rows_at_once(batch.get_total_buffer_size(), batch.num_rows)
        for start in range(0, batch.num_rows, step):
            few = batch.slice(start, step)
            for column in few.columns:
                check_values(column)
            yield few


def check_values(array: pa.Array) -> None:
    """Raises an ArrowException where reading a value would read other memory, as in a damaged file.

    `validate` would look at all items that the lists of a file hold, not only at those of these rows.
    """
    if isinstance(array, pa.ExtensionArray):
        check_values(array.storage)
    elif isinstance(array, pa.StructArray):
        for field in array.flatten():
            check_values(field)
    elif isinstance(array, pa.ListArray | pa.LargeListArray):
        ends = array.offsets.to_numpy()
        if (np.diff(ends) < 0).any() or ends[0] < 0 or ends[-1] > len(array.values):
            raise pa.ArrowInvalid("a list ends before it begins, or after all items")
        check_values(array.values.slice(ends[0], ends[-1] - ends[0]))
    else:
        array.validate(full=True)


def rows_at_once(size: int, rows: int) -> int:
    """Rows to turn into Python's objects together, of `rows` that take `size` bytes."""
    return max(1, min(ROWS_AT_ONCE, BYTES_AT_ONCE * rows // max(size, 1)))


def map_file(stream: IO[bytes]) -> mmap.mmap:
    """The bytes of a file, of which those that are read come into memory."""
    return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)


def table_rows(batches: Iterable[pa.RecordBatch], content: mmap.mmap, path: str) -> Iterator[Row | BadRow]:
    """Rows of the batches of one file, whose memory is given back after each."""
    for batch in batches:
        names = batch.schema.names
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise UserError(f"{path} has two columns named '{twice}'; rename one of them")
        yield from batch_rows(batch)
        content.madvise(mmap.MADV_DONTNEED)


def batch_rows(batch: pa.RecordBatch) -> Iterator[Row | BadRow]:
    """Rows of a batch; one with a value that Python has no like of is no row."""
    decoders = {column.name: decode for column in batch.schema if (decode := json_decoder(column.type))}
    try:
        rows = batch.to_pylist()
    except (ValueError, OverflowError):
        rows = [read_alone(batch.slice(i, 1)) for i in range(batch.num_rows)]
    for row in rows:
        if decoders and isinstance(row, dict):
            row.update({name: decode(row[name]) for name, decode in decoders.items()})
        yield row


def read_alone(batch: pa.RecordBatch) -> Row | BadRow:
    """The one row of a batch, or what of it can be shown."""
    is_whole, row = True, {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            row[name] = column.to_pylist()[0]
        except UnicodeDecodeError as error:
            is_whole, row[name] = False, error.object.decode("utf-8", "backslashreplace")
        except (ValueError, OverflowError) as error:
            is_whole, row[name] = False, str(error)
    return row if is_whole else bad_row(json.dumps(row, ensure_ascii=False, default=plain))


def json_decoder(kind: pa.DataType) -> Decode | None:
    """Turns values of a type into what the JSON in them says; None where the type holds no JSON."""
    if isinstance(kind, pa.JsonType):
        return decode_json
    if isinstance(kind, LISTS) and (decode_item := json_decoder(kind.value_type)):
        return lambda value: None if value is None else [decode_item(item) for item in value]
    if isinstance(kind, pa.StructType):
        fields = {field.name: decode for field in kind if (decode := json_decoder(field.type))}
        if fields:
            return lambda value: value and {**value, **{name: decode(value[name]) for name, decode in fields.items()}}
    return None


def decode_json(value: str | None) -> Any:
    """What a JSON text says; what is none stays a text."""
    try:
        return None if value is None else json.loads(value)
    except (ValueError, RecursionError):
        return value


@contextmanager
def told_of_damage(path: str, kind: str) -> Iterator[None]:
    """Turn errors of reading a file into a UserError."""
    try:
        yield
    # ValueError: an empty file, or the name of a column
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{path} is not a whole {kind} file: {reason}") from error
