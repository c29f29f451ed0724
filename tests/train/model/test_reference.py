"""Log-probabilities of the reference are measured once, survive a kill, and a damaged part alone is measured again."""

import logging
import multiprocessing
import os
import signal
import tracemalloc
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from schemas.errors import UserError
from train.model.reference import PART_TOKENS, reference_key, reference_logps, split_parts

FORK = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Row:
    row_id: str


class Rows:
    """Rows of these sizes, without tokens."""

    def __init__(self, sizes):
        self.sizes = np.array(sizes, dtype=np.int64)
        self.released = 0

    def __len__(self):
        return len(self.sizes)

    def __getitem__(self, place):
        return Row(f"row-{place}")

    def release(self):
        self.released += 1


class Scripted:
    """A reference that says -size and -place of a row, and remembers what it was asked."""

    def __init__(self, rows, broken=(), at_call=None):
        self.rows, self.broken, self.at_call = rows, broken, at_call
        self.asked = []

    def __call__(self, places):
        if self.at_call:
            self.at_call(len(self.asked))
        self.asked.append(places)
        logps = true_logps(self.rows)[places].float()
        for i, place in enumerate(places):
            if place in self.broken:
                logps[i, 1] = float("nan")
        return logps


# a third of a part each, but for 0 and 7: so there are three parts, of places 3 4 5, 6 1 2, 0 7
SIZES = [900, 21_000, 20_900, 24_000, 23_000, 22_000, 21_500, 2]
PARTS = [[3, 4, 5], [6, 1, 2], [0, 7]]


def true_logps(rows):
    return -torch.stack([torch.from_numpy(rows.sizes).double(), torch.arange(len(rows)).double()], dim=1)


@pytest.fixture
def rows():
    return Rows(SIZES)


def measured(folder, rows, scripted, key="key"):
    return reference_logps(folder / key, rows, scripted, "smollm2")


def test_an_empty_split_needs_no_reference(tmp_path):
    rows = Rows([])
    reference = Scripted(rows)

    found = measured(tmp_path, rows, reference)

    assert found.shape == (0, 2)
    assert reference.asked == []
    assert list(tmp_path.iterdir()) == []


def test_rows_are_measured_longest_first_and_come_back_in_their_order(tmp_path, rows):
    reference = Scripted(rows)

    found = measured(tmp_path, rows, reference)

    assert reference.asked == PARTS
    assert found.dtype == torch.float64
    assert torch.equal(found, true_logps(rows))
    assert rows.released == 3


def test_a_later_run_measures_nothing_and_says_so(tmp_path, rows, caplog):
    caplog.set_level(logging.INFO)
    first = measured(tmp_path, rows, Scripted(rows))
    again = Scripted(rows)

    found = measured(tmp_path, rows, again)

    assert again.asked == []
    assert torch.equal(found, first)
    assert "8 rows measured" in caplog.messages[0]
    assert caplog.messages[1] == f"reference smollm2: all 8 rows were measured before, see {tmp_path / 'key'}"


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path):
    path.write_bytes(b"")


def changed(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def of_other_rows(path):
    path.write_bytes(path.with_name("part-00000.safetensors").read_bytes())


def of_another_shape(path):
    path.write_bytes(path.with_name("part-00002.safetensors").read_bytes())


@pytest.mark.parametrize("damage", [cut, emptied, changed, of_other_rows, of_another_shape])
def test_a_damaged_part_alone_is_measured_again_with_a_warning(tmp_path, rows, caplog, damage):
    measured(tmp_path, rows, Scripted(rows))
    caplog.clear()
    damage(tmp_path / "key" / "part-00001.safetensors")
    again = Scripted(rows)

    found = measured(tmp_path, rows, again)

    assert again.asked == [PARTS[1]]
    assert torch.equal(found, true_logps(rows))
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "part-00001.safetensors" in warning and "\n" not in warning
    last = Scripted(rows)
    measured(tmp_path, rows, last)
    assert last.asked == []


def test_a_kill_loses_no_more_than_the_part_under_way(tmp_path, rows, caplog):
    caplog.set_level(logging.INFO)

    def kill(call):
        if call == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    child = FORK.Process(target=measured, args=(tmp_path, rows, Scripted(rows, at_call=kill)))
    child.start()
    child.join()
    left = tmp_path / "key" / f".part-00002.safetensors.{child.pid}"
    left.write_bytes(b"half")
    again = Scripted(rows)

    found = measured(tmp_path, rows, again)

    assert child.exitcode == -signal.SIGKILL
    assert again.asked == [PARTS[2]]
    assert torch.equal(found, true_logps(rows))
    assert "reference smollm2: 6 of 8 rows were measured before" in caplog.messages
    assert not left.exists()


def test_of_two_processes_at_once_one_measures_and_the_other_reads(tmp_path, rows, caplog):
    caplog.set_level(logging.INFO)
    begun, go_on = FORK.Event(), FORK.Event()

    def wait(call):
        begun.set()
        assert go_on.wait(60)

    class Telling(logging.Handler):
        def emit(self, record):
            if "another process" in record.getMessage():
                go_on.set()

    child = FORK.Process(target=measured, args=(tmp_path, rows, Scripted(rows, at_call=wait)))
    child.start()
    handler = Telling()
    logging.getLogger("train.model.reference").addHandler(handler)
    try:
        assert begun.wait(60)
        second = Scripted(rows)
        found = measured(tmp_path, rows, second)
    finally:
        go_on.set()
        logging.getLogger("train.model.reference").removeHandler(handler)
        child.join()

    assert child.exitcode == 0
    assert second.asked == []
    assert torch.equal(found, true_logps(rows))
    assert caplog.messages[0] == "reference smollm2: another process measures these rows; waiting for it"


def test_rows_that_are_not_finite_are_named_and_their_part_is_not_kept(tmp_path, rows):
    with pytest.raises(UserError) as error:
        measured(tmp_path, rows, Scripted(rows, broken=(1, 6)))

    assert str(error.value) == (
        "smollm2 gives 2 rows a probability that is not finite, such as row-6, row-1; take them out of the mix, "
        "or choose another --reference"
    )
    mended = Scripted(rows)
    assert torch.equal(measured(tmp_path, rows, mended), true_logps(rows))
    assert mended.asked == PARTS[1:]


def test_no_more_than_ten_rows_are_named(tmp_path):
    rows = Rows([5] * 12)

    with pytest.raises(UserError, match=r"gives 12 rows .* row-0, row-1, .*, row-9; take them out"):
        measured(tmp_path, rows, Scripted(rows, broken=range(12)))


def test_an_interrupt_leaves_the_lock_free(tmp_path, rows):
    def interrupt(call):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measured(tmp_path, rows, Scripted(rows, at_call=interrupt))

    assert torch.equal(measured(tmp_path, rows, Scripted(rows)), true_logps(rows))


def test_another_key_is_measured_anew(tmp_path, rows):
    measured(tmp_path, rows, Scripted(rows), key="one")
    other = Scripted(rows)

    measured(tmp_path, rows, other, key="two")

    assert other.asked == PARTS


def test_the_key_covers_tokens_weights_and_precision():
    keys = [
        reference_key("tokens", "weights", "cpu"),
        reference_key("other tokens", "weights", "cpu"),
        reference_key("tokens", "other weights", "cpu"),
        reference_key("tokens", "weights", "cuda"),
    ]

    assert len(set(keys)) == 4
    assert reference_key("tokens", "weights", "cpu") == keys[0]


def test_a_part_has_its_tokens_but_for_the_last_row_and_a_huge_row_is_one():
    sizes = np.array([3, PART_TOKENS * 3, 1, PART_TOKENS, 7, 1])

    # the huge row ends where a part does, and so does the next; rows of the same size keep their order
    assert [places.tolist() for places in split_parts(sizes)] == [[1], [3], [4, 0, 2, 5]]


def test_many_rows_are_read_back_in_a_few_numbers_a_row(tmp_path):
    sizes = np.random.default_rng(0).integers(2, 40, 100_000)
    rows = Rows(sizes)
    first = measured(tmp_path, rows, Scripted(rows))
    again = Scripted(rows)

    tracemalloc.start()
    found = measured(tmp_path, rows, again)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert again.asked == []
    assert torch.equal(found, first)
    # eight numbers of 8 bytes
    assert peak < 64 * len(rows)
