"""Check the rows of a mix, a row group at a time."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from curate.mix.verify.row_ids import plain_rows, text_ids
from curate.screen.human import text_key
from schemas.names import FLAWS, ORIGINS, PERSONAL_DATA

ID = r"^[0-9a-f]{16}(-[0-9]+)?(\.[0-9]+)?$"
PLACEHOLDERS = [f"[{kind}]" for kind in PERSONAL_DATA]
"""What stands where personal data was replaced; ids are those of the text before."""

WRONG = {
    "no_turns": "its prompt has no turn, or no turn of a user",
    "no_message": "its chosen or rejected side is not one message of the assistant",
    "empty_chosen": "its chosen response is empty",
    "same_sides": "its chosen and its rejected response are the same",
    "no_such_value": "its origin or its flaw is none that a mix has",
    "wrong_prompt_id": "its prompt is not the one that its prompt_id was made of",
    "wrong_group": "its prompt_group is not that of its prompt",
    "turned": "its sides stand the other way round than when its pair_id was made, and lineage.parquet names no swap",
    "not_turned": "reviewers swapped its label, says lineage.parquet, and its sides stand as before",
    "wrong_pair_id": "its texts are not those that its pair_id was made of",
}
"""Fault of a row -> how it is told, the first that fits."""


@dataclass
class Rows:
    """What was found in the rows so far."""

    counts: dict[str, Counter[str]] = field(
        default_factory=lambda: {name: Counter() for name in ("split", "source", "license")}
    )
    faults: dict[str, "RowFault"] = field(default_factory=dict)
    redacted: int = 0
    """Rows whose ids are of the text before personal data was replaced."""
    swapped: int = 0
    """Rows whose sides reviewers swapped."""
    empty_rejected: int = 0
    ids: list[pl.DataFrame] = field(default_factory=list)
    """pair_id, prompt_group, source, file and row of all rows."""


@dataclass
class RowFault:
    """The first row with a fault, and how many have it."""

    where: str
    rows: int = 0


def read_rows(path: Path, split: str, swaps: pl.Series, found: Rows) -> None:
    """Look at the rows of a file; `swaps` are the ids of pairs that lineage says were swapped."""
    with pq.ParquetFile(path) as file:
        first = 1
        for group in row_groups(file):
            look_at(group, path.name, first, split, swaps, found)
            first += group.num_rows


def row_groups(file: pq.ParquetFile) -> Iterator[pa.Table]:
    """The rows of a file as tables that fit into memory."""
    columns = [name for name in file.schema_arrow.names if name not in ("tools", "score_chosen", "score_rejected")]
    for number in range(file.num_row_groups):
        yield file.read_row_group(number, columns)


def look_at(group: pa.Table, name: str, first: int, split: str, swaps: pl.Series, found: Rows) -> None:
    """Note what is wrong with the rows of a group, the first of which is row `first` of the file."""
    rows = plain_rows(group)
    found.counts["split"][split] += rows.height
    for column in ("source", "license"):
        found.counts[column].update(dict(rows[column].value_counts().iter_rows()))
    found.ids.append(
        rows.select("pair_id", "prompt_group", pl.col("source").cast(pl.Categorical)).with_columns(
            file=pl.lit(name, pl.Categorical), row=pl.int_range(first, first + rows.height, dtype=pl.UInt32, eager=True)
        )
    )
    sides = {side: pl.col(side).list.first().struct.field("content").fill_null("") for side in ("chosen", "rejected")}
    is_message = [
        (pl.col(side).list.len() == 1) & (pl.col(side).list.first().struct.field("role") == "assistant")
        for side in sides
    ]
    judged = rows.select(
        "pair_id",
        "prompt_id",
        "prompt_group",
        "origin",
        "flaw",
        **sides,
        has_messages=pl.all_horizontal(is_message).fill_null(False),
        prompt=pl.col("prompt"),
    )
    judged = judged.hstack(text_ids(judged)).with_columns(
        is_swap=pl.col("pair_id").is_in(swaps.implode()), is_redacted=is_redacted()
    )
    faults = judged.select("pair_id", "is_redacted", "is_swap", "rejected", fault=first_fault())
    hidden = (pl.col("fault").is_in(["wrong_prompt_id", "wrong_group", "wrong_pair_id"])) & pl.col("is_redacted")
    faults = faults.with_columns(is_hidden=hidden.fill_null(False))
    found.redacted += int(faults["is_hidden"].sum())
    found.swapped += int(faults["is_swap"].sum())
    found.empty_rejected += int((faults["rejected"].str.strip_chars() == "").sum())
    wrong = faults.with_row_index("row", first).filter(pl.col("fault").is_not_null(), ~pl.col("is_hidden"))
    for row, pair_id, fault in wrong.select("row", "pair_id", "fault").iter_rows():
        found.faults.setdefault(fault, RowFault(f"{name} row {row} (pair {pair_id})")).rows += 1


def is_redacted() -> pl.Expr:
    """True where personal data may have been replaced in the texts of a row."""
    turns = pl.col("prompt").list.eval(pl.element().struct.field("content")).list.join("\n", ignore_nulls=True)
    return pl.any_horizontal(
        text.str.contains_any(PLACEHOLDERS) for text in (turns, pl.col("chosen"), pl.col("rejected"))
    )


def first_fault() -> pl.Expr:
    """The name of what is wrong with a row, null for nothing."""
    is_pair, is_turned = (text_key() == pl.col(name) for name in ("pair_key", "turned_key"))
    is_id = pl.all_horizontal(pl.col(name).str.contains(ID) for name in ("pair_id", "prompt_id", "prompt_group"))
    faults: Mapping[str, pl.Expr] = {
        "no_turns": pl.col("group_key").is_null(),
        "no_message": ~pl.col("has_messages"),
        "empty_chosen": pl.col("chosen").str.strip_chars() == "",
        "same_sides": pl.col("chosen") == pl.col("rejected"),
        "no_such_value": ~pl.col("origin").is_in(ORIGINS).fill_null(False) | ~pl.col("flaw").is_in(FLAWS),
        "wrong_prompt_id": text_key("prompt_id") != pl.col("prompt_key"),
        "wrong_group": pl.col("prompt_group") != pl.col("group_key"),
        "turned": is_turned & ~pl.col("is_swap"),
        "not_turned": is_pair & pl.col("is_swap"),
        "wrong_pair_id": ~is_id | ~(is_pair | is_turned),
    }
    return pl.coalesce(pl.when(fault).then(pl.lit(name)) for name, fault in faults.items())


def row_sentences(found: Rows) -> list[str]:
    """One sentence a kind of fault, with the first row that has it."""
    return [
        f"{found.faults[name].where}: {told}{and_more(found.faults[name].rows - 1)}"
        for name, told in WRONG.items()
        if name in found.faults
    ]


def and_more(rows: int) -> str:
    """How many rows beside the one that is named, for the end of a sentence."""
    return f" (and {rows} more {'row' if rows == 1 else 'rows'})" if rows else ""
