"""Rows come in the seeded order, and nothing in a file is lost without a word."""

import gzip
import json
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.sources.rows import BadRow, RowsConfig, raw_rows, raw_text, rows_config, shuffle_rows
from schemas.errors import UserError

LINES = [json.dumps({"prompt": f"Question {i}"}) for i in range(50)]


def read(path: Path | str, num_rows: int | None = None, seed: int | None = 30) -> list:
    return list(raw_rows(rows_config(str(path), num_rows, seed)))


def write(path: Path, content: str | bytes) -> Path:
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def test_missing_file_is_named():
    with pytest.raises(UserError, match=r"no file absent\.jsonl; give a file"):
        rows_config("absent.jsonl", None, 30)


def test_missing_file_in_a_folder_is_not_taken_for_a_hub_dataset():
    with pytest.raises(UserError, match=r"no file data/absent\.jsonl; give a file"):
        rows_config("data/absent.jsonl", None, 30)


def test_folder_is_refused_with_the_files_in_it(tmp_path):
    with pytest.raises(UserError, match=r"did not write; it holds no file that can be read: \.jsonl, "):
        rows_config(str(tmp_path), None, 30)

    for name in ("b.csv", "a.jsonl.gz", "notes.md"):
        write(tmp_path / name, "prompt\nhi\n")
    with pytest.raises(UserError, match=r"it holds a\.jsonl\.gz, b\.csv; give one file"):
        rows_config(str(tmp_path), None, 30)


@pytest.mark.parametrize("name", ["rows.xlsx", "rows", "rows.gz", "rows.jsonl.bz2"])
def test_unknown_ending_is_refused_with_the_known_ones(tmp_path, name):
    with pytest.raises(UserError, match=rf"{name}: expected a file, \.jsonl, .* or \.feather, also with \.gz or \.zst"):
        rows_config(str(write(tmp_path / name, b"prompt\nhi\n")), None, 30)


@pytest.mark.parametrize("name", ["Rows.JSONL", "rows.Jsonl.GZ"])
def test_ending_is_known_in_capitals_too(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(gzip.compress(b'{"prompt": "hi"}') if name.endswith("GZ") else b'{"prompt": "hi"}')

    assert read(path) == [{"prompt": "hi"}]


def test_address_is_refused_without_its_password():
    with pytest.raises(UserError) as error:
        rows_config("https://me:secret@host/rows.jsonl", None, 30)

    assert "secret" not in str(error.value)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.parquet"])
def test_file_of_no_bytes_is_empty(tmp_path, name):
    with pytest.raises(UserError, match=f"{name} is empty"):
        rows_config(str(write(tmp_path / name, b"")), None, 30)


@pytest.mark.parametrize(
    ("name", "content"),
    [("rows.jsonl", "\n \r\n\n"), ("rows.jsonl.gz", ""), ("rows.json", "[]"), ("rows.json.gz", " [ ] ")],
)
def test_file_of_no_rows_is_named(tmp_path, name, content):
    with pytest.raises(UserError, match=f"{name} has no rows"):
        read(write(tmp_path / name, content))


def test_parquet_file_of_no_rows_is_named(tmp_path):
    pl.DataFrame({"prompt": []}, schema={"prompt": pl.String}).write_parquet(tmp_path / "rows.parquet")

    with pytest.raises(UserError, match=r"rows\.parquet has no rows"):
        read(tmp_path / "rows.parquet")


@pytest.mark.parametrize("num_rows", [0, -1])
def test_fewer_than_one_row_is_refused(num_rows):
    with pytest.raises(UserError, match=r"^--num-prompts must be at least 1$"):
        rows_config("rows.jsonl", num_rows, 30)


def test_negative_seed_is_refused():
    with pytest.raises(UserError, match="--seed must be at least 0"):
        rows_config("rows.jsonl", None, -1)


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("rows.json", "[{", "is no JSON that holds rows"),
        ("rows.json", "prompt,chosen", "is no JSON that holds rows .it begins with 'prompt,chosen'"),
        ("rows.json", " \n", "is no JSON that holds rows .it is blank"),
        ("rows.parquet", "PAR1 but not really PAR1", "is not a whole parquet file"),
    ],
)
def test_file_that_is_not_what_its_name_says_is_refused(tmp_path, name, content, found):
    with pytest.raises(UserError, match=f"{name} {found}"):
        read(write(tmp_path / name, content))


@pytest.mark.parametrize("cut", [5, 40, -4])
def test_gzip_file_cut_short_is_refused(tmp_path, cut):
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(LINES).encode())[:cut])

    with pytest.raises(UserError, match="is not a whole gzip file"):
        read(path)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_blank_lines_are_not_rows(tmp_path, name):
    path = write(tmp_path / name, "\n\n" + "\n  \n".join(LINES) + "\r\n\n")

    rows = read(path)

    assert sorted(map(raw_text, rows)) == sorted(LINES)


@pytest.mark.parametrize(
    ("line", "raw"),
    [
        (b'{"prompt": "Why is', '{"prompt": "Why is'),
        (b'["a", "b"]', '["a", "b"]'),
        (b"null", "null"),
        (b'{"prompt": "caf\xe9"}', '{"prompt": "caf\\xe9"}'),
        (b"[" * 100_000, "[" * 10_000),
        (b'{"n": ' + b"9" * 5000 + b"}", '{"n": ' + "9" * 5000 + "}"),
    ],
    ids=["half_a_line", "array", "null", "invalid_utf8", "too_deep", "too_long_a_number"],
)
def test_line_that_is_no_json_object_is_kept_as_it_came(tmp_path, line, raw):
    path = write(tmp_path / "rows.jsonl", b'{"prompt": "hi"}\n' + line)

    rows = read(path)

    assert sorted(rows, key=lambda row: isinstance(row, BadRow)) == [{"prompt": "hi"}, BadRow(raw)]


def test_item_of_an_array_that_is_no_object_is_kept_as_it_came(tmp_path):
    rows = read(write(tmp_path / "rows.json", '["é", {"prompt": "hi"}]'))

    assert sorted(rows, key=lambda row: isinstance(row, dict)) == [BadRow('"é"'), {"prompt": "hi"}]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json"])
def test_byte_order_mark_is_ignored(tmp_path, name):
    content = '{"prompt": "hi"}' if name.endswith("l") else '[{"prompt": "hi"}]'

    assert read(write(tmp_path / name, b"\xef\xbb\xbf" + content.encode())) == [{"prompt": "hi"}]


def test_line_separators_inside_a_text_do_not_end_its_line(tmp_path):
    row = {"prompt": "one\u2028two\x85three\x0cfour"}

    assert read(write(tmp_path / "rows.jsonl", json.dumps(row, ensure_ascii=False))) == [row]


def test_parquet_nulls_are_none_and_structs_are_dicts(tmp_path):
    rows = [{"prompt": None, "chosen": [{"role": "user", "content": "hi"}], "meta": {"a": None}}]
    pl.DataFrame(rows, schema_overrides={"prompt": pl.String}).write_parquet(tmp_path / "rows.parquet")

    assert read(tmp_path / "rows.parquet") == rows


def test_all_formats_give_the_same_rows_in_the_same_order(tmp_path):
    rows = [json.loads(line) for line in LINES]
    write(tmp_path / "rows.jsonl", "\n".join(LINES))
    write(tmp_path / "rows.jsonl.gz", "\n".join(LINES))
    write(tmp_path / "rows.json", json.dumps(rows))
    write(tmp_path / "rows.json.gz", json.dumps(rows))
    pl.DataFrame(rows).write_parquet(tmp_path / "rows.parquet")

    found = [read(path) for path in sorted(tmp_path.iterdir())]

    assert len(found) == 5
    assert all(order == found[0] for order in found)
    assert found[0] != rows


def test_order_is_that_of_the_datasets_library(tmp_path):
    import datasets

    path = write(tmp_path / "rows.jsonl", "\n".join(LINES))
    shuffle = datasets.Dataset.from_list([json.loads(line) for line in LINES]).shuffle(seed=30)

    assert read(path, num_rows=24) == shuffle.select(range(24)).to_list()


@given(count=st.integers(1, 200), few=st.integers(1, 250), more=st.integers(0, 250), seed=st.integers(0, 2**32))
def test_fewer_rows_are_a_prefix_of_more(count, few, more, seed):
    short = shuffle_rows(RowsConfig("rows.jsonl", "", few, seed), count)
    long = shuffle_rows(RowsConfig("rows.jsonl", "", few + more, seed), count)

    assert long[: len(short)] == short
    assert len(short) == min(few, count)
    assert sorted(shuffle_rows(RowsConfig("rows.jsonl", "", None, seed), count)) == list(range(count))


def test_digest_follows_the_bytes(tmp_path):
    first, same, other = (
        rows_config(str(write(tmp_path / f"{name}.jsonl", content)), None, 30).sha256
        for name, content in [("a", LINES[0]), ("b", LINES[0]), ("c", LINES[1])]
    )

    assert first == same != other
    assert len(first) == 64


@pytest.mark.parametrize("num_rows", [None, 7])
def test_without_a_seed_the_rows_come_as_they_lie(tmp_path, num_rows):
    path = write(tmp_path / "rows.jsonl", "\n".join(LINES))

    assert read(path, num_rows, seed=None) == [json.loads(line) for line in LINES][:num_rows]
