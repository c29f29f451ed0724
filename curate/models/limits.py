"""Limits of an endpoint: adaptive calls in flight, and requests and tokens a minute."""

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field

from curate.ledger.spend_cap import Budget

FIRST_IN_FLIGHT = 32


@dataclass(frozen=True)
class EndpointConfig:
    """Limits and timeouts of the endpoints of a run."""

    concurrency: int = 32
    """Most calls in flight to one endpoint."""
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    timeout_s: float = 300.0
    """Longest wait for one response."""
    longest_backoff_s: float = 30.0
    """Longest wait between two tries of a call, unless the endpoint asks for a longer one."""
    patience_s: float = 600.0
    """How long an endpoint that was there before may be gone, or say that it is busy, before a call fails."""
    budget: Budget = field(default_factory=Budget)


class ConcurrencyLimit:
    """Places for calls in flight: one more a round trip while all goes well, half as many after an overload.

    Until the first overload the number doubles each round trip, so a fast endpoint is soon used in full.
    A slot is held until what came back is recorded: what a crash can lose is what the slots hold.
    """

    def __init__(self, ceiling: int) -> None:
        self.in_use = 0
        self._limit = float(min(FIRST_IN_FLIGHT, ceiling))
        self._ceiling = float(ceiling)
        self._is_doubling = True
        self._cut_at = float("-inf")
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def limit(self) -> int:
        return int(self._limit)

    async def enter(self) -> None:
        """Wait for a place; first come, first served."""
        if self.in_use < self.limit and not self._waiting:
            self.in_use += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave()
            raise

    def leave(self) -> None:
        self.in_use -= 1
        self._admit()

    def succeeded(self) -> None:
        """A call went through."""
        # Places that nobody uses say nothing about what the endpoint can take.
        if self.in_use >= self.limit:
            self._limit = min(self._ceiling, self._limit + (1.0 if self._is_doubling else 1.0 / self._limit))
            self._admit()

    def overloaded(self, began: float) -> None:
        """A call that began at `began` (monotonic) met 429, 5xx or a time-out."""
        self._is_doubling = False
        # Calls in flight when the number was last halved report the same overload.
        if began > self._cut_at:
            self._limit = max(1.0, self._limit / 2)
            self._cut_at = time.monotonic()

    def _admit(self) -> None:
        while self._waiting and self.in_use < self.limit:
            turn = self._waiting.popleft()
            if not turn.done():
                self.in_use += 1
                turn.set_result(None)


class TokenBucket:
    """At most so much a minute, spread evenly: a bucket that holds one second's worth, or a single larger item."""

    def __init__(self, per_minute: int) -> None:
        self._per_s = per_minute / 60
        self._level = self._most = max(1.0, self._per_s)
        self._filled_at = time.monotonic()
        self.open()

    def open(self) -> None:
        """Serve another event loop from here on; what was taken before still counts."""
        self._turn = asyncio.Lock()

    async def take(self, amount: float) -> None:
        """Wait until `amount` may go out, in the order of asking."""
        async with self._turn:
            while True:
                now = time.monotonic()
                self._level = min(self._most, self._level + (now - self._filled_at) * self._per_s)
                self._filled_at = now
                short = min(amount, self._most) - self._level
                if short <= 1e-9:
                    # A large item leaves the bucket below empty, and those after it wait the longer.
                    self._level -= amount
                    return
                await asyncio.sleep(short / self._per_s)

    def give_back(self, amount: float) -> None:
        """Less was used than was taken; more than was taken, if negative."""
        self._level = min(self._most, self._level + amount)
