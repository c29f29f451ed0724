"""Scores of candidates and pairs: a score that failed is null, and a judge is asked in both orders."""

import json
import math
import re

import polars as pl
import pytest
from scripted import ScriptedModel, completion, user

from curate.models.limits import EndpointConfig
from curate.models.resolve import LazyModel, resolve_scorer
from curate.score.score import ScoreConfig, score_pairs, score_responses
from schemas.calls import CallResult
from schemas.tables import Candidate, Prompt

CONFIG = ScoreConfig("judge", "digest")


def shown(request):
    """The two responses of a pair request, A first."""
    return re.findall(r"<response-[AB]-\w+>\n(.*)\n</response", request.messages[-1]["content"])


def pairwise(reply):
    """A pairwise scorer, and the backend that remembers what it was asked."""
    model = ScriptedModel(reply)
    return LazyModel("judge-pairs:scripted", "d", lambda: model, form="pair", rubric="R"), model


def by_length(request):
    """A judge without a lean: A is better with probability len(A) / (len(A) + len(B))."""
    a, b = map(len, shown(request))
    return CallResult(values=(a / (a + b),))


def tables(**responses):
    """Prompts and their candidates, in the order given."""
    prompts = [{"prompt_id": name, "messages": user(f"Prompt {name}"), "prompt_group": name} for name in responses]
    candidates = [
        {
            "candidate_id": f"{name}{i}",
            "prompt_id": name,
            "sample_index": i,
            "response": text,
            "finish_reason": "stop",
            "call_id": "",
        }
        for name, texts in responses.items()
        for i, text in enumerate(texts)
    ]
    schemas = Prompt.create_empty().schema, Candidate.create_empty().schema
    return pl.DataFrame(prompts, schema=schemas[0]), pl.DataFrame(candidates, schema=schemas[1])


def test_without_candidates_there_are_no_scores(recorder):
    for scorer in (pairwise(by_length)[0], ScriptedModel(by_length)):
        assert score_responses(*tables(), CONFIG, scorer=scorer, recorder=recorder).rows.height == 0


def test_without_pairs_there_are_no_scores(recorder, make_pairs):
    pairs = make_pairs(chosen=["a"]).clear()

    for scorer in (pairwise(by_length)[0], ScriptedModel(by_length)):
        assert score_pairs(pairs, CONFIG, scorer=scorer, recorder=recorder).rows.height == 0


def test_a_judge_that_always_says_a_finds_a_tie(recorder, make_pairs):
    scorer, _ = pairwise(lambda request: CallResult(values=(1.0,)))

    pairs = score_pairs(make_pairs(chosen=["good"], rejected=["bad"]), CONFIG, scorer=scorer, recorder=recorder).rows
    scores = score_responses(*tables(p=["x", "yy", "zzz"]), CONFIG, scorer=scorer, recorder=recorder).rows

    assert pairs.select("score_chosen", "score_rejected").rows() == [(0.5, 0.5)]
    assert scores["score"].to_list() == [0.5, 0.5, 0.5]


def test_a_pair_costs_two_calls_and_its_scores_sum_to_one(recorder, make_pairs):
    # As A "cccc" gets 4/5, and as B 1 - 1/5: the mean is 0.8.
    scorer, model = pairwise(by_length)

    rows = score_pairs(make_pairs(chosen=["cccc"], rejected=["r"]), CONFIG, scorer=scorer, recorder=recorder).rows

    assert [shown(request) for request in model.asked] == [["cccc", "r"], ["r", "cccc"]]
    assert rows["score_chosen"][0] == pytest.approx(0.8)
    assert rows["score_rejected"][0] == pytest.approx(0.2)
    assert rows["failed_score"].to_list() == [False]


@pytest.mark.parametrize("failing", [["good", "bad"], ["bad", "good"]])
def test_a_pair_with_either_call_missing_has_no_score(recorder, make_pairs, failing):
    failed = CallResult(failure="refused", error="no")
    scorer, _ = pairwise(lambda request: failed if shown(request) == failing else CallResult(values=(0.9,)))

    rows = score_pairs(make_pairs(chosen=["good"], rejected=["bad"]), CONFIG, scorer=scorer, recorder=recorder).rows

    assert rows.select("score_chosen", "score_rejected", "failed_score").rows() == [(None, None, True)]


def test_every_candidate_meets_every_other_of_its_prompt_in_both_orders(recorder):
    scorer, model = pairwise(by_length)
    prompts, candidates = tables(p=["a", "bbb", "cccc"], q=["d", "ddd"])

    scores = score_responses(prompts, candidates, CONFIG, scorer=scorer, recorder=recorder).rows

    # 3 * 2 + 2 * 1
    assert len(model.asked) == 8
    # p0: (1/4 + 1/5) / 2, p1: (3/4 + 3/7) / 2, p2: (4/5 + 4/7) / 2, q: 1/4 and 3/4
    expected = [0.225, (3 / 4 + 3 / 7) / 2, (4 / 5 + 4 / 7) / 2, 0.25, 0.75]
    assert scores["score"].to_list() == pytest.approx(expected)
    assert all(len(call_id) == 32 for call_id in scores["call_id"])


def test_equal_candidates_are_a_tie_for_one_call(recorder):
    scorer, model = pairwise(lambda request: CallResult(values=(0.9,)))

    scores = score_responses(*tables(p=["same", "same"]), CONFIG, scorer=scorer, recorder=recorder).rows

    assert (scores["score"].to_list(), len(model.asked)) == ([0.5, 0.5], 1)


def test_the_only_candidate_of_a_prompt_has_no_score(recorder):
    scorer, model = pairwise(by_length)

    (row,) = score_responses(*tables(p=["alone"]), CONFIG, scorer=scorer, recorder=recorder).rows.to_dicts()

    assert (row["score"], row["reason"]) == (None, "no other response to compare with")
    assert model.asked == []


def test_one_missing_comparison_leaves_both_candidates_without_a_score(recorder):
    def reply(request):
        return CallResult(failure="refused", error="no") if set(shown(request)) == {"a", "bb"} else by_length(request)

    scorer, _ = pairwise(reply)

    scores = score_responses(*tables(p=["a", "bb", "ccc"]), CONFIG, scorer=scorer, recorder=recorder).rows

    # ccc: (3/4 + 3/5) / 2
    assert scores["score"].to_list() == [None, None, pytest.approx(0.675)]
    assert scores["reason"].to_list() == ["no", "no", None]


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_score_that_is_not_finite_is_null_with_a_reason(recorder, score):
    scorer = ScriptedModel(lambda request: CallResult(values=(score,)))

    (row,) = score_responses(*tables(p=["a"]), CONFIG, scorer=scorer, recorder=recorder).rows.to_dicts()

    assert (row["score"], row["reason"]) == (None, f"the score is {score}")


def test_a_scorer_without_a_rubric_reads_the_conversation_as_it_is(recorder):
    scorer = ScriptedModel(lambda request: CallResult(values=(1.0,)))

    score_responses(*tables(p=["a"]), CONFIG, scorer=scorer, recorder=recorder)

    assert scorer.asked[0].messages == [*user("Prompt p"), {"role": "assistant", "content": "a"}]


def test_a_judge_scores_by_the_rubric_through_its_endpoint(recorder, endpoint, tmp_path):
    rubric = tmp_path / "rubric.md"
    rubric.write_text("Longer is better.")

    def reply(body):
        text = body["messages"][0]["content"]
        if "Longer is better." not in text:
            return 400, {"error": "no rubric"}
        return 200, completion(json.dumps({"reason": "r", "score": 9 if "long" in text else 2}))

    server = endpoint(reply)
    scorer = resolve_scorer(f"judge:{server.url}#m", tmp_path, EndpointConfig(), str(rubric))

    scores = score_responses(*tables(p=["a long one", "short"]), CONFIG, scorer=scorer, recorder=recorder).rows

    assert scores["score"].to_list() == [9.0, 2.0]
    assert server.bodies[0]["response_format"]["json_schema"]["schema"]["required"] == ["reason", "score"]


def test_a_pairwise_judge_compares_through_its_endpoint(recorder, endpoint, tmp_path, make_pairs):
    # It leans to A: 0.9 for A if A is the good one, else 0.6. The mean is (0.9 + 1 - 0.6) / 2.
    def reply(body):
        good_is_first = re.search(r"<response-A-\w+>\ngood", body["messages"][0]["content"])
        p = 0.9 if good_is_first else 0.6
        sent = completion("A")
        top = [{"token": "A", "logprob": math.log(p)}, {"token": "B", "logprob": math.log(1 - p)}]
        sent["choices"][0]["logprobs"] = {"content": [{"token": "A", "logprob": 0.0, "top_logprobs": top}]}
        return 200, sent

    server = endpoint(reply)
    scorer = resolve_scorer(f"judge-pairs:{server.url}#m", tmp_path, EndpointConfig())

    rows = score_pairs(make_pairs(chosen=["good"], rejected=["bad"]), CONFIG, scorer=scorer, recorder=recorder).rows

    assert rows["score_chosen"][0] == pytest.approx(0.65)
    assert (recorder.tally.calls, len(server.bodies)) == (2, 2)
