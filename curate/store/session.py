"""The ledger, the recorder and the store of a data folder, opened once for a command or a notebook.

with open_session(Path("data")) as session:
    session.workspace.build_names()
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from curate.files import refuse_read_only
from curate.ledger.ledger import Ledger
from curate.ledger.recorder import Recorder
from curate.ledger.spend_cap import Budget
from curate.store.store import Store
from curate.store.workspace import Workspace

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Session:
    """Ledger, recorder and store of one data folder."""

    workspace: Workspace
    ledger: Ledger
    recorder: Recorder
    store: Store


def is_begun(workspace: Workspace) -> bool:
    """Whether something was ever made in the data folder: then there is a ledger, if nobody took it away."""
    return workspace.ledger.exists() or any(workspace.tables.glob("*/*/manifest.json"))


@contextmanager
def open_session(
    data: Path, budget: Budget | None = None, max_failed_share: float = 0.5, *, to_read: bool = False
) -> Iterator[Session]:
    """A session on the data folder; calls stop at the `budget`, and above the share of calls that may fail.

    Raises UserError for a folder that is read-only, unless the session is only `to_read`.
    """
    workspace = Workspace(data)
    if not to_read:
        refuse_read_only(data)
    if is_begun(workspace) and (not workspace.ledger.exists() or not workspace.ledger.stat().st_size):
        log.warning(
            "%s is gone, with the recorded answers: restore it, or what a build needs is asked again", workspace.ledger
        )
    with Ledger(workspace.ledger, to_read=to_read) as ledger:
        recorder = Recorder(ledger, budget, max_failed_share)
        yield Session(workspace, ledger, recorder, Store(workspace.tables, recorder))
