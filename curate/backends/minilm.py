"""Sentence vectors from the embedded `minilm`."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from sentence_transformers import SentenceTransformer
from transformers.utils import logging

from curate.backends.calls import Answer, Request

logging.disable_progress_bar()  # type: ignore[no-untyped-call]

TEXTS_PER_BATCH = 32


class MiniLM:
    """all-MiniLM-L6-v2: 384 numbers a text, of length 1."""

    is_remote = False
    price_name: str | None = None

    def __init__(self, digest: str, folder: Path) -> None:
        self.model = "minilm"
        self.digest = digest
        self._model = SentenceTransformer(str(folder))
        # The model reads 256 word pieces; of a long dialogue the last ones say what is asked now.
        self._model.tokenizer.truncation_side = "left"

    def answer(self, requests: Sequence[Request], needed: set[int]) -> Iterator[list[tuple[int, Answer]]]:
        """The vector of the last message of each request, in batches of similar length."""
        texts = [request.messages[-1]["content"] for request in requests]
        order = sorted(range(len(texts)), key=lambda i: (len(texts[i]), i))
        for start in range(0, len(order), TEXTS_PER_BATCH):
            batch = [i for i in order[start : start + TEXTS_PER_BATCH] if i in needed]
            if batch:
                began = time.perf_counter()
                vectors = self._model.encode(
                    [texts[i] for i in batch],
                    batch_size=TEXTS_PER_BATCH,
                    normalize_embeddings=True,
                    show_progress_bar=False,
                )
                seconds = (time.perf_counter() - began) / len(batch)
                yield [
                    (i, Answer(values=tuple(map(float, vector)), seconds=seconds))
                    for i, vector in zip(batch, vectors, strict=True)
                ]
