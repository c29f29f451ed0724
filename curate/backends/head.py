"""Scores from a shipped or self-trained reward head."""

import time
from collections.abc import Iterator, Sequence

from curate.backends.calls import Answer, Request
from curate.reward_head import RewardHead

ROWS_PER_BATCH = 16


class HeadScorer:
    """A reward head as a backend: one score a request, for the response its messages end with."""

    is_remote = False
    price_name: str | None = None

    def __init__(self, name: str, head: RewardHead) -> None:
        self.model = name
        self.digest = head.digest
        self._head = head
        # The backbone is loaded at the first row it reads: here, so that no batch takes that long.
        head.score([[{"role": "user", "content": "Hello"}]], ["Hello."])

    def answer(self, requests: Sequence[Request], needed: set[int]) -> Iterator[list[tuple[int, Answer]]]:
        """Scores in batches of similar length."""
        lengths = [sum(len(message["content"]) for message in request.messages) for request in requests]
        order = sorted(range(len(requests)), key=lambda i: (lengths[i], i))
        for start in range(0, len(order), ROWS_PER_BATCH):
            batch = [i for i in order[start : start + ROWS_PER_BATCH] if i in needed]
            if batch:
                began = time.perf_counter()
                scores = self._head.score(
                    [requests[i].messages[:-1] for i in batch],
                    [requests[i].messages[-1]["content"] for i in batch],
                )
                seconds = (time.perf_counter() - began) / len(batch)
                yield [(i, Answer(values=(score,), seconds=seconds)) for i, score in zip(batch, scores, strict=True)]
