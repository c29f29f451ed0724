"""Reward models on a vLLM server: one number a response, from the server's root, or a reason."""

import pytest
from scripted import user

from curate.models.classify_api import ClassifyAPI, PoolingAPI
from curate.models.limits import EndpointConfig
from schemas.calls import Request

JUDGED = [*user("Hi"), {"role": "assistant", "content": "Hello"}]


def classified(*probs):
    data = [{"index": 0, "label": "LABEL_0", "probs": list(probs), "num_classes": len(probs)}]
    return {"object": "list", "data": data, "usage": {"prompt_tokens": 9, "total_tokens": 9}}


def pooled(data):
    return {"object": "list", "data": [{"index": 0, "object": "pooling", "data": data}], "usage": {"prompt_tokens": 9}}


def ask(endpoint, body, api=ClassifyAPI):
    server = endpoint(lambda sent: (200, body))
    scorer = api("classify:m", server.url, "m", "PAIRWRIGHT_API_KEY", EndpointConfig())
    return next(answer for group in scorer.answer([Request("score", JUDGED)], {0}) for _, answer in group), server


@pytest.mark.parametrize("body", [{}, {"data": []}, {"data": [{}]}, {"data": [{"probs": None}]}, {"data": 3}])
def test_an_answer_of_another_form_is_a_failed_call(endpoint, body):
    answer, _ = ask(endpoint, body)

    assert (answer.failure, answer.values) == ("failed_call", ())
    assert "not an answer of /classify" in answer.error


@pytest.mark.parametrize("probs", [["0.5"], [True], [None]])
def test_what_is_not_a_number_is_no_score(endpoint, probs):
    assert ask(endpoint, classified(*probs))[0].failure == "failed_call"


def test_a_score_that_is_not_a_number_is_refused(endpoint):
    answer, _ = ask(endpoint, classified(float("nan")))

    assert (answer.failure, answer.error) == ("failed_call", "expected a finite score, got nan")


def test_a_model_with_two_labels_is_refused_in_one_sentence(endpoint):
    answer, _ = ask(endpoint, classified(0.2, 0.8))

    assert answer.error == "/classify gave 2 numbers; a reward model has one label and gives one number a response"


def test_two_answers_to_one_request_are_refused(endpoint):
    body = classified(1.0)
    body["data"] *= 2

    assert ask(endpoint, body)[0].failure == "failed_call"


def test_raw_scores_are_asked_for_at_the_root_of_the_server(endpoint):
    answer, server = ask(endpoint, classified(-4.25))

    assert (answer.values, answer.input_tokens) == ((-4.25,), 9)
    assert server.bodies == [{"model": "m", "messages": JUDGED, "use_activation": False}]
    assert server.paths == ["/classify"]


@pytest.mark.parametrize("data", [[2.5], [[2.5]]])
def test_pooling_gives_its_number_flat_or_in_a_row(endpoint, data):
    answer, server = ask(endpoint, pooled(data), PoolingAPI)

    assert (answer.values, server.paths) == ((2.5,), ["/pooling"])


def test_a_number_for_each_token_is_refused(endpoint):
    answer, _ = ask(endpoint, pooled([[0.1], [0.2], [0.3]]), PoolingAPI)

    assert answer.error.startswith("/pooling gave 3 numbers")
