"""Pairs screened as a build screens them, without a source or a model."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from curate.config import BuildConfig
from curate.ledger.recorder import Recorder
from curate.pipeline.stage import BuildState, Models
from curate.pipeline.stages import make_tables
from curate.store.session import Session
from curate.store.store import Part, Store
from curate.store.workspace import Workspace
from schemas.stages import StageName
from schemas.tables import Dropped, Pair, Probed


@dataclass(frozen=True)
class RowsConfig:
    """How the rows of a test are split."""

    rows: int


@pytest.fixture
def screened(tmp_path: Path, recorder: Recorder) -> Callable[..., BuildState]:
    """Screens pairs by the thresholds that a test names."""

    def run(
        pairs: pl.DataFrame,
        probed: pl.DataFrame | None = None,
        rows: int = 100,
        noise: float | None = None,
        **thresholds: object,
    ) -> BuildState:
        def read(table: pl.DataFrame) -> Callable[[RowsConfig], Iterator[Part]]:
            def parts(cfg: RowsConfig) -> Iterator[Part]:
                for start in range(0, max(1, table.height), cfg.rows):
                    yield Part(table[start : start + cfg.rows], Dropped.create_empty())

            return parts

        # A folder of its own, for the key of the table says nothing of these pairs.
        workspace = Workspace(tmp_path / f"screened-{len(list(tmp_path.iterdir()))}")
        store = Store(workspace.tables, recorder)
        session = Session(workspace, recorder.ledger, recorder, store)
        cfg = BuildConfig(source="pairs.jsonl", data=workspace.data, **thresholds)
        tables = {StageName.READ_PAIRS: store.read(StageName.READ_PAIRS, read(pairs), RowsConfig(rows), writes=Pair)}
        if probed is not None:
            read_probes = read(probed)
            tables[StageName.SCORE_PROBES] = store.read(
                StageName.SCORE_PROBES, read_probes, RowsConfig(rows), writes=Probed
            )
        state = BuildState(cfg, Models(None, None, noise), session, tables=tables)
        make_tables(state)
        return state

    return run
