"""Tell what differs between two mixes, two builds, or two screenings of one build.

print("\\n".join(diff(DiffConfig(a="v1", b="v2")).lines()))
"""

import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from curate.config import DiffConfig
from curate.files import write_atomically
from curate.mix.diff.changes import CHANGES, find_changes, row_facts
from curate.mix.diff.distributions import LANGUAGE_SAMPLE, Moved, find_moved
from curate.mix.diff.sides import Side, differing_settings, open_side
from curate.screen.pii import mask_personal
from curate.store.workspace import Workspace
from schemas.errors import UserError

EXAMPLES = 2
"""Pairs shown of each change."""
TEXT_SHOWN = 60
OF_BOTH = ("pair_id", "source", "split", "score_chosen", "score_rejected", "chosen_length", "rejected_length")
"""Columns of a changed pair that both sides have."""
WRITERS: dict[str, Callable[[pl.DataFrame, io.BytesIO], Any]] = {
    ".json": pl.DataFrame.write_json,
    ".jsonl": pl.DataFrame.write_ndjson,
    ".csv": pl.DataFrame.write_csv,
    ".parquet": pl.DataFrame.write_parquet,
}


@dataclass(frozen=True)
class Difference:
    """What differs between A and B."""

    a: str
    b: str
    settings: list[dict[str, Any]]
    """`setting` and its value in `a` and `b`, null where there is none."""
    rows: dict[str, int]
    """Pairs of `a`, of `b`, and of `both`, whether or not they changed."""
    changed: pl.DataFrame
    """One row a pair that differs: what `--out` writes."""
    moved: list[Moved]
    """Features whose distributions were tested."""
    examples: list[dict[str, Any]]
    notes: list[str]

    @property
    def is_same(self) -> bool:
        return not self.settings and self.changed.is_empty()

    def counts(self) -> dict[str, int]:
        """Change -> pairs; a pair that moved and was rescored counts for both."""
        counts = dict(self.changed["change"].str.split("+").explode(empty_as_null=True).value_counts().iter_rows())
        return {change: counts[change] for change in CHANGES if change in counts}

    def by_source(self) -> list[dict[str, Any]]:
        """change, source, reason and rows, the most rows first."""
        grouped = self.changed.group_by("change", "reason", source=pl.coalesce("source_a", "source_b")).agg(
            rows=pl.len()
        )
        ordered = grouped.sort("rows", "change", "source", "reason", descending=[True, False, False, False])
        return ordered.select("change", "source", "reason", "rows").to_dicts()

    def summary(self) -> dict[str, Any]:
        """The JSON object of `curate diff --json`; the names are a contract."""
        return {
            "a": self.a,
            "b": self.b,
            "same": self.is_same,
            "settings": self.settings,
            "rows": self.rows,
            "changes": self.counts(),
            "by_source": self.by_source(),
            "distributions": [moved.summary() for moved in self.moved],
            "examples": self.examples,
            "notes": self.notes,
        }

    def lines(self) -> list[str]:
        """Settings, changes by source and reason, distributions, and examples."""
        lines = [f"A  {self.a}: {self.rows['a']:,} pairs", f"B  {self.b}: {self.rows['b']:,} pairs"]
        if self.is_same:
            return [*lines, "nothing differs", *(f"note: {note}" for note in self.notes)]
        lines.append(f"   in both: {self.rows['both']:,} pairs")
        if self.settings:
            lines += ["", "settings"]
            lines += [
                f"  {row['setting']}: {format_setting(row['a'])} -> {format_setting(row['b'])}" for row in self.settings
            ]
        lines += ["", "pairs"] if self.changed.height else ["", "pairs: all the same"]
        for row in self.by_source():
            why = f"  {row['reason']}" if row["reason"] else ""
            lines.append(f"  {row['rows']:>9,}  {row['change']:12} {row['source'] or ''}{why}")
        if self.moved:
            lines += ["", "distributions", *(f"  {moved.line()}" for moved in self.moved)]
        for example in self.examples:
            lines += ["", *example_lines(example)]
        return [*lines, *([""] if self.notes else []), *(f"note: {note}" for note in self.notes)]


def diff(cfg: DiffConfig) -> Difference:
    """Compare two sides. Raises UserError for an unknown name, a mix beside a build, and an `--out` that is there."""
    if cfg.out:
        refuse_out(cfg.out)
    workspace = Workspace(cfg.data)
    sides = open_side(cfg.a, workspace), open_side(cfg.b, workspace)
    if sides[0].kind != sides[1].kind:
        raise UserError(f"{sides[0].label} and {sides[1].label} do not compare; give two mixes or two builds")
    difference = compare(*sides)
    if cfg.out:
        content = io.BytesIO()
        WRITERS[cfg.out.suffix](difference.changed, content)
        write_atomically(cfg.out, content.getvalue())
    return difference


def refuse_out(out: Path) -> None:
    """Raises UserError for a file that is there, or whose ending names no format."""
    if out.suffix not in WRITERS:
        raise UserError(f"--out {out} ends with no format; give a file that ends with {', '.join(WRITERS)}")
    if os.path.lexists(out):
        raise UserError(f"--out {out} is there already; give another file, or remove it")


def compare(left: Side, right: Side) -> Difference:
    """What differs between two sides."""
    share = LANGUAGE_SAMPLE / max(1, *(side.pairs.select(pl.len()).collect().item() for side in (left, right)))
    a, b = (read_side(side, share) for side in (left, right))
    changes, both = find_changes(a, b)
    changed = tell_changes(changes, a, b, left, right)
    return Difference(
        a=left.label,
        b=right.label,
        settings=differing_settings(left, right),
        rows={"a": a.height, "b": b.height, "both": both.height},
        changed=changed.drop("at_a", "at_b"),
        moved=find_moved(a, b, both) if changed.height else [],
        examples=find_examples(changed, left, right),
        notes=[*left.notes, *(note for note in right.notes if note not in left.notes)],
    )


def read_side(side: Side, sample_share: float) -> pl.DataFrame:
    """The facts of the pairs that a side stands for: of a build those that passed screening."""
    rows = row_facts(side.pairs, sample_share)
    if side.screened is None:
        return rows
    kept = side.screened.filter(pl.col("dropped_by").is_null()).select("pair_id").collect()
    return rows.join(kept, on="pair_id", how="semi", maintain_order="left")


def tell_changes(changes: pl.DataFrame, a: pl.DataFrame, b: pl.DataFrame, left: Side, right: Side) -> pl.DataFrame:
    """change, reason, ids and facts on both sides of each pair that differs; each change together, in its order."""
    rows = changes.with_columns(pl.col("change").list.join("+"))
    for name, side in (("a", a), ("b", b)):
        facts = side.select("at", "prompt_id", *OF_BOTH).with_columns(pl.col("source").cast(pl.String))
        own = facts.rename({column: f"{column}_{name}" for column in facts.columns}).with_row_index(name)
        rows = rows.join(own, on=name, how="left", maintain_order="left")
    rows = rows.with_row_index("row")
    told = [rows.select("row", reason=pl.lit(None, pl.String)).clear()]
    # A pair that only one side has is missing on the other, which says why.
    for change, has, lacks in (("removed", "a", right), ("added", "b", left)):
        lost = rows.filter(change=change)
        if lost.height:
            ids = lost.select(**{column: f"{column}_{has}" for column in ("pair_id", "prompt_id", "source")})
            told.append(lost.select("row").with_columns(reason=lacks.absent(ids).alias("reason")))
    every = rows.join(pl.concat(told), on="row", how="left", maintain_order="left")
    columns = [f"{column}_{name}" for column in OF_BOTH for name in ("a", "b")]
    order = pl.col("change").str.split("+").list.first().cast(pl.Enum(CHANGES))
    return every.sort(order, "row").select(
        "change", "reason", *columns, "at_a", "at_b", prompt_id=pl.coalesce("prompt_id_a", "prompt_id_b")
    )


def find_examples(changed: pl.DataFrame, left: Side, right: Side) -> list[dict[str, Any]]:
    """The first pairs of each change and reason, with their texts cut to a line and personal data as its kind."""
    first = changed.filter(pl.int_range(pl.len()).over("change", "reason") < EXAMPLES)
    texts = {name: texts_at(side, first[f"at_{name}"].drop_nulls()) for name, side in (("a", left), ("b", right))}

    def example(row: dict[str, Any], name: str) -> dict[str, Any] | None:
        if (at := row[f"at_{name}"]) is None:
            return None
        return {"pair_id": row[f"pair_id_{name}"], "split": row[f"split_{name}"], **texts[name][at]}

    return [
        {"change": row["change"], "reason": row["reason"], **{name: example(row, name) for name in ("a", "b")}}
        for row in first.iter_rows(named=True)
    ]


def texts_at(side: Side, places: pl.Series) -> dict[int, dict[str, str]]:
    """Place among the pairs of a side -> the texts there."""
    if places.is_empty():
        return {}
    last_turn = pl.col("messages").list.last().struct.field("content")
    found = side.as_pairs(rows_at(side.files, places.sort())).select("chosen", "rejected", prompt=last_turn).collect()
    return {
        at: {name: one_line(row[name]) for name in ("prompt", "chosen", "rejected")}
        for at, row in zip(places.sort(), found.iter_rows(named=True), strict=True)
    }


def rows_at(files: Sequence[Path], places: pl.Series) -> pl.LazyFrame:
    """The rows at these places of Parquet files, in order; only the row groups that they lie in are read."""
    found, begin = [], 0
    for path in files:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                end = begin + file.metadata.row_group(group).num_rows
                if (here := places.filter(places.is_between(begin, end, closed="left"))).len():
                    found.append(pl.DataFrame(file.read_row_group(group))[(here - begin).to_list()])
                begin = end
    return pl.concat(found).lazy()


def one_line(text: str) -> str:
    """A text without personal data, cut to the begin of a line."""
    return " ".join(mask_personal(text).split())[:TEXT_SHOWN]


def example_lines(example: dict[str, Any]) -> list[str]:
    """A pair that differs, with the texts that do."""
    a, b = example["a"], example["b"]
    one = b or a
    why = f": {example['reason']}" if example["reason"] else ""
    ids = " -> ".join(dict.fromkeys(side["pair_id"] for side in (a, b) if side))
    lines = [f"{example['change']}  {ids}{why}", f"  prompt    {one['prompt']}"]
    for side in ("chosen", "rejected"):
        texts = dict.fromkeys(each[side] for each in (a, b) if each)
        lines += [f"  {side:8}  {' -> '.join(texts)}"]
    return lines


def format_setting(value: Any) -> str:
    """A setting in words."""
    return "none" if value is None or value in ("", []) else str(value)
