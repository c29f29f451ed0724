"""Progress of a long stage on stderr: calls or texts done, rate, time left, cost, reused and failed calls."""

import logging
import os
import sys
import threading
import time
from typing import TYPE_CHECKING

from tqdm import tqdm

if TYPE_CHECKING:
    from curate.ledger.spend_cap import Budget
    from schemas.calls import Backend

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 15.0


class Progress:
    """A bar in a terminal, an occasional line elsewhere, and nothing for a fast stage; for several threads."""

    def __init__(self, stage: str, budget: "Budget") -> None:
        self.accepted: int | None = None
        """Pairs accepted so far, where the stage makes some."""
        self._stage = stage.replace("_", " ")
        self._unit = "calls"
        self._budget = budget
        self._rows = self._rows_begun = self._rows_done = 0
        self._begun = self._made = self._reused = self._failed = 0
        self._lock = threading.Lock()
        self._bar = tqdm(
            desc=self._stage,
            unit=" calls",
            file=sys.stderr,
            leave=False,
            dynamic_ncols=True,
            mininterval=0.5,
            delay=1.0,
            total=0,
            disable=not has_width(),
        )
        self._started = self._last_line = time.monotonic()

    @property
    def total(self) -> int:
        """Calls of the whole stage: those known, and for rows not begun as many a row as for those begun."""
        share = self._rows / self._rows_begun if self._rows_begun else 1.0
        return round(self._begun * max(1.0, share))

    def expect(self, rows: int) -> None:
        """The stage goes through `rows` rows more; a negative number takes back those that were done before."""
        with self._lock:
            self._rows += rows

    def begin_rows(self, rows: int) -> None:
        """So many rows more are being worked on."""
        with self._lock:
            self._rows_begun += rows

    def end_rows(self, rows: int, accepted: int | None) -> None:
        """So many rows more are done, and gave `accepted` pairs."""
        with self._lock:
            self._rows_done += rows
            if accepted is not None:
                self.accepted = (self.accepted or 0) + accepted

    def begin(self, calls: int, unit: str = "calls") -> None:
        """`calls` more are to be made or found; `unit` is what they are, where no model is asked."""
        with self._lock:
            self._unit = unit
            self._bar.unit = f" {unit}"
            self._begun += calls
            self._bar.total = self.total

    def reuse(self, calls: int) -> None:
        """Calls found in the ledger; they do not count towards the rate."""
        with self._lock:
            self._reused += calls
            if not self._bar.disable:
                self._bar.initial += calls
                self._bar.update(calls)

    def advance(self, calls: int, failed: int, backend: "Backend | None") -> tuple[int, int]:
        """Calls just made, `failed` of them without an answer; returns calls made, and failed, of the whole stage."""
        with self._lock:
            self._made += calls
            self._failed += failed
            done = self._made + self._reused
            now = time.monotonic()
            if not self._bar.disable:
                self._bar.set_postfix_str(", ".join(self._facts(backend)), refresh=False)
                self._bar.update(calls)
            elif now - self._last_line >= SECONDS_BETWEEN_LINES:
                self._last_line = now
                rate = self._made / (now - self._started)
                left = tqdm.format_interval(max(0, self.total - done) / rate)
                facts = "".join(f", {fact}" for fact in self._facts(backend))
                of_all = f"{done} of {self.total} {self._unit}"
                log.info("%s: %s, %.2f a second, %s left%s", self._stage, of_all, rate, left, facts)
            return self._made, self._failed

    def close(self) -> None:
        self._bar.close()

    def _facts(self, backend: "Backend | None") -> list[str]:
        found = [f"{self._rows_done} of {self._rows} rows"] if self._rows_done else []
        found += [f"{self.accepted} pairs"] if self.accepted is not None else []
        found += [f"{self._reused} reused"] if self._reused else []
        found += [f"{self._failed} failed"] if self._failed else []
        if backend and backend.is_remote:
            found += [f"{self._budget.in_flight} in flight"]
            spent = f"{self._budget.spent_usd:.4f} USD" if self._budget.spent_usd else ""
            unknown = "cost unknown" if self._budget.unpriced_calls else ""
            found += [" and ".join(filter(None, (spent, unknown)))] if spent or unknown else []
        return found


def has_width() -> bool:
    """A terminal that shows lines; some stand-ins for one have no columns."""
    return sys.stderr.isatty() and os.get_terminal_size(sys.stderr.fileno()).columns > 0
