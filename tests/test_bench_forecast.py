"""What the benchmark of forecasts counts, on lengths small enough to work out by hand."""

from pathlib import Path

import numpy as np
import pytest

from curate.pipeline.forecast.intervals import LONG, UNSEEN


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))


def test_equal_lengths_are_always_covered_from_the_estimate_to_a_long_one_that_was_not_seen():
    from forecast_coverage import PILOT, Coverage, cover

    found = cover(lambda rng, count: np.full(count, 3.0), repeats=5)

    assert found == Coverage(1.0, 1.0, pytest.approx(1 + UNSEEN / PILOT * (LONG - 1)))


def test_lengths_unlike_those_of_the_pilot_are_not_covered():
    from forecast_coverage import PILOT, cover

    found = cover(lambda rng, count: np.full(count, 1.0 if count == PILOT else 9.0), repeats=3)

    assert found.coverage == 0.0


def test_a_length_is_a_quarter_of_the_characters_and_at_least_one_token(tmp_path):
    from forecast_coverage import response_lengths

    path = tmp_path / "pairs.jsonl"
    path.write_text(
        '{"prompt": "a", "chosen": "1234567890", "rejected": "b"}\n{"prompt": "c", "chosen": "x", "rejected": "d"}\n'
    )

    assert sorted(response_lengths(path).tolist()) == [1.0, 2.5]
