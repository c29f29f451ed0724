"""The metrics of a run are in its file, every step, and in memory as few as are drawn."""

import json
import os

import pytest

from train.loop.metrics import LINES_AT_ONCE, POINTS, MetricsLog
from train.loop.schedule import check_steps


def row(step):
    return {"step": step, "epoch": step / 100, "learning_rate": 1 / step, "loss": float(step), "num_tokens": 10 * step}


def check(step):
    return {"step": step, "epoch": step / 100, "eval_loss": float(step), "eval_rows": 5}


def written(path, steps, checks, from_step=0):
    """The log of a run of so many steps, from a checkpoint on."""
    log = MetricsLog(path, checks, from_step)
    if not from_step:
        log.add(check(0))
    for step in range(from_step + 1, steps + 1):
        log.add(row(step))
        if step in checks:
            log.add(check(step))
            log.write()
    return log


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("steps", [1, 7, 64, 512])
def test_a_run_of_few_steps_is_kept_as_it_is(tmp_path, steps):
    log = written(tmp_path / "m", steps, check_steps(steps, 1))

    assert log.rows == lines(tmp_path / "m")
    assert (log.first_loss, log.newest["loss"]) == (1.0, steps)


@pytest.mark.parametrize("steps", [513, 1000, 20_011])
def test_a_long_run_is_in_memory_as_means_and_in_its_file_as_it_is(tmp_path, steps):
    checks = check_steps(steps, 1)

    log = written(tmp_path / "m", steps, checks)

    trained = [row for row in log.rows if "loss" in row]
    assert [each for each in lines(tmp_path / "m") if "loss" in each] == [row(step) for step in range(1, steps + 1)]
    assert len(trained) <= 8 * POINTS
    assert sum(each.get("steps", 1) for each in trained) == steps
    assert sum(each["loss"] * each.get("steps", 1) for each in trained) == pytest.approx(steps * (steps + 1) / 2)
    # no mean is of steps on both sides of a check
    assert checks <= {each["step"] for each in trained}
    assert [each for each in log.rows if "loss" not in each] == [check(step) for step in sorted({0, *checks})]
    last = {name: trained[-1][name] for name in ("step", "epoch", "learning_rate", "num_tokens")}
    assert last == {name: row(steps)[name] for name in last}
    assert (log.first_loss, log.newest["loss"]) == (1.0, steps)


@pytest.mark.parametrize("steps", [40, 3000])
def test_a_log_that_goes_on_after_a_checkpoint_is_the_undisturbed_one(tmp_path, steps):
    checks = check_steps(steps, 1)
    whole = written(tmp_path / "whole", steps, checks)
    part = written(tmp_path / "part", steps - 3, checks)
    part.write()
    # killed in the middle of a line
    with (tmp_path / "part").open("a") as stream:
        stream.write('{"step": 4')
    checkpoint = max(step for step in checks if step <= steps - 3)

    found = written(tmp_path / "part", steps, checks, checkpoint)

    assert (tmp_path / "part").read_bytes() == (tmp_path / "whole").read_bytes()
    assert (found.rows, found.newest, found.first_loss) == (whole.rows, whole.newest, whole.first_loss)


def test_a_run_without_a_checkpoint_begins_its_file_anew(tmp_path):
    written(tmp_path / "m", 5, {5})

    log = MetricsLog(tmp_path / "m", {5})

    assert (log.rows, os.path.getsize(tmp_path / "m")) == ([], 0)


def test_lines_are_on_the_disk_now_and_then_without_a_check(tmp_path):
    log = MetricsLog(tmp_path / "m", {10 * LINES_AT_ONCE})

    for step in range(1, LINES_AT_ONCE + 1):
        log.add(row(step))

    assert len(lines(tmp_path / "m")) == LINES_AT_ONCE
