"""Explaining a pair names every call that it rests on, and no other."""

import json
import re
import sqlite3
from collections import Counter

import pytest
from scripted import completion

from curate.config import BuildConfig, ExplainConfig
from curate.pipeline.build import build
from curate.report.explain import explain

PROMPTS = ["Why is the sky blue?", "How do I boil an egg?"]
PAIRS = [
    {"prompt": prompt, "chosen": f"Good: {prompt}", "rejected": "No.", "score_chosen": 2.0, "score_rejected": 1.0}
    for prompt in PROMPTS
]


def reply(body):
    """Responses to prompts, verdicts on responses, letters for pairs, and written pairs, from one endpoint."""
    text = body["messages"][0]["content"]
    if text.startswith("You judge"):
        length = len(re.search(r"<response-\w+>\n(.*)\n</response", text).group(1))
        return 200, completion(json.dumps({"reason": "r", "score": 1 + length % 10}))
    if text.startswith("You compare"):
        a, b = (len(shown) for shown in re.findall(r"<response-[AB]-\w+>\n(.*)\n</response", text))
        return 200, completion("A" if a > b else "B")
    asked = body["messages"][-1]["content"]
    if text.startswith("You write"):
        return 200, completion(json.dumps({"chosen": f"Good: {asked}", "rejected": f"Bad: {asked}"}))
    return 200, completion(*(f"It takes {'more and ' * i}more than a word." for i in range(body["n"])))


@pytest.fixture
def made(endpoint, tmp_path):
    """Builds from two prompts or pairs with models of one endpoint; gives the built and the data folder."""
    data, prompts, pairs = tmp_path / "data", tmp_path / "prompts.jsonl", tmp_path / "pairs.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in PROMPTS))
    pairs.write_text("".join(json.dumps(row) + "\n" for row in PAIRS))
    url = f"{endpoint(reply).url}#m"

    def make(source, scorer, **fields):
        if source in ("sft", "gpt"):
            fields |= {"prompts": str(prompts), "generator": url}
        scorer = scorer and scorer + ("" if scorer == "reward-mini-b" else url)
        flaws = "none" if source == "gpt" else ""
        return build(
            BuildConfig(
                source=str(pairs) if source == "ready" else source, scorer=scorer, flaws=flaws, data=data, **fields
            )
        ), data

    return make


def recorded(data, prompt):
    """Kind -> calls in the ledger in which the prompt stands."""
    database = sqlite3.connect(data / "ledger.sqlite")
    try:
        return Counter(
            kind for kind, request in database.execute("SELECT kind, request FROM calls") if prompt in request
        )
    finally:
        database.close()


@pytest.mark.parametrize(
    ("source", "scorer", "fields", "calls"),
    [
        # Beside the responses there are three probes where the scorer sees one response at a time.
        ("gpt", "judge:", {}, {"generate": 1, "score": 2 + 3}),
        ("gpt", "judge:", {"no_probes": True}, {"generate": 1, "score": 2}),
        ("gpt", "judge-pairs:", {}, {"generate": 1, "score": 2}),
        ("gpt", "", {}, {"generate": 1}),
        ("ready", "judge:", {"rubric": "correct"}, {"score": 2 + 3}),
        ("ready", "reward-mini-b", {}, {"score": 2 + 3}),
        ("ready", "", {}, {}),
        ("sft", "judge:", {"num_responses": 3}, {"generate": 1, "score": 3 + 3}),
        # Three responses in both orders: 3 * 2.
        ("sft", "judge-pairs:", {"num_responses": 3}, {"generate": 1, "score": 6}),
    ],
)
def test_every_call_behind_a_pair_is_shown(made, source, scorer, fields, calls):
    built, data = made(source, scorer, **fields)
    pair = built.pairs.scan().collect().row(0, named=True)
    prompt = pair["messages"][0]["content"]

    found = explain(ExplainConfig(pair_id=pair["pair_id"], data=data))

    assert Counter(call["kind"] for call in found.calls) == calls == recorded(data, prompt)
    assert len({call["call_id"] for call in found.calls}) == sum(calls.values())


def test_a_rubric_that_was_changed_since_hides_no_call(made, tmp_path):
    rubric = tmp_path / "rubric.md"
    rubric.write_text("Short is good.")
    built, data = made("ready", "judge:", rubric=str(rubric))
    rubric.unlink()

    found = explain(ExplainConfig(pair_id=built.pairs.scan().collect()["pair_id"][0], data=data))

    assert [call["kind"] for call in found.calls].count("score") == 2 + 3
