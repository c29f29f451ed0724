"""Reviews made by hand: what was asked about the pairs of a build, and what people answered."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
from asking import begin

from curate.store.reviews import read_answers, save_answers
from curate.store.workspace import Workspace
from schemas.stages import LABELED_STAGES, newest_stage
from schemas.tables import Annotation, ReviewRecord

START = datetime(2026, 1, 5, 9, tzinfo=UTC)


def pairs_of(data: Path, build: str) -> pl.DataFrame:
    """The pairs of a build with their labels as they were made."""
    workspace = Workspace(data)
    keys = workspace.read_build(build).tables
    stage = newest_stage(LABELED_STAGES, keys)
    return workspace.open_table(stage, keys[stage]).scan().collect()


def ask_about(data: Path, build: str, name: str = "", **given: Any) -> pl.DataFrame:
    """Puts every pair of a build before people, response A the chosen one for every other pair."""
    pairs = pairs_of(data, build)
    rows = [
        {
            "record_id": pair["pair_id"],
            "sampler": "random",
            "probability": 1.0,
            "source": build,
            "band": "none",
            "margin": None,
            "flags": [],
            "is_overlap": False,
            "a_is_chosen": (a_is_chosen := i % 2 == 0),
            "is_swapped": False,
            "batch": 0,
            "messages": pair["messages"],
            "response_a": pair["chosen" if a_is_chosen else "rejected"],
            "response_b": pair["rejected" if a_is_chosen else "chosen"],
            **given,
        }
        for i, pair in enumerate(pairs.to_dicts())
    ]
    return begin(data, name or build, pl.DataFrame(rows, schema=ReviewRecord.create_empty().schema))


def answer(data: Path, name: str, asked: pl.DataFrame, said: dict[int, str], reviewer: str = "r1") -> None:
    """Adds answers: row of `asked` -> `chosen`, `rejected`, `equal` or `both_bad`."""
    history = read_answers(data, name)
    rows = []
    for place, (row, word) in enumerate(said.items()):
        record = asked.row(row, named=True)
        is_a = record["a_is_chosen"] == (word == "chosen")
        rows.append(
            {
                "record_id": record["record_id"],
                "reviewer": reviewer,
                "answered_at": START + timedelta(seconds=10 * (history.height + place)),
                "status": "submitted",
                "better": ("a" if is_a else "b") if word in ("chosen", "rejected") else word,
                "sure": 3,
                "wrong": [],
                "note": None,
            }
        )
    new = pl.DataFrame(rows, schema=Annotation.create_empty().schema)
    save_answers(data, name, pl.concat([history, new]))
