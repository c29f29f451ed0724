import json
import random
import re

import pytest
from scripted import ScriptedModel, completion, user

from curate.audit.noise import Noise, measure_noise, read_noise, save_noise
from curate.cli.main import main
from curate.config import BuildConfig
from curate.models.resolve import LazyModel
from curate.pipeline.build import build
from curate.score.score import ScoreConfig, score_responses
from curate.store.store import make_frame
from curate.store.workspace import Workspace
from schemas.calls import CallResult
from schemas.errors import UserError
from schemas.tables import Candidate, Prompt


class Batched(ScriptedModel):
    """Remembers which requests it was given at once."""

    def __init__(self, reply):
        super().__init__(reply)
        self.batches = []

    def answer(self, requests, needed):
        self.batches.append([requests[i] for i in sorted(needed)])
        yield from super().answer(requests, needed)


def text(request):
    return request.messages[-1]["content"]


def equal_candidates(num_prompts, n):
    """Prompts and n candidates of each."""
    prompts = [
        {"prompt_id": f"{i}", "place": i, "messages": user(f"Prompt {i}"), "prompt_group": f"{i}"}
        for i in range(num_prompts)
    ]
    candidates = [
        {
            "candidate_id": f"{i}-{j}",
            "prompt_id": f"{i}",
            "sample_index": j,
            "response": f"Response {j}",
            "finish_reason": "stop",
            "call_id": "",
        }
        for i in range(num_prompts)
        for j in range(n)
    ]
    return make_frame(Prompt, prompts), make_frame(Candidate, candidates)


def test_a_scorer_that_repeats_itself_has_no_noise(recorder):
    measured = measure_noise(ScriptedModel(lambda request: CallResult(values=(len(text(request)) / 7,))), recorder, 60)

    assert (measured.rows, measured.failed, measured.noise, measured.max) == (120, 0, 0.0, 0.0)


def test_the_noise_is_the_95th_percentile_of_the_differences(recorder):
    # The second scores are 0.01, 0.02 ... 1.20 away from the first, some above and some below.
    again = iter(range(1, 121))

    def reply(request):
        step = next(again) if request.first_sample else 0
        return CallResult(values=(3 + step * (-1) ** step / 100,))

    measured = measure_noise(ScriptedModel(reply), recorder, 60)

    # Of 120 sorted differences the 95th percentile lies at place 0.95 · 119 = 113.05, counted from 0; the one above
    # it is the 115th, 1.15.
    assert measured.noise == pytest.approx(1.15)
    assert measured.max == pytest.approx(1.2)


def test_every_response_is_scored_again_among_others_than_before(recorder):
    model = Batched(lambda request: CallResult(values=(1.0,)))

    measure_noise(model, recorder, 60)

    first, *second = model.batches
    assert len(first) == 120
    assert {len(batch) for batch in second} <= {7, 1} and sum(map(len, second)) == 120
    assert sorted(text(request) for batch in second for request in batch) == sorted(map(text, first))
    assert [text(request) for request in second[0]] != [text(request) for request in first[:7]]


def test_measuring_again_asks_nothing_again(recorder):
    model = ScriptedModel(lambda request: CallResult(values=(float(len(text(request)) + request.first_sample),)))

    first = measure_noise(model, recorder, 5)
    second = measure_noise(model, recorder, 5)

    assert first == second
    assert len(model.asked) == 20


def test_responses_with_one_score_do_not_count_and_more_than_half_of_them_are_an_error(recorder):
    def scorer(name, failing):
        again = iter(range(20))

        def reply(request):
            if request.first_sample and next(again) < failing:
                return CallResult(failure="failed_call", error="no")
            return CallResult(values=(1.0 + request.first_sample,))

        model = ScriptedModel(reply)
        model.model = name
        return model

    recorder.max_failed_share = 1.0

    measured = measure_noise(scorer("half", 10), recorder, 10)

    assert (measured.rows, measured.failed, measured.noise) == (20, 10, 1.0)
    with pytest.raises(UserError, match="no two scores for 11 of 20"):
        measure_noise(scorer("more", 11), recorder, 10)


def test_of_a_pairwise_scorer_that_is_asked_in_both_orders_the_noise_is_that_of_p(recorder):
    # Every answer is 0.5 the first time. The second time it is 0.6 where the chosen response is shown as A, so p is
    # 0.5 + (0.6 - 0.5) / 2 = 0.55: 0.05 more than before.
    firsts = []

    def reply(request):
        if not request.first_sample:
            firsts.append(text(request))
            return CallResult(values=(0.5,))
        return CallResult(values=(0.6 if text(request) in firsts[0::2] else 0.5,))

    judge = LazyModel("judge-pairs:x", "weights", lambda: ScriptedModel(reply), form="pair", rubric="Be kind.")

    measured = measure_noise(judge, recorder, 10)

    assert (len(firsts), measured.rows, measured.failed) == (20, 10, 0)
    assert (measured.noise, measured.is_pairwise) == (pytest.approx(0.05), True)


@pytest.mark.parametrize(
    ("is_pairwise", "candidates", "noise"),
    [
        (False, 2, 0.1),
        (False, 4, 0.1),
        # sqrt(n) / (n - 1): sqrt(2) / 1 and sqrt(4) / 3, which is 0.47 of it
        (True, 2, 0.1 * 2**0.5),
        (True, 4, 0.2 / 3),
    ],
)
def test_the_noise_of_a_margin_is_less_where_a_score_is_the_mean_of_several_comparisons(
    tmp_path, is_pairwise, candidates, noise
):
    save_noise(Workspace(tmp_path), Noise("judge:m", "weights", 120, 0, 0.1, 0.2, is_pairwise))

    assert read_noise(Workspace(tmp_path), "judge:m", "weights", candidates) == pytest.approx(noise)


@pytest.mark.parametrize("n", [2, 4])
def test_one_margin_in_twenty_of_equal_candidates_is_larger_than_the_noise(recorder, tmp_path, n):
    # Of answers that are s off, p is s / sqrt(2) off, and two p of one comparison are s apart: 95% of them 1.96 s.
    chance = random.Random(0)
    model = ScriptedModel(lambda request: CallResult(values=(0.5 + chance.gauss(0, 0.05),)))
    judge = LazyModel("judge-pairs:x", "weights", lambda: model, form="pair", rubric="Be kind.")
    save_noise(Workspace(tmp_path), Noise(judge.model, judge.digest, 500, 0, 1.96 * 0.05, 1.0, is_pairwise=True))
    prompts, candidates = equal_candidates(500, n)

    scores = score_responses(prompts, candidates, ScoreConfig("judge", "weights"), scorer=judge, recorder=recorder)

    found = scores.rows["score"].to_list()
    margins = [abs(found[i] - found[i + 1]) for i in range(0, len(found), n)]
    larger = sum(margin > read_noise(Workspace(tmp_path), judge.model, judge.digest, n) for margin in margins)
    # The standard deviation of 25 of 500 is 5.
    assert 10 <= larger <= 40


def test_noise_is_kept_by_name_and_weights_and_null_where_never_measured(tmp_path):
    save_noise(Workspace(tmp_path), Noise("nim:a/b", "weights", 120, 0, 0.25, 1.0))

    assert read_noise(Workspace(tmp_path), "nim:a/b", "weights") == 0.25
    assert read_noise(Workspace(tmp_path), "nim:a/b", "other weights") is None
    record = json.loads(Workspace(tmp_path).noise("nim:a/b", "weights").read_text())
    assert record.keys() == {
        "record_sha256",
        "format",
        "scorer",
        "digest",
        "rows",
        "failed",
        "noise",
        "max",
        "is_pairwise",
    }


def test_the_doctor_measures_a_scorer_and_a_build_takes_its_noise_for_the_size_of_a_tie(
    endpoint, tmp_path, monkeypatch, capsys
):
    # A score is half the length, and 1 more the second time; the margins of the pairs below are 1.5, 0.5 and 0.5.
    askings = {}

    def judge(body):
        said = body["messages"][-1]["content"]
        askings[said] = askings.get(said, -1) + 1
        return 200, completion(f"reward:{len(said) / 2 + askings[said]}")

    monkeypatch.setenv("NIM_BASE_URL", endpoint(judge).url)
    pairs = tmp_path / "pairs.jsonl"
    rows = [("Name a river.", "It is the Nile.", "It is the X.")]
    rows += [("Why do cats purr at night?", "They are at ease.", "They are in awe.")]
    rows += [("How is glass made?", "Sand is melted.", "Sand is baked.")]
    pairs.write_text(
        "".join(json.dumps(dict(zip(("prompt", "chosen", "rejected"), row, strict=True))) + "\n" for row in rows)
    )
    cfg = BuildConfig(source=str(pairs), scorer="nim:m", data=tmp_path / "data")

    before = build(cfg).summary()
    code = main(["doctor", "--scorer", "nim:m", "--num-pairs", "4", "--data", str(cfg.data), "--json"])
    printed = capsys.readouterr().out
    after = build(cfg).summary()

    assert code == 0
    check = next(check for check in json.loads(printed)["checks"] if check["name"] == "noise nim:m")
    assert "a margin of 1 or less is a tie" in check["found"] and "8 scored twice" in check["found"]
    assert (before["noise"], before["kept"]) == (None, 3)
    assert (after["noise"], after["kept"], after["dropped"]) == (1.0, 1, {"tie": 2})
    assert after["table"] != before["table"]


def test_a_scorer_that_fails_on_more_than_half_is_a_bad_check_and_keeps_nothing(
    endpoint, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("NIM_BASE_URL", endpoint(lambda body: (200, completion("I like it."))).url)

    code = main(["doctor", "--scorer", "nim:m", "--num-pairs", "4", "--data", str(tmp_path)])

    bad = [line for line in capsys.readouterr().out.splitlines() if line.startswith("BAD")]
    assert code == 1
    assert len(bad) == 1 and "no two scores for 8 of 8" in bad[0]
    assert not (tmp_path / "noise").exists()


def test_a_scorer_that_prefers_empty_responses_is_one_bad_line_and_its_figures_are_in_the_json(
    endpoint, tmp_path, monkeypatch, capsys
):
    def prefer_short(body):
        return 200, completion(f"reward:{-len(body['messages'][-1]['content'])}")

    monkeypatch.setenv("NIM_BASE_URL", endpoint(prefer_short).url)

    words = ["doctor", "--scorer", "nim:m", "--num-pairs", "8", "--data", str(tmp_path)]
    code = main(words)
    bad = [line for line in capsys.readouterr().out.splitlines() if line.startswith("BAD")]
    code_json = main([*words, "--json"])
    checks = json.loads(capsys.readouterr().out)["checks"]

    assert (code, code_json) == (1, 1)
    assert len(bad) == 1
    assert bad[0].split()[1] == "probes"
    assert "nim:m prefers an empty response to the chosen one in 8 of 8 prompts (100%, 68% to 100%)" in bad[0]
    check = next(check for check in checks if check["name"] == "probes")
    assert check["is_good"] is False
    assert {(one["probe"], one["over"]) for one in check["figures"]["probes"]} >= {
        ("echo", "rejected"),
        ("cut", "chosen"),
    }
    assert len(check["figures"]["probes"]) == 12


def test_a_scorer_that_prefers_empty_responses_never_chooses_one_and_its_pairs_are_flagged(endpoint, tmp_path):
    """Of each three responses one is empty and scores best."""

    def say(body):
        return 200, completion("", "A river is water on its way.", "A river is a long and wide stream of water.")

    def prefer_short(body):
        said = re.findall(r"A river[^<]*", body["messages"][-1]["content"])
        return 200, completion(json.dumps({"reason": "none", "score": 10 - min(9, len("".join(said)) // 5)}))

    writer, judge = endpoint(say), endpoint(prefer_short)
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text(json.dumps({"prompt": "What is a river?"}))
    cfg = BuildConfig(
        source="sft",
        prompts=str(prompts),
        num_responses=3,
        generator=f"{writer.url}#m",
        scorer=f"judge:{judge.url}#m",
        data=tmp_path / "data",
    )

    built = build(cfg)

    assert built.pairs.scan().select("chosen").collect()["chosen"].to_list() == ["A river is water on its way."]
    assert built.screened.scan().select("flags").collect()["flags"].to_list() == [["scorer_unreliable"]]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--scorer", "reward-mni"], "did you mean 'reward-mini'"),
        (["--num-pairs", "0"], "--num-pairs 0 must be at least 1"),
    ],
)
def test_what_the_doctor_cannot_measure_is_the_users_mistake(tmp_path, capsys, words, sentence):
    assert main(["doctor", *words, "--data", str(tmp_path)]) == 2
    assert sentence in capsys.readouterr().err
