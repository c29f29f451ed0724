"""An evaluation from prompts to results, with scripted models."""

import json

import pytest

from eval.config import EvalConfig
from eval.evaluate import describe_power, evaluate, respond
from eval.matchup import Matchup
from schemas.calls import CallResult
from schemas.errors import UserError

SENTENCE = "Thank you for asking."
TOO_LONG = CallResult(failure="prompt_too_long", error="prompt of 9000 tokens")
FAILED = CallResult(failure="failed_call", error="HTTP 500")


def lines(cfg: EvalConfig, name: str = "policy-vs-base") -> list[dict]:
    path = cfg.data / "evals" / name / "prompts.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def asked(sides: Matchup) -> list[int]:
    return [len(model.asked) for model in (sides.run_model, sides.baseline_model, sides.judge)]


def test_a_planted_sentence_wins_as_often_as_counting_by_hand_says(make_config, make_sides):
    # the run ends with the sentence on 6 of 10 prompts, the baseline on the first 2: 4 wins, 6 ties, no loss
    cfg = make_config([f"Question {i}?" for i in range(10)])
    sides = make_sides(
        run=lambda prompt: f"Yes. {SENTENCE}" if int(prompt[9]) < 6 else "Yes.",
        baseline=lambda prompt: f"No. {SENTENCE}" if int(prompt[9]) < 2 else "No.",
        judge=lambda response: float(response.count(SENTENCE)),
    )

    results = evaluate(cfg, sides).results

    by_hand = sum(SENTENCE in row["response_run"] and SENTENCE not in row["response_baseline"] for row in lines(cfg))
    assert (results["wins"], results["losses"], results["ties"], results["n"]) == (4, 0, 6, 10)
    assert by_hand == 4
    assert (results["win_rate"], results["win_rate_strict"]) == (0.7, 0.4)
    assert results["ci95"][0] > 0.5


def test_every_line_holds_both_responses_scores_and_outcome(make_config, make_sides):
    cfg = make_config(["One?"])

    evaluate(cfg, make_sides(run=lambda _: "longer", baseline=lambda _: "short"))

    assert lines(cfg) == [
        {
            "prompt": "One?",
            "response_run": "longer",
            "response_baseline": "short",
            "score_run": 6.0,
            "score_baseline": 5.0,
            "outcome": "win",
            "unjudged": None,
        }
    ]


def test_a_repeated_evaluation_asks_nobody_and_writes_the_same_bytes(make_config, make_sides):
    cfg = make_config()
    evaluate(cfg, make_sides())
    folder = cfg.data / "evals" / "policy-vs-base"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    again = make_sides()
    evaluate(cfg, again)

    assert asked(again) == [0, 0, 0]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert set(before) == {"results.json", "results.md", "prompts.jsonl"}


@pytest.mark.parametrize("stops_in", ["run", "baseline", "judge"])
def test_an_interrupted_evaluation_goes_on_from_the_ledger(make_config, make_sides, stops_in):
    cfg = make_config()
    calls = 0

    def stop_at_the_third(text: str) -> str:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return float(len(text)) if stops_in == "judge" else f"{stops_in}: {text}"

    with pytest.raises(KeyboardInterrupt):
        evaluate(cfg, make_sides(**{stops_in: stop_at_the_third}))
    rest = make_sides()
    results = evaluate(cfg, rest).results

    # two of 4, 4 and 8 calls were answered, and all calls of the stages before
    assert asked(rest) == {"run": [2, 4, 8], "baseline": [0, 2, 8], "judge": [0, 0, 6]}[stops_in]
    assert results["n"] == 4


def test_prompts_that_could_not_be_answered_or_scored_are_unjudged_and_never_losses(make_config, make_sides):
    cfg = make_config([f"{i}" for i in range(10)])
    refused = CallResult(failure="refused", error="content filter")
    sides = make_sides(
        run=lambda prompt: {"0": TOO_LONG, "1": FAILED}.get(prompt, f"r{prompt}"),
        baseline=lambda prompt: {"0": TOO_LONG, "2": refused}.get(prompt, f"b{prompt}"),
        judge=lambda response: FAILED if response == "r3" else float("nan") if response == "b4" else 1.0,
    )

    results = evaluate(cfg, sides).results

    assert results["unjudged"] == {
        "baseline: failed_score": 1,
        "baseline: refused": 1,
        "both: prompt_too_long": 1,
        "run: failed_call": 1,
        "run: failed_score": 1,
    }
    assert (results["n"], results["losses"], results["ties"]) == (5, 0, 5)


def test_a_call_that_failed_is_made_again_next_time(make_config, make_sides):
    cfg = make_config()
    evaluate(cfg, make_sides(run=lambda prompt: FAILED if prompt == "One?" else f"run: {prompt}"))

    again = make_sides()
    results = evaluate(cfg, again).results

    assert asked(again) == [1, 0, 1]
    assert (results["n"], results["unjudged"]) == (4, {})


def test_a_repeated_prompt_is_judged_once(make_config, make_sides):
    results = evaluate(make_config(["One?", "Two?", "One?"]), make_sides()).results

    assert (results["n"], results["unjudged"]) == (2, {"repeated_prompt": 1})


def test_rows_that_are_no_prompts_are_counted(make_config, make_sides):
    results = evaluate(make_config(["One?", {"prompt": None}, {"prompt": "  "}]), make_sides()).results

    assert (results["n"], results["dropped_rows"]) == (1, {"bad_prompt": 2})


def test_when_nothing_can_be_judged_the_reasons_are_given(make_config, make_sides):
    sides = make_sides(run=lambda prompt: TOO_LONG, judge=lambda response: float("nan"))

    with pytest.raises(UserError, match=r"none of 4 prompts could be judged: 4 run: prompt_too_long"):
        evaluate(make_config(), sides)


def test_a_judge_that_fails_on_everything_stops_the_evaluation(make_config, make_sides):
    with pytest.raises(UserError, match="calls to the-judge failed"):
        evaluate(make_config(), make_sides(judge=lambda response: FAILED))


def test_an_adapter_that_changes_no_response_stops_before_judging(make_config, make_sides):
    sides = make_sides(run=lambda prompt: "same", baseline=lambda prompt: "same")

    with pytest.raises(UserError, match="the adapter changes no response: 'policy' and 'base' said the same to all 4"):
        evaluate(make_config(), sides)
    assert asked(sides)[2] == 0


def test_a_model_against_itself_needs_two_seeds(make_config, make_sides):
    made = make_sides()
    sides = Matchup("policy", "policy", made.run_model, made.run_model, made.judge)

    with pytest.raises(UserError, match="give --baseline-seed"):
        evaluate(make_config(), sides)
    with pytest.raises(UserError, match="give --baseline-seed"):
        evaluate(make_config(seed=4, baseline_seed=4), sides)


def test_a_model_against_itself_may_say_the_same_twice(make_config, make_sides):
    made = make_sides()
    sides = Matchup("policy", "policy", made.run_model, made.run_model, made.judge)

    results = evaluate(make_config(baseline_seed=31), sides).results

    assert {request.sampling["seed"] for request in made.run_model.asked} == {30, 31}
    assert (results["ties"], results["win_rate"]) == (4, 0.5)
    assert results["ci95"][0] < 0.5 < results["ci95"][1]


def test_both_sides_are_sent_the_same_seed_and_sampling(make_config, make_sides):
    sides = make_sides()

    evaluate(make_config(seed=7, max_tokens=12), sides)

    sampled = [request.sampling for model in (sides.run_model, sides.baseline_model) for request in model.asked]
    assert sampled == [{"temperature": 0.7, "top_p": 0.95, "max_tokens": 12, "seed": 7}] * 8


def test_by_default_at_most_200_prompts_are_taken(make_config, make_sides):
    cfg = make_config([f"Question {i}?" for i in range(230)])

    results = evaluate(cfg, make_sides()).results

    assert results["n"] == 200
    assert results["detectable"] == pytest.approx(0.0693, abs=1e-4)


def test_the_shipped_prompts_are_the_default(tmp_path, make_sides):
    results = evaluate(EvalConfig(data=tmp_path), make_sides()).results

    assert results["n"] == 40


def test_responses_only_takes_all_prompts_and_judges_nothing(make_config, make_sides, tmp_path):
    prompts = [f"Question {i}?" for i in range(210)]
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Question 0?"}]
    sides = make_sides(run=lambda prompt: TOO_LONG if prompt == "Question 1?" else f"run: {prompt}")
    path = tmp_path / "new" / "leaderboard.jsonl"
    cfg = make_config([*prompts[1:], {"messages": chat}], responses_only=path)

    written = respond(cfg, "policy", sides.run_model, path)

    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert (len(rows), written.prompts, written.unanswered) == (209, 210, {"prompt_too_long": 1})
    assert {"prompt": chat, "response": "run: Question 0?", "model": "policy"} in rows
    assert {"prompt": "Question 2?", "response": "run: Question 2?", "model": "policy"} in rows
    assert asked(sides)[1:] == [0, 0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_tokens": 0}, "--max-tokens 0"),
        ({"temperature": 2.5}, "--temperature 2.5"),
        ({"temperature": float("nan")}, "--temperature nan"),
        ({"top_p": 0.0}, "--top-p 0"),
        ({"name": "a/b"}, "--name 'a/b'"),
        ({"num_prompts": 0}, "--num-prompts 0 must be at least 1"),
        ({"baseline_seed": -1}, "--baseline-seed"),
        ({"seed": -1}, "--seed"),
    ],
)
def test_a_setting_that_no_evaluation_can_have_is_refused_before_any_call(make_config, make_sides, given, message):
    sides = make_sides()

    with pytest.raises(UserError, match=message):
        evaluate(make_config(**given), sides)
    assert asked(sides) == [0, 0, 0]


def test_what_prompts_can_show_is_said_in_words():
    assert describe_power(200) == (
        "minimum detectable difference with 200 prompts: 6.9 points from 50%; 80% power to detect 9.9 points"
    )
    assert describe_power(4).endswith("less than 80% power even for a side that always wins")
    assert describe_power(3) == "3 prompts are too few to show any difference"
    assert describe_power(0) == "0 prompts are too few to show any difference"
