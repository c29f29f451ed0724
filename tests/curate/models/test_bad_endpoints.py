"""Whatever an endpoint does: nothing is lost, nothing is paid for twice, and nothing is silently wrong."""

import email.utils
import threading
import time
from collections import Counter

import pytest
from misbehaving import (
    after,
    answers,
    cut_chunks,
    fails,
    half_a_body,
    hangs,
    resets,
    sends,
)
from scripted import user

from curate.models.chat_api import ChatAPI
from curate.models.limits import EndpointConfig
from schemas.calls import Request
from schemas.errors import UserError

GOOD = ["a", "b", "c", "d", "e"]
HTML = b"<!doctype html><html><body>Please log in</body></html>"


def only(text, act):
    """`act` for the call that asks `text`; the others are answered well."""
    return lambda call: act if call.text == text else answers


def once(text, act):
    """`act` for the first call that asks `text`, and good answers from then on."""
    met = []

    def choose(call):
        if call.text == text and not met:
            met.append(call)
            return act
        return answers

    return choose


BAD = {
    "400": (fails(400, "the prompt is odd"), 1, "HTTP 400: the prompt is odd"),
    "422": (
        sends(422, {"detail": [{"msg": "field required"}]}),
        1,
        "HTTP 422: {'detail': [{'msg': 'field required'}]}",
    ),
    "500": (fails(500, "disk on fire"), 6, "HTTP 500: disk on fire, after 6 tries"),
    "503": (fails(503, "loading"), 12, "HTTP 503: loading, after 12 tries"),
    "503 as a page": (sends(503, HTML), 12, "Please log in"),
    "hang": (hangs, 6, "no answer within 0.3 s, after 6 tries"),
    "reset": (resets, 6, "the connection broke"),
    "half a body": (half_a_body, 6, "the connection broke"),
    "cut chunks": (cut_chunks, 6, "the connection broke"),
    "a page instead of JSON": (sends(200, HTML), 6, "not JSON: <!doctype html>"),
    "a list instead of an object": (sends(200, [1]), 6, "not a JSON object: [1]"),
    "nested too deep": (sends(200, b'{"a":' * 50_000), 6, "not JSON"),
    "an error nested too deep": (sends(500, b"[" * 50_000), 6, "HTTP 500: [[["),
    "an error with half a surrogate pair": (sends(400, b'{"error": {"message": "bad \\ud83d"}}'), 1, "bad ?"),
    "an error in a good status": (sends(200, {"error": {"message": "upstream"}}), 6, "upstream, after 6 tries"),
    "no choices": (sends(200, {"choices": [], "usage": None}), 6, "the endpoint answered with no choices"),
    "choices of another form": (sends(200, {"choices": [["x"]]}), 1, "not a chat completion"),
}


@pytest.mark.parametrize(("act", "tries", "words"), BAD.values(), ids=BAD)
def test_a_call_that_fails_for_good_costs_no_other_and_is_the_only_one_asked_again(server, runs, act, tries, words):
    server.act = only("bad", act)

    found = runs.ask(server, [*GOOD, "bad"], timeout_s=0.3 if act is hangs else 20)

    assert {text: found[text].responses[0].text for text in GOOD} == {text: text.upper() for text in GOOD}
    assert found["bad"].failure == "failed_call"
    assert words in found["bad"].error
    assert Counter(server.texts) == {**dict.fromkeys(GOOD, 1), "bad": tries}
    assert runs.states() == {**dict.fromkeys(GOOD, "answered"), "bad": "failed"}
    assert (runs.tally.calls, runs.tally.failed_calls) == (6, 1)

    server.act = lambda call: answers
    server.calls.clear()
    again = runs.ask(server, [*GOOD, "bad"])

    assert server.texts == ["bad"]
    assert again["bad"].responses[0].text == "BAD"
    assert {text: again[text] for text in GOOD} == {text: found[text] for text in GOOD}
    assert (runs.tally.calls, runs.tally.reused_calls) == (1, 5)


PASSING = [name for name, (_, tries, _) in BAD.items() if tries > 1]


@pytest.mark.parametrize("name", [*PASSING, "429"])
def test_what_passes_is_tried_again_and_recorded_once(server, runs, name):
    act = fails(429) if name == "429" else BAD[name][0]
    server.act = once("bad", act)

    found = runs.ask(server, [*GOOD, "bad"], timeout_s=0.5 if act is hangs else 20)

    assert found["bad"].responses[0].text == "BAD"
    assert Counter(server.texts) == {**dict.fromkeys(GOOD, 1), "bad": 2}
    assert (runs.tally.calls, runs.tally.failed_calls) == (6, 0)
    assert set(runs.states().values()) == {"answered"}


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, r"refused the key \(PAIRWRIGHT_API_KEY is not set\): HTTP 401: no access"),
        (403, r"refused the key \(PAIRWRIGHT_API_KEY is not set\): HTTP 403: no access"),
        (404, "does not know the model 'tiny': HTTP 404: no access"),
        (402, "no credit left"),
    ],
)
def test_what_no_other_try_can_help_stops_the_run_with_the_calls_in_flight(server, runs, monkeypatch, status, words):
    monkeypatch.delenv("PAIRWRIGHT_API_KEY", raising=False)
    server.act = lambda call: fails(status, "no access")
    texts = [str(i) for i in range(100)]

    with pytest.raises(UserError, match=words):
        runs.ask(server, texts, concurrency=4)

    assert 1 <= len(server.calls) <= 4
    assert runs.states() == {}

    server.act = lambda call: answers
    server.calls.clear()
    runs.ask(server, texts)

    assert sorted(server.texts) == sorted(texts)


def test_answers_that_are_on_their_way_when_the_key_is_refused_are_recorded(server, runs):
    is_refused = threading.Event()

    async def refuse(call):
        await fails(401)(call)
        is_refused.set()

    server.act = lambda call: refuse if call.text == "bad" else after(is_refused, answers)

    with pytest.raises(UserError, match="refused the key"):
        runs.ask(server, ["a", "b", "bad", "c"], concurrency=3)

    assert runs.states() == {"a": "answered", "b": "answered"}
    assert Counter(server.texts) == {"a": 1, "b": 1, "bad": 1}


def test_calls_that_wait_for_the_limit_a_minute_are_not_sent_once_the_run_is_stopped(server, runs):
    server.act = lambda call: fails(401)
    began = time.monotonic()

    with pytest.raises(UserError, match="refused the key"):
        # one call every six seconds
        runs.ask(server, [str(i) for i in range(20)], requests_per_minute=10)

    assert len(server.calls) == 1
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_no_call_is_sent_before_the_time_that_the_endpoint_names(server, runs, form):
    # a date has whole seconds: it lies 1 to 2 s ahead
    later = email.utils.formatdate(time.time() + 2, usegmt=True)
    server.act = once("a", fails(429, Retry_After="1" if form == "seconds" else later))

    found = runs.ask(server, ["a", "b", "c"], concurrency=1)

    assert [answer.responses[0].text for answer in found.values()] == ["A", "B", "C"]
    assert Counter(server.texts) == {"a": 2, "b": 1, "c": 1}
    waited = server.calls[1].at - server.calls[0].at
    assert waited > 0.95 if form == "seconds" else time.time() >= email.utils.mktime_tz(email.utils.parsedate_tz(later))


def test_an_endpoint_that_is_busy_for_longer_than_a_call_has_tries_loses_nothing(server, runs):
    server.act = lambda call: fails(429) if call.number < 40 else answers

    found = runs.ask(server, GOOD)

    assert [answer.responses[0].text for answer in found.values()] == ["A", "B", "C", "D", "E"]
    assert runs.tally.failed_calls == 0


def test_an_endpoint_that_stays_busy_past_the_patience_fails_the_call(server, runs):
    server.act = lambda call: fails(429, "slow down")

    found = runs.ask(server, ["a"], patience_s=0.0)

    assert found["a"].error == "HTTP 429: slow down, after 6 tries"
    assert len(server.calls) == 6


def test_calls_in_progress_outlast_a_server_that_is_gone_for_a_while(server, runs):
    is_back = threading.Event()
    server.act = lambda call: after(is_back, answers) if call.text in GOOD[2:] else answers

    def restart():
        server.wait_for(5)
        server.vanish()
        time.sleep(0.5)
        is_back.set()
        server.listen()

    restarting = threading.Thread(target=restart)
    restarting.start()
    found = runs.ask(server, [*GOOD, *map(str, range(40))], concurrency=5)
    restarting.join()

    assert all(answer.failure is None for answer in found.values())
    assert Counter(server.texts) == {text: 2 if text in GOOD[2:] else 1 for text in found}
    assert runs.tally.failed_calls == 0


def test_a_server_that_stumbles_before_it_goes_is_waited_for_too(server, runs):
    stumbled = threading.Event()

    async def stumble(call):
        if call.number == 2:
            stumbled.set()
            await hangs(call)
        await resets(call)

    server.act = lambda call: answers if call.text == "first" else stumble

    def restart():
        stumbled.wait()
        server.vanish()
        time.sleep(0.3)
        server.act = lambda call: answers
        server.listen()

    restarting = threading.Thread(target=restart)
    restarting.start()
    found = runs.ask(server, ["first", "then"], concurrency=1)
    restarting.join()

    assert [answer.responses[0].text for answer in found.values()] == ["FIRST", "THEN"]


def test_a_server_that_is_gone_for_good_stops_the_run_with_all_answers_saved(server, runs):
    held = threading.Event()
    server.act = lambda call: answers if call.text in GOOD else after(held, answers)
    texts = [*GOOD, "f", "g", "h"]

    def vanish():
        server.wait_for(8)
        while runs.in_state("answered") != set(GOOD):
            time.sleep(0.01)
        server.vanish()

    vanishing = threading.Thread(target=vanish)
    vanishing.start()
    with pytest.raises(UserError, match=r"cannot connect to http://127.0.0.1:\d+/v1 .*; is the server running\?"):
        runs.ask(server, texts, patience_s=0.3)
    vanishing.join()

    assert runs.in_state("answered") == set(GOOD)

    held.set()
    server.calls.clear()
    server.listen()
    runs.ask(server, texts)

    assert sorted(server.texts) == ["f", "g", "h"]


def test_an_address_that_does_not_speak_tls_is_named(server, runs):
    api = ChatAPI(
        "test", server.url.replace("http:", "https:"), "tiny", "PAIRWRIGHT_API_KEY", EndpointConfig(longest_backoff_s=0)
    )

    with pytest.raises(UserError, match=r"cannot connect to https://127.0.0.1:\d+/v1 \("):
        list(api.answer([Request("generate", user("a"))], {0}))


@pytest.mark.parametrize("url", ["http:///v1", "http://127.0.0.1:99999/v1"])
def test_an_address_that_is_none_stops_the_run(url):
    api = ChatAPI("test", url, "tiny", "PAIRWRIGHT_API_KEY", EndpointConfig(longest_backoff_s=0))

    with pytest.raises(UserError, match=f"{url} is no address of a server"):
        list(api.answer([Request("generate", user("a"))], {0}))


def test_a_run_that_breaks_off_while_it_records_leaves_its_places_to_the_others(server):
    """Several parts of a run share one endpoint, and one of them may meet a full disk."""
    api = ChatAPI("test", server.url, "tiny", "PAIRWRIGHT_API_KEY", EndpointConfig(concurrency=1))
    requests = [Request("generate", user(text)) for text in "ab"]
    other = []
    entered = threading.Event()

    def ask_too():
        groups = api.answer(requests, {1})
        entered.set()
        other.extend(groups)

    asking = threading.Thread(target=ask_too, daemon=True)
    groups = api.answer(requests, {0})
    next(groups)
    asking.start()
    entered.wait()
    groups.close()
    asking.join(10)

    assert [i for group in other for i, _ in group] == [1]
