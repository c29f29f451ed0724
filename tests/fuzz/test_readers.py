"""Texts at every reader for `FUZZ_MINUTES` minutes: no error but a refusal, and no time beyond linear. `make fuzz`."""

import os
import time
from collections.abc import Callable
from contextlib import suppress

import pytest
from fuzz_targets import HUGE, REFUSALS, TARGETS, TEXTS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SECONDS = 60 * float(os.environ.get("FUZZ_MINUTES", "10")) / len(TARGETS)
QUICK = dict(database=None, suppress_health_check=list(HealthCheck), print_blob=False)
SIZES = (20_000, 80_000)
"""Signs of the two texts whose times are compared: four times as many take four times as long, or 16 times where the
time is quadratic."""
MOST_TIMES = 9.0
SHORTEST_S = 0.1
"""CPU time of the longer text below which nothing is compared."""

pytestmark = pytest.mark.fuzz


@pytest.mark.parametrize("name", TARGETS)
def test_a_reader_takes_any_text_in_linear_time(name):
    until = time.monotonic() + SECONDS
    read = reader(name)

    @settings(max_examples=300, **QUICK)
    @given(text=TEXTS | st.text())
    def takes(text):
        read(text)

    @settings(max_examples=30, **QUICK)
    @given(start=TEXTS, unit=TEXTS.filter(bool), end=TEXTS)
    def is_linear(start, unit, end):
        short, long = (start + unit * (size // len(unit)) + end for size in SIZES)
        if (took := cpu_s(read, long)) > SHORTEST_S:
            # the least of several, for a pause of the machine only adds
            least = min(took, *(cpu_s(read, long) for _ in range(2)))
            assert least < MOST_TIMES * max(cpu_s(read, short) for _ in range(3)), (
                f"{least:.2f} s for {len(long)} signs"
            )

    for text in HUGE:
        read(text)
    while time.monotonic() < until:
        takes()
        is_linear()


def reader(name: str) -> Callable[[str], None]:
    def read(text: str) -> None:
        with suppress(*REFUSALS):
            TARGETS[name](text)

    return read


def cpu_s(read: Callable[[str], None], text: str) -> float:
    start = time.process_time()
    read(text)
    return time.process_time() - start
