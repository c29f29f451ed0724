import json

import pytest
from scripted import completion, user

from curate.models.chat_api import ChatAPI
from curate.models.endpoint import retry_after_s
from curate.models.limits import EndpointConfig
from curate.models.reply_body import read_error
from schemas.calls import Request
from schemas.errors import UserError

SAMPLING = {"temperature": 0.7, "top_p": 0.95, "max_tokens": 16, "seed": 30}


def chat(url, key_name="PAIRWRIGHT_API_KEY"):
    return ChatAPI("test", url, "tiny", key_name, EndpointConfig(longest_backoff_s=0.01))


def ask(server, *requests, key_name="PAIRWRIGHT_API_KEY"):
    api = chat(server.url, key_name)
    found = {}
    for group in api.answer(requests, set(range(len(requests)))):
        found.update(group)
    return [found[i] for i in range(len(requests))]


def request(text="Hi", n=1, schema=None):
    return Request("generate", user(text), schema=schema, n=n, sampling=SAMPLING)


def test_the_call_carries_the_model_the_conversation_and_the_sampling_and_no_seed(endpoint):
    server = endpoint(lambda body: (200, completion("Hello", "Hey")))

    answers = ask(server, request(n=2))

    assert server.bodies == [
        {"model": "tiny", "messages": user("Hi"), "n": 2, "temperature": 0.7, "top_p": 0.95, "max_tokens": 16}
    ]
    assert [response.text for response in answers[0].responses] == ["Hello", "Hey"]
    assert (answers[0].input_tokens, answers[0].output_tokens) == (7, 10)


def test_a_server_that_ignores_n_is_asked_for_the_rest(endpoint, recorder):
    server = endpoint(lambda body: (200, completion(str(len(server.bodies)))))

    answer = recorder.ask(chat(server.url), [request(n=3)])[0]

    assert [response.text for response in answer.responses] == ["1", "2", "3"]
    assert [body.get("n", 1) for body in server.bodies] == [3, 2, 1]
    # three calls of 7 and 5 tokens
    assert (recorder.tally.calls, recorder.tally.input_tokens, recorder.tally.output_tokens) == (3, 21, 15)


def test_a_server_that_gives_more_choices_than_asked_for_gives_no_more_responses(endpoint):
    server = endpoint(lambda body: (200, completion("one", "two", "three")))

    assert [response.text for response in ask(server, request(n=2))[0].responses] == ["one", "two"]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_passing_failure_is_tried_again(endpoint, status):
    replies = iter([(status, {"error": {"message": "busy"}}), (200, completion("fine"))])
    server = endpoint(lambda body: next(replies))

    assert ask(server, request())[0].responses[0].text == "fine"


def test_a_failure_that_stays_is_a_failed_call_with_the_endpoints_words(endpoint):
    server = endpoint(lambda body: (500, {"error": {"message": "disk on fire"}}))

    answer = ask(server, request())[0]

    assert answer.failure == "failed_call"
    assert answer.error == "HTTP 500: disk on fire, after 6 tries"
    assert len(server.bodies) == 6


def test_an_endpoint_without_json_schemas_is_asked_without_one(endpoint):
    def handler(body):
        if "response_format" in body:
            return 400, {"error": {"message": "response_format json_schema is not supported"}}
        return 200, completion("{}")

    server = endpoint(handler)

    assert ask(server, request(schema={"type": "object"}))[0].responses[0].text == "{}"


def test_a_json_schema_is_sent_where_the_endpoint_takes_it(endpoint):
    server = endpoint(lambda body: (200, completion("{}")))

    ask(server, request(schema={"type": "object"}))

    assert server.bodies[0]["response_format"]["json_schema"]["schema"] == {"type": "object"}


def choosy(body):
    """What OpenAI's reasoning models say to parameters that they do not take."""
    value = "does not support 0.7 with this model. Only the default (1) value is supported."
    refusals = {
        "temperature": f"Unsupported value: 'temperature' {value}",
        "top_p": "Unsupported parameter: 'top_p' is not supported with this model.",
    }
    for name, message in refusals.items():
        if name in body:
            return 400, {"error": {"message": message, "param": name, "code": "unsupported_value"}}
    return 200, completion("Hello")


def test_a_model_with_sampling_of_its_own_is_asked_without_and_that_is_said_once(endpoint, caplog):
    server = endpoint(choosy)
    api = chat(server.url)

    first = dict(pair for group in api.answer([request(str(i)) for i in range(5)], set(range(5))) for pair in group)
    asked_first = len(server.bodies)
    list(api.answer([request("more")], {0}))

    assert [answer.responses[0].text for answer in first.values()] == ["Hello"] * 5
    # Each was refused twice at most: then all know.
    assert 7 <= asked_first <= 15
    assert server.bodies[asked_first:] == [{"model": "tiny", "messages": user("more"), "max_tokens": 16}]
    assert caplog.messages == [
        "test: the endpoint refuses temperature, top_p and is asked without; "
        "sampling then follows the model's own defaults"
    ]


def test_a_parameter_is_sent_again_where_leaving_it_out_did_not_help(endpoint, caplog):
    message = "Unsupported tool, whatever the temperature"

    def handler(body):
        return (400, {"error": {"message": message}}) if body["messages"] == user("bad") else (200, completion("Hello"))

    server = endpoint(handler)
    api = chat(server.url)

    bad, good = (next(api.answer([request(text)], {0}))[0][1] for text in ("bad", "good"))

    assert (bad.failure, bad.error) == ("failed_call", f"HTTP 400: {message}")
    assert good.responses[0].text == "Hello"
    assert ["temperature" in body for body in server.bodies] == [True, False, True]
    assert caplog.messages == []


def test_a_value_out_of_range_is_a_failed_call_and_not_left_out(endpoint):
    server = endpoint(lambda body: (400, {"error": {"message": "temperature must be at most 0.5"}}))

    assert ask(server, request())[0].error == "HTTP 400: temperature must be at most 0.5"
    assert len(server.bodies) == 1


def test_of_two_parameters_that_do_not_go_together_one_is_kept(endpoint):
    def handler(body):
        if {"temperature", "top_p"} <= body.keys():
            message = "`temperature` and `top_p` cannot both be specified for this model. Please use only one."
            return 400, {"error": {"message": message}}
        return 200, completion("Hello")

    server = endpoint(handler)

    assert ask(server, request())[0].responses[0].text == "Hello"
    assert ("temperature" in server.bodies[-1], "top_p" in server.bodies[-1]) == (True, False)


def test_a_prompt_over_the_context_is_named_so(endpoint):
    message = "This model's maximum context length is 2048 tokens. However, you requested 5000 tokens"
    server = endpoint(lambda body: (400, {"error": {"message": message}}))

    assert ask(server, request())[0].failure == "prompt_too_long"


@pytest.mark.parametrize(
    "body",
    [
        completion(None, refusal="I cannot help with that."),
        completion("", finish_reason="content_filter"),
    ],
)
def test_a_refusal_is_an_answer_of_its_own_kind(endpoint, body):
    server = endpoint(lambda _: (200, body))

    assert ask(server, request())[0].failure == "refused"


def test_an_empty_response_stays_an_empty_response(endpoint):
    server = endpoint(lambda body: (200, completion(None)))

    answer = ask(server, request())[0]

    assert (answer.failure, answer.responses[0].text) == (None, "")


@pytest.mark.parametrize("body", [{}, {"choices": []}, {"choices": [{}]}, b"<html>busy</html>", b"[1]", {"choices": 3}])
def test_a_body_that_is_no_completion_is_a_failed_call(endpoint, body):
    server = endpoint(lambda _: (200, body))

    assert ask(server, request())[0].failure == "failed_call"


def test_half_a_surrogate_pair_becomes_text_that_can_be_saved(endpoint):
    body = json.dumps(completion("cut \ud83d")).encode()
    server = endpoint(lambda _: (200, body))

    assert ask(server, request())[0].responses[0].text == "cut ?"


def test_choices_that_were_paid_for_are_kept_and_only_the_rest_is_asked_for_next_time(endpoint, recorder):
    replies = iter([(200, completion("one", "two")), (400, {"error": {"message": "no"}}), (200, completion("3", "4"))])
    server = endpoint(lambda body: next(replies))

    first = recorder.ask(chat(server.url), [request(n=4)])[0]
    second = recorder.ask(chat(server.url), [request(n=4)])[0]

    assert ([response.text for response in first.responses], first.failure) == (["one", "two"], None)
    assert [response.text for response in second.responses] == ["one", "two", "3", "4"]
    assert [body.get("n", 1) for body in server.bodies] == [4, 2, 2]
    assert recorder.tally.failed_calls == 1


def test_a_filtered_choice_does_not_cost_the_others(endpoint):
    body = completion("fine", "half of a bad")
    body["choices"][1]["finish_reason"] = "content_filter"
    server = endpoint(lambda _: (200, body))

    answer = ask(server, request(n=2))[0]

    assert [(response.text, response.finish_reason) for response in answer.responses] == [
        ("fine", "stop"),
        ("", "content_filter"),
    ]


def test_a_key_is_blotted_out_of_any_answer(endpoint, monkeypatch):
    monkeypatch.setenv("PAIRWRIGHT_API_KEY", "sk-secret-123\n")
    server = endpoint(lambda _: (200, {"hello": "Bearer sk-secret-123"}))

    answer = ask(server, request())[0]

    assert answer.failure == "failed_call"
    assert "sk-secret-123" not in answer.error


def test_a_refused_key_stops_at_once_and_is_never_shown(endpoint, monkeypatch):
    monkeypatch.setenv("PAIRWRIGHT_API_KEY", "sk-secret-123")
    server = endpoint(lambda body: (401, {"error": {"message": "Incorrect API key provided: sk-secret-123"}}))

    with pytest.raises(UserError, match="PAIRWRIGHT_API_KEY is set") as caught:
        ask(server, request())

    assert "sk-secret-123" not in str(caught.value)
    assert server.headers[0]["Authorization"] == "Bearer sk-secret-123"


def test_an_unknown_model_stops_at_once(endpoint):
    server = endpoint(lambda body: (404, {"error": {"message": "The model `tiny` does not exist."}}))

    with pytest.raises(UserError, match="does not know the model 'tiny'"):
        ask(server, request())

    assert len(server.bodies) == 1


def test_an_account_without_credit_stops_at_once(endpoint):
    server = endpoint(
        lambda body: (429, {"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}})
    )

    with pytest.raises(UserError, match="no credit left"):
        ask(server, request())

    assert len(server.bodies) == 1


def test_a_server_that_is_not_there_is_named():
    api = chat("http://127.0.0.1:9/v1")

    with pytest.raises(UserError, match=r"cannot connect to http://127.0.0.1:9/v1"):
        list(api.answer([request()], {0}))


def test_only_what_is_needed_is_asked(endpoint):
    server = endpoint(lambda body: (200, completion(body["messages"][0]["content"])))
    api = chat(server.url)

    answers = [pair for group in api.answer([request("a"), request("b"), request("c")], {1}) for pair in group]

    assert [(i, answer.responses[0].text) for i, answer in answers] == [(1, "b")]


def test_many_calls_come_back_each_to_its_request(endpoint):
    server = endpoint(lambda body: (200, completion(body["messages"][0]["content"])))

    answers = ask(server, *(request(str(i)) for i in range(100)))

    assert [answer.responses[0].text for answer in answers] == [str(i) for i in range(100)]


@pytest.mark.parametrize(
    ("header", "seconds"), [(None, 0), ("2", 2), ("0.5", 0.5), ("-1", 0), ("9999", 600), ("nan", 0), ("soon", 0)]
)
def test_retry_after_is_read_in_seconds_and_bounded(header, seconds):
    assert retry_after_s(header) == seconds


@pytest.mark.parametrize("text", ['{"error": "plain"}', "not json", "", "[1, 2]", '{"detail": {"a": 1}}'])
def test_any_error_body_gives_one_line(text):
    assert "\n" not in read_error(400, text.encode(), "").message
