"""Packed and padded rows say the same: which tokens are learned, from which place, of which line."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import VOCABULARY, Listed, lines_of, random_rows

from schemas.errors import UserError
from train.data.packing import Segment, Span, micro_batches, pack_rows, pad_rows
from train.data.tokens import Row, Tokens

PAD = 0


def a_row(prompt, *responses, row_id="row"):
    """A row of these token ids; a response is its ids, or ids and which of them are learned."""
    made = []
    for response in responses:
        ids, learned = response if isinstance(response, tuple) else (response, [True] * len(response))
        made.append(Tokens(np.array(ids, dtype=np.uint32), np.array(learned, dtype=np.bool_)))
    return Row(row_id, np.array(prompt, dtype=np.uint32), tuple(made))


@st.composite
def some_rows(draw):
    """Pairs and conversations, learned in parts, at least one token of each response."""
    sides = draw(st.integers(1, 2))
    ids = st.integers(1, VOCABULARY - 1)
    rows = Listed()
    for number in range(draw(st.integers(1, 4))):
        responses = []
        for _ in range(sides):
            learned = draw(st.lists(st.booleans(), min_size=1, max_size=6).filter(any))
            responses.append((draw(st.lists(ids, min_size=len(learned), max_size=len(learned))), learned))
        prompt = draw(st.lists(ids, min_size=1, max_size=5))
        rows.append(a_row(prompt, *responses, row_id=f"row-{number}"))
    return rows


def predicted(batch):
    """(line, token that predicts, its position, learned token) of all learned tokens."""
    ids, positions = batch.ids.flatten()[batch.predicts], batch.positions.flatten()[batch.predicts]
    return list(zip(*(each.tolist() for each in (batch.lines, ids, positions, batch.targets)), strict=True))


def test_a_row_of_one_token_each_is_packed():
    batch = pack_rows([a_row([5], [6], [7])], [0])

    assert batch.ids.tolist() == [[5, 6, 7]]
    assert batch.positions.tolist() == [[0, 1, 1]]
    assert batch.segments == (Segment(0, 2, 0, 0), Segment(2, 3, 0, 1))
    # both are predicted by the only token of the prompt
    assert batch.predicts.tolist() == [0, 0]
    assert batch.targets.tolist() == [6, 7]
    assert (batch.lines.tolist(), batch.learned_tokens.tolist()) == ([0, 1], [1, 1])
    assert (batch.tokens, batch.spans) == (3, [Span(0, 3, 3)])


def test_rows_lie_behind_one_another_and_prompts_are_shared():
    rows = [a_row([1, 2], [3], [4, 5, 6]), a_row([7], [8, 9], [10])]

    batch = pack_rows(rows, [1, 0])

    assert batch.rows == [1, 0]
    assert batch.ids.tolist() == [[7, 8, 9, 10, 1, 2, 3, 4, 5, 6]]
    assert batch.positions.tolist() == [[0, 1, 2, 1, 0, 1, 2, 2, 3, 4]]
    assert batch.segments == (Segment(0, 3, 0, 0), Segment(3, 4, 0, 1), Segment(4, 7, 0, 0), Segment(7, 10, 4, 6))
    assert [segment.keys() for segment in batch.segments] == [3, 2, 3, 5]
    assert batch.predicts.tolist() == [0, 1, 0, 5, 5, 7, 8]
    assert [span.places for span in batch.spans] == [4, 6]


def test_later_turns_that_are_not_learned_are_read_and_not_predicted():
    row = a_row([1, 2], ([3, 4, 5, 6, 7], [True, False, False, True, True]))

    batch = pack_rows([row], [0])

    assert batch.ids.tolist() == [[1, 2, 3, 4, 5, 6, 7]]
    assert batch.predicts.tolist() == [1, 4, 5]
    assert batch.targets.tolist() == [3, 6, 7]
    assert batch.learned_tokens.tolist() == [3]


def test_a_response_after_what_is_not_learned_alone_begins_with_an_unlearned_token():
    batch = pack_rows([a_row([1, 2], ([3, 4], [False, True]), ([5, 6], [False, True]))], [0])

    assert batch.predicts.tolist() == [2, 4]
    assert batch.targets.tolist() == [4, 6]


def test_padding_is_on_the_right_and_nothing_of_it_is_learned():
    rows = [a_row([1, 2], [3], [4, 5, 6])]

    batch = pad_rows(rows, [0], PAD)

    assert batch.ids.tolist() == [[1, 2, 3, PAD, PAD], [1, 2, 4, 5, 6]]
    assert batch.positions.tolist() == [[0, 1, 2, 3, 4]] * 2
    assert batch.predicts.tolist() == [1, 6, 7, 8]
    assert batch.segments == ()
    assert (batch.spans, batch.tokens) == ([Span(0, 3, 5), Span(0, 5, 5)], 6)


@pytest.mark.parametrize("make", [pack_rows, lambda rows, places: pad_rows(rows, places, PAD)])
@pytest.mark.parametrize("empty", [([], []), ([3, 4], [False, False])])
def test_a_response_without_a_token_to_learn_is_refused_with_its_row(make, empty):
    rows = [a_row([1], [2], [3], row_id="fine"), a_row([1], [2], empty, row_id="pair-7")]

    with pytest.raises(UserError, match="row pair-7 has a response without tokens to learn"):
        make(rows, [0, 1])


@given(rows=some_rows(), data=st.data())
def test_packed_and_padded_rows_predict_the_same_tokens_of_the_same_lines(rows, data):
    places = data.draw(st.permutations(range(len(rows))))

    packed, padded = pack_rows(rows, places), pad_rows(rows, places, PAD)

    assert predicted(packed) == predicted(padded)
    assert packed.learned_tokens.tolist() == padded.learned_tokens.tolist()
    assert packed.rows == padded.rows == list(places)
    assert packed.tokens == padded.tokens == sum(rows.sizes)
    assert sum(span.places for span in packed.spans) == packed.ids.numel() == packed.tokens
    assert sum(span.places for span in padded.spans) == padded.ids.numel()


@given(rows=some_rows())
def test_a_segment_and_the_prompt_that_it_sees_are_a_line_in_the_order_of_positions(rows):
    batch = pack_rows(rows, range(len(rows)))
    ids, positions = batch.ids[0], batch.positions[0]

    lines = []
    for segment in batch.segments:
        seen = [*range(segment.prompt_start, segment.prompt_stop), *range(segment.start, segment.stop)]
        assert positions[seen].tolist() == list(range(len(seen)))
        lines.append(ids[seen].tolist())

    assert lines == [line.tolist() for line, _ in lines_of(rows)]
    # every token is a query once
    assert [place for each in batch.segments for place in range(each.start, each.stop)] == list(range(len(ids)))


@given(sizes=st.lists(st.integers(2, 50), min_size=1, max_size=30), budget=st.integers(1, 120), data=st.data())
def test_parts_hold_every_row_once_and_no_more_than_the_budget(sizes, budget, data):
    places = data.draw(st.lists(st.sampled_from(range(len(sizes))), unique=True))

    parts = micro_batches(np.array(sizes), np.array(places, dtype=np.int64), budget)

    assert sorted(place for part in parts for place in part) == sorted(places)
    assert all(sum(sizes[place] for place in part) <= budget or len(part) == 1 for part in parts)
    lengths = [sizes[place] for part in parts for place in part]
    assert lengths == sorted(lengths, reverse=True)


@pytest.mark.parametrize(
    ("sizes", "budget", "parts"),
    [
        ([], 10, []),
        ([10], 10, [[0]]),
        ([5, 5], 10, [[0, 1]]),
        ([5, 6], 10, [[1], [0]]),
        # a row that is longer than the budget is alone, and leaves none of its room
        ([4, 30, 4], 10, [[1], [0, 2]]),
        ([3, 3, 3], 1, [[0], [1], [2]]),
    ],
)
def test_parts_are_filled_up_to_the_budget_and_a_longer_row_stands_alone(sizes, budget, parts):
    assert micro_batches(sizes, range(len(sizes)), budget) == parts


def test_the_parts_do_not_depend_on_the_order_in_which_rows_are_named():
    assert micro_batches([5, 7, 5, 7], [3, 0, 2, 1], 12) == micro_batches([5, 7, 5, 7], [0, 1, 2, 3], 12)


def test_a_batch_on_a_device_is_the_same_batch():
    batch = pack_rows(random_rows((3, 2, 4)), [0])

    moved = batch.to(torch.device("cpu"))

    assert moved.segments == batch.segments
    assert all(
        torch.equal(value, getattr(batch, name)) for name, value in vars(moved).items() if torch.is_tensor(value)
    )
