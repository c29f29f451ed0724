"""Log-probabilities of every response under the frozen reference: measured once, kept for every later run.

They lie in `data/references/KEY/`, longest rows first, in parts of some tens of thousands of tokens. A part is written
once it is whole, so a run that was killed loses the part it was measuring, and a damaged part alone is measured again.
`manifest.json` is written when all are there.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from curate.files import Damaged
from curate.store.folders import check_folder, write_folder
from curate.store.tensor_files import read_tensors, write_tensors
from schemas.errors import UserError
from schemas.ids import short_id
from train.data.token_store import TokenRows

log = logging.getLogger(__name__)

VERSION = 2
"""Of how log-probabilities are measured and kept: those of another version are measured again."""
MANIFEST = "manifest.json"
TELL_EVERY_S = 60.0
PART_TOKENS = 65_536
"""Tokens of a part, but for its last row: minutes on a CPU, well under a second on a GPU."""


def reference_key(tokens: str, weights: str, device: str) -> str:
    """The key of the log-probabilities of these tokens under these weights, as precise as this kind of device is.

    `tokens` is the key of the rows, `weights` the digest of the reference, and `device` `cpu` or `cuda`.
    """
    precision = {"cpu": "fp32", "cuda": "bf16"}[device]
    return short_id({"tokens": tokens, "weights": weights, "precision": precision, "version": VERSION})


def reference_logps(folder: Path, rows: TokenRows, measure: Callable[[list[int]], Tensor], name: str) -> Tensor:
    """(rows, 2) summed log-probabilities in float64, on the CPU; `name` is the reference's, for messages.

    `measure` gives those of the rows at some places, alike in length; it is called for what is not there yet alone,
    so it can load the model when it is called first. Raises UserError with the rows where they are not finite.
    """
    found = torch.zeros(len(rows), 2, dtype=torch.float64)
    if not len(rows):
        return found
    with lock_folder(folder, name):
        parts = {
            folder / f"part-{index:05d}.safetensors": places for index, places in enumerate(split_parts(rows.sizes))
        }
        missing = {}
        for path, places in parts.items():
            saved = read_part(path, places)
            if saved is None:
                missing[path] = places
            else:
                found[places] = saved
        if not missing:
            log.info("reference %s: all %d rows were measured before, see %s", name, len(rows), folder)
        for path, places in log_progress(missing, rows, name) if missing else ():
            logps = measure(places.tolist()).detach().double().cpu()
            assert logps.shape == (len(places), 2)
            refuse_not_finite(logps, rows, places, name)
            write_tensors(path, {"logps": logps.contiguous().numpy()})
            found[places] = logps
            rows.release()
        write_manifest(folder, [path.name for path in parts])
    return found


def write_manifest(folder: Path, parts: list[str]) -> None:
    """Record that all parts are there, unless that is recorded."""
    try:
        check_folder(folder / MANIFEST, folder.name, "")
    except UserError:
        write_folder(folder / MANIFEST, folder.name, {}, parts)


def split_parts(sizes: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Places of the rows of each part, longest rows first: the batch that needs the most memory comes at once."""
    order = np.argsort(-sizes, kind="stable")
    starts = np.cumsum(sizes[order]) - sizes[order]
    return np.split(order, np.flatnonzero(np.diff(starts // PART_TOKENS)) + 1)


@contextmanager
def lock_folder(folder: Path, name: str) -> Iterator[None]:
    """Nobody else measures into `folder` meanwhile; whoever does is waited for."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("reference %s: another process measures these rows; waiting for it", name)
        lock.acquire()
    try:
        for left in folder.glob(".part-*"):
            left.unlink()
        yield
    finally:
        lock.release()


def read_part(path: Path, places: NDArray[np.int64]) -> Tensor | None:
    """(places, 2) as it was written; None, with a warning, for a file that is anything else."""
    try:
        logps = torch.from_numpy(read_tensors(path, "its rows are measured again")["logps"])
    except FileNotFoundError:
        return None
    except Damaged as error:
        log.warning("warning: %s", error)
        return None
    assert logps.shape == (len(places), 2)
    return logps


def refuse_not_finite(logps: Tensor, rows: TokenRows, places: NDArray[np.int64], name: str) -> None:
    """Raise UserError with up to ten of the rows that no loss can be made of."""
    broken = places[(~logps.isfinite().all(dim=1)).numpy()].tolist()
    if broken:
        ids = ", ".join(rows[place].row_id for place in broken[:10])
        raise UserError(
            f"{name} gives {len(broken)} rows a probability that is not finite, such as {ids}; take them out of the "
            "mix, or choose another --reference"
        )


def log_progress(
    missing: dict[Path, NDArray[np.int64]], rows: TokenRows, name: str
) -> Iterator[tuple[Path, NDArray[np.int64]]]:
    """The parts to measure, with a bar in a terminal and elsewhere a line a minute: rows, rate and time left.

    The time left is estimated from tokens, for the longest rows come first.
    """
    count = sum(map(len, missing.values()))
    tokens = sum(int(rows.sizes[places].sum()) for places in missing.values())
    if count < len(rows):
        log.info("reference %s: %d of %d rows were measured before", name, len(rows) - count, len(rows))
    done = tokens_done = 0
    begun = last_told = time.monotonic()
    with tqdm(total=tokens, desc="reference", unit="token", unit_scale=True, leave=False, disable=None) as bar:
        for path, places in missing.items():
            yield path, places
            size = int(rows.sizes[places].sum())
            done, tokens_done, now = done + len(places), tokens_done + size, time.monotonic()
            said = f"{done} of {count} rows, {done / (now - begun):.1f} rows/s"
            bar.set_postfix_str(said, refresh=False)
            bar.update(size)
            if bar.disable and now - last_told > TELL_EVERY_S:
                left_s = (now - begun) * (tokens / tokens_done - 1)
                log.info("reference %s: %s, about %.0f min left", name, said, left_s / 60)
                last_told = now
    log.info("reference %s: %d rows measured, %.1f s", name, done, time.monotonic() - begun)
