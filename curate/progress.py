"""How far a long stage is: calls, rate, time left, reused and failed ones, on stderr."""

import logging
import sys
import time

from tqdm import tqdm

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 15.0


class Progress:
    """A bar in a terminal, now and then a line elsewhere, and nothing for what takes no time."""

    def __init__(self, stage: str) -> None:
        self._stage = stage.replace("_", " ")
        self._bar = tqdm(
            desc=self._stage,
            unit=" calls",
            file=sys.stderr,
            leave=False,
            dynamic_ncols=True,
            mininterval=0.5,
            delay=1.0,
            total=0,
            disable=not sys.stderr.isatty(),
        )
        self._total = self._made = self._reused = 0
        self._parts_left = 1.0
        self._started = self._last_line = time.monotonic()

    def expect(self, parts_left: float) -> None:
        """How many parts like the next one are left, the next one included."""
        self._parts_left = parts_left

    def begin(self, calls: int) -> None:
        """The next part takes `calls`."""
        self._total = self._bar.total = self._made + self._reused + round(calls * self._parts_left)

    def reuse(self, calls: int) -> None:
        """Calls found in the ledger; they do not count towards the rate."""
        self._reused += calls
        if not self._bar.disable:
            self._bar.initial += calls
            self._bar.update(calls)

    def advance(self, calls: int, failed: int) -> None:
        """Calls just made; `failed` of the stage's calls failed so far."""
        self._made += calls
        shown = {name: count for name, count in {"reused": self._reused, "failed": failed}.items() if count}
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update(calls)
        now = time.monotonic()
        if self._bar.disable and now - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = now
            done, rate = self._made + self._reused, self._made / (now - self._started)
            left = tqdm.format_interval((self._total - done) / rate)
            extra = "".join(f", {count} {name}" for name, count in shown.items())
            log.info("%s: %d of %d calls, %.2f a second, %s left%s", self._stage, done, self._total, rate, left, extra)

    def close(self) -> None:
        self._bar.close()
