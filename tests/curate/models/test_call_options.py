"""Options of calls: sent as they are given, recorded with the calls, refused in one sentence where they do nothing."""

import json

import pytest
from garden import PAIRS, write_rows
from scripted import completion

from curate.cli.main import main
from curate.config import BuildConfig, ExplainConfig, JudgeConfig
from curate.models.call_options import generator_options, judge_options
from curate.models.resolve import resolve_generator, resolve_scorer
from curate.pipeline.build import build
from curate.pipeline.validate import validate_build
from curate.report.explain import explain
from eval.config import EvalConfig
from eval.matchup import resolve_matchup
from schemas.errors import UserError

SKIP = ("off_topic", "semantic_duplicate_prompt", "semantic_duplicate_pair")
PROMPTS = [{"prompt": row["prompt"]} for row in PAIRS[:4]]


def texts_of(n: int) -> list[str]:
    return [f"{row['chosen']} There are {i} more things to say about it." for i, row in enumerate(PAIRS[:n])]


def asked_with(**fields):
    return BuildConfig(source="sft", generator="openai:m", **fields)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "must be a JSON object"),
        ("top_k=20", "must be a JSON object"),
        ("[1]", "must be a JSON object"),
        ("3", "must be a JSON object"),
        ("null", "must be a JSON object"),
        ("{}", "at least one key"),
        ('{"top_p": NaN}', "JSON has no NaN"),
        ('{"min_p": -Infinity}', "JSON has no -Infinity"),
        ("[" * 100_000, "must be a JSON object"),
        ('{"model": "other"}', "may not hold 'model'"),
        ('{"messages": []}', "may not hold 'messages'"),
        ('{"n": 2}', "may not hold 'n'"),
        ('{"stream": true}', "may not hold 'stream'"),
        ('{"max_tokens": 9}', "may not hold 'max_tokens': use --max-tokens"),
        ('{"reasoning_effort": "low"}', "use --reasoning-effort"),
    ],
)
def test_an_extra_body_that_cannot_be_sent_is_refused_in_one_sentence(text, problem):
    with pytest.raises(UserError, match="--extra-body ") as generator:
        validate_build(asked_with(extra_body=text))
    with pytest.raises(UserError, match="--judge-extra-body "):
        judge_options(JudgeConfig(judge_extra_body=text))

    assert problem in str(generator.value)
    assert len(str(generator.value)) < 300


def test_unset_options_leave_no_trace():
    assert generator_options(asked_with()) == judge_options(JudgeConfig()) == {}


def test_a_judge_that_is_told_how_to_reason_has_room_for_it_and_a_given_limit_wins():
    assert judge_options(JudgeConfig(judge_reasoning_effort="low"))["max_tokens"] == 4096
    assert judge_options(JudgeConfig(judge_reasoning_effort="low", judge_max_tokens=50))["max_tokens"] == 50
    assert judge_options(JudgeConfig(judge_max_tokens=50)) == {"max_tokens": 50}


@pytest.mark.parametrize("prefix", ["smollm2", "hf:"])
def test_options_of_a_generator_in_this_process_are_refused(tmp_path, prefix):
    model = f"{prefix}{tmp_path}" if prefix == "hf:" else prefix
    (tmp_path / "config.json").write_text("{}")

    with pytest.raises(UserError, match="--reasoning-effort and --extra-body: for models behind an endpoint"):
        resolve_generator(model, tmp_path, options={"reasoning_effort": "low", "extra_body": {"a": 1}})


def test_a_judge_in_this_process_takes_a_limit_alone(tmp_path):
    assert resolve_scorer("judge:smollm2", tmp_path, options={"max_tokens": 900}).options == {"max_tokens": 900}
    with pytest.raises(UserError, match="judge-reasoning-effort: for models behind an endpoint, and smollm2"):
        effort = judge_options(JudgeConfig(judge_reasoning_effort="low"))
        resolve_scorer("judge:smollm2", tmp_path, options=effort)
    with pytest.raises(UserError, match="--judge-max-tokens: for models behind an endpoint"):
        resolve_scorer("judge-pairs:smollm2", tmp_path, options={"max_tokens": 900})


@pytest.mark.parametrize("fields", [{"judge_max_tokens": 9}, {"judge_extra_body": '{"a": 1}'}])
def test_options_of_a_judge_where_none_judges_are_refused(tmp_path, fields):
    with pytest.raises(UserError, match="for a judge, and none is named"):
        validate_build(asked_with(scorer="reward-mini", **fields))
    with pytest.raises(UserError, match="for a judge, and none is named"):
        resolve_matchup(EvalConfig(run="smollm2", baseline="smollm2", data=tmp_path, **fields))


def test_options_of_a_generator_where_none_writes_are_refused():
    with pytest.raises(UserError, match="--reasoning-effort is for the model that writes responses"):
        validate_build(BuildConfig(source="samples", reasoning_effort="low"))


def test_other_options_are_another_scorer_and_none_the_same_as_before(tmp_path):
    def digest(**options):
        return resolve_scorer("judge:openai:m", tmp_path, options=options).digest

    assert digest() == resolve_scorer("judge:openai:m", tmp_path).digest
    assert len({digest(), digest(max_tokens=500), digest(reasoning_effort="low")}) == 3


def test_options_reach_generator_and_judge_and_are_part_of_their_calls(endpoint, tmp_path):
    def reply(body):
        if body["messages"][-1]["content"].startswith("You judge"):
            return 200, completion(json.dumps({"reason": "r", "score": 1 + len(body["messages"][-1]["content"]) % 9}))
        return 200, completion(*texts_of(body["n"]))

    server = endpoint(reply)
    prompts = write_rows(tmp_path / "prompts.jsonl", PROMPTS)
    plain = {"source": "sft", "prompts": prompts, "generator": f"{server.url}#g", "scorer": f"judge:{server.url}#j"}
    plain |= {"no_probes": True, "skip_rule": SKIP, "data": tmp_path / "data"}
    generator = {"reasoning_effort": "low", "extra_body": '{"top_k": 20, "provider": {"sort": "price"}}'}
    judge = {"judge_reasoning_effort": "high", "judge_extra_body": '{"seed": 7}'}

    first = build(BuildConfig(**plain))
    bodies = list(server.bodies)
    server.bodies.clear()
    second = build(BuildConfig(**plain, **generator, **judge))
    sent = [body for body in server.bodies if body["model"] == "g"], [b for b in server.bodies if b["model"] == "j"]
    server.bodies.clear()
    third = build(BuildConfig(**plain))

    assert not any({"reasoning_effort", "top_k", "seed"} & body.keys() for body in bodies)
    assert all((b["reasoning_effort"], b["top_k"], b["provider"]) == ("low", 20, {"sort": "price"}) for b in sent[0])
    assert all((b["reasoning_effort"], b["seed"], b["max_tokens"]) == ("high", 7, 4096) for b in sent[1])
    assert (len(sent[0]), len(sent[1]), first.calls, second.calls) == (4, 16, 20, 20)
    assert (third.calls, server.bodies) == (0, [])
    shown = explain(ExplainConfig(pair_id=second.pairs.scan().collect()["pair_id"][0], data=tmp_path / "data"))
    assert shown.calls


@pytest.mark.parametrize("body", [["--reasoning-effort", "lots"], ["--extra-body", '{"thinking": {"kind": "on"}}']])
def test_an_option_that_the_endpoint_refuses_stops_the_build_in_one_sentence(endpoint, tmp_path, capsys, body):
    name = "reasoning_effort" if "lots" in body else "thinking"
    server = endpoint(lambda sent: (400, {"error": {"message": f"Invalid value for '{name}'."}}))
    prompts = write_rows(tmp_path / "prompts.jsonl", PROMPTS)
    words = ["--source", "sft", "--prompts", prompts, "--generator", f"{server.url}#m", "--data", str(tmp_path / "d")]

    code = main(["build", *words, *body])

    assert code == 2
    assert f"the endpoint refuses '{name}', which you add to each call" in capsys.readouterr().err
