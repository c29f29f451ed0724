"""CPU seconds of `curate --help` beyond Python's own start: median of 7, in turn with `python -c pass`."""

import os
import statistics
import subprocess
import sys

RUNS = 7


def cpu_s(*command: str) -> float:
    """User and system seconds of one process."""
    before = os.times()
    subprocess.run(command, check=True, capture_output=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def main() -> None:
    """Print the two medians and their difference."""
    helps, starts = [], []
    for _ in range(RUNS):
        helps.append(cpu_s(sys.executable, "-m", "curate.cli.main", "--help"))
        starts.append(cpu_s(sys.executable, "-c", "pass"))
    shown, start = statistics.median(helps), statistics.median(starts)
    print(f"curate --help {shown:.2f} CPU s, python {start:.2f} CPU s, difference {shown - start:.2f} CPU s")


if __name__ == "__main__":
    main()
