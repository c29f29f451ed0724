from contextlib import suppress

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import ScriptedModel, responses, user

from curate.backends.calls import Answer
from curate.generate.contrast import ContrastConfig, parse_pair, write_contrasts
from curate.parts import frame
from schemas.errors import ResponseError
from schemas.ids import prompt_group, prompt_key
from schemas.tables import Pair, Prompt

CFG = ContrastConfig("scripted", "scripted-weights", 0.7, 0.95, 256, 30)


def prompts(*texts: str) -> pl.DataFrame:
    conversations = [user(text) for text in texts]
    return frame(Prompt, [{"prompt_id": prompt_key(c), "messages": c, "group": prompt_group(c)} for c in conversations])


@pytest.mark.parametrize(
    "text",
    [
        '{"chosen": "a", "rejected": "b"}',
        'Sure!\n```json\n{"chosen": "a", "rejected": "b"}\n```\nHope {this} helps.',
        '{"note": 1} {"chosen": "a", "rejected": "b", "why": "c"}',
        '{ not json {"chosen": "a", "rejected": "b"}',
    ],
)
def test_the_pair_is_found_whatever_stands_around_it(text):
    pair = parse_pair(text)

    assert (pair.chosen, pair.rejected) == ("a", "b")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "null",
        '{"chosen": "a"}',
        '{"chosen": "a", "rejected": null}',
        '{"chosen": "a", "rejected": 3}',
        '{"chosen": ["a"], "rejected": "b"}',
        '{"chosen": "a", "rejected": "b',
        '{"chosen": "\\ud83d", "rejected": "b"}',
        '{"a":' * 5000,
    ],
)
def test_anything_else_is_refused(text):
    with pytest.raises(ResponseError):
        parse_pair(text)


@given(st.text(max_size=200))
def test_no_text_makes_the_parser_fail_in_another_way(text):
    with suppress(ResponseError):
        parse_pair(text)


def test_malformed_json_is_a_dropped_row_with_its_raw_text_and_the_sums_agree(recorder):
    raw = {"one": '{"chosen": "good", "rejected": "bad"}', "two": '{"chosen": "good", "rej', "three": "I cannot."}
    model = ScriptedModel(lambda request: responses(raw[request.messages[-1]["content"]]))

    made = write_contrasts(prompts(*raw), CFG, generator=model, recorder=recorder)

    assert Pair.validate(made.rows)["chosen"].to_list() == ["good"]
    assert made.dropped["reason"].to_list() == ["malformed_json"] * 2
    assert made.dropped["raw"].to_list() == [raw["two"], raw["three"]]


def test_a_refusal_of_the_endpoint_is_a_dropped_row_of_its_own_kind(recorder):
    good = responses('{"chosen": "a", "rejected": "b"}')
    refused = Answer(failure="refused", error="content filter")
    model = ScriptedModel(lambda request: refused if request.messages[-1]["content"] == "bad" else good)

    made = write_contrasts(prompts("bad", "fine"), CFG, generator=model, recorder=recorder)

    assert made.dropped.select("reason", "raw").rows() == [("refused", "content filter")]


def test_a_conversation_is_put_to_the_model_with_its_roles():
    turns = [{"role": "system", "content": "Be brief."}, *user("Hi")]

    asked = CFG.request(turns).messages[-1]["content"]

    assert asked == "[system]\nBe brief.\n\n[user]\nHi"
