"""Attention over packed rows: each segment sees itself, causally, and the prompt it shares.

Registered with transformers' attention interface, so it serves every architecture that uses that; the segments reach
it as a keyword argument of the model's forward. On a CPU it calls torch's flash kernel segment by segment, without
copies of keys for the query heads that share them, and gathers gradients in place. On a GPU it is one call of a
variable-length kernel.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface

from train.data.packing import Segment

NAME = "pairwright_packed"

flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class NotPackable(Exception):
    """The model needs a kind of attention that packed rows do not support."""


def packed_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    segments: Sequence[Segment] | None = None,
    windows: set[int] | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Called by transformers in each layer: `query` is (1, heads, tokens, size), the result (1, tokens, heads, size).

    `key` and `value` may have fewer heads. `sliding_window` is the number of tokens seen, the token itself
    included, and is added to `windows` where that is given.
    Raises NotPackable for what it does not do: caps, sinks, biases, dropout in attention.
    """
    asked = [name for name in ("softcap", "s_aux", "position_bias") if others.get(name) is not None]
    if segments is None or attention_mask is not None or asked or dropout:
        raise NotPackable(", ".join(asked) or "a mask or dropout in attention")
    if windows is not None and sliding_window is not None:
        windows.add(sliding_window)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if query.is_cuda:
        return attend_on_gpu(query, key, value, segments, scale, sliding_window)[None], None
    out: Tensor = SegmentAttention.apply(query, key, value, tuple(segments), scale, sliding_window)  # type: ignore[no-untyped-call]
    return out, None


AttentionInterface.register(NAME, packed_attention)


class SegmentAttention(torch.autograd.Function):
    """Attention on a CPU, (1, heads, tokens, size) to (1, tokens, heads, size).

    One node for all segments: a slice for each would cost a tensor of zeros as large as the whole in the backward.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        segments: tuple[Segment, ...],
        scale: float,
        window: int | None,
    ) -> Tensor:
        out = query.new_empty(1, query.shape[2], query.shape[1], value.shape[3])
        queries, keys, values, found = (
            group_heads(each, key.shape[1]) for each in (query, key, value, out.transpose(1, 2))
        )
        sums = []
        for segment in segments:
            mask = segment_mask(segment, window, query)
            part, logsumexp = flash(
                queries[:, :, segment.start : segment.stop],
                visible_states(keys, segment, queries.shape[1]),
                visible_states(values, segment, queries.shape[1]),
                0.0,
                mask is None,
                attn_mask=mask,
                scale=scale,
            )
            found[:, :, segment.start : segment.stop] = part
            sums.append(logsumexp)
        ctx.save_for_backward(query, key, value, out, *sums)
        ctx.told = (segments, scale, window)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, out, *sums = ctx.saved_tensors
        segments, scale, window = ctx.told
        heads = key.shape[1]
        grads = [torch.zeros_like(each) for each in (query, key, value)]
        into_query, into_key, into_value = (group_heads(each, heads) for each in grads)
        queries, keys, values = (group_heads(each, heads) for each in (query, key, value))
        found, given = (group_heads(each.transpose(1, 2), heads) for each in (out, grad))
        for segment, logsumexp in zip(segments, sums, strict=True):
            mask = segment_mask(segment, window, query)
            own = slice(segment.start, segment.stop)
            of_query, of_key, of_value = flash_backward(
                given[:, :, own],
                queries[:, :, own],
                visible_states(keys, segment, queries.shape[1]),
                visible_states(values, segment, queries.shape[1]),
                found[:, :, own],
                logsumexp,
                0.0,
                mask is None,
                attn_mask=mask,
                scale=scale,
            )
            into_query[:, :, own] = of_query
            prompt = segment.prompt_stop - segment.prompt_start
            for into, part in ((into_key, of_key.sum(1, keepdim=True)), (into_value, of_value.sum(1, keepdim=True))):
                into[:, :, own] += part[:, :, prompt:]
                if prompt:
                    into[:, :, segment.prompt_start : segment.prompt_stop] += part[:, :, :prompt]
        return grads[0], grads[1], grads[2], None, None, None


def group_heads(states: Tensor, heads: int) -> Tensor:
    """(1, any multiple of `heads`, tokens, size) as (heads, multiple, tokens, size), without a copy."""
    return states[0].view(heads, -1, *states.shape[2:])


def visible_states(states: Tensor, segment: Segment, copies: int) -> Tensor:
    """Keys or values that a segment attends to, the prompt's first, for as many query heads, which share the memory."""
    own = states[:, :, segment.start : segment.stop]
    if segment.prompt_stop > segment.prompt_start:
        own = torch.cat([states[:, :, segment.prompt_start : segment.prompt_stop], own], dim=2)
    return own.expand(-1, copies, -1, -1)


def segment_mask(segment: Segment, window: int | None, like: Tensor) -> Tensor | None:
    """(queries, keys) of 0 and -inf, to be added; None where the kernel's own causal mask is the right one."""
    own, keys = segment.stop - segment.start, segment.keys()
    if own == keys and (window is None or keys <= window):
        return None
    distance = torch.arange(keys - own, keys)[:, None] - torch.arange(keys)
    hidden = distance < 0
    if window is not None:
        hidden |= distance >= window
    return torch.zeros(own, keys, dtype=like.dtype).masked_fill_(hidden, float("-inf"))


def attend_on_gpu(
    query: Tensor, key: Tensor, value: Tensor, segments: Sequence[Segment], scale: float, window: int | None
) -> Tensor:
    """(tokens, heads, size) by one call of a variable-length kernel: prompts that are shared are gathered as keys.

    Where a segment has more keys than queries the kernel aligns the causal mask at the last of both, which is right.
    """
    places, query_ends, key_ends = gather_keys(segments, query.device)
    most_queries = max(segment.stop - segment.start for segment in segments)
    most_keys = max(segment.keys() for segment in segments)
    queries, keys, values = (each[0].transpose(0, 1) for each in (query, key, value))
    out = varlen_attn(
        queries.contiguous(),
        keys[places],
        values[places],
        query_ends,
        key_ends,
        most_queries,
        most_keys,
        scale=scale,
        # the kernel counts the tokens before, transformers those seen
        window_size=(-1 if window is None else window - 1, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    assert isinstance(out, Tensor)
    return out


def gather_keys(segments: Sequence[Segment], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Places of the keys of all segments one behind the other, and where queries and keys of each end, from 0 on."""
    places, query_ends, key_ends = [], [0], [0]
    for segment in segments:
        places += [*range(segment.prompt_start, segment.prompt_stop), *range(segment.start, segment.stop)]
        query_ends.append(segment.stop)
        key_ends.append(len(places))
    queries, keys = (torch.tensor(ends, dtype=torch.int32, device=device) for ends in (query_ends, key_ends))
    return torch.tensor(places, device=device), queries, keys
