"""Sentence vectors from the embedded `minilm`."""

import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.models.digests import folder_digest
from curate.models.embedded import embedded_folder, embedded_graph
from curate.models.folders import check_weights
from schemas.ids import digest
from schemas.wire import replace_surrogates

Vectors = NDArray[np.float32]

MOST_TOKENS = 256
MOST_CHARACTERS = 16_384
"""Characters kept of the end of a text: enough for its last 256 word pieces, but for endless words and blanks."""
TOKENS_PER_BATCH = 512
"""The fastest from 128 to 4,096: the states of such a batch stay in the cache of a core."""
TEXTS_PER_GPU_BATCH = 256
VERSION = 1
"""Raised when a text is prepared, or its vector made, in another way."""


def minilm_encoder() -> "Encoder":
    """all-MiniLM-L6-v2 as it lies in the cache; nothing is loaded before the first text."""
    folder = embedded_folder("minilm")
    return Encoder("minilm", digest([folder_digest(folder), VERSION]), folder)


class Encoder:
    """all-MiniLM-L6-v2: 384 numbers a text, of length 1."""

    dimensions = 384

    def __init__(self, model: str, digest: str, folder: Path) -> None:
        self.model = model
        self.digest = digest
        self._folder = folder

    def encode(self, texts: Sequence[str]) -> Vectors:
        """The vectors (texts, 384) of the last 256 word pieces of each text.

        The last ones, for at the end of a long dialogue it says what is asked now. A lone surrogate counts as
        a question mark.
        """
        cut = [replace_surrogates(text[-MOST_CHARACTERS:]) for text in texts]
        return self._engine.encode(cut) if cut else np.zeros((0, self.dimensions), np.float32)

    @cached_property
    def _engine(self) -> "OnCpu | OnGpu":
        folder = check_weights(self._folder)
        return OnGpu(folder) if has_gpu() else OnCpu(folder, embedded_graph("minilm"))


class OnCpu:
    """ONNX Runtime in fp32: faster than torch at every length, and loaded in a fraction of the time."""

    def __init__(self, folder: Path, graph: Path) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        options = onnxruntime.SessionOptions()
        # Each thread makes batches of its own: threads that share one wait for each other.
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self._session: Any = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MOST_TOKENS, direction="left")

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Vectors from batches of texts of like length, the longest first."""
        ids = [np.array(encoded.ids) for encoded in self._tokenizer.encode_batch_fast(texts)]
        vectors = np.empty((len(ids), Encoder.dimensions), np.float32)

        def fill(batch: list[int]) -> None:
            vectors[batch] = self._run([ids[i] for i in batch])

        with ThreadPoolExecutor(usable_cores()) as threads:
            for done in [threads.submit(fill, batch) for batch in length_batches([len(row) for row in ids])]:
                done.result()
        return vectors

    def _run(self, rows: list[NDArray[np.int64]]) -> Vectors:
        """The vectors of one batch; the first row is the longest."""
        ids = np.zeros((len(rows), len(rows[0])), np.int64)
        mask = np.zeros(ids.shape, np.int32)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = row
            mask[place, : len(row)] = 1
        vectors: Vectors = self._session.run(["vector"], {"ids": ids, "mask": mask})[0]
        return vectors


class OnGpu:
    """sentence-transformers on the GPU."""

    def __init__(self, folder: Path) -> None:
        from sentence_transformers import SentenceTransformer

        self._model = SentenceTransformer(str(folder), device="cuda")
        self._model.tokenizer.truncation_side = "left"

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Vectors from batches that sentence-transformers sorts by length."""
        found = self._model.encode(
            list(texts), batch_size=TEXTS_PER_GPU_BATCH, normalize_embeddings=True, show_progress_bar=False
        )
        return np.asarray(found, np.float32)


def length_batches(lengths: Sequence[int]) -> list[list[int]]:
    """Numbers of the texts of each batch, longest first, with at most `TOKENS_PER_BATCH` tokens a batch."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    found, start = [], 0
    while start < len(order):
        count = max(1, TOKENS_PER_BATCH // lengths[order[start]])
        found.append(order[start : start + count])
        start += count
    return found


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def has_gpu() -> bool:
    """Whether torch finds an NVIDIA GPU; torch is loaded only where the machine has the driver."""
    if shutil.which("nvidia-smi") is None:
        return False
    import torch

    return torch.cuda.is_available()
