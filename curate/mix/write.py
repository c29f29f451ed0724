"""Write the rows of a mix as Parquet files that load anywhere, in bounded memory.

Rows of builds lie in the order they were made, those of a mix in random order. So the builds are read once, their rows
are sorted in blocks that fit into memory, and each row group is put together from its slices of all blocks.
"""

import hashlib
import io
import itertools
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import dataframely as dy
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from curate.mix.public_names import public_model
from curate.store.mixes import LINEAGE, WORDS
from curate.store.store import Table
from schemas.tables import MixLineage, MixRow
from schemas.tool_turns import CallUnread, has_tool_turns, stored_form

BYTES_PER_BLOCK = 2**27
ROWS_PER_GROUP = 8_192
BYTES_PER_SHARD = 495 * 10**6
"""Most bytes of row groups in a file, which with their index at its end are under 500 MB."""

TURN = pa.struct([("role", pa.string()), ("content", pa.string())])


def tool_turn(arguments: pa.DataType) -> pa.StructType:
    """A message of a mix in which tools are called, as chat templates have it, with the calls as they came."""
    function = pa.struct([("name", pa.string()), ("arguments", arguments)])
    call = pa.struct([("id", pa.string()), ("type", pa.string()), ("function", function)])
    texts = [(name, pa.string()) for name in ("tool_call_id", "name")]
    return pa.struct([*TURN, ("tool_calls", pa.list_(call)), *texts, ("tool_call_turns", pa.list_(pa.string()))])


TOOL_TURN = tool_turn(pa.json_(pa.string()))
"""The datasets library gives arguments of this type as objects."""

PAIR_COLUMNS = {
    **{"messages": "prompt", "chosen": "chosen", "rejected": "rejected", "tools": "tools"},
    **{name: name for name in ("prompt_id", "prompt_group", "pair_id", "score_chosen", "score_rejected")},
    **{name: name for name in ("scorer", "origin", "flaw", "license", "z_chosen", "z_rejected")},
    **{name: name for name in ("chosen_call", "rejected_call", "chosen_finish", "rejected_finish")},
    **{"chosen_reasoning": "reasoning_chosen", "rejected_reasoning": "reasoning_rejected"},
}
"""Column of `Pair` -> what it is called in a mix."""
NUMBERS = {name: pa.float64() for name in ("score_chosen", "score_rejected", "z_chosen", "z_rejected")}
SPILLED = pa.schema(
    [(name, NUMBERS.get(name, pa.string()) if name != "prompt" else pa.list_(TURN)) for name in PAIR_COLUMNS.values()]
)
"""Pairs as they lie in a block."""
FEW_VALUES = ["source", "scorer", "origin", "flaw", "license", "split", "verdict", "chosen_finish", "rejected_finish"]
"""Columns that are written as numbers of a dictionary, with the roles."""
ROLES = [f"{column}.list.element.role" for column in ("prompt", "chosen", "rejected")]


def write_rows(rows: pl.DataFrame, tables: Mapping[str, Table], folder: Path) -> dict[str, str]:
    """Write the chosen rows with their texts and lineage into a folder; returns file -> SHA-256.

    `rows` are those of `ChosenRows`, and `tables` the pairs of each source.
    """
    by_split: dict[str, pl.DataFrame] = {split: rows.filter(pl.col("split") == split) for split in WORDS}
    ordered = pl.concat(by_split.values()).with_row_index("row")
    starts = group_starts([part.height for part in by_split.values()])
    blocks = folder / "blocks"
    blocks.mkdir()
    try:
        has_calls = spill_blocks(ordered, tables, starts, blocks)
        schema, lineage_schema = mix_schema(has_calls), arrow_schema(MixLineage)
        groups = merge_groups(blocks, len(starts))
        files: dict[str, str] = {}
        done = 0
        with ParquetFile(folder / LINEAGE, lineage_schema) as lineage:
            for split, word in WORDS.items():
                with Shards(folder, word, schema) as shards:
                    end = done + by_split[split].height
                    while done < end:
                        group = next(groups)
                        facts = ordered.slice(done, group.num_rows)
                        shards.write(mix_rows(group, facts, schema))
                        lineage.write(lineage_rows(group, facts, lineage_schema))
                        done += group.num_rows
                files |= shards.files
        return {**files, LINEAGE: lineage.sha256}
    finally:
        shutil.rmtree(blocks)


def group_starts(counts: Sequence[int]) -> NDArray[np.int64]:
    """The first row of each row group; no group holds rows of two splits, which have so many rows each."""
    ends = np.cumsum([0, *counts])
    return np.concatenate([np.arange(ends[i], ends[i + 1], ROWS_PER_GROUP) for i in range(len(counts))])


def spill_blocks(ordered: pl.DataFrame, tables: Mapping[str, Table], starts: NDArray[np.int64], folder: Path) -> bool:
    """Write the pairs into files of sorted blocks, with one batch a row group; returns whether any calls a tool."""
    pending: list[pa.Table] = []
    has_calls = False
    count = 0
    for part in chosen_parts(ordered, tables):
        roles = pc.struct_field(pc.list_flatten(part["prompt"]), "role")
        has_calls |= bool(pc.any(pc.is_in(roles, pa.array(["tool_call", "tool"]))).as_py())
        pending.append(part)
        if sum(each.nbytes for each in pending) > BYTES_PER_BLOCK:
            write_block(pending, starts, folder / f"{count:06d}.arrow")
            count += 1
            pending = []
    if pending:
        write_block(pending, starts, folder / f"{count:06d}.arrow")
    return has_calls


def chosen_parts(ordered: pl.DataFrame, tables: Mapping[str, Table]) -> Iterator[pa.Table]:
    """The chosen pairs of each part of each table, with `row`, their place in the mix."""
    for name, table in tables.items():
        chosen = ordered.filter(pl.col("source") == name).sort("at")
        places, rows = chosen["at"].to_numpy(), chosen["row"].to_numpy()
        first = 0
        for path, part in zip(table.whole_files(), table.manifest.parts, strict=True):
            begin, end = np.searchsorted(places, [first, first + part.rows])
            if end > begin:
                read = pq.ParquetFile(path).read(list(PAIR_COLUMNS)).rename_columns(list(PAIR_COLUMNS.values()))
                if end - begin < part.rows:
                    read = read.take(places[begin:end] - first)
                yield read.cast(SPILLED).append_column("row", pa.array(rows[begin:end]))
            first += part.rows


def write_block(parts: list[pa.Table], starts: NDArray[np.int64], path: Path) -> None:
    """Write the rows of some parts in order, with a batch for each row group, empty where none belongs to it."""
    block = in_order(pa.concat_tables(parts))
    parts.clear()
    (whole,) = block.to_batches()
    cuts = [*np.searchsorted(whole["row"].to_numpy(), starts), whole.num_rows]
    with pa.ipc.new_file(path, block.schema) as file:
        for begin, end in itertools.pairwise(cuts):
            file.write_batch(whole.slice(begin, end - begin))


def merge_groups(folder: Path, count: int) -> Iterator[pa.Table]:
    """The rows of each row group, from all blocks."""
    with ExitStack() as opened:
        blocks = [
            pa.ipc.open_file(opened.enter_context(pa.OSFile(str(path)))) for path in sorted(folder.glob("*.arrow"))
        ]
        for i in range(count):
            yield in_order(pa.Table.from_batches([block.get_batch(i) for block in blocks]))


def in_order(rows: pa.Table) -> pa.Table:
    """The rows by their place in the mix, in one piece."""
    return rows.take(np.argsort(rows["row"].to_numpy(), kind="stable")).combine_chunks()


def mix_rows(group: pa.Table, facts: pl.DataFrame, schema: pa.Schema) -> pa.Table:
    """Rows of `MixRow`."""
    columns = {
        **{name: group[name] for name in group.column_names},
        **{side: as_messages(group[side]) for side in ("chosen", "rejected")},
        "source": facts["source"].to_arrow(),
        "scorer": public_scorers(group["scorer"]),
    }
    if schema.field("prompt").type != SPILLED.field("prompt").type:
        told = [told_turns(turns) for turns in group["prompt"].to_pylist()]
        columns["prompt"] = pa.array(told, pa.list_(tool_turn(pa.string()))).cast(pa.list_(TOOL_TURN))
    return cast_rows(columns, schema)


def public_scorers(names: pa.ChunkedArray) -> pa.Array:
    """What gave the scores, without the address of an endpoint or the folder of a model."""
    found = names.combine_chunks().dictionary_encode()
    return pa.array(map(public_model, found.dictionary.to_pylist()), pa.string()).take(found.indices)


def told_turns(turns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages of a prompt; one with a call that cannot be read keeps its turns, as one without calls does."""
    try:
        return stored_form(turns) if has_tool_turns(turns) else turns
    except CallUnread:
        return turns


def as_messages(responses: pa.ChunkedArray) -> pa.Array:
    """Each response as a list of one message."""
    texts = responses.combine_chunks()
    role = pa.repeat(pa.scalar("assistant"), len(texts))
    messages = pa.StructArray.from_arrays([role, texts], fields=list(TURN))
    return pa.ListArray.from_arrays(pa.array(np.arange(len(texts) + 1, dtype=np.int32)), messages)


def lineage_rows(group: pa.Table, facts: pl.DataFrame, schema: pa.Schema) -> pa.Table:
    """Rows of `MixLineage`."""
    own = facts.select("split", "source", "flags", "verdict", "answers").to_arrow()
    columns = {name: table[name] for table in (group, own) for name in table.column_names}
    return cast_rows(columns, schema)


def cast_rows(columns: Mapping[str, Any], schema: pa.Schema) -> pa.Table:
    return pa.table({name: columns[name] for name in schema.names}).cast(schema)


def mix_schema(has_calls: bool) -> pa.Schema:
    """The schema of the files of rows; messages have the fields of calls only in a mix that has calls."""
    sides = {side: pa.list_(TURN) for side in ("chosen", "rejected")}
    return arrow_schema(MixRow, prompt=pa.list_(TOOL_TURN if has_calls else TURN), **sides)


def arrow_schema(rows: type[dy.Schema], **types: pa.DataType) -> pa.Schema:
    """The schema of a table of ours in the types that every reader knows; those of messages are given."""
    plain = {pl.String: pa.string(), pl.Float64: pa.float64(), pl.UInt32: pa.uint32()}
    columns = rows.columns()
    return pa.schema(
        [
            pa.field(name, types.get(name) or plain.get(type(column.dtype), pa.list_(pa.string())), column.nullable)
            for name, column in columns.items()
        ]
    )


class Sink(io.BufferedWriter):
    """A file under way that knows the size and the digest of what was written."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path, "w"))
        self._digest = hashlib.sha256()
        self.size = 0

    def write(self, content: Any) -> int:
        self._digest.update(content)
        self.size += len(content)
        return super().write(content)

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


class ParquetFile:
    """A Parquet file under way."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._sink = Sink(path)
        names = [*(name for name in FEW_VALUES if name in schema.names), *ROLES]
        self._writer = pq.ParquetWriter(
            self._sink, schema, compression="zstd", use_dictionary=names, write_statistics=False
        )

    def __enter__(self) -> "ParquetFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()
        self._sink.close()

    def write(self, rows: pa.Table) -> None:
        """Write a row group."""
        self._writer.write_table(rows, row_group_size=rows.num_rows)

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._sink.size

    @property
    def sha256(self) -> str:
        """Of the closed file."""
        return self._sink.sha256


class Shards:
    """The files of a split, none of them larger than `BYTES_PER_SHARD`; none at all for a split without rows.

    The datasets library loads no split that has a file and no rows.
    """

    def __init__(self, folder: Path, word: str, schema: pa.Schema) -> None:
        self._folder, self._word, self._schema = folder, word, schema
        self._shards: list[ParquetFile] = []
        self._largest = 0
        self.files: dict[str, str] = {}
        """File -> SHA-256, when all are written."""

    def __enter__(self) -> "Shards":
        return self

    def _path(self, number: int) -> Path:
        return self._folder / f"{self._word}-{number:05d}"

    def write(self, rows: pa.Table) -> None:
        """Write a row group, into the next file where this one could grow too large."""
        if not self._shards or self._shards[-1].size + self._largest > BYTES_PER_SHARD:
            self._close()
            self._shards.append(ParquetFile(self._path(len(self._shards)), self._schema))
        before = self._shards[-1].size
        self._shards[-1].write(rows)
        self._largest = max(self._largest, self._shards[-1].size - before)

    def _close(self) -> None:
        if self._shards:
            self._shards[-1].__exit__()

    def __exit__(self, *_: object) -> None:
        self._close()
        for number, shard in enumerate(self._shards):
            path = self._path(number)
            named = path.with_name(f"{path.name}-of-{len(self._shards):05d}.parquet")
            path.rename(named)
            self.files[named.name] = shard.sha256
