"""A part: a few hundred prompts' worth of rows, the unit of memory, of saving and of resume."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import dataframely as dy
import polars as pl

from schemas.names import UnpairedReason
from schemas.tables import Dropped

PROMPTS_PER_PART = 256
RAW_LIMIT = 10_000


class Part(NamedTuple):
    """Rows a stage made, and the rows it could not use, each with a reason."""

    rows: pl.DataFrame
    dropped: pl.DataFrame


def frame(schema: type[dy.Schema], rows: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """`rows` as a frame of the schema's columns and types; no rows give an empty frame."""
    return pl.DataFrame(rows, schema=schema.create_empty().schema, orient="row")


def drop(stage: str, reason: UnpairedReason, raw: str, prompt_id: str | None = None) -> dict[str, Any]:
    """One row of `Dropped`; `raw` is cut at `RAW_LIMIT` characters."""
    return {"stage": stage, "prompt_id": prompt_id, "reason": reason, "raw": raw[:RAW_LIMIT]}


def part(schema: type[dy.Schema], rows: Sequence[dict[str, Any]], dropped: Sequence[dict[str, Any]] = ()) -> Part:
    """A part from plain rows of `schema` and of `Dropped`."""
    return Part(frame(schema, rows), frame(Dropped, dropped))
