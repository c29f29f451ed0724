"""Spend cap of a run: the USD and hours it may still use, and whether it must stop."""

import threading
import time

from curate.ledger.prices import Prices
from schemas.errors import CapReached

LONGEST_WAIT_S = 3600.0
"""Of one wait for answers, which then goes on. Polars has the system restart waits that have no end, so that Ctrl-C
would be met only after the next answer, which would be lost with it."""


class Budget:
    """Shared by all stages and threads of a run.

    Before a call its largest possible cost is reserved, and no call begins that could cross the budget.
    After it the reserve is replaced by what it did cost; a call that broke off after it was sent may have
    been charged, and counts in full.
    """

    def __init__(
        self, budget_usd: float | None = None, max_hours: float | None = None, prices: Prices | None = None
    ) -> None:
        self.prices = prices or Prices({}, {}, "")
        self.spent_usd = 0.0
        self.unpriced_calls = 0
        """Calls whose cost is not known."""
        self.in_flight = 0
        """Calls that were sent and have not been recorded yet, for people to see."""
        self._budget = budget_usd
        self._max_s = None if max_hours is None else max_hours * 3600
        self._began = time.monotonic()
        self._reserved = 0.0
        self._longest_s = 0.0
        self._stop: BaseException | None = None
        self._lock = threading.Lock()

    def cost(self, price_name: str | None, input_tokens: int, output_tokens: int) -> float | None:
        """USD; None where the price is not known, or where a priced endpoint did not count its tokens."""
        if price_name is not None and not input_tokens and not output_tokens:
            return None
        return self.prices.cost(price_name, input_tokens, output_tokens)

    def stop(self, error: BaseException) -> None:
        """Begin no more calls; those in flight are waited for. The first error is the one reported."""
        with self._lock:
            self._stop = self._stop or error

    def raise_stop(self) -> None:
        """Raise what the run was stopped for, if it was."""
        if self._stop is not None:
            raise self._stop

    def check(self) -> None:
        """Raise what the run was stopped for; CapReached when a call as long as the longest would end too late."""
        self.raise_stop()
        if self._max_s is not None:
            elapsed = time.monotonic() - self._began
            if elapsed + self._longest_s > self._max_s:
                raise CapReached(
                    f"stopped after {elapsed / 3600:.2f} h, before the call that could cross --max-hours "
                    f"{self._max_s / 3600:g}; everything so far is saved, the same command goes on"
                )

    def reserve(self, most_usd: float | None) -> bool:
        """Set `most_usd` aside for a call; False: wait until others have settled.

        Raises CapReached when it does not fit although nothing else is under way.
        """
        with self._lock:
            if self._budget is None or most_usd is None:
                return True
            if self.spent_usd + self._reserved + most_usd <= self._budget:
                self._reserved += most_usd
                return True
            if self._reserved > 1e-9:
                return False
        if not self.spent_usd:
            raise CapReached(
                f"--budget {self._budget:g} allows no call: one may cost up to {most_usd:.4f} USD; give more"
            )
        raise CapReached(
            f"stopped at {self.spent_usd:.4f} USD, before the call that could cross --budget {self._budget:g} "
            f"(it may cost up to {most_usd:.4f}); everything so far is saved, the same command goes on"
        )

    def settle(self, most_usd: float | None, cost_usd: float | None) -> None:
        """Replace a reserve by what the call cost; of an unknown cost the reserve stays spent."""
        with self._lock:
            if self._budget is not None and most_usd is not None:
                self._reserved -= most_usd
            if cost_usd is None:
                self.unpriced_calls += 1
            self.spent_usd += (most_usd if cost_usd is None else cost_usd) or 0.0

    def note_duration(self, seconds: float) -> None:
        """A call, or a batch of them, took so long."""
        self._longest_s = max(self._longest_s, seconds)
