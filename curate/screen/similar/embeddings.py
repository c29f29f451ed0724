"""Embed texts and keep the vectors on disk by the hash of the text: each distinct text is embedded once."""

import io
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import xxhash
from numpy.typing import NDArray

from curate.files import write_atomically
from curate.ledger.recorder import Recorder
from curate.models.encoder import Encoder
from curate.screen.arrays import Mask, Vectors
from curate.screen.similar.semantic import Embed
from schemas.errors import UserError

log = logging.getLogger(__name__)

Keys = NDArray[np.bytes_]
"""128 bits of hash a text, as strings of 16 bytes."""

TEXTS_PER_SHARD = 4096
SECONDS_PER_SHARD = 10.0
"""Work after which a shard is written even if it is small: no more than this is lost to a kill."""
TEXTS_PER_CALL = 256
ROWS_AT_ONCE = 65_536
KEY = np.dtype("S16")


def embed_texts(
    texts: Iterable[str], folder: Path, embedder: Encoder, progress: Callable[[int], object] = lambda texts: None
) -> Vectors:
    """The vectors (texts, dimensions) of `texts` in their order, of length 1; NaN where the model gives none.

    The texts are gone through once and only those that the store in `folder` lacks are held, a shard at a
    time. `progress` is told how many texts have just been embedded.
    """
    shards = shard_folder(folder, embedder)
    known = np.sort(np.concatenate([np.empty(0, KEY), *keys_of_shards(shards)]))
    keys: list[Keys] = []
    lacking: dict[bytes, str] = {}
    remaining = iter(texts)
    while block := list(islice(remaining, TEXTS_PER_SHARD)):
        keys.append(text_keys(block))
        for place in np.flatnonzero(~is_among(keys[-1], known)).tolist():
            lacking[keys[-1][place].tobytes()] = block[place]
        if len(lacking) >= TEXTS_PER_SHARD:
            write_shards(lacking, shards, embedder, progress)
            # Nearly in order already, which this kind of sorting makes use of.
            known = np.sort(np.concatenate([known, np.array(list(lacking), KEY)]), kind="stable")
            lacking = {}
    write_shards(lacking, shards, embedder, progress)
    return stored_vectors(np.concatenate([np.empty(0, KEY), *keys]), folder, embedder)


def stored_vectors(keys: Keys, folder: Path, embedder: Encoder) -> Vectors:
    """The vectors (keys, dimensions) of texts that were embedded before, in the order of `keys`.

    The result is the only copy in memory. Raises UserError where one is missing.
    """
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    vectors = np.empty((keys.size, embedder.dimensions), np.float16)
    is_found = np.zeros(keys.size, bool)
    for path in sorted(shard_folder(folder, embedder).glob("*.npy")):
        shard = np.load(path, mmap_mode="r")
        first = np.searchsorted(ordered, shard["key"], "left")
        counts = np.searchsorted(ordered, shard["key"], "right") - first
        rows = np.repeat(np.arange(shard.size), counts)
        # Equal texts lie side by side in `ordered`: the first one's place, and on from there.
        places = order[first[rows] + np.arange(rows.size) - (np.cumsum(counts) - counts)[rows]]
        for start in range(0, rows.size, ROWS_AT_ONCE):
            now = slice(start, start + ROWS_AT_ONCE)
            vectors[places[now]] = shard["vector"][rows[now]]
        is_found[places] = True
    if not is_found.all():
        missing = keys.size - int(is_found.sum())
        raise UserError(f"{missing} vectors are gone from {folder}; give the same command again to embed these texts")
    return vectors


def text_keys(texts: Iterable[str]) -> Keys:
    """The keys of texts, in their order."""
    # Each has its 16 bytes, so that numpy's way with zeros at the end of a string makes no two equal.
    hashes = (xxhash.xxh3_128_digest(text.encode("utf-8", "surrogatepass")) for text in texts)
    return np.frombuffer(b"".join(hashes), KEY)


def is_among(keys: Keys, known: Keys) -> Mask:
    """Which keys stand in `known`, which is in order."""
    if not known.size:
        return np.zeros(keys.size, bool)
    place = np.minimum(np.searchsorted(known, keys), known.size - 1)
    return np.asarray(known[place] == keys)


def shard_folder(folder: Path, embedder: Encoder) -> Path:
    """Where the vectors of one model lie."""
    return folder / f"{embedder.model}-{embedder.digest[:12]}"


def keys_of_shards(folder: Path) -> Iterator[Keys]:
    """The keys of each shard; a damaged one is set aside, and its texts are embedded again when they are needed.

    A shard is named by its content.
    """
    for path in sorted(folder.glob("*.npy")):
        # Another process may set the same one aside.
        with suppress(FileNotFoundError):
            if is_whole_shard(path):
                yield np.load(path, mmap_mode="r")["key"].copy()
            else:
                path.replace(path.with_suffix(".damaged"))
                log.warning("%s is damaged; set aside, and its texts are embedded again", path)


def is_whole_shard(path: Path) -> bool:
    """Whether a shard is what its name says, which is the hash of its content."""
    return xxhash.xxh3_128_hexdigest(path.read_bytes()) == path.stem


def write_shards(texts: dict[bytes, str], folder: Path, embedder: Encoder, progress: Callable[[int], object]) -> None:
    """Embed texts by key and add them to the folder; one shard, or more where it takes long."""
    # By length, for then the texts of a call make batches with little padding.
    pending = sorted(texts, key=lambda key: len(texts[key]))
    made: list[NDArray[Any]] = []
    began = time.monotonic()
    try:
        for start in range(0, len(pending), TEXTS_PER_CALL):
            call = pending[start : start + TEXTS_PER_CALL]
            rows = np.empty(len(call), [("key", KEY), ("vector", np.float16, (embedder.dimensions,))])
            rows["key"] = np.array(call, KEY)
            rows["vector"] = unit_rows(embedder.encode([texts[key] for key in call]))
            made.append(rows)
            progress(len(call))
            if time.monotonic() - began >= SECONDS_PER_SHARD:
                write_shard(np.concatenate(made), folder)
                made, began = [], time.monotonic()
    finally:
        # Where it is interrupted too: what is there is kept.
        if made:
            write_shard(np.concatenate(made), folder)


def write_shard(rows: NDArray[Any], folder: Path) -> None:
    """Write one shard under the hash of its bytes: two processes never write different content to one name."""
    content = io.BytesIO()
    np.save(content, rows)
    name = xxhash.xxh3_128_hexdigest(content.getvalue())
    write_atomically(folder / f"{name}.npy", content.getvalue())


def unit_rows(vectors: NDArray[np.float32]) -> Vectors:
    """Rows of length 1; NaN throughout where a row is zero or not finite."""
    wide = vectors.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    is_usable = np.isfinite(lengths) & (lengths > 0)
    scaled = np.full_like(wide, np.nan)
    np.divide(wide, lengths, out=scaled, where=is_usable)
    return scaled.astype(np.float16)


def make_embed(encoder: Encoder, folder: Path, recorder: Recorder | None = None) -> Embed:
    """Makes the vectors of texts, each text once for all that use the folder; a recorder shows how far it is."""

    def embed(blocks: Iterable[pl.Series], texts: int) -> Vectors:
        if recorder is None:
            return embed_texts(chain.from_iterable(blocks), folder, encoder)
        progress = recorder.progress
        progress.begin(texts, "texts")
        return embed_texts(chain.from_iterable(blocks), folder, encoder, lambda done: progress.advance(done, 0, None))

    return embed
