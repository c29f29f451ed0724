"""Which texts are alike, and what each lies near, with vectors that a test gives."""

import math

import numpy as np
import polars as pl
import pytest

from curate.screen.benchmark_prompts import Benchmark
from curate.screen.similar.semantic import (
    PROMPT_CHARACTERS,
    RESPONSE_CHARACTERS,
    EvalProximityConfig,
    SemanticConfig,
    TopicalityConfig,
    are_latin,
    distinct_texts,
    find_semantic_duplicates,
    measure_eval_proximity,
    measure_topicality,
    prompt_texts,
    response_texts,
)
from curate.screen.text.measure import MeasureConfig, measure_pairs
from schemas.tables import EvalProximity, Similar, Topicality

EAST, NORTH, UP = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)
NONE = (math.nan,) * 3


def towards(cosine: float, one=EAST, other=NORTH) -> tuple[float, ...]:
    """A vector of length 1 with this cosine to `one`."""
    sine = math.sqrt(1 - cosine**2)
    return tuple(cosine * a + sine * b for a, b in zip(one, other, strict=True))


class Scripted:
    """Makes the vectors that a test names by a word of the text; remembers the texts."""

    def __init__(self, vectors: dict[str, tuple[float, ...]]) -> None:
        self.vectors = vectors
        self.texts: list[list[str]] = []

    def __call__(self, blocks, texts):
        asked = [text for block in blocks for text in block]
        assert len(asked) == texts
        self.texts.append(asked)
        found = [next(vector for word, vector in self.vectors.items() if word in text) for text in asked]
        return np.array(found, dtype=np.float16).reshape(len(asked), 3)


@pytest.fixture
def near():
    """The rows of `Alike` of pairs."""

    def run(pairs: pl.DataFrame, embed: Scripted, floor=0.8) -> pl.DataFrame:
        measured = measure_pairs(pairs, MeasureConfig()).rows
        cfg = SemanticConfig("scripted", "1", floor)
        return Similar.validate(find_semantic_duplicates(pairs.lazy(), measured.lazy(), cfg, embed=embed))

    return run


@pytest.fixture
def place():
    """The rows of `Placed` of pairs."""

    def run(pairs: pl.DataFrame, embed: Scripted) -> pl.DataFrame:
        measured = measure_pairs(pairs, MeasureConfig()).rows
        cfg = TopicalityConfig("scripted", "1")
        return Topicality.validate(measure_topicality(pairs.lazy(), measured.lazy(), cfg, embed=embed))

    return run


@pytest.fixture
def evaluate():
    """The rows of `EvalProximity` of pairs, beside these evaluation prompts."""

    def run(pairs: pl.DataFrame, embed: Scripted, *prompts: str) -> pl.DataFrame:
        measured = measure_pairs(pairs, MeasureConfig()).rows
        benchmarks = (Benchmark("bench", "0", prompts, tuple(range(len(prompts)))),)
        cfg = EvalProximityConfig("scripted", "1", ("0",))
        found = measure_eval_proximity(pairs.lazy(), measured.lazy(), cfg, embed=embed, benchmarks=benchmarks)
        return EvalProximity.validate(found)

    return run


def test_prompts_on_the_floor_are_alike_and_those_under_it_are_not(near, make_pairs):
    embed = Scripted({"rose": EAST, "lily": towards(0.9), "stone": UP, "red": EAST, "cold": NORTH})
    pairs = make_pairs(prompt=["A rose?", "A lily?", "A stone?"], chosen=["It is red.", "It is cold.", "It is red."])

    # In float16 the cosine of 0.9 is 0.8999 or 0.9 after rounding.
    found = near(pairs, embed, 0.899)

    assert found.select("left", "right", "kind").rows() == [(0, 1, "prompt")]
    assert found["similarity"].item() == pytest.approx(0.9, abs=2e-3)
    assert near(pairs, embed, 0.95).height == 0


def test_the_cosine_of_pairs_is_the_mean_of_prompt_and_chosen_response(near, make_pairs):
    embed = Scripted({"rose": EAST, "lily": towards(0.9), "red": UP, "pink": towards(0.7, UP, NORTH)})
    pairs = make_pairs(prompt=["A rose?", "A lily?"], chosen=["It is red.", "It is pink."])

    found = near(pairs, embed, 0.75)

    # (0.9 + 0.7) / 2
    assert found.select("left", "right", "kind").rows() == [(0, 1, "prompt"), (0, 1, "pair")]
    assert found["similarity"].to_list() == pytest.approx([0.9, 0.8], abs=3e-3)
    assert near(pairs, embed, 0.85)["kind"].to_list() == ["prompt"]


def test_both_kinds_are_found_from_one_reading_of_prompts_and_chosen_responses(near, make_pairs):
    embed = Scripted({"": EAST})
    pairs = make_pairs(prompt=["A rose?", "A lily?"], chosen=["It is red.", "It is pink."])

    found = near(pairs, embed)

    assert found.select("left", "right", "kind").rows() == [(0, 1, "prompt"), (0, 1, "pair")]
    # The last turns are looked at of prompts that are alike.
    assert embed.texts == [["A rose?", "A lily?"], ["A rose?", "A lily?"], ["It is red.", "It is pink."]]


@pytest.mark.parametrize("floor", [-1.0, 0.0])
def test_opposite_vectors_end_to_end_stay_of_length_one(near, make_pairs, floor):
    embed = Scripted({"rose": EAST, "lily": towards(-0.6), "": UP})
    pairs = make_pairs(prompt=["A rose?", "A lily?"], chosen=["It is red.", "It is pink."])

    found = near(pairs, embed, floor)

    # (-0.6 + 1) / 2
    assert found.filter(pl.col("kind") == "pair")["similarity"].to_list() == pytest.approx([0.2], abs=3e-3)


def test_dialogues_that_begin_alike_and_ask_different_things_at_last_are_not_alike(near, make_pairs):
    # Of a whole dialogue the vector is that of its first turn, of a last turn alone its own.
    embed = Scripted({"garden": EAST, "rose": NORTH, "stone": UP, "": towards(0.1)})
    pairs = make_pairs(prompt=["rose", "stone"], chosen=["It is red.", "It is grey."])
    begun = [{"role": "user", "content": "In my garden"}, {"role": "assistant", "content": "Yes?"}]
    messages = [[*begun, *turns] for turns in pairs["messages"].to_list()]
    dialogues = pairs.with_columns(pl.Series("messages", messages, dtype=pairs.schema["messages"]))

    assert near(dialogues, embed).filter(pl.col("kind") == "prompt").height == 0


def test_a_system_message_that_prompts_share_makes_them_no_more_alike(near, make_pairs):
    embed = Scripted({"You are": EAST, "rose": NORTH, "stone": UP, "": towards(0.1)})
    pairs = make_pairs(prompt=["rose", "stone"], chosen=["It is red.", "It is grey."])
    system = {"role": "system", "content": "You are kind."}
    messages = [[system, *turns] for turns in pairs["messages"].to_list()]
    told = pairs.with_columns(pl.Series("messages", messages, dtype=pairs.schema["messages"]))

    assert near(told, embed).filter(pl.col("kind") == "prompt").height == 0


def test_equal_texts_are_embedded_once_and_the_first_row_stands_for_all(near, make_pairs):
    embed = Scripted({"rose": EAST, "ROSE": EAST, "lily": towards(0.95)})
    pairs = make_pairs(prompt=["A rose?", "A  ROSE?", "A lily?", "A rose?"], chosen=["It is red."] * 4)
    embed.vectors["red"] = UP

    found = near(pairs, embed)

    assert embed.texts == [["A rose?", "A lily?"], ["A rose?", "A lily?"], ["It is red.", "It is red."]]
    assert set(found.select("left", "right").rows()) == {(0, 2)}


def test_texts_without_vector_are_like_nothing_not_even_each_other(near, place, evaluate, make_pairs):
    embed = Scripted({"rose": NONE, "lily": NONE, "stone": EAST, "": UP})
    pairs = make_pairs(prompt=["A rose?", "A lily?", "A stone?"])

    assert near(pairs, embed, 0.01).height == 0
    assert place(pairs, embed)["chosen_cos_prompt"].is_null().to_list() == [True, True, False]
    # Neither are they near an evaluation prompt, nor is a prompt near one without vector.
    assert evaluate(pairs, embed, "A moon?")["max_cos_eval"].is_null().to_list() == [True, True, False]
    assert evaluate(pairs, embed, "A rose?")["max_cos_eval"].is_null().all()


def test_no_pair_and_one_pair_have_no_neighbor(near, place, evaluate, make_pairs):
    embed = Scripted({"": EAST})
    one = make_pairs(prompt=["A rose?"])

    assert near(one.head(0), embed).height == 0
    assert place(one.head(0), embed).height == 0
    assert evaluate(one.head(0), embed, "A rose?").height == 0
    assert near(one, embed).height == 0
    placed = place(one, embed)
    assert placed["chosen_cos_prompt"].item() == 1.0
    # There is no other prompt and no evaluation prompt.
    assert not placed["chosen_cos_other_prompt"].is_between(-1, 1).any()
    assert not evaluate(one, embed)["max_cos_eval"].is_between(-1, 1).any()


def test_a_thousand_equal_pairs_are_one_text(near, make_pairs):
    embed = Scripted({"": EAST})
    many = pl.concat([make_pairs(prompt=["A rose?"])] * 1000)
    many = many.with_columns(pair_id=pl.int_range(1000).cast(pl.String))

    assert near(many, embed).height == 0
    assert [len(texts) for texts in embed.texts] == [1, 1]


def test_a_response_is_placed_beside_its_own_prompt_and_the_nearest_other_one(place, make_pairs):
    embed = Scripted({"rose": EAST, "stone": NORTH, "moon": UP, "red": towards(0.8), "cold": towards(0.6)})
    pairs = make_pairs(
        prompt=["A rose?", "A stone?", "A moon?"], chosen=["It is red."] * 3, rejected=["It is cold."] * 3
    )

    placed = place(pairs, embed)

    # The chosen response has the cosines 0.8, 0.6 and 0 to the three prompts, the rejected one 0.6, 0.8 and 0.
    close = {"abs": 2e-3}
    assert placed["chosen_cos_prompt"].to_list() == pytest.approx([0.8, 0.6, 0.0], **close)
    assert placed["chosen_cos_other_prompt"].to_list() == pytest.approx([0.6, 0.8, 0.8], **close)
    assert placed["rejected_cos_prompt"].to_list() == pytest.approx([0.6, 0.8, 0.0], **close)
    assert placed["rejected_cos_other_prompt"].to_list() == pytest.approx([0.8, 0.6, 0.8], **close)


def test_a_prompt_that_is_like_its_own_is_no_other_prompt(place, make_pairs):
    embed = Scripted({"rose": EAST, "lily": towards(0.95), "stone": UP, "red": towards(0.95)})
    pairs = make_pairs(
        prompt=["A rose?", "A lily?", "A stone?"], chosen=["It is red."] * 3, rejected=["It is red too."] * 3
    )

    placed = place(pairs, embed)

    # To the lily the answer is nearer, but that asks the same.
    assert placed["chosen_cos_other_prompt"][0] == pytest.approx(0.0, abs=2e-3)


def test_a_prompt_is_held_against_the_nearest_evaluation_prompt(evaluate, make_pairs):
    embed = Scripted({"rose": EAST, "stone": NORTH, "flower": towards(0.95), "moon": UP})
    pairs = make_pairs(prompt=["A rose?", "A stone?", "A rose?"], pair_id=["a", "b", "c"])

    found = evaluate(pairs, embed, "A moon?", "A flower?")

    # The sine of 0.95 is 0.312.
    assert found["pair_id"].to_list() == ["a", "b", "c"]
    assert found["max_cos_eval"].to_list() == pytest.approx([0.95, 0.312, 0.95], abs=2e-3)


def test_no_response_is_embedded_for_evaluation_prompts_and_equal_prompts_once(evaluate, make_pairs):
    embed = Scripted({"": EAST})

    evaluate(make_pairs(prompt=["A rose?", "A stone?", "A rose?"]), embed, "A moon?")

    assert embed.texts == [["A rose?", "A stone?"], ["A moon?"]]


def test_the_end_of_an_evaluation_prompt_is_read_as_that_of_a_prompt_is(evaluate, make_pairs):
    embed = Scripted({"": EAST})

    evaluate(make_pairs(prompt=["A rose?"]), embed, f"{'x' * 5000}end")

    assert embed.texts[1] == [f"{'x' * (PROMPT_CHARACTERS - 3)}end"]


@pytest.mark.parametrize(
    ("prompt", "chosen", "is_placed"),
    [
        ("A rose?", "It is red.", True),
        ("A rose?", "Она красная, как и всегда.", False),
        ("Что такое роза?", "It is red.", False),
        ("A rose?", "وردة حمراء", False),
        ("A rose?", "42", True),
        ("A rose?", "🌹🌹🌹", True),
        ("A rose?", "Sie ist rot und schön.", True),
    ],
)
def test_what_the_encoder_cannot_read_is_not_placed(place, make_pairs, prompt, chosen, is_placed):
    embed = Scripted({"": EAST})

    placed = place(make_pairs(prompt=[prompt, "A stone?"], chosen=[chosen, "It is cold."]), embed)

    assert placed["chosen_cos_prompt"].is_not_null().to_list() == [is_placed, True]


def test_letters_of_other_alphabets_tell_and_signs_do_not():
    texts = pl.Series(["", "123 -- !?", "abc", "абв", "abcdefghij é", "abcdefgh éé", "👍🏽 ok"], dtype=pl.String)

    # Of the letters at least nine in ten are Latin ones without marks: 10 of 11, but only 8 of 10.
    assert are_latin([texts]).to_list() == [True, True, True, False, True, False, True]


def test_the_end_of_a_prompt_and_the_beginning_of_a_response_are_read(make_pairs):
    long = "x" * 5000
    pairs = make_pairs(prompt=[f"{long}end"], chosen=[f"start{long}"]).lazy()
    rows = np.array([0])

    (prompt,) = next(prompt_texts(pairs, rows))
    (response,) = next(response_texts(pairs, "chosen", rows))

    assert (len(prompt), prompt[-4:]) == (PROMPT_CHARACTERS, "xend")
    assert (len(response), response[:6]) == (RESPONSE_CHARACTERS, "startx")


@pytest.mark.parametrize("count", [4095, 4096, 4097, 9000])
def test_texts_are_told_in_the_order_of_their_rows_across_blocks(make_pairs, count):
    one = make_pairs(prompt=["A rose?"])
    pairs = pl.concat([one] * count).with_columns(chosen=pl.int_range(count).cast(pl.String)).lazy()
    rows = np.array([0, 1, count // 2, count - 2, count - 1])

    texts = [text for block in response_texts(pairs, "chosen", rows) for text in block]

    assert texts == [str(row) for row in rows]


def test_the_first_row_of_each_text_stands_for_it():
    hashes = pl.DataFrame(
        {"row": [0, 1, 2, 3, 4], "prompt_hash": [7, 5, 7, 9, 5]}, {"row": pl.UInt32, "prompt_hash": pl.UInt64}
    )

    rows, place = distinct_texts(hashes, "prompt_hash")

    assert rows.tolist() == [0, 1, 3]
    assert place.tolist() == [0, 1, 0, 2, 1]
