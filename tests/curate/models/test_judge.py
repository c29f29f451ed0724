"""Judges behind an endpoint: a verdict is a score, anything else a failed call with its reason."""

import math

import pytest
from scripted import ScriptedModel, completion, responses, user

from curate.models.judge import Judge, PairJudgeAPI
from curate.models.judge_prompts import pair_request, score_request
from curate.models.limits import EndpointConfig
from schemas.calls import CallResult, Response

SCORE = score_request("R", user("Hi"), "Hello")
PAIR = pair_request("R", user("Hi"), "Hello", "Go away")


def with_logprobs(text, **odds):
    """A completion whose first token has these probabilities."""
    body = completion(text)
    top = [{"token": token, "logprob": math.log(p)} for token, p in odds.items()]
    body["choices"][0]["logprobs"] = {"content": [{"token": text, "logprob": -0.1, "top_logprobs": top}]}
    return body


def one(backend, request):
    return next(answer for group in backend.answer([request], {0}) for _, answer in group)


def pair_judge(server):
    return PairJudgeAPI("judge-pairs:m", server.url, "m", "PAIRWRIGHT_API_KEY", EndpointConfig())


def test_a_verdict_that_cannot_be_read_is_null_with_its_tokens():
    said = CallResult(responses("It is fine.").responses, input_tokens=40, output_tokens=4)

    answer = one(Judge("judge:m", "d", ScriptedModel(lambda request: said)), SCORE)

    assert (answer.failure, answer.values, answer.input_tokens) == ("refused", (), 40)
    assert answer.error.startswith("the judge gave no verdict: expected a JSON object with 'score'")


@pytest.mark.parametrize("failure", ["refused", "prompt_too_long", "failed_call"])
def test_a_failure_of_the_generator_is_one_of_the_judge(failure):
    failed = CallResult(failure=failure, error="why")

    assert one(Judge("judge:m", "d", ScriptedModel(lambda request: failed)), SCORE) == failed


def test_a_verdict_is_a_score_and_its_reason_stays_with_it():
    text = '{"reason": "right and short", "score": 9}'
    generator = ScriptedModel(lambda request: responses(text))

    answer = one(Judge("judge:m", "d", generator), SCORE)

    assert (answer.values, answer.responses[0].text) == ((9.0,), text)
    assert [(asked.kind, asked.messages) for asked in generator.asked] == [("generate", SCORE.messages)]


def test_the_probability_is_the_share_of_a_in_the_first_token(endpoint):
    # 0.6 / (0.6 + 0.2)
    server = endpoint(lambda body: (200, with_logprobs("B", A=0.6, B=0.2, The=0.1)))

    answer = one(pair_judge(server), PAIR)

    assert answer.values == (pytest.approx(0.75),)
    (body,) = server.bodies
    assert (body["logprobs"], body["top_logprobs"], body["temperature"]) == (True, 20, 0.0)
    assert "response_format" not in body


@pytest.mark.parametrize("logprobs", [None, {}, {"content": None}, {"content": []}])
def test_without_log_probabilities_the_text_decides(endpoint, logprobs):
    body = completion("B")
    body["choices"][0]["logprobs"] = logprobs

    assert one(pair_judge(endpoint(lambda sent: (200, body))), PAIR).values == (0.0,)


def test_a_judge_that_says_more_than_a_letter_is_read_by_its_text(endpoint):
    server = endpoint(lambda body: (200, with_logprobs("Response A", Response=0.98, A=0.001, B=0.01)))

    assert one(pair_judge(server), PAIR).values == (1.0,)


@pytest.mark.parametrize("text", ["Neither", None, ""])
def test_no_letter_is_recorded_as_a_refusal(endpoint, text):
    answer = one(pair_judge(endpoint(lambda body: (200, completion(text)))), PAIR)

    assert (answer.failure, answer.values) == ("refused", ())
    assert "expected A or B" in answer.error


def test_a_refusal_is_no_verdict(endpoint):
    answer = one(pair_judge(endpoint(lambda body: (200, completion(None, refusal="I cannot")))), PAIR)

    assert (answer.failure, answer.values) == ("refused", ())


def test_a_judge_with_sampling_of_its_own_is_asked_without_all_that_it_refuses(endpoint, caplog):
    def reply(body):
        for name in ("logprobs", "top_p", "temperature"):
            if name in body:
                return 400, {"error": {"message": f"Unsupported parameter: '{name}' is not supported with this model."}}
        return 200, completion("B")

    server = endpoint(reply)
    judge = pair_judge(server)

    assert [one(judge, PAIR).values for _ in range(2)] == [(0.0,), (0.0,)]
    assert server.bodies[-1].keys() == {"model", "messages", "max_tokens"}
    assert len(server.bodies) == 5
    assert len(caplog.messages) == 1


def test_an_endpoint_that_refuses_log_probabilities_is_asked_without(endpoint):
    def reply(body):
        if "logprobs" in body:
            return 400, {"error": {"message": "'logprobs' is not supported with this model"}}
        return 200, completion("A")

    server = endpoint(reply)
    judge = pair_judge(server)

    found = dict(pair for group in judge.answer([PAIR, PAIR, PAIR], {0, 1, 2}) for pair in group)
    more = one(judge, PAIR)

    assert [found[i].values for i in range(3)] == [(1.0,)] * 3
    assert more.values == (1.0,)
    assert "logprobs" not in server.bodies[-1] and "top_logprobs" not in server.bodies[-1]


@pytest.mark.parametrize("content", [[{"token": "A"}], [{"top_logprobs": [{"token": "A"}]}], [3]])
def test_log_probabilities_of_another_form_leave_the_text(endpoint, content):
    sent = completion("B")
    sent["choices"][0]["logprobs"] = {"content": content}
    server = endpoint(lambda body: (200, sent))

    assert one(pair_judge(server), PAIR).values == (0.0,)
    assert len(server.bodies) == 1


def cut_below(tokens, text, cut=""):
    """A generator that needs so many tokens to say `text`, and else is cut off after `cut`."""

    def reply(request):
        is_cut = request.sampling["max_tokens"] < tokens
        said = Response(cut, "length", "First I") if is_cut else Response(text, "stop")
        return CallResult((said,), input_tokens=40, output_tokens=4, cost_usd=0.5)

    return ScriptedModel(reply)


def test_a_judge_in_this_process_that_reasons_is_asked_with_room_and_both_calls_are_counted():
    generator = cut_below(1500, '{"reason": "r", "score": 9}')
    easy = score_request("R", user("Hi"), "Hello")

    found = dict(pair for group in Judge("judge:m", "d", generator).answer([SCORE, easy], {0, 1}) for pair in group)

    assert [found[i].values for i in (0, 1)] == [(9.0,)] * 2
    assert (found[0].input_tokens, found[0].output_tokens, found[0].cost_usd) == (80, 8, 1.0)
    assert [request.sampling["max_tokens"] for request in generator.asked] == [400, 400, 4096, 4096]


def test_a_judge_in_this_process_that_never_ends_is_not_given_more_time_for_it():
    generator = cut_below(10**9, "", cut="It is a response that")

    answer = one(Judge("judge:m", "d", generator), SCORE)

    assert (answer.failure, len(generator.asked)) == ("failed_call", 1)
    assert answer.error == "the judge was cut off at 400 tokens before a verdict; raise --judge-max-tokens"


@pytest.mark.parametrize("before", ["", "\n", "```json\n", "```\n", "**"])
def test_a_verdict_that_was_given_before_the_limit_counts(before):
    generator = cut_below(10**9, "", cut=before + '{"reason": "r", "score": 9}\n\nAs for the')

    assert one(Judge("judge:m", "d", generator), SCORE).values == (9.0,)


@pytest.mark.parametrize("before", ["Okay, a first guess is ", "**Draft** ", "```text\nI would say "])
def test_a_verdict_within_what_may_be_reasoning_that_was_cut_off_is_none(before):
    generator = cut_below(10**9, "", cut=before + '{"reason": "draft", "score": 2}. But then')

    assert one(Judge("judge:m", "d", generator), SCORE).failure == "failed_call"


def test_the_limit_of_a_user_is_the_only_one():
    generator = cut_below(1500, '{"reason": "r", "score": 9}')
    request = score_request("R", user("Hi"), "Hello", {"max_tokens": 1000})

    answer = one(Judge("judge:m", "d", generator), request)

    assert (answer.failure, len(generator.asked)) == ("failed_call", 1)
    assert "1,000 tokens" in answer.error


def test_room_that_the_context_has_not_is_a_judge_that_was_cut_off():
    def reply(request):
        if request.sampling["max_tokens"] > 400:
            return CallResult(failure="prompt_too_long", error="40 tokens and 4096 exceed 2048")
        return CallResult((Response("", "length"),))

    answer = one(Judge("judge:m", "d", ScriptedModel(reply)), SCORE)

    assert answer.failure == "failed_call"
    assert answer.error.endswith("raise --judge-max-tokens; 40 tokens and 4096 exceed 2048")


def test_a_second_call_that_fails_costs_what_both_did(endpoint):
    def reply(body):
        if body["max_tokens"] > 8:
            return 400, {"error": {"message": "no"}}
        return 200, completion(None, finish_reason="length")

    answer = one(pair_judge(endpoint(reply)), PAIR)

    assert (answer.failure, answer.error, answer.cost_usd) == ("failed_call", "HTTP 400: no", 0.0)


def test_a_letter_cut_off_after_its_verdict_keeps_its_odds(endpoint):
    body = with_logprobs("A is better because it", A=0.6, B=0.2)
    body["choices"][0]["finish_reason"] = "length"
    server = endpoint(lambda sent: (200, body))

    assert one(pair_judge(server), PAIR).values == (pytest.approx(0.75),)
    assert len(server.bodies) == 1
