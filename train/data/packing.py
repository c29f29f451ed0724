"""Pack rows into tensors: prompt and responses in one sequence, several rows one after another, no padding.

A row is laid out as prompt, chosen, rejected. Positions of the rejected response go on from the prompt, and
attention (`train/model/attention.py`) shows it the prompt and itself alone, so the prompt is computed once for both.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from schemas.errors import UserError
from train.data.tokens import Row


class Segment(NamedTuple):
    """Tokens that attend to themselves, causally, and to all of a prompt that lies somewhere before them."""

    start: int
    stop: int
    prompt_start: int
    prompt_stop: int
    """Equal to `prompt_start` where the segment begins with its own prompt."""

    def keys(self) -> int:
        """Tokens that the last token of the segment attends to."""
        return self.prompt_stop - self.prompt_start + self.stop - self.start


class Span(NamedTuple):
    """Places of a batch that belong to a row."""

    row: int
    """Which row it is of all."""
    tokens: int
    """Its first places, that hold tokens."""
    places: int
    """All of them."""


@dataclass(frozen=True)
class Batch:
    """Some rows; every response of each is a line: row 0 chosen, row 0 rejected, row 1 chosen ..."""

    rows: list[int]
    """Which rows these are of all."""
    ids: Tensor
    """(1, tokens) packed; (lines, longest line) padded on the right."""
    positions: Tensor
    """Like `ids`: places in the text, from 0 in every prompt."""
    segments: tuple[Segment, ...]
    """Of packed rows, in order; none of padded ones."""
    predicts: Tensor
    """(learned,): places in the flattened `ids` before the learned tokens, where these are predicted."""
    targets: Tensor
    """(learned,): the learned tokens."""
    lines: Tensor
    """(learned,): the line that each belongs to."""
    learned_tokens: Tensor
    """(lines,): learned tokens of each line."""
    spans: list[Span]
    """Spans with a dropout mask of their own, in the order of the flattened `ids`: a packed row, a padded line."""
    tokens: int
    """Tokens of all rows, a prompt counted once, padding aside."""

    def to(self, device: torch.device) -> "Batch":
        """The same on a device."""
        moved: dict[str, Any] = {
            name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return replace(self, **moved)


def pack_rows(rows: Sequence[Row], places: Sequence[int]) -> Batch:
    """The rows at these places in one sequence."""
    chosen = [rows[place] for place in places]
    ids: list[NDArray[np.uint32]] = []
    positions, segments, predicts = [], [], []
    start = 0
    for row in chosen:
        prompt = len(row.prompt)
        ids += [row.prompt, *(response.ids for response in row.responses)]
        positions.append(np.arange(prompt))
        stop = start + prompt
        for number, response in enumerate(row.responses):
            first, stop = stop, stop + len(response)
            positions.append(np.arange(prompt, prompt + len(response)))
            segments.append(Segment(first, stop, start, start + prompt) if number else Segment(start, stop, 0, 0))
            # the last token of the prompt predicts the first one of every response
            before = np.concatenate([[start + prompt - 1], np.arange(first, stop - 1)])
            predicts.append(before[response.learned])
        start = stop
    sequence = torch.from_numpy(np.concatenate(ids).astype(np.int64))[None]
    places_in_text = torch.from_numpy(np.concatenate(positions))[None]
    spans = [Span(place, len(row), len(row)) for place, row in zip(places, chosen, strict=True)]
    return make_batch(chosen, places, sequence, places_in_text, segments, predicts, spans)


def pad_rows(rows: Sequence[Row], places: Sequence[int], pad: int) -> Batch:
    """The same rows with every response behind its own copy of the prompt, for models that need this."""
    chosen = [rows[place] for place in places]
    lines = [(row.prompt, response) for row in chosen for response in row.responses]
    longest = max(len(prompt) + len(response) for prompt, response in lines)
    ids = np.full((len(lines), longest), pad, dtype=np.int64)
    predicts = []
    for line, (prompt, response) in enumerate(lines):
        whole = len(prompt) + len(response)
        ids[line, :whole] = np.concatenate([prompt, response.ids])
        predicts.append((line * longest + np.arange(len(prompt) - 1, whole - 1))[response.learned])
    positions = torch.arange(longest).expand(len(lines), longest)
    spans = [
        Span(place, len(row.prompt) + len(response), longest)
        for place, row in zip(places, chosen, strict=True)
        for response in row.responses
    ]
    return make_batch(chosen, places, torch.from_numpy(ids), positions, [], predicts, spans)


def make_batch(
    chosen: Sequence[Row],
    places: Sequence[int],
    ids: Tensor,
    positions: Tensor,
    segments: Sequence[Segment],
    predicts: Sequence[NDArray[np.int64]],
    spans: list[Span],
) -> Batch:
    """The fields that packed and padded rows share. Raises UserError for a response without a learned token."""
    responses = [response for row in chosen for response in row.responses]
    counts = np.array([response.learned.sum() for response in responses])
    for row in chosen:
        if not all(response.learned.any() for response in row.responses):
            raise UserError(f"row {row.row_id} has a response without tokens to learn; take it out of the data")
    targets = np.concatenate([response.ids[response.learned] for response in responses]).astype(np.int64)
    return Batch(
        rows=list(places),
        ids=ids,
        positions=positions,
        segments=tuple(segments),
        predicts=torch.from_numpy(np.concatenate(predicts)),
        targets=torch.from_numpy(targets),
        lines=torch.from_numpy(np.repeat(np.arange(len(counts)), counts)),
        learned_tokens=torch.from_numpy(counts),
        spans=spans,
        tokens=sum(map(len, chosen)),
    )


def micro_batches(
    sizes: Sequence[int] | NDArray[np.int64], places: Sequence[int] | NDArray[np.int64], budget: int
) -> list[list[int]]:
    """The rows at these places in parts of at most `budget` tokens, longest first: those of a part are alike in length.

    `sizes` are tokens of all rows, by place. A row that is longer than the budget is a part by itself.
    """
    parts: list[list[int]] = []
    room = 0
    for place in sorted(map(int, places), key=lambda place: (-sizes[place], place)):
        size = int(sizes[place])
        if not parts or size > room:
            parts.append([])
            room = budget
        parts[-1].append(place)
        room -= size
    return parts
