"""Split rows into micro-batches, and halve these when memory runs out."""

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from schemas.errors import UserError
from train.data.packing import micro_batches
from train.data.token_store import TokenRows

log = logging.getLogger(__name__)

T = TypeVar("T")

OUT_OF_MEMORY = ("can't allocate memory", "could not create a primitive")
"""Out-of-memory messages of torch and oneDNN on a CPU."""


class MicroBatcher:
    """Micro-batches of a number of tokens that is halved when memory runs out, which changes no sum over parts."""

    def __init__(self, tokens: int, packs: bool, halved: Callable[[int], None] = lambda tokens: None) -> None:
        """`halved` is called with the new size. Of rows that are not `packs`, one may take twice its tokens."""
        self.tokens = tokens
        self._copies = 1 if packs else 2
        self._halved = halved

    def parts(self, rows: TokenRows, chosen: Sequence[int] | NDArray[np.int64]) -> list[list[int]]:
        """These rows as micro-batches."""
        return micro_batches(rows.sizes, chosen, self.tokens // self._copies)

    def run_in_parts(
        self, rows: TokenRows, chosen: Sequence[int] | NDArray[np.int64], work: Callable[[list[list[int]]], T]
    ) -> T:
        """Do `work`, which begins anew when it is called, on the parts of these rows, smaller ones until they fit.

        Raises UserError where each row was by itself already.
        """
        while True:
            parts = self.parts(rows, chosen)
            try:
                return work(parts)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
            if len(parts) == len(chosen):
                longest = max(int(rows.sizes[row]) for row in chosen)
                raise UserError(
                    f"a row of up to {longest} tokens takes more memory than there is; give --gradient-checkpointing, "
                    "or a lower --max-length"
                )
            torch.cuda.empty_cache()
            self.tokens = min(self.tokens, int(rows.sizes[chosen].sum())) // 2
            self._halved(self.tokens)
            log.warning("out of memory: micro-batch halved to %s tokens, with the same gradient", f"{self.tokens:,}")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that an allocation failed; torch has no class of its own for that on a CPU."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and any(said in str(error) for said in OUT_OF_MEMORY)
    )
