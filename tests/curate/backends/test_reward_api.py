import pytest
from scripted import completion, user

from curate.backends.calls import Request
from curate.backends.reward_api import RewardAPI, reward
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
    assert reward(text) == score


@pytest.mark.parametrize(
    "text", ["", "3.5", "I think it is good", "reward:", "reward:high", "verbosity:0.5", "reward:nan"]
)
def test_any_other_form_is_refused_by_name(text):
    with pytest.raises(ResponseError, match="expected"):
        reward(text)


def test_the_conversation_is_sent_with_the_response_to_judge_and_nothing_else(endpoint):
    server = endpoint(lambda body: (200, completion("reward:1.5")))
    judged = [*user("Hi"), {"role": "assistant", "content": "Hello"}]

    answers = [
        pair
        for group in RewardAPI("nim:m", server.url, "m", "NVIDIA_API_KEY").answer([Request("score", judged)], {0})
        for pair in group
    ]

    assert server.bodies == [{"model": "m", "messages": judged}]
    assert answers[0][1].values == (1.5,)


def test_a_refusal_of_the_scorer_is_a_failed_score(endpoint):
    server = endpoint(lambda body: (200, completion(None, refusal="no")))
    scorer = RewardAPI("nim:m", server.url, "m", "NVIDIA_API_KEY")

    answers = [pair for group in scorer.answer([Request("score", user("Hi"))], {0}) for pair in group]

    assert (answers[0][1].failure, answers[0][1].values) == ("refused", ())


def test_a_score_that_cannot_be_read_is_a_failed_call_and_not_zero(endpoint):
    server = endpoint(lambda body: (200, completion("no idea")))

    answers = [
        pair
        for group in RewardAPI("nim:m", server.url, "m", "NVIDIA_API_KEY").answer([Request("score", user("Hi"))], {0})
        for pair in group
    ]

    assert (answers[0][1].failure, answers[0][1].values) == ("failed_call", ())
