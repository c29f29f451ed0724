"""A server that misbehaves, and a way to ask it through a ledger as one run after another does."""

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from misbehaving import Misbehaving, answers
from scripted import user

from curate.ledger.ledger import Ledger
from curate.ledger.recorder import Recorder, Tally
from curate.ledger.spend_cap import Budget
from curate.models.chat_api import ChatAPI
from curate.models.limits import EndpointConfig
from schemas.calls import CallResult, Request


@pytest.fixture
def server() -> Iterator[Misbehaving]:
    """Answers well until a test says otherwise."""
    started = Misbehaving(lambda call: answers)
    yield started
    started.close()


class Runs:
    """Runs over one ledger file: each opens it anew, as a process does."""

    def __init__(self, folder: Path) -> None:
        self.ledger = folder / "ledger.sqlite"
        self.tally = Tally()
        """Of the last run."""

    def ask(
        self,
        server: Misbehaving,
        texts: Sequence[str],
        *,
        n: int = 1,
        max_failed_share: float = 1.0,
        budget: Budget | None = None,
        price_name: str | None = None,
        longest_backoff_s: float = 0.01,
        **terms: float,
    ) -> dict[str, CallResult]:
        """Text -> what it was answered."""
        budget = budget or Budget()
        agreed = EndpointConfig(longest_backoff_s=longest_backoff_s, budget=budget, **terms)
        api = ChatAPI("test", server.url, "tiny", "PAIRWRIGHT_API_KEY", agreed, price_name)
        sampling = {"temperature": 0.7, "max_tokens": 16}
        with Ledger(self.ledger) as ledger:
            recorder = Recorder(ledger, budget, max_failed_share)
            self.tally = recorder.tally
            found = recorder.ask(api, [Request("generate", user(text), n=n, sampling=sampling) for text in texts])
        return dict(zip(texts, found, strict=True))

    def states(self) -> dict[str, str]:
        """Text -> the state of its call, read from the file itself."""
        query = "SELECT json_extract(request, '$.messages[0].content'), state FROM calls"
        database = sqlite3.connect(self.ledger)
        try:
            return dict(database.execute(query).fetchall())
        finally:
            database.close()

    def in_state(self, state: str) -> set[str]:
        return {text for text, found in self.states().items() if found == state}


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)
