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


CALL = {"role": "tool_call", "content": '[{"name": "oven", "arguments": {"unit": "C"}}]'}


def test_a_call_of_a_tool_is_sent_as_endpoints_take_it(endpoint):
    server = endpoint(lambda body: (200, completion("reward:1")))
    turns = [*user("How hot?"), CALL, {"role": "tool", "content": "210"}, {"role": "assistant", "content": "Hot."}]

    answer = ask(server, turns)

    sent = server.bodies[0]["messages"]
    function = {"name": "oven", "arguments": '{"unit": "C"}'}
    assert answer.values == (1.0,)
    assert [turn["role"] for turn in sent] == ["user", "assistant", "tool", "assistant"]
    assert sent[1]["tool_calls"] == [{"id": "call00001", "type": "function", "function": function}]
    assert sent[2]["tool_call_id"] == "call00001"


def test_a_call_of_a_tool_that_cannot_be_read_is_a_failed_score(endpoint):
    server = endpoint(lambda body: (200, completion("reward:1")))
    turns = [*user("How hot?"), {**CALL, "content": "oven()"}, {"role": "assistant", "content": "Hot."}]

    answer = ask(server, turns)

    assert (answer.failure, server.bodies) == ("bad_prompt", [])
