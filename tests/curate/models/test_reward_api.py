import pytest
from scripted import completion, user

from curate.models.limits import EndpointConfig
from curate.models.reward_api import RewardAPI, read_reward
from schemas.calls import Request
from schemas.errors import ResponseError


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("reward:-3.5", -3.5),
        (" reward: 2.25 ", 2.25),
        ("helpfulness:1.26,correctness:0.52,coherence:3.1,complexity:0.5,verbosity:0.9", 1.26),
    ],
)
def test_both_forms_of_the_score_are_read(text, score):
    assert read_reward(text) == score


@pytest.mark.parametrize(
    "text",
    [
        "",
        "3.5",
        "I think it is good",
        "reward:",
        "reward:high",
        "verbosity:0.5",
        "reward:nan",
        "reward:inf",
        "reward:1:2",
        "reward:1,reward:2",
    ],
)
def test_any_other_form_is_refused_by_name(text):
    with pytest.raises(ResponseError, match="expected"):
        read_reward(text)


def ask(server, messages):
    scorer = RewardAPI("nim:m", server.url, "m", "NVIDIA_API_KEY", EndpointConfig())
    return next(answer for group in scorer.answer([Request("score", messages)], {0}) for _, answer in group)


def test_the_conversation_is_sent_with_the_response_to_judge_and_nothing_else(endpoint):
    server = endpoint(lambda body: (200, completion("reward:1.5")))
    judged = [*user("Hi"), {"role": "assistant", "content": "Hello"}]

    answer = ask(server, judged)

    assert server.bodies == [{"model": "m", "messages": judged}]
    assert (answer.values, answer.input_tokens) == ((1.5,), 7)


def test_a_refusal_of_the_scorer_is_a_failed_score(endpoint):
    answer = ask(endpoint(lambda body: (200, completion(None, refusal="no"))), user("Hi"))

    assert (answer.failure, answer.values) == ("refused", ())


@pytest.mark.parametrize("text", ["no idea", None])
def test_a_score_that_cannot_be_read_is_a_failed_call_and_not_zero(endpoint, text):
    answer = ask(endpoint(lambda body: (200, completion(text))), user("Hi"))

    assert (answer.failure, answer.values) == ("failed_call", ())
