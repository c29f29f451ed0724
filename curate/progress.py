"""How far a long stage is: calls, rate, time left, reused and failed ones, on stderr."""

import sys

from tqdm import tqdm


class Progress:
    """A bar in a terminal, a line every ten seconds elsewhere, and nothing for what takes no time."""

    def __init__(self, stage: str) -> None:
        self._bar = tqdm(
            desc=stage.replace("_", " "),
            unit=" calls",
            file=sys.stderr,
            leave=False,
            dynamic_ncols=True,
            mininterval=0.5 if sys.stderr.isatty() else 10.0,
            delay=1.0,
            total=0,
        )
        self._reused = 0
        self._parts_left = 1.0

    def expect(self, parts_left: float) -> None:
        """How many parts like the next one are left, the next one included."""
        self._parts_left = parts_left

    def begin(self, calls: int) -> None:
        """The next part takes `calls`."""
        self._bar.total = self._bar.n + round(calls * self._parts_left)

    def reuse(self, calls: int) -> None:
        """Calls found in the ledger; they do not count towards the rate."""
        self._reused += calls
        self._bar.initial += calls
        self._bar.update(calls)

    def advance(self, calls: int, failed: int) -> None:
        """Calls just made; `failed` of the stage's calls failed so far."""
        shown = {"reused": self._reused, "failed": failed}
        self._bar.set_postfix({name: count for name, count in shown.items() if count}, refresh=False)
        self._bar.update(calls)

    def close(self) -> None:
        self._bar.close()
