"""Rows of Parquet and Arrow files are what was written, whatever the types, a few at a time."""

import io
import json
from contextlib import suppress
from decimal import Decimal

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curate.sources import arrow_rows
from curate.sources.row import BadRow
from curate.sources.rows import first_rows, raw_rows, rows_config
from schemas.errors import UserError

KINDS = ["parquet", "file", "stream", "feather"]
TURNS = [{"role": "user", "content": "Why?"}]


@pytest.fixture
def write(tmp_path):
    """Write a table to a file of this kind; gives its path."""

    def make(table, kind, rows_in_a_batch=None):
        table = pa.table(table) if isinstance(table, dict) else table
        path = tmp_path / {"parquet": "rows.parquet", "feather": "rows.feather"}.get(kind, f"{kind}.arrow")
        if kind == "parquet":
            pq.write_table(table, path, row_group_size=rows_in_a_batch)
        else:
            new = pa.ipc.new_stream if kind == "stream" else pa.ipc.new_file
            with pa.OSFile(str(path), "wb") as file, new(file, table.schema) as writer:
                writer.write_table(table, max_chunksize=rows_in_a_batch)
        return path

    return make


def read(path, seed=None):
    return list(raw_rows(rows_config(str(path), None, seed)))


every_kind = pytest.mark.parametrize("kind", KINDS)


@every_kind
def test_a_table_without_rows_is_named(write, kind):
    path = write({"prompt": pa.array([], pa.string())}, kind)

    for seed in (None, 3):
        with pytest.raises(UserError, match="has no rows"):
            read(path, seed)


@every_kind
@pytest.mark.parametrize("keep", [1, 8, 100, -1])
def test_a_file_that_is_cut_short_is_refused(write, kind, keep):
    path = write({"prompt": [f"question {i}" for i in range(1000)]}, kind)
    content = path.read_bytes()
    path.write_bytes(content[:keep] if keep > 0 else content[: len(content) // 2])

    with pytest.raises(UserError, match=r"is not a whole (parquet|arrow) file: ."):
        read(path, 3)


@every_kind
def test_two_columns_of_a_name_are_refused(write, kind):
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["chosen", "chosen"])

    with pytest.raises(UserError, match="has two columns named 'chosen'"):
        read(write(table, kind))


@every_kind
@pytest.mark.parametrize("rows_in_a_batch", [7, 100_000])
def test_rows_come_a_few_at_a_time_and_all(write, kind, rows_in_a_batch, monkeypatch):
    monkeypatch.setattr(arrow_rows, "BYTES_AT_ONCE", 500)
    rows = [{"prompt": f"question {i}", "turns": TURNS, "n": i} for i in range(300)]
    path = write(pa.Table.from_pylist(rows), kind, rows_in_a_batch)

    assert read(path) == rows
    assert sorted(read(path, 3), key=lambda row: row["n"]) == rows
    assert first_rows(rows_config(str(path), None, 3), 9) == rows[:9]


@every_kind
def test_any_type_of_text_and_number_is_read(write, kind):
    columns = {
        "dictionary": pa.array(["a", None, "a"]).dictionary_encode(),
        "large": pa.array(["a", None, ""], pa.large_string()),
        "view": pa.array(["a", None, "longer than twelve bytes"], pa.string_view()),
        "int8": pa.array([8, None, -1], pa.int8()),
        "uint16": pa.array([2, None, 65535], pa.uint16()),
        "half": pa.array([1.5, None, 2.0], pa.float16()),
        "decimal": pa.array([Decimal("7.5"), None, Decimal("1.0")]),
        "null": pa.nulls(3),
        "list": pa.array([["a"], None, []], pa.large_list(pa.large_string())),
        "fixed": pa.array([["a"], None, ["b"]], pa.list_(pa.string(), 1)),
        "dictionaries": pa.array([["a", "b"], None, []], pa.list_(pa.dictionary(pa.int32(), pa.string()))),
        "bytes": pa.array([b"\xff", None, b""]),
    }
    if kind == "parquet":
        columns["half"] = pa.array([1.5, None, 2.0], pa.float32())

    assert read(write(columns, kind)) == pa.table(columns).to_pylist()


@every_kind
def test_fields_of_type_null_are_none(write, kind):
    turn = pa.struct({"role": pa.string(), "content": pa.string(), "tool_calls": pa.null(), "name": pa.null()})
    table = {"chosen": pa.array([TURNS, None], pa.list_(turn)), "extra": pa.nulls(2, pa.struct({"a": pa.null()}))}

    assert read(write(table, kind)) == [
        {"chosen": [TURNS[0] | {"tool_calls": None, "name": None}], "extra": None},
        {"chosen": None, "extra": None},
    ]


@every_kind
def test_json_is_read_as_what_it_says_wherever_it_lies(write, kind):
    texts = pa.array([json.dumps(TURNS), None, "5", "no json"], pa.json_())
    items = pa.ListArray.from_arrays([0, 1, 1, 2, 2], pa.array(['{"a": [1, "b"]}', "null"], pa.json_()))
    table = {
        "chosen": texts,
        "items": items,
        "struct": pa.StructArray.from_arrays([texts], names=["inner"]),
        "large": pa.array([json.dumps(TURNS)] * 4, pa.json_(pa.large_string())),
    }

    rows = read(write(table, kind))

    assert [row["chosen"] for row in rows] == [TURNS, None, 5, "no json"]
    assert [row["items"] for row in rows] == [[{"a": [1, "b"]}], [], [None], []]
    assert [row["struct"] for row in rows] == [{"inner": value} for value in (TURNS, None, 5, "no json")]
    assert rows[0]["large"] == TURNS


def test_json_of_other_writers_is_read_too(tmp_path):
    pq.write_table(pa.table({"a": pa.array(['{"b": 1}'], pa.json_())}), tmp_path / "rows.parquet", store_schema=False)

    assert read(tmp_path / "rows.parquet") == [{"a": {"b": 1}}]


@every_kind
def test_a_value_that_is_none_of_pythons_costs_only_its_row(write, kind):
    first, second = read(write({"prompt": ["a", "b"], "day": pa.array([0, 2**31 - 1], pa.date32())}, kind))

    assert first["prompt"] == "a"
    assert isinstance(second, BadRow)
    assert json.loads(second.raw)["prompt"] == "b"


def test_a_text_that_is_no_utf8_costs_only_its_row(write):
    texts = pa.Array.from_buffers(pa.string(), 2, pa.array([b"ok", b"caf\xe9"]).buffers())

    assert read(write({"prompt": texts, "n": [1, 2]}, "parquet")) == [
        {"prompt": "ok", "n": 1},
        BadRow('{"prompt": "caf\\\\xe9", "n": 2}'),
    ]


@given(data=st.data())
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_damaged_file_gives_rows_or_is_refused(tmp_path, data):
    table = pa.table(
        {
            "prompt": [f"question {i}" for i in range(9)],
            "turns": [TURNS * (i % 3) for i in range(9)],
            "word": pa.array(["a", "b", None] * 3).dictionary_encode(),
            "json": pa.array(['{"a": 1}'] * 9, pa.json_()),
        }
    )
    file = io.BytesIO()
    kind = data.draw(st.sampled_from(KINDS))
    if kind == "parquet":
        pq.write_table(table, file, row_group_size=4)
    else:
        with (pa.ipc.new_stream if kind == "stream" else pa.ipc.new_file)(file, table.schema) as writer:
            writer.write_table(table, max_chunksize=4)
    content = bytearray(file.getvalue())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        content[place] ^= 1 << data.draw(st.integers(0, 7))
    path = tmp_path / ("rows.parquet" if kind == "parquet" else "rows.arrow")
    path.write_bytes(content)

    with suppress(UserError):
        assert all(isinstance(row, dict | BadRow) for row in read(path, 3))


def test_compressed_batches_are_read(tmp_path):
    rows = [{"prompt": f"question {i}"} for i in range(50)]
    pl.DataFrame(rows).write_ipc(tmp_path / "rows.arrow", compression="zstd")

    assert read(tmp_path / "rows.arrow") == rows
