"""The `curate` command as a process of its own: what it printed, what it took, which verdicts it left."""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from screening.pool import ROOT


@dataclass(frozen=True)
class Ran:
    """One finished command."""

    summary: dict[str, Any]
    """The JSON object that it printed last."""
    printed: list[str]
    """The lines before it."""
    cpu_s: float
    """User and system seconds of the whole process and of those that it waited for."""
    rss_mb: float
    """Largest resident memory, in MB of 2^20 bytes."""


def curate(*arguments: str, data: Path) -> Ran:
    """Run `curate ... --json --data DATA`; its notes go to stderr. Raises RuntimeError where it fails."""
    return run_python("-m", "curate.cli.main", *arguments, "--json", "--data", str(data))


def run_python(*arguments: str) -> Ran:
    """Run this Python on something that prints a JSON object last."""
    with tempfile.TemporaryFile() as printed:
        process = subprocess.Popen([sys.executable, *arguments], stdout=printed, cwd=ROOT)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        printed.seek(0)
        lines = printed.read().decode().splitlines()
    if process.returncode:
        raise RuntimeError(f"exit code {process.returncode} from python {' '.join(arguments)}: {lines[-3:]}")
    # Linux counts ru_maxrss in KB
    return Ran(json.loads(lines[-1]), lines[:-1], used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def verdicts(data: Path, build: str) -> dict[str, str | None]:
    """Pair id -> rule that dropped it."""
    key = json.loads((data / "builds" / f"{build}.json").read_text())["tables"]["screen_pairs"]
    frame = pl.read_parquet(data / "tables" / "screen_pairs" / key / "part-*.parquet")
    return dict(frame.select("pair_id", pl.col("dropped_by").cast(pl.String)).rows())
