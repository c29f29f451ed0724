"""No answer of a model ends a run or costs another answer, whatever it holds."""

import json
from contextlib import suppress

import pytest
from fuzz_targets import HUGE, REFUSALS, TARGETS, TEXTS
from hypothesis import given, settings
from misbehaving import sends
from scripted import ScriptedModel, completion, responses, user

from curate.generate.contrast import ContrastConfig, write_pairs
from curate.ledger.ledger import Ledger
from curate.ledger.recorder import Recorder
from curate.models.chat_api import ChatAPI
from curate.models.classify_api import ClassifyAPI, PoolingAPI
from curate.models.judge import Judge, PairJudgeAPI
from curate.models.judge_prompts import pair_request, score_request
from curate.models.limits import EndpointConfig
from curate.models.reward_api import RewardAPI
from curate.store.store import make_frame
from schemas.calls import Request
from schemas.ids import prompt_group, prompt_key
from schemas.tables import Prompt

GOOD = '{"chosen": "The moon.", "rejected": "The wind."}'


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=60)
@given(text=TEXTS)
def test_a_reader_takes_any_text_or_refuses_it_with_a_reason(name, text):
    with suppress(*REFUSALS):
        TARGETS[name](text)


@pytest.mark.parametrize("name", [name for name in TARGETS if not name.startswith("flaw ")])
@pytest.mark.parametrize("text", HUGE, ids=range(len(HUGE)))
def test_a_reader_takes_any_size_and_depth(name, text):
    with suppress(*REFUSALS):
        TARGETS[name](text)


@settings(max_examples=25)
@given(text=TEXTS)
def test_beside_any_answer_the_other_pairs_and_scores_are_kept(text, tmp_path_factory):
    conversations = [user(topic) for topic in ("tides", "odd", "wind")]
    rows = [
        {"prompt_id": prompt_key(c), "messages": c, "prompt_group": prompt_group(c), "license": "MIT"}
        for c in conversations
    ]
    model = ScriptedModel(lambda request: responses(text if "odd" in request.messages[-1]["content"] else GOOD))
    judge = Judge(
        "judge:m", "d", ScriptedModel(lambda request: responses(text if "odd" in request.text else '{"score": 7}'))
    )
    asked = [score_request("R", user("Hi"), response) for response in ("one", "odd", "two")]
    cfg = ContrastConfig("scripted", "scripted-weights", 0.7, 0.95, 256, 30)

    with Ledger(tmp_path_factory.mktemp("run") / "ledger.sqlite") as ledger:
        part = write_pairs(make_frame(Prompt, rows), cfg, generator=model, recorder=Recorder(ledger))
        scores = Recorder(ledger).ask(judge, asked)

    kept = [prompt_key(user(topic)) for topic in ("tides", "wind")]
    assert [row for row in part.rows["prompt_id"].to_list() if row in kept] == kept
    assert len(part.rows) + len(part.dropped) == 3
    assert [scores[i].values for i in (0, 2)] == [(7.0,)] * 2
    assert scores[1].values or scores[1].error


def deep(levels):
    return json.loads("[" * levels + "]" * levels)


def with_logprobs(top, text="A", token="A"):
    body = completion(text)
    body["choices"][0]["logprobs"] = {"content": [{"token": token, "top_logprobs": top}]}
    return body


ODD = [
    b'{"choices": ' + b"[" * 100_000,
    b'{"data": [{"probs": [' + b"9" * 5000 + b"]}]}",
    b'{"data": [{"probs": [1e999], "data": [-1e999]}]}',
    {"data": [{"probs": [10**400], "data": [10**400]}]},
    {"data": [{"probs": [True], "data": [float("nan")]}]},
    {"data": [{"probs": deep(900), "data": deep(900)}]},
    {**completion("A"), "choices": [{"message": {"content": None, "refusal": deep(900)}}]},
    {**completion("reward:1e999")},
    {**completion("reward:" + "9" * 5000)},
    {**completion("[[A]] \ud83d"), "usage": {"prompt_tokens": 10**400, "completion_tokens": True}},
    with_logprobs([{"token": "A", "logprob": 10**400}]),
    with_logprobs([{"token": "A", "logprob": -(10**400)}]),
    with_logprobs([{"token": "A", "logprob": True}]),
    with_logprobs(deep(900)),
    with_logprobs([{"token": deep(900), "logprob": 0.0}]),
]


@pytest.mark.parametrize(
    ("kind", "good"),
    [
        (ChatAPI, completion("fine")),
        (PairJudgeAPI, completion("A")),
        (ClassifyAPI, {"data": [{"probs": [0.5]}]}),
        (PoolingAPI, {"data": [{"data": [0.5]}]}),
        (RewardAPI, completion("reward:0.5")),
    ],
)
def test_an_endpoint_s_odd_answers_are_failures_of_their_own(server, tmp_path, kind, good):
    server.act = lambda call: sends(200, ODD[int(call.text[4:])] if call.text.startswith("odd ") else good)
    api = kind("test", server.url, "tiny", "PAIRWRIGHT_API_KEY", EndpointConfig(longest_backoff_s=0.01))
    texts = ["first", *(f"odd {i}" for i in range(len(ODD))), "last"]
    requests = [Request("generate" if kind is ChatAPI else "score", user(text)) for text in texts]

    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        found = Recorder(ledger, max_failed_share=1.0).ask(api, requests)

    assert [found[i].failure for i in (0, -1)] == [None, None]
    assert all(answer.error for answer in found if answer.failure)


def test_a_pair_judge_tells_reasoning_from_the_verdict_by_its_first_token():
    request = pair_request("R", user("Hi"), "one", "two")
    read = PairJudgeAPI("test", "http://127.0.0.1:9/v1", "tiny", "PAIRWRIGHT_API_KEY", EndpointConfig()).read
    top = [{"token": "A", "logprob": -0.01}, {"token": "B", "logprob": -9.0}]

    assert read(with_logprobs(top, "B", token="A"), request).values == (0.0,)
    assert read(with_logprobs(top, "A is short.</think>B", token="A"), request).values == (0.0,)
    assert read(with_logprobs(top, "A", token="A"), request).values[0] > 0.99
