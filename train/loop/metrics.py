"""Metrics of a run: every step in a file, and a bounded number of rows in memory for curves and warnings."""

import hashlib
import json
import os
from bisect import bisect_left
from collections.abc import Collection
from pathlib import Path
from typing import Any

from curate.files import full_disk
from train.loop.diagnostics import Metrics

POINTS = 64
"""Rows of training kept in memory between two checks: where there are more steps, means of neighboring ones."""
LINES_AT_ONCE = 1024


class MetricsLog:
    """The metrics of a run so far, in order."""

    def __init__(self, path: Path, checks: Collection[int], last_step: int = 0) -> None:
        """`checks` are the steps that are followed by a look at held-out rows.

        The rows of an earlier process are read up to and with `last_step`, and the rest is removed.
        """
        self.path = path
        self.rows: list[Metrics] = []
        """At most `POINTS` of training between two checks. A mean has how many `steps` it is of, and is at the last."""
        self.newest: Metrics = {}
        """The last value under every name."""
        self.first_loss: float | None = None
        """Of the first step."""
        self._checks = [0, *sorted(checks)]
        self._group: list[Metrics] = []
        self._lines: list[str] = []
        self._hash = hashlib.sha256()
        self._size = 0
        if last_step:
            with path.open("rb") as stream:
                for line in stream:
                    row = json.loads(line)
                    if row["step"] > last_step:
                        break
                    self._count(line)
                    self._take(row)
        with full_disk(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as stream:
                stream.truncate(self._size)

    def add(self, row: Metrics) -> None:
        """The next row: of a step, or of the check after one."""
        self._take(row)
        self._lines.append(json.dumps(row) + "\n")
        if len(self._lines) >= LINES_AT_ONCE:
            self.write()

    def _take(self, row: Metrics) -> None:
        self.newest |= row
        if "loss" not in row:
            self.rows.append(row)
            return
        if self.first_loss is None:
            self.first_loss = row["loss"]
        self._group.append(row)
        step = row["step"]
        end = bisect_left(self._checks, step)
        begin, last = self._checks[end - 1], self._checks[end]
        size = -(-(last - begin) // POINTS)
        if step == last or (step - begin) % size == 0:
            self.rows.append(mean(self._group))
            self._group = []

    def write(self) -> None:
        """Bring what was added to the disk. Raises UserError where there is no room."""
        content = "".join(self._lines).encode()
        with full_disk(self.path), self.path.open("ab") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        self._count(content)
        self._lines = []

    def _count(self, content: bytes) -> None:
        self._hash.update(content)
        self._size += len(content)

    def written(self) -> dict[str, Any]:
        """Size and digest of all that was written, as `check_beginning` takes them."""
        return {"bytes": self._size, "sha256": self._hash.hexdigest()}


def mean(rows: list[Metrics]) -> Metrics:
    """Neighboring steps as one row: means, but place, rate and what is counted are those of the last."""
    if len(rows) == 1:
        return rows[0]
    last = rows[-1]
    kept: Metrics = {name: last[name] for name in ("step", "epoch", "learning_rate", "num_tokens") if name in last}
    means = {name: sum(row[name] for row in rows) / len(rows) for name in last if name not in kept}
    return {**kept, **means, "steps": len(rows)}
