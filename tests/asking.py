"""Reviews with rows that a test names, as if they had been chosen."""

from pathlib import Path
from typing import Any

import polars as pl
from scripted import user

from curate.store.reviews import Review, save_asked, save_review
from schemas.ids import short_id
from schemas.tables import ReviewRecord


def asked_rows(count: int, **columns: list[Any]) -> pl.DataFrame:
    """Valid rows of `Asked`; a test names the columns it is about, as lists."""
    rows = [
        {
            "record_id": short_id(["record", i]),
            "sampler": "random",
            "probability": 0.5,
            "source": "garden",
            "band": "0.0 to 1.0",
            "margin": 0.5,
            "flags": [],
            "is_overlap": False,
            "a_is_chosen": True,
            "is_swapped": False,
            "batch": 0,
            "messages": user(f"What grows in bed {i}?"),
            "response_a": f"Beans grow in bed {i}.",
            "response_b": f"Nothing grows in bed {i}.",
        }
        | {name: values[i] for name, values in columns.items()}
        for i in range(count)
    ]
    return pl.DataFrame(rows, schema=ReviewRecord.create_empty().schema)


def begin(data: Path, name: str, asked: pl.DataFrame, min_submitted: int = 1) -> pl.DataFrame:
    """A review of these rows, of which nothing was put on a server yet."""
    save_review(data, Review(name=name, kind="build", seed=30, min_submitted=min_submitted))
    save_asked(data, name, asked)
    return asked
