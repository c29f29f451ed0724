"""Any kind of file may be packed, and one that is not whole is refused."""

import gzip

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.sources.rows import first_rows, raw_rows, rows_config
from schemas.errors import UserError

ROWS = [{"prompt": f"Question {i}, and why?"} for i in range(40)]
LINES = [row["prompt"] for row in ROWS]


def pack(content, packing):
    return gzip.compress(content) if packing == ".gz" else pa.compress(content, codec="zstd", asbytes=True)


def content(ending, tmp_path):
    table = pa.Table.from_pylist(ROWS)
    match ending:
        case ".parquet":
            pq.write_table(table, tmp_path / "plain")
        case ".arrow":
            with pa.ipc.new_stream(tmp_path / "plain", table.schema) as writer:
                writer.write_table(table)
        case ".csv" | ".tsv":
            (tmp_path / "plain").write_text("prompt\n" + "".join(f'"{line}"\n' for line in LINES))
        case ".txt":
            (tmp_path / "plain").write_text("\n".join(LINES))
        case ".json":
            (tmp_path / "plain").write_text('{"data": [' + ",".join(f'{{"prompt": "{line}"}}' for line in LINES) + "]}")
        case _:
            (tmp_path / "plain").write_text("\n".join(f'{{"prompt": "{line}"}}' for line in LINES))
    return (tmp_path / "plain").read_bytes()


every_packing = pytest.mark.parametrize("packing", [".gz", ".zst"])
every_ending = pytest.mark.parametrize("ending", [".jsonl", ".json", ".csv", ".tsv", ".txt", ".parquet", ".arrow"])


@every_packing
@every_ending
def test_any_file_is_read_packed(tmp_path, ending, packing):
    path = tmp_path / f"rows{ending}{packing}"
    path.write_bytes(pack(content(ending, tmp_path), packing))
    plain = tmp_path / "rows.jsonl"
    plain.write_bytes(content(".jsonl", tmp_path))

    assert list(raw_rows(rows_config(str(path), None, None))) == ROWS
    assert list(raw_rows(rows_config(str(path), 9, 5))) == list(raw_rows(rows_config(str(plain), 9, 5)))
    assert first_rows(rows_config(str(path), None, 5), 7) == ROWS[:7]


@every_packing
@every_ending
@pytest.mark.parametrize("cut", [1, 9, -1])
def test_a_packed_file_that_is_cut_short_is_refused(tmp_path, ending, packing, cut):
    path = tmp_path / f"rows{ending}{packing}"
    path.write_bytes(pack(content(ending, tmp_path), packing)[:cut])

    for seed in (None, 5):
        with pytest.raises(UserError, match=r"is not a whole (gzip|zstd) file: ."):
            list(raw_rows(rows_config(str(path), None, seed)))


@every_packing
def test_a_file_that_is_not_packed_is_refused(tmp_path, packing):
    path = tmp_path / f"rows.jsonl{packing}"
    path.write_bytes(b'{"prompt": "hi"}')

    with pytest.raises(UserError, match=r"is not a whole (gzip|zstd) file: ."):
        list(raw_rows(rows_config(str(path), None, 5)))


@every_packing
def test_several_packed_files_one_after_another_are_one(tmp_path, packing):
    path = tmp_path / f"rows.jsonl{packing}"
    path.write_bytes(b"".join(pack(f'{{"n": {i}}}\n'.encode(), packing) for i in range(3)))

    assert list(raw_rows(rows_config(str(path), None, None))) == [{"n": 0}, {"n": 1}, {"n": 2}]


@every_packing
def test_the_first_rows_need_no_whole_file(tmp_path, packing):
    path = tmp_path / f"rows.jsonl{packing}"
    lines = b"".join(b'{"n": %d, "text": "%s"}\n' % (i, bytes(str(hash(str(i))), "ascii") * 9) for i in range(20_000))
    path.write_bytes(pack(lines, packing)[:-1000])

    assert [row["n"] for row in first_rows(rows_config(str(path), None, 5), 10)] == list(range(10))


def test_a_full_disk_for_temporary_files_is_named(tmp_path, monkeypatch):
    import resource

    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"prompt": "hi"}\n' * 10_000))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(UserError, match=r"cannot write to .* name another folder by TMPDIR"):
            list(raw_rows(rows_config(str(path), None, 5)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
