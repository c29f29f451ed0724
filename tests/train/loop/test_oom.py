"""Where memory runs out less is in work at a time, with the same sums."""

import pytest
import torch
from rounding import exact_norms
from tiny_models import random_rows, tiny

from schemas.errors import UserError
from train.dpo import line_logps
from train.loop.oom import MicroBatcher, is_out_of_memory
from train.model.language_model import LanguageModel, prepare_model

ROWS = random_rows((3, 9, 4), (12, 2, 17), (1, 1, 1), (6, 14, 3))
PLACES = [2, 0, 3, 1]


class Hungry(LanguageModel):
    """Takes more memory than there is for over 40 tokens."""

    def line_logps(self, batch):
        if batch.tokens > 40:
            raise MemoryError
        return super().line_logps(batch)


@pytest.fixture
def language():
    return prepare_model(exact_norms(tiny("smollm2").double()), "smollm2", 2)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), True),
        # of oneDNN, which has no other words for it
        (RuntimeError("could not create a primitive"), True),
        (RuntimeError("shapes differ"), False),
        (ValueError("can't allocate memory"), False),
        (OSError(12, "Cannot allocate memory"), False),
    ],
)
def test_errors_about_memory_are_told_from_others(error, expected):
    assert is_out_of_memory(error) == expected


def test_a_reference_that_does_not_fit_is_measured_in_parts(language, caplog):
    expected = line_logps(language, MicroBatcher(10_000, True), ROWS, PLACES)
    halved = []

    found = line_logps(Hungry(**vars(language)), MicroBatcher(10_000, True, halved.append), ROWS, PLACES)

    torch.testing.assert_close(found, expected, atol=1e-9, rtol=1e-9)
    # 73 tokens in all
    assert halved == [36]
    assert "out of memory: micro-batch halved to 36 tokens" in caplog.text


def test_a_row_alone_that_does_not_fit_is_refused(language):
    rows = random_rows((30, 9, 4))

    with pytest.raises(UserError, match="a row of up to 43 tokens takes more memory than there is"):
        line_logps(Hungry(**vars(language)), MicroBatcher(10_000, True), rows, [0])
