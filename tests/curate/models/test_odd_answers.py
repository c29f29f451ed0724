"""Good status, odd content: what was paid for is kept as far as it can be read, and nothing else is taken for it."""

import json

import pytest
from misbehaving import says, sends
from scripted import completion, user

from curate.generate.contrast import ContrastConfig, write_pairs
from curate.ledger.ledger import Ledger
from curate.ledger.recorder import Recorder
from curate.models.chat_api import ChatAPI
from curate.models.limits import EndpointConfig
from curate.store.store import make_frame
from schemas.ids import prompt_group, prompt_key
from schemas.tables import Prompt


@pytest.mark.parametrize("finish_reason", ["stop", "length"])
def test_an_empty_response_is_an_answer_that_is_not_paid_again(server, runs, finish_reason):
    server.act = lambda call: says("", finish_reason=finish_reason)

    found = runs.ask(server, ["a"])

    assert [(r.text, r.finish_reason) for r in found["a"].responses] == [("", finish_reason)]
    assert runs.ask(server, ["a"]) == found
    assert len(server.calls) == 1


def test_a_filtered_response_is_a_refusal_that_is_not_paid_again(server, runs):
    server.act = lambda call: says("", finish_reason="content_filter")

    found = runs.ask(server, ["a"])

    assert (found["a"].failure, found["a"].error) == ("refused", "content filter")
    assert runs.ask(server, ["a"]) == found
    assert len(server.calls) == 1


def odd(**fields):
    """A completion with other fields than it should have."""
    body = completion("fine")
    body["choices"][0] |= fields
    return body


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ({**completion("fine"), "usage": "many"}, (0, 0)),
        ({**completion("fine"), "usage": [1, 2]}, (0, 0)),
        ({**completion("fine"), "usage": {"prompt_tokens": "x", "completion_tokens": 5}}, (0, 0)),
        ({**completion("fine"), "usage": {"prompt_tokens": float("inf"), "completion_tokens": 5}}, (0, 0)),
        ({**completion("fine"), "usage": {"prompt_tokens": 10**30, "completion_tokens": 5}}, (0, 0)),
        ({**completion("fine"), "usage": {"prompt_tokens": -7, "completion_tokens": 5}}, (0, 0)),
        (odd(finish_reason=["stop"]), (7, 5)),
        (odd(finish_reason={"reason": "stop"}), (7, 5)),
        (odd(finish_reason="\ud83d"), (7, 5)),
    ],
)
def test_an_odd_field_beside_a_good_response_does_not_cost_it(server, runs, body, tokens):
    server.act = lambda call: sends(200, body)

    found = runs.ask(server, ["a"])["a"]

    assert (found.failure, found.responses[0].text) == (None, "fine")
    assert (found.input_tokens, found.output_tokens) == tokens
    assert found.responses[0].finish_reason in ("stop", None, "?")
    assert runs.states() == {"a": "answered"}


def test_a_message_without_content_is_an_empty_response(server, runs):
    server.act = lambda call: sends(200, odd(message={"role": "assistant"}, finish_reason="length"))

    found = runs.ask(server, ["a"])["a"]

    assert [(r.text, r.finish_reason) for r in found.responses] == [("", "length")]


@pytest.mark.parametrize("refusal", ["No \ud83d.", {"why": "no"}, True])
def test_a_refusal_of_any_form_can_be_saved(server, runs, refusal):
    server.act = lambda call: sends(200, completion(None, refusal=refusal))

    found = runs.ask(server, ["a"])["a"]

    assert found.failure == "refused"
    assert isinstance(found.error, str)
    assert runs.states() == {"a": "answered"}


def test_a_pair_of_the_wrong_schema_is_dropped_with_what_was_written(server, runs):
    written = {
        "missing": '{"chosen": "yes"}',
        "types": '{"chosen": "yes", "rejected": 3}',
        "cut": '{"chosen": "yes", "rejected": "n',
        "prose": "I would rather not.",
        "good": '{"chosen": "yes", "rejected": "no"}',
    }
    conversations = [user(text) for text in written]
    prompts = make_frame(
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
    server.act = lambda call: says(written[call.text])
    api = ChatAPI("test", server.url, "tiny", "PAIRWRIGHT_API_KEY", EndpointConfig(longest_backoff_s=0.01))
    cfg = ContrastConfig("test", server.url, 0.7, 0.95, 256, 30)

    with Ledger(runs.ledger) as ledger:
        part = write_pairs(prompts, cfg, generator=api, recorder=Recorder(ledger))
        again = write_pairs(prompts, cfg, generator=api, recorder=Recorder(ledger))

    assert part.rows["rejected"].to_list() == ["no"]
    assert part.dropped["reason"].to_list() == ["malformed_json"] * 4
    # What is JSON stands as it came, other text as a string.
    assert part.dropped["raw"].to_list()[:2] == [written["missing"], written["types"]]
    assert [json.loads(raw) for raw in part.dropped["raw"]][2:] == [written["cut"], written["prose"]]
    assert again.rows.equals(part.rows)
    assert len(server.calls) == 5


def test_a_response_of_five_megabytes_is_recorded_whole(server, runs):
    text = "long " * 1_000_000
    server.act = lambda call: says(text)

    assert runs.ask(server, ["a"])["a"].responses[0].text == text
    assert runs.ask(server, ["a"])["a"].responses[0].text == text
    assert len(server.calls) == 1


def test_bodies_are_read_by_their_content_whatever_they_are_said_to_be(server, runs):
    raw = json.dumps(completion("fine")).encode()
    server.act = lambda call: sends(200, raw, Content_Type="text/html")

    assert runs.ask(server, ["a"])["a"].responses[0].text == "fine"
