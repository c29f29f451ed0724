"""Scripted endpoints, a recorder on a ledger of its own, and builders of valid rows."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import settings
from scripted import Handler, ScriptedEndpoint, user

from curate.flags import set_defaults
from curate.ledger.ledger import Ledger
from curate.ledger.recorder import Recorder
from schemas.ids import Occurrences, pair_key, prompt_group, prompt_key
from schemas.tables import Pair

# How long an example takes depends on what else the machine does.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")
set_defaults()
os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture
def endpoint() -> Iterator[Callable[[Handler], ScriptedEndpoint]]:
    """Starts scripted endpoints and stops them after the test."""
    started: list[ScriptedEndpoint] = []

    def start(handler: Handler) -> ScriptedEndpoint:
        started.append(ScriptedEndpoint(handler))
        return started[-1]

    yield start
    for server in started:
        server.close()


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        yield Recorder(ledger)


@pytest.fixture
def make_pairs() -> Callable[..., pl.DataFrame]:
    """Valid pairs; a test names the columns it is about, as lists of equal length."""

    def make(**columns: list[Any]) -> pl.DataFrame:
        count = len(next(iter(columns.values())))
        rows = []
        prompts = Occurrences()
        for i in range(count):
            given = {name: values[i] for name, values in columns.items()}
            messages = user(given.pop("prompt", f"What is the number {i} good for?"))
            row = {
                "messages": messages,
                "chosen": f"It is good for counting up to {i}.",
                "rejected": f"Number {i} is of no use.",
                "score_chosen": 2.0,
                "score_rejected": 1.0,
                "z_chosen": None,
                "z_rejected": None,
                "failed_score": False,
                "scorer": "scripted",
                "origin": "real",
                "license": "unknown",
                "is_heldout": False,
                "prompt_id": prompt_key(messages),
                "prompt_group": prompt_group(messages),
                **given,
            }
            if "prompt_id" not in given and row["origin"] == "real":
                # each row of a file is a prompt of its own
                row["prompt_id"] = prompts.unique(row["prompt_id"])
            row.setdefault("pair_id", pair_key(messages, row["chosen"], row["rejected"]))
            rows.append(row)
        return pl.DataFrame(rows, schema=Pair.create_empty().schema)

    return make
