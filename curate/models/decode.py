"""Sample many responses together, token by token, by the forward pass of a transformers model.

Unlike `generate` of transformers: a prompt is read once however many responses it gets, the common
start of all prompts is read once, finished responses leave the batch, keys and values are written
into memory allocated beforehand, and only likely tokens are sorted.
"""

import inspect
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

FORWARD = {"input_ids", "attention_mask", "position_ids", "past_key_values", "use_cache", "logits_to_keep"}
SHORTEST_PREFIX = 8
"""Tokens that prompts must share before they are read apart from the rest, which costs a pass of its own."""
PIECE_TOKENS = {"cpu": 1024, "cuda": 32_768}
"""Tokens of prompts that are read in one pass: more take memory and more padding, but no less time."""

CANDIDATES = 256
"""Most likely tokens that are looked at first: a sort of the whole vocabulary takes twenty times as long."""


class RoomyLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """Keys and values of one layer in room made once; the library's layer copies them all at every token."""

    def __init__(self, pieces: Sequence[Any], rows: Sequence[Tensor], shared: int, width: int, room: int) -> None:
        """`rows[i]` of what `pieces[i]` read, which may come several times each, one piece below the other.

        `shared` first tokens stay in front, the others end at `width`, and `room` for so many more follows.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self.dtype, self.device, self.is_initialized = pieces[0].dtype, pieces[0].device, True
        self._length = width
        read = [[piece.keys for piece in pieces], [piece.values for piece in pieces]]
        self._rooms = [stack_cache(states, rows, shared, width, room) for states in read]
        self.keys, self.values = self._filled()

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """All keys and values, with the new ones written behind the old."""
        start, self._length = self._length, self._length + key_states.shape[-2]
        for room, states in zip(self._rooms, (key_states, value_states), strict=True):
            room[:, :, start : self._length] = states
        self.keys, self.values = keys, values = self._filled()
        return keys, values

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Fewer rows, in place: only those that move are copied, each from behind the rows that stay."""
        moves = (beam_idx != torch.arange(len(beam_idx), device=beam_idx.device)).nonzero()[:, 0]
        for at, room in enumerate(self._rooms):
            room[moves, :, : self._length] = room[beam_idx[moves], :, : self._length]
            self._rooms[at] = room[: len(beam_idx)]
        self.keys, self.values = self._filled()

    def _filled(self) -> tuple[Tensor, Tensor]:
        keys, values = (room[:, :, : self._length] for room in self._rooms)
        return keys, values


def stack_cache(pieces: Sequence[Tensor], rows: Sequence[Tensor], shared: int, width: int, room: int) -> Tensor:
    """Keys, or values, (rows, heads, width + room, size) from pieces (rows, heads, tokens, size)."""
    _, heads, _, size = pieces[0].shape
    made = pieces[0].new_empty(sum(len(some) for some in rows), heads, width + room, size)
    # What is masked is multiplied by 0, which leaves a NaN that memory may hold.
    made[:, :, :width] = 0
    start = 0
    for piece, some in zip(pieces, rows, strict=True):
        stop, rest = start + len(some), piece.shape[2] - shared
        made[start:stop, :, :shared] = piece[some, :, :shared]
        made[start:stop, :, width - rest : width] = piece[some, :, shared:]
        start = stop
    return made


@torch.inference_mode()
def bytes_per_token(model: Any) -> int | None:
    """Bytes of the keys and values of a token; None for a model whose cache or forward pass is of another kind."""
    if not inspect.signature(model.forward).parameters.keys() >= FORWARD:
        return None
    cache = new_cache(model)
    if any(type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer) for layer in cache.layers):
        return None
    model(input_ids=torch.zeros(1, 1, dtype=torch.long, device=model.device), past_key_values=cache, use_cache=True)
    if any(layer.get_seq_length() != 1 for layer in cache.layers):
        return None
    return sum(int(states.nbytes) for layer in cache.layers for states in (layer.keys, layer.values))


@torch.inference_mode()
def decode(
    model: Any,
    prompts: Sequence[list[int]],
    counts: Sequence[int],
    luck: Tensor | None,
    sampling: dict[str, Any],
    ends: Sequence[int],
) -> list[list[int]]:
    """`counts[i]` responses to `prompts[i]`, in that order, each up to and with its first end token.

    Prompts in order of their length are read with the least padding.
    `luck` is (responses, max_tokens), uniform in [0, 1), one number for each token drawn; None takes
    the most likely token. The model is one that `bytes_per_token` knows.
    """
    max_tokens = int(sampling["max_tokens"])
    shared, width = shared_length(model, prompts), max(len(prompt) for prompt in prompts)
    cache, logits = read_prompts(model, prompts, counts, shared, max_tokens)
    repeated = [len(prompt) for prompt, count in zip(prompts, counts, strict=True) for _ in range(count)]
    lengths = torch.tensor(repeated, device=model.device)
    mask = own_tokens(lengths, shared, width, max_tokens)
    responses: list[list[int]] = [[] for _ in repeated]
    drawing = list(range(len(responses)))
    for step in range(max_tokens):
        if luck is None:
            tokens = logits.argmax(-1)
        else:
            tokens = draw(logits, sampling["temperature"], sampling["top_p"], luck[drawing, step].to(logits.device))
        drawn = tokens.tolist()
        for row, token in zip(drawing, drawn, strict=True):
            responses[row].append(token)
        kept = fill_gaps([token not in ends for token in drawn])
        if not kept or step + 1 == max_tokens:
            break
        if len(kept) < len(drawing):
            drawing = [drawing[at] for at in kept]
            index = torch.tensor(kept, device=model.device)
            tokens, mask, lengths = tokens[index], mask[index], lengths[index]
            cache.reorder_cache(index)
        logits = forward(model, cache, tokens[:, None], mask[:, : width + step + 1], (lengths + step)[:, None])
    return responses


def new_cache(model: Any) -> Any:
    """An empty cache with the kind of layer that the model wants at each place."""
    return DynamicCache(config=model.config.get_text_config(decoder=True))


def shared_length(model: Any, prompts: Sequence[list[int]]) -> int:
    """Number of first tokens of all prompts to read once; 0 where it would not pay or padding behind them would harm.

    A sliding window counts the padding between the shared tokens and the rest as if it were text.
    """
    if len(prompts) == 1 or any(new_cache(model).is_sliding):
        return 0
    first, last = min(prompts), max(prompts)
    # The last token of every prompt is read with its rest, which gives the logits.
    most = min(len(prompt) for prompt in prompts) - 1
    shared = next((at for at in range(most) if first[at] != last[at]), most)
    return shared if shared >= SHORTEST_PREFIX else 0


def read_prompts(
    model: Any, prompts: Sequence[list[int]], counts: Sequence[int], shared: int, room: int
) -> tuple[Any, Tensor]:
    """A cache with a row for each response and `room` for its tokens, and logits (responses, vocabulary)."""
    start = new_cache(model)
    if shared:
        read_piece(model, start, [prompts[0][:shared]], 0)
    caches, rows, logits = [], [], []
    for piece in group_prompts(prompts, shared, PIECE_TOKENS[model.device.type], any(start.is_sliding)):
        cache = new_cache(model)
        if shared:
            for at, layer in enumerate(start.layers):
                cache.update(*(states.expand(len(piece), -1, -1, -1) for states in (layer.keys, layer.values)), at)
        found = read_piece(model, cache, [prompts[i] for i in piece], shared)
        repeats = torch.tensor([counts[i] for i in piece], device=model.device)
        rows.append(torch.arange(len(piece), device=model.device).repeat_interleave(repeats))
        caches.append(cache)
        logits.append(found[rows[-1]])
    width = max(len(prompt) for prompt in prompts)
    joined = caches[0]
    for at, layer in enumerate(joined.layers):
        if type(layer) is DynamicLayer:
            joined.layers[at] = RoomyLayer([cache.layers[at] for cache in caches], rows, shared, width, room)
        else:
            # A sliding window keeps the library's layer, which drops what slides out; it was read in one piece.
            layer.reorder_cache(rows[0])
    return joined, torch.cat(logits)


def group_prompts(prompts: Sequence[list[int]], shared: int, most_tokens: int, is_whole: bool) -> Iterator[range]:
    """Neighboring prompts that are read together: padded to the longest, up to `most_tokens`, or all of them."""
    start, longest = 0, 0
    for at, prompt in enumerate(prompts):
        longest = max(longest, len(prompt) - shared)
        if at > start and not is_whole and longest * (at + 1 - start) > most_tokens:
            yield range(start, at)
            start, longest = at, len(prompt) - shared
    yield range(start, len(prompts))


def read_piece(model: Any, cache: Any, prompts: Sequence[list[int]], shared: int) -> Tensor:
    """Logits (prompts, vocabulary) after prompts of which the cache holds the `shared` first tokens."""
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    width = int(lengths.max())
    tokens = torch.tensor([[0] * (width - len(prompt)) + prompt[shared:] for prompt in prompts])
    mask = own_tokens(lengths, shared, width, 0)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, shared:]
    return forward(model, cache, *(part.to(model.device) for part in (tokens, mask, positions)))


def own_tokens(lengths: Tensor, shared: int, width: int, room: int) -> Tensor:
    """True for a row's own tokens (rows, width + room): the shared ones in front, the rest up to `width`, the room."""
    at = torch.arange(width + room, device=lengths.device)
    return (at < shared) | (at >= width + shared - lengths[:, None])


def forward(model: Any, cache: Any, tokens: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
    """Logits (rows, vocabulary) after the last of `tokens`, whose keys and values join the cache."""
    found = model(
        input_ids=tokens,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    logits: Tensor = found.logits[:, -1]
    return logits


def fill_gaps(stays: list[bool]) -> list[int]:
    """Places of the rows that stay, where the last ones fill the gaps, so that few rows move."""
    count = sum(stays)
    fillers = (at for at in range(len(stays) - 1, count - 1, -1) if stays[at])
    return [at if stays[at] else next(fillers) for at in range(count)]


def draw(logits: Tensor, temperature: float, top_p: float, luck: Tensor) -> Tensor:
    """One token a row of `logits` (rows, vocabulary); `luck` is (rows,) in [0, 1), uniform.

    A row's token depends on its logits and its luck alone, not on the rows beside it.
    """
    drawn = torch.empty(len(logits), dtype=torch.long, device=logits.device)
    for rows, probabilities, tokens in find_nuclei(logits, temperature, top_p):
        cumulated = probabilities.cumsum(-1, dtype=torch.float64)
        mass = cumulated[:, -1:]
        # A luck just below 1 may round up to the whole mass: the last token with a probability is meant.
        last = (cumulated < mass).sum(-1, keepdim=True)
        at = torch.searchsorted(cumulated, luck[rows].double()[:, None] * mass, right=True).minimum(last)
        drawn[rows] = tokens.gather(-1, at)[:, 0]
    return drawn


def find_nuclei(logits: Tensor, temperature: float, top_p: float) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Rows of `logits` in at most two groups: row numbers, probabilities (rows, k) and their tokens (rows, k).

    Probabilities are 0 outside of the nucleus: the fewest most likely tokens whose mass reaches
    `top_p`. They are not scaled to sum to 1.
    """
    every = torch.softmax(logits.float() / temperature, dim=-1)
    if top_p >= 1:
        numbers = [torch.arange(size, device=every.device) for size in every.shape]
        yield numbers[0], every, numbers[1].expand_as(every)
        return
    likely, tokens = every.topk(min(CANDIDATES, every.shape[-1]), dim=-1)
    is_whole = likely.sum(-1, dtype=torch.float64) >= top_p
    for are_whole in (True, False):
        rows = (is_whole == are_whole).nonzero()[:, 0]
        if len(rows):
            found = (likely[rows], tokens[rows]) if are_whole else every[rows].sort(-1, descending=True)
            yield rows, cut_nucleus(found[0], top_p), found[1]


def cut_nucleus(likely: Tensor, top_p: float) -> Tensor:
    """`likely`, which falls from left to right, with 0 for tokens whose more likely ones already reach `top_p`."""
    before = likely.cumsum(-1, dtype=torch.float64) - likely
    is_outside = before >= top_p
    is_outside[:, 0] = False
    return likely.masked_fill(is_outside, 0)


class PackedLinear(nn.Module):
    """Computes what a `Linear` computes, up to rounding; for inference in fp32 on a CPU."""

    def __init__(self, linear: nn.Linear) -> None:
        """The weights are copied; the caller drops the `Linear`."""
        super().__init__()
        self.bias = linear.bias
        self.register_buffer("weight", torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach()))

    def forward(self, rows: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        product: Tensor = torch.ops.mkldnn._linear_pointwise(rows, self.weight, self.bias, "none", [], "")
        return product


def pack(model: nn.Module) -> None:
    """Put a `PackedLinear` in the place of each fp32 `Linear` on the CPU whose weights nothing else uses."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return
    # An output layer is often the input embedding too, which has to stay as it is.
    uses = Counter(id(weight) for _, weight in model.named_parameters(remove_duplicate=False))
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear and uses[id(child.weight)] == 1 and is_cpu_fp32(child.weight):
                setattr(parent, name, PackedLinear(child))


def is_cpu_fp32(weight: Tensor) -> bool:
    return weight.device.type == "cpu" and weight.dtype == torch.float32
