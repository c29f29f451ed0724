"""A file of another kind is refused after a look at its start, whatever its size."""

import json
import os
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

SIZE = 200 * 2**20
ROW = {"left": "a word and another " * 40, "right": "some more of these " * 40, "n": 1}

LOOK = """
import resource, sys
from schemas.errors import UserError
from curate.sources.pairs import read_pairs
from curate.sources.rows import rows_config
import pyarrow.parquet

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

before = peak()
try:
    list(read_pairs(rows_config(sys.argv[1], None, 30)))
except UserError as error:
    print(peak() - before, error)
"""


def write_repeated(path, start: str, item: str, between: str, end: str) -> None:
    block = (item + between).encode() * 1000
    with path.open("wb") as file:
        file.write(start.encode())
        for _ in range(SIZE // len(block)):
            file.write(block)
        file.write((item + end).encode())


def write_tables(path) -> None:
    """One group or batch of rows that cannot be packed."""
    text = os.urandom(SIZE // 2).hex()
    step = len(text) // 100_000
    table = pa.table({"left": [text[i : i + step] for i in range(0, len(text), step)]})
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=10**6, compression="none", use_dictionary=False)
    else:
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table)


@pytest.mark.parametrize(
    "name", ["rows.jsonl", "rows.json", "object.json", "one_value.json", "no_lines.jsonl", "rows.csv"]
)
def test_a_large_text_of_another_kind_is_refused_in_little_memory(tmp_path, name):
    row = json.dumps(ROW)
    layouts = {
        "rows.jsonl": ("", row, "\n", ""),
        "rows.json": ("[", row, ",", "]"),
        "object.json": ('{"version": 1, "things": [', row, ",", "]}"),
        "one_value.json": ('{"left": [', '"word"', ", ", "]}"),
        "no_lines.jsonl": ("", "no word and no line ", "", ""),
        "rows.csv": ("left,right\n", '"a word, and another","more"', "\n", ""),
    }
    write_repeated(tmp_path / name, *layouts[name])

    refuse(tmp_path / name)


@pytest.mark.parametrize("name", ["rows.parquet", "rows.arrow"])
def test_a_large_table_of_another_kind_is_refused_in_little_memory(tmp_path, name):
    write_tables(tmp_path / name)

    refuse(tmp_path / name)


def refuse(path) -> None:
    done = subprocess.run([sys.executable, "-c", LOOK, str(path)], capture_output=True, text=True, check=True)
    path.unlink()
    megabytes, said = done.stdout.split(" ", 1)

    assert int(megabytes) < 150
    assert path.name in said
