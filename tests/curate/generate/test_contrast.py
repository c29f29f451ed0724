import json
from contextlib import suppress

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import ScriptedModel, responses, user

from curate.generate.contrast import INSTRUCTION, PAIR_SCHEMA, ContrastConfig, parse_pair, write_pairs
from curate.generate.flaws import FLAWED_PAIR_SCHEMA, flaw_instruction, flaw_summary, parse_flaws
from curate.ledger.entries import call_key
from curate.store.store import make_frame
from schemas.calls import CallResult
from schemas.errors import ResponseError
from schemas.ids import prompt_group, prompt_key
from schemas.names import WRITTEN_FLAWS
from schemas.tables import Dropped, Pair, Prompt
from schemas.wire import FlawedPairJSON, PairJSON

CFG = ContrastConfig("scripted", "scripted-weights", 0.7, 0.95, 256, 30)


def prompts(*texts: str) -> pl.DataFrame:
    conversations = [user(text) for text in texts]
    return make_frame(
        Prompt,
        [
            {
                "prompt_id": prompt_key(c),
                "place": place,
                "messages": c,
                "prompt_group": prompt_group(c),
                "license": "MIT",
            }
            for place, c in enumerate(conversations)
        ],
    )


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
    pair = parse_pair(text, PairJSON)

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
        parse_pair(text, PairJSON)


@given(st.text(max_size=200))
def test_no_text_makes_the_parser_fail_in_another_way(text):
    with suppress(ResponseError):
        parse_pair(text, FlawedPairJSON)


def test_malformed_json_is_a_dropped_row_with_its_raw_text_and_the_sums_agree(recorder):
    raw = {"one": '{"chosen": "good", "rejected": "bad"}', "two": '{"chosen": "good", "rej', "three": "I cannot."}
    model = ScriptedModel(lambda request: responses(raw[request.messages[-1]["content"]]))

    made = write_pairs(prompts(*raw), CFG, generator=model, recorder=recorder)

    assert Pair.validate(made.rows)["chosen"].to_list() == ["good"]
    assert made.dropped["reason"].to_list() == ["malformed_json"] * 2
    assert [json.loads(kept) for kept in made.dropped["raw"]] == [raw["two"], raw["three"]]


def test_a_refusal_of_the_endpoint_is_a_dropped_row_of_its_own_kind(recorder):
    good = responses('{"chosen": "a", "rejected": "b"}')
    refused = CallResult(failure="refused", error="content filter")
    model = ScriptedModel(lambda request: refused if request.messages[-1]["content"] == "bad" else good)

    made = write_pairs(prompts("bad", "fine"), CFG, generator=model, recorder=recorder)

    assert made.dropped.select("reason", "raw").rows() == [("refused", '"content filter"')]


def test_a_conversation_is_put_to_the_model_with_its_roles():
    turns = [{"role": "system", "content": "Be brief."}, *user("Hi")]

    asked = CFG.request(turns).messages[-1]["content"]

    assert asked == "[system]\nBe brief.\n\n[user]\nHi"


CHOSEN = "Boil fresh water. Warm the pot. Add one spoon of leaves per cup, pour, and wait four minutes."
CUT = "Boil fresh water. Warm the pot. Add one spoon of leaves per c"


def flawed(*names: str) -> ContrastConfig:
    shares = tuple(parse_flaws(",".join(f"{name}=1" for name in names)).items())
    return ContrastConfig("scripted", "scripted-weights", 0.7, 0.95, 256, 30, flaws=shares)


def written(**texts: str) -> str:
    return json.dumps(
        {"chosen": CHOSEN, "rejected": CUT, "flaw": "truncation", "quote": "per c", "constraint": ""} | texts
    )


def test_without_flaws_the_request_is_the_plain_one():
    plain = CFG.request(user("Hi"))

    assert CFG.flaw(0) is None
    assert plain.messages[0] == {"role": "system", "content": INSTRUCTION}
    assert plain.schema == PAIR_SCHEMA
    # The key under which calls made before flaws existed are recorded.
    assert call_key(ScriptedModel(lambda request: responses("")), plain) == "f55b844d420d574e9df1923c821a0f0d"


@pytest.mark.parametrize("flaw", WRITTEN_FLAWS)
def test_with_flaws_the_request_asks_for_the_one_that_is_assigned(flaw):
    cfg = flawed(flaw)

    asked = cfg.request(user("Hi"), cfg.flaw(0))

    assert asked.messages[0]["content"] == flaw_instruction(flaw)
    assert asked.schema == FLAWED_PAIR_SCHEMA
    assert FLAWED_PAIR_SCHEMA["required"] == list(FLAWED_PAIR_SCHEMA["properties"])


def test_a_pair_whose_flaw_is_found_is_written_with_it(recorder):
    model = ScriptedModel(lambda request: responses(written()))

    made = write_pairs(prompts("How do I make tea?"), flawed("truncation"), generator=model, recorder=recorder)

    assert Pair.validate(made.rows).select("flaw", "rejected").rows() == [("truncation", CUT)]
    assert made.dropped.is_empty()


@pytest.mark.parametrize(
    ("text", "reason", "fired"),
    [
        (written(rejected="Boil fresh water. Warm the pot."), "flaw_not_found", False),
        (written(flaw="factual"), "flaw_not_found", True),
        (written(rejected=f"{CHOSEN} Then drink it with"), "length_ratio", True),
        (written(rejected=CHOSEN.upper()), "near_identical", False),
        (written(rejected=" "), "empty", False),
        (written(chosen=""), "empty", None),
        ('{"chosen": "a", "rejected": "b"}', "malformed_json", None),
        (written(quote="\ud83d"), "malformed_json", None),
        ("I cannot.", "malformed_json", None),
    ],
)
def test_a_pair_that_cannot_be_used_is_dropped_with_what_was_asked_and_written(recorder, text, reason, fired):
    model = ScriptedModel(lambda request: responses(text))

    made = write_pairs(prompts("How do I make tea?"), flawed("truncation"), generator=model, recorder=recorder)

    assert made.rows.is_empty()
    assert made.dropped["reason"].to_list() == [reason]
    raw = json.loads(made.dropped["raw"][0])
    assert raw["flaw"] == "truncation"
    if reason == "malformed_json":
        assert raw == {"flaw": "truncation", "fired": None, "text": text}
    else:
        asked = json.loads(text)
        assert raw["fired"] == fired or fired is None
        assert {name: raw[name] for name in ("chosen", "rejected", "quote", "constraint")} == {
            name: asked[name] for name in ("chosen", "rejected", "quote", "constraint")
        }
        assert raw["named_flaw"] == asked["flaw"]


def test_the_missing_constraint_of_an_endpoint_without_schemas_is_empty():
    text = '{"chosen": "a", "rejected": "b", "flaw": "logic", "quote": "b"}'

    assert parse_pair(text, FlawedPairJSON).constraint == ""


def test_the_constraint_is_looked_for_in_every_turn(recorder):
    turns = [{"role": "system", "content": "Answer in one word."}, *user("What is the capital of France?")]
    table = make_frame(
        Prompt,
        [
            {
                "prompt_id": prompt_key(turns),
                "place": 0,
                "messages": turns,
                "prompt_group": prompt_group(turns),
                "license": "MIT",
            }
        ],
    )
    answer = written(
        chosen="Paris", rejected="It is Paris.", flaw="broken_constraint", quote="It is", constraint="in one word"
    )
    model = ScriptedModel(lambda request: responses(answer))

    made = write_pairs(table, flawed("broken_constraint"), generator=model, recorder=recorder)

    assert made.rows["flaw"].to_list() == ["broken_constraint"]


def test_the_summary_reads_what_was_asked_from_the_saved_tables(recorder):
    texts = [f"How do I make {i} cups of tea?" for i in range(40)]
    cfg = flawed("truncation", "needless_refusal")
    failed = CallResult(failure="failed_call", error="timed out")
    model = ScriptedModel(
        lambda request: failed if "make 7 " in request.messages[-1]["content"] else responses(written())
    )

    made = write_pairs(prompts(*texts), cfg, generator=model, recorder=recorder)
    summary = flaw_summary(made.rows, Dropped.validate(made.dropped), cfg.flaws)
    found = {row["flaw"]: row for row in summary.to_dicts()}

    # The model truncates whatever it is asked for.
    assert {flaw: row["asked"] for flaw, row in found.items()} == {"truncation": 20, "needless_refusal": 20}
    assert sum(row["checked"] for row in found.values()) == 39
    assert found["truncation"]["check_rate"] == 1.0
    assert found["needless_refusal"]["fired"] == found["needless_refusal"]["written"] == 0
