import polars as pl
import pytest
from scripted import ScriptedModel, user

from curate.score.probes import PROBES, ProbesConfig, score_probes
from curate.screen.rules import unreliable_scores
from curate.store.store import make_frame
from schemas.calls import CallResult
from schemas.tables import Probed

CFG = ProbesConfig("scripted", "scripted-weights")


def said(request):
    return request.messages[-1]["content"]


def scores(by_text, otherwise=1.0):
    """A scorer with a score for some responses and one for all others."""
    return ScriptedModel(lambda request: CallResult(values=(by_text.get(said(request), otherwise),)))


def probed(rows):
    """Rows of `Probed` from (pair, probe, score)."""
    return make_frame(
        Probed,
        [
            {"pair_id": pair, "probe": probe, "score": score, "reason": None, "call_id": ""}
            for pair, probe, score in rows
        ],
    )


def measured(*rows):
    """(pair, score of the chosen, score of the rejected)."""
    return pl.DataFrame(
        [
            {
                "pair_id": pair,
                "score_chosen": chosen,
                "margin": None if None in (chosen, rejected) else chosen - rejected,
            }
            for pair, chosen, rejected in rows
        ],
        schema={"pair_id": pl.String, "score_chosen": pl.Float64, "margin": pl.Float64},
    )


def flagged(probes, pairs):
    return unreliable_scores(probes, pairs).filter("is_unreliable")["pair_id"].to_list()


def test_pairs_of_one_prompt_are_probed_once_and_share_the_scores(make_pairs, recorder):
    model = scores({"": 0.5, ".": -1.0, PROBES["refusal"]: 2.0})
    pairs = make_pairs(prompt=["Why?", "Why?", "How?"], chosen=["a", "b", "c"])

    found = score_probes(pairs, CFG, scorer=model, recorder=recorder)

    assert len(model.asked) == 6
    assert found.rows["pair_id"].to_list() == [pair for pair in pairs["pair_id"] for _ in range(3)]
    assert found.rows["score"].to_list() == [0.5, -1.0, 2.0] * 3
    assert found.rows["call_id"].n_unique() == 6
    assert found.dropped.is_empty()
    Probed.validate(found.rows)


def test_a_part_without_pairs_asks_nothing(make_pairs, recorder):
    model = scores({})

    found = score_probes(make_pairs(chosen=["a"]).clear(), CFG, scorer=model, recorder=recorder)

    assert (found.rows.height, model.asked) == (0, [])
    assert found.rows.schema == Probed.create_empty().schema


def test_the_whole_conversation_is_shown_and_the_probe_is_its_end(make_pairs, recorder):
    model = scores({})
    turns = [*user("Why?"), {"role": "assistant", "content": "Because."}, *user("Really?")]

    score_probes(make_pairs(messages=[turns]), CFG, scorer=model, recorder=recorder)

    assert [request.messages[:-1] for request in model.asked] == [turns] * 3
    assert [request.messages[-1]["role"] for request in model.asked] == ["assistant"] * 3
    assert [said(request) for request in model.asked] == ["", ".", "I cannot help with that."]


def test_a_scorer_that_refuses_every_probe_stops_nothing_and_costs_no_pair_anything(make_pairs, recorder):
    model = ScriptedModel(lambda request: CallResult(failure="failed_call", error="content must not be empty"))
    pairs = make_pairs(chosen=[f"Response {i}" for i in range(20)])

    found = score_probes(pairs, CFG, scorer=model, recorder=recorder)

    assert found.rows["score"].null_count() == 60
    assert set(found.rows["reason"]) == {"content must not be empty"}
    assert (recorder.max_failed_share, recorder.tally.failed_calls) == (0.5, 60)
    assert flagged(found.rows, measured(*((pair, 1.0, 0.0) for pair in pairs["pair_id"]))) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_probe_whose_score_is_no_number_is_null_with_a_reason(make_pairs, recorder, value):
    found = score_probes(make_pairs(chosen=["a"]), CFG, scorer=scores({"": value}), recorder=recorder)

    assert found.rows["score"].to_list() == [None, 1.0, 1.0]
    assert found.rows["reason"].to_list() == [f"the score is {value}", None, None]


def test_a_pair_is_unreliable_where_any_probe_scores_above_both_of_its_responses():
    probes = probed([(pair, "empty", -5.0) for pair in "abcd"] + [(pair, "refusal", 1.0) for pair in "abcd"])

    # above the chosen alone; above both; on the better one; above both, of which the rejected is the better
    pairs = measured(("a", 0.0, 1.5), ("b", 0.9, 0.0), ("c", 1.0, 0.0), ("d", 0.0, 0.9))

    assert unreliable_scores(probes, pairs).rows() == [("a", False), ("b", True), ("c", False), ("d", True)]


def test_a_rejected_score_that_equals_the_probe_is_not_under_it_though_it_is_had_back_from_the_margin():
    # 0.1 - (0.1 - 0.7) is a little less than 0.7.
    assert flagged(probed([("a", "empty", 0.7)]), measured(("a", 0.1, 0.7))) == []


def test_missing_scores_of_probes_and_of_pairs_flag_nothing():
    probes = probed(
        [("a", "empty", None), ("b", "empty", 9.0), ("c", "empty", None), ("c", "refusal", 9.0), ("d", "empty", 9)]
    )
    pairs = measured(("a", 0.0, 0.0), ("b", None, None), ("c", 0.0, -1.0), ("e", 0.0, 0.0))

    # b has no scores, d is not among the pairs, e was not probed
    assert flagged(probes, pairs) == ["c"]


def test_no_probes_at_all_give_no_rows():
    assert unreliable_scores(probed([]), measured(("a", 0.0, 0.0))).rows() == []


def test_a_scorer_that_likes_empty_responses_is_unreliable_for_every_pair(make_pairs, recorder):
    model = ScriptedModel(lambda request: CallResult(values=(-float(len(said(request))),)))
    pairs = make_pairs(
        chosen=["A real response.", "Another."], score_chosen=[-16.0, -8.0], score_rejected=[-30.0, -31.0]
    )

    found = score_probes(pairs, CFG, scorer=model, recorder=recorder).rows

    known = pairs.with_columns(margin=pl.col("score_chosen") - pl.col("score_rejected"))
    assert unreliable_scores(found, known)["is_unreliable"].to_list() == [True, True]
