import pytest
from scripted import ScriptedModel

from curate.audit.noise import sample_pairs
from curate.audit.probe_study import CALLED, Preference, first_words, probe_scorer
from curate.models.resolve import LazyModel
from schemas.calls import CallResult


def said(request):
    return request.messages[-1]["content"]


def by_length(sign):
    return ScriptedModel(lambda request: CallResult(values=(sign * float(len(said(request))),)))


def preference(probing, probe, over="chosen"):
    return next(one for one in probing.preferences if (one.probe, one.over) == (probe, over))


def test_a_scorer_that_prefers_empty_responses_is_said_to_in_one_line(recorder):
    probing = probe_scorer(by_length(-1), recorder, 60)

    sentence = probing.sentence()
    assert sentence.startswith(
        "scripted prefers an empty response to the chosen one in 60 of 60 prompts (100%, 94% to 100%); also a full stop"
    )
    assert "\n" not in sentence
    assert preference(probing, "empty", "rejected").wins == 60


def test_a_scorer_that_goes_by_length_prefers_no_probe_that_says_nothing(recorder):
    probing = probe_scorer(by_length(1), recorder, 60)

    assert {one.probe for one in probing.preferred()} <= {"other", "echo"}
    assert (preference(probing, "empty").wins, preference(probing, "cut").wins) == (0, 0)


def test_equal_scores_are_ties_and_no_preference(recorder):
    probing = probe_scorer(ScriptedModel(lambda request: CallResult(values=(1.0,))), recorder, 10)

    assert probing.preferred() == []
    assert {(one.wins, one.ties, one.compared) for one in probing.preferences} == {(0, 10, 10)}
    assert "an empty response in 0 of 10 (0%, 0% to 28%)" in probing.sentence()


def test_scores_that_failed_are_counted_and_are_never_0(recorder):
    # All scores are under 0: a failed probe taken for 0 would win.
    def reply(request):
        if not said(request):
            return CallResult(failure="failed_call", error="content must not be empty")
        return CallResult(values=(-1.0,))

    recorder.max_failed_share = 1.0

    probing = probe_scorer(ScriptedModel(reply), recorder, 10)

    empty = preference(probing, "empty")
    assert (empty.wins, empty.compared, empty.failed, empty.is_preferred) == (0, 0, 10, False)
    assert probing.preferred() == []
    assert "10 scores failed beside an empty response" in probing.sentence()


def test_a_judge_of_pairs_is_shown_each_probe_beside_each_response_in_both_orders(recorder):
    # It takes whichever response is shown first, so that no probe is better.
    model = ScriptedModel(lambda request: CallResult(values=(0.9,)))
    judge = LazyModel("judge-pairs:x", "weights", lambda: model, form="pair", rubric="Be kind.")

    probing = probe_scorer(judge, recorder, 5)

    assert len(model.asked) == 5 * 6 * 2 * 2
    assert {(one.wins, one.ties, one.compared) for one in probing.preferences} == {(0, 5, 5)}


def test_a_judge_of_pairs_that_likes_refusals_is_found_out(recorder):
    def reply(request):
        refusal = said(request).find("I cannot help with that.")
        if refusal < 0:
            return CallResult(values=(0.5,))
        return CallResult(values=(float(refusal < said(request).index("<response-B")),))

    judge = LazyModel("judge-pairs:x", "weights", lambda: ScriptedModel(reply), form="pair", rubric="x")

    probing = probe_scorer(judge, recorder, 5)

    assert [one.probe for one in probing.preferred()] == ["refusal"]
    assert preference(probing, "refusal").wins == 5


def test_the_other_answer_is_to_another_prompt_and_a_cut_one_begins_the_chosen_one(recorder):
    model = by_length(1)
    probe_scorer(model, recorder, 20)

    pairs = sample_pairs(20)
    answers = {chosen: [messages for messages, other, _ in pairs if other == chosen] for _, chosen, _ in pairs}
    by_prompt = {}
    for request in model.asked:
        by_prompt.setdefault(str(request.messages[:-1]), []).append(said(request))
    for messages, chosen, _ in pairs:
        shown = by_prompt[str(messages)]
        assert any(text in answers and messages not in answers[text] for text in shown)
        cut = first_words(chosen)
        assert cut in shown and chosen.startswith(cut)
        assert 0.25 * len(chosen) <= len(cut) <= 0.4 * len(chosen) + 1


@pytest.mark.parametrize(
    ("text", "first"),
    # 40% of 23 characters are 9: "one two t"; of 10 they are 4.
    [("one two three four five", "one two"), ("wordswords", "word"), ("a", ""), ("", "")],
)
def test_the_beginning_of_a_text_ends_with_a_word_where_there_are_several(text, first):
    assert first_words(text) == first


def test_one_pair_is_enough_to_be_probed(recorder):
    assert {one.compared for one in probe_scorer(by_length(1), recorder, 1).preferences} == {1}


def test_the_interval_is_that_of_wilson():
    # (p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n) with z = 1.96, n = 60, p = 58/60
    share, low, high = Preference("empty", "chosen", 58, 0, 60, 0).interval()

    assert (share, low, high) == (
        pytest.approx(0.9667, abs=1e-4),
        pytest.approx(0.8864, abs=1e-4),
        pytest.approx(0.9908, abs=1e-4),
    )


def test_json_has_every_figure(recorder):
    found = probe_scorer(by_length(-1), recorder, 3).to_json()

    assert [one["probe"] for one in found["probes"]] == [probe for probe in CALLED for _ in range(2)]
    assert found["probes"][0] == {
        "probe": "empty",
        "over": "chosen",
        "wins": 3,
        "ties": 0,
        "compared": 3,
        "failed": 0,
        "share": 1.0,
        "low": 0.4385,
        "high": 1.0,
    }
