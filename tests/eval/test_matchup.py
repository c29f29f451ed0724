"""Names become two sides and a judge, and a judge that selected the training pairs is told of."""

import pytest
from mixes import publish
from scripted import ScriptedModel

from eval.matchup import Matchup, engine_model, resolve_matchup, resolve_run, selection_notes
from schemas.errors import UserError

SERVER = "http://127.0.0.1:8000/v1"


@pytest.fixture
def write_mix(tmp_path):
    def write(name, scorers):
        pairs = [(f"Why {i}?", "So.", "No.") for i in range(len(scorers))]
        publish(tmp_path / "data", name, pairs, scorers=scorers)

    return write


def sides(run="dpo-1", baseline="smollm2"):
    models = [ScriptedModel(lambda request: None) for _ in range(3)]
    models[2].model = "reward-mini"
    return Matchup(run, baseline, *models)


def test_the_newest_run_of_any_kind_is_the_default(make_config, make_run):
    make_run("older", "2026-11-01T00:00:00Z", kind="dpo")
    make_run("newer", "2026-11-02T00:00:00Z", kind="sft")

    name, run = resolve_run(make_config())

    assert (name, run.base) == ("newer", "smollm2")


def test_without_a_run_it_is_said_how_to_make_one(make_config):
    with pytest.raises(UserError, match=r"no run in .*runs yet; make one with: train sft"):
        resolve_run(make_config())


def test_an_unknown_run_is_met_with_the_nearest(make_config, make_run):
    make_run("dpo-1")

    with pytest.raises(UserError, match=r"no run 'dpo-l' in .*did you mean 'dpo-1'"):
        resolve_run(make_config(run="dpo-l"))


def test_a_model_that_is_no_run_may_be_evaluated(make_config):
    assert resolve_run(make_config(run="hf:owner/name")) == ("hf:owner/name", None)


def test_a_judge_of_pairs_is_refused_with_one_of_responses(make_config):
    cfg = make_config(run="smollm2", baseline="smollm2", judge="judge-pairs:smollm2")

    with pytest.raises(UserError, match="scores each by itself; name judge:smollm2"):
        resolve_matchup(cfg)


def test_a_run_on_a_server_is_remote_and_has_its_price(make_config, make_run):
    make_run("dpo-1")

    model = engine_model("dpo-1", make_config(engine=SERVER))

    assert (model.is_remote, model.price_name) == (True, f"{SERVER}#dpo-1")


def test_on_a_server_models_go_by_their_own_names(make_config, make_run):
    make_run("dpo-1")
    cfg = make_config(engine=SERVER)

    names = [engine_model(name, cfg).model for name in ("dpo-1", "smollm2", "hf:Qwen/Qwen2.5-0.5B")]

    assert names == [f"{SERVER}#{name}" for name in ("dpo-1", "smollm2", "Qwen/Qwen2.5-0.5B")]


def test_a_model_with_an_address_stays_there(make_config):
    cfg = make_config(engine=SERVER)

    assert engine_model("http://127.0.0.1:9/v1#other", cfg).model == "http://127.0.0.1:9/v1#other"


def test_a_run_trained_again_under_its_name_is_another_model_on_the_server(make_config, make_run):
    make_run("dpo-1")
    cfg = make_config(engine=SERVER)
    before = engine_model("dpo-1", cfg).digest

    make_run("dpo-1", "2026-11-02T00:00:00Z")

    assert engine_model("dpo-1", cfg).digest != before


@pytest.mark.parametrize("engine", ["vllm", "ftp://user:secret@host/v1", "http://user:secret@host/v1#model"])
def test_an_engine_that_is_no_address_is_refused_without_repeating_it(make_config, engine):
    with pytest.raises(UserError, match="--engine is neither hf nor the address") as caught:
        engine_model("smollm2", make_config(engine=engine))
    assert "secret" not in str(caught.value)


def test_a_judge_that_selected_the_training_pairs_is_told_of(make_run, write_mix, tmp_path):
    make_run("dpo-1", mix="v1")
    write_mix("v1", [None, "reward-mini", "reward-mini"])

    (found,) = selection_notes(sides(), tmp_path / "data")

    assert found.startswith("careful: judge reward-mini also selected training pairs of 'dpo-1' (mix v1)")


def test_a_judge_is_known_by_its_name_wherever_it_answers(make_run, write_mix, tmp_path):
    make_run("dpo-1", mix="v1")
    write_mix("v1", ["judge:owner/model"])
    judged = sides()
    judged.judge.model = "judge:http://10.0.0.7:8000/v1#owner/model"

    assert len(selection_notes(judged, tmp_path / "data")) == 1


@pytest.mark.parametrize("scorers", [[], [None, None], ["reward-mini-b"]])
def test_an_impartial_judge_is_not_told_of(make_run, write_mix, tmp_path, scorers):
    make_run("dpo-1", mix="v1")
    make_run("no-mix")
    write_mix("v1", scorers)

    assert selection_notes(sides(), tmp_path / "data") == []
    assert selection_notes(sides("no-mix"), tmp_path / "data") == []


def test_a_baseline_that_is_a_run_is_looked_at_too(make_run, write_mix, tmp_path):
    make_run("dpo-1", mix="v1")
    make_run("sft-1", mix="v2")
    write_mix("v1", [None])
    write_mix("v2", ["reward-mini"])

    (found,) = selection_notes(sides(baseline="sft-1"), tmp_path / "data")

    assert "'sft-1' (mix v2)" in found


def test_the_run_that_training_started_from_is_looked_at_too(make_run, write_mix, tmp_path):
    make_run("sft-1", mix="v1", kind="sft")
    make_run("dpo-1", mix="v2", policy="sft-1")
    write_mix("v1", ["reward-mini"])
    write_mix("v2", ["reward-mini-b"])

    (found,) = selection_notes(sides(), tmp_path / "data")

    assert "'dpo-1' (mix v1)" in found


def test_runs_that_started_from_each_other_are_looked_at_once(make_run, write_mix, tmp_path):
    make_run("sft-1", mix="v1", policy="dpo-1")
    make_run("dpo-1", mix="v1", policy="sft-1")
    write_mix("v1", ["reward-mini"])

    assert len(selection_notes(sides(), tmp_path / "data")) == 1


def test_a_mix_that_is_gone_is_told_of(make_run, tmp_path):
    make_run("dpo-1", mix="v1")

    (found,) = selection_notes(sides(), tmp_path / "data")

    assert "is unknown" in found
