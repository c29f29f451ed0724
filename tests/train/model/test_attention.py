"""Attention over segments equals attention with every token's mask written out, and so do its gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rounding import assert_as_exact

from train.data.packing import Segment
from train.model.attention import NotPackable, SegmentAttention, gather_keys, packed_attention

ONE_TOKEN = (Segment(0, 1, 0, 0),)
SHORT_AND_LONG = (Segment(0, 2, 0, 0), Segment(2, 3, 0, 1), Segment(3, 20, 0, 0), Segment(20, 33, 3, 7))
LAYOUTS = {
    "one token": ONE_TOKEN,
    "conversations": (Segment(0, 6, 0, 0), Segment(6, 7, 0, 0), Segment(7, 17, 0, 0)),
    "pairs": (Segment(0, 8, 0, 0), Segment(8, 13, 0, 5), Segment(13, 16, 0, 0), Segment(16, 19, 13, 14)),
    "uneven pairs": SHORT_AND_LONG,
}


def states(segments, heads, seed=0, dtype=torch.float64, size=8):
    """Query, key and value of a layer with as many heads of each kind."""
    random = torch.Generator().manual_seed(seed)
    tokens = segments[-1].stop
    return [
        torch.randn(1, count, tokens, size, generator=random, dtype=torch.float64).to(dtype)
        for count in (heads[0], heads[1], heads[1])
    ]


def allowed(segments, window):
    """(tokens, tokens): which keys each query may see, token by token."""
    tokens = segments[-1].stop
    mask = torch.zeros(tokens, tokens, dtype=torch.bool)
    for segment in segments:
        prompt = list(range(segment.prompt_start, segment.prompt_stop))
        for query in range(segment.start, segment.stop):
            before = [*prompt, *range(segment.start, query + 1)]
            mask[query, before if window is None else before[-window:]] = True
    return mask


def plain(query, key, value, segments, scale, window):
    """(1, tokens, heads, size) by softmax over everything that is allowed."""
    copies = query.shape[1] // key.shape[1]
    key, value = (each.repeat_interleave(copies, dim=1) for each in (key, value))
    scores = (query @ key.transpose(2, 3) * scale).masked_fill(~allowed(segments, window), float("-inf"))
    return (scores.softmax(dim=-1) @ value).transpose(1, 2)


def with_gradients(attend, given):
    """What comes out, and the gradients of what goes in, where every output counts differently."""
    given = [each.clone().requires_grad_() for each in given]
    out = attend(*given)
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    grads = torch.autograd.grad((out * weights.to(out.dtype)).sum(), given)
    return [out.detach(), *grads]


def assert_equal(found, expected, **tolerance):
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs.to(ours.dtype), **tolerance)


def kernel(query, keys, values, query_ends, key_ends, scale, window):
    """What a variable-length kernel does, one piece at a time: its causal mask ends at the last query and key."""
    pieces = []
    for piece in range(len(query_ends) - 1):
        q = query[query_ends[piece] : query_ends[piece + 1]].transpose(0, 1)
        k, v = (each[key_ends[piece] : key_ends[piece + 1]].transpose(0, 1) for each in (keys, values))
        k, v = (each.repeat_interleave(len(q) // len(each), dim=0) for each in (k, v))
        at = torch.arange(q.shape[1])[:, None] + k.shape[1] - q.shape[1]
        distance = at - torch.arange(k.shape[1])
        hidden = (distance < 0) | (distance > window[0] if window[0] >= 0 else torch.zeros_like(distance) > 0)
        scores = (q @ k.transpose(1, 2) * scale).masked_fill(hidden, float("-inf"))
        pieces.append((scores.softmax(dim=-1) @ v).transpose(0, 1))
    return torch.cat(pieces)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("heads", [(4, 2), (3, 1), (2, 2)])
@pytest.mark.parametrize("window", [None, 1, 3, 8, 10, 17, 100])
def test_values_and_gradients_are_those_of_a_mask_written_out(layout, heads, window):
    segments, given = LAYOUTS[layout], states(LAYOUTS[layout], heads)

    found = with_gradients(lambda *each: SegmentAttention.apply(*each, segments, 0.3, window), given)

    expected = with_gradients(lambda *each: plain(*each, segments, 0.3, window), given)
    assert_equal(found, expected, atol=1e-10, rtol=1e-8)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("heads", [(4, 2), (3, 1), (2, 2)])
@pytest.mark.parametrize("window", [None, 1, 3, 8, 10, 17, 100])
def test_keys_gathered_for_a_kernel_of_pieces_give_the_same(layout, heads, window):
    segments, given = LAYOUTS[layout], states(LAYOUTS[layout], heads)
    places, query_ends, key_ends = gather_keys(segments, torch.device("cpu"))

    def on_gpu(*given):
        query, key, value = (each[0].transpose(0, 1) for each in given)
        left = -1 if window is None else window - 1
        return kernel(query, key[places], value[places], query_ends, key_ends, 0.3, (left, 0))[None]

    expected = with_gradients(lambda *each: plain(*each, segments, 0.3, window), given)
    assert_equal(with_gradients(on_gpu, given), expected, atol=1e-10, rtol=1e-8)
    assert query_ends.dtype == key_ends.dtype == torch.int32
    assert query_ends[-1] == segments[-1].stop
    assert key_ends.diff().tolist() == [segment.keys() for segment in segments]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lower_precisions_are_close(dtype):
    segments, given = SHORT_AND_LONG, states(SHORT_AND_LONG, (4, 2), dtype=dtype)

    found = with_gradients(lambda *each: SegmentAttention.apply(*each, segments, 0.3, 6), given)

    peer, exact = (
        with_gradients(lambda *each: plain(*each, segments, 0.3, 6), [each.to(kind) for each in given])
        for kind in (dtype, torch.float64)
    )
    assert all(each.dtype == dtype for each in found)
    assert_as_exact(*(dict(enumerate(each)) for each in (found, peer, exact)), dtype)


@st.composite
def layouts(draw):
    """Any rows behind one another, with one to three responses."""
    segments, start = [], 0
    for _ in range(draw(st.integers(1, 3))):
        prompt, stop = draw(st.integers(1, 6)), 0
        for number in range(draw(st.integers(1, 3))):
            size = draw(st.integers(1, 6))
            if number:
                segments.append(Segment(stop, stop + size, start, start + prompt))
                stop += size
            else:
                stop = start + prompt + size
                segments.append(Segment(start, stop, 0, 0))
        start = stop
    return tuple(segments)


@settings(max_examples=50)
@given(segments=layouts(), window=st.none() | st.integers(1, 14), copies=st.integers(1, 3))
def test_any_layout_has_the_values_and_gradients_of_its_mask(segments, window, copies):
    given = states(segments, (2 * copies, 2), size=4)

    found = with_gradients(lambda *each: SegmentAttention.apply(*each, segments, 0.5, window), given)

    assert_equal(found, with_gradients(lambda *each: plain(*each, segments, 0.5, window), given), atol=1e-9, rtol=1e-7)


def test_no_token_sees_another_row_or_the_other_response():
    segments, given = SHORT_AND_LONG, states(SHORT_AND_LONG, (2, 2))
    before = SegmentAttention.apply(*given, segments, 0.3, None)

    for each in given:
        # the first response of the second row, behind its prompt
        each[:, :, 7:20] += 100.0
    after = SegmentAttention.apply(*given, segments, 0.3, None)

    assert torch.equal(after[:, :7], before[:, :7])
    assert torch.equal(after[:, 20:], before[:, 20:])
    assert not torch.equal(after[:, 7:20], before[:, 7:20])


def test_states_that_transformers_hands_over_need_not_lie_in_one_piece():
    segments = SHORT_AND_LONG
    given = [each.transpose(1, 2).contiguous().transpose(1, 2) for each in states(segments, (4, 2))]
    assert not given[0].is_contiguous()

    found = with_gradients(lambda *each: packed_attention(None, *each, None, segments=segments)[0], given)

    assert_equal(found, with_gradients(lambda *each: plain(*each, segments, 8**-0.5, None), given))


@pytest.mark.parametrize(
    "asked",
    [
        {"softcap": 50.0},
        {"s_aux": torch.zeros(2)},
        {"position_bias": torch.zeros(1)},
        {"dropout": 0.1},
        {"attention_mask": torch.zeros(1, 1, 1, 1)},
        {"segments": None},
    ],
)
def test_what_packed_rows_cannot_be_given_is_refused(asked):
    told = {"attention_mask": None, "segments": ONE_TOKEN} | asked

    with pytest.raises(NotPackable):
        packed_attention(None, *states(ONE_TOKEN, (2, 2)), **told)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("window", [None, 4])
def test_on_a_gpu_values_and_gradients_are_those_of_a_cpu(layout, window):
    segments = LAYOUTS[layout]
    given = [each.to("cuda", torch.bfloat16) for each in states(segments, (4, 2), size=64)]

    found = with_gradients(
        lambda *each: packed_attention(None, *each, None, None, 0.0, window, segments)[0].cpu(), given
    )

    expected = with_gradients(
        lambda *each: plain(*each, segments, 64**-0.5, window), [each.cpu().double() for each in given]
    )
    assert_equal([each.cpu().double() for each in found], expected, atol=5e-2, rtol=5e-2)


def test_what_is_asked_for_without_a_value_is_not_asked_for():
    out, weights = packed_attention(None, *states(ONE_TOKEN, (2, 2)), None, softcap=None, segments=ONE_TOKEN)

    assert out.shape == (1, 1, 2, 8)
    assert weights is None
