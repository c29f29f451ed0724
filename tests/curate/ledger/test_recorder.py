import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace

import pytest
from scripted import ScriptedModel, responses, user

from curate.ledger.ledger import Ledger
from curate.ledger.recorder import Recorder, merge_responses
from curate.ledger.spend_cap import Budget
from curate.models.chat_api import ChatAPI
from curate.models.limits import EndpointConfig
from schemas.calls import CallResult, Request, Response
from schemas.errors import CapReached, UserError


def ask(text="a", n=1, max_tokens=64, temperature=0.7):
    return Request("generate", user(text), n=n, sampling={"temperature": temperature, "max_tokens": max_tokens})


def cut_at(limit):
    """A model whose response number i would be i words long, and is cut at `limit` of them."""

    def reply(request):
        assert request.sampling["max_tokens"] == limit
        lengths = range(request.first_sample + 1, request.first_sample + 1 + request.n)
        return CallResult(
            tuple(Response("word " * min(k, limit), "stop" if k <= limit else "length") for k in lengths),
            input_tokens=3,
            output_tokens=sum(min(k, limit) for k in lengths),
        )

    return ScriptedModel(reply)


def words(answer):
    return [len(response.text.split()) for response in answer.responses]


def test_a_larger_max_tokens_repeats_only_the_responses_that_were_cut(recorder):
    recorder.ask(cut_at(2), [ask(n=4, max_tokens=2)])
    wide = cut_at(8)

    answer = recorder.ask(wide, [ask(n=4, max_tokens=8)])[0]

    assert words(answer) == [1, 2, 3, 4]
    assert [(request.first_sample, request.n) for request in wide.asked] == [(2, 2)]
    assert (recorder.tally.calls, recorder.tally.reused_calls, recorder.tally.repeated_calls) == (2, 0, 1)


def test_responses_that_ended_by_themselves_are_never_repeated(recorder):
    recorder.ask(cut_at(4), [ask(n=4, max_tokens=4)])
    wide = cut_at(8)

    answer = recorder.ask(wide, [ask(n=4, max_tokens=8)])[0]
    again = recorder.ask(wide, [ask(n=4, max_tokens=8)])[0]

    assert wide.asked == []
    assert words(answer) == words(again) == [1, 2, 3, 4]
    assert (recorder.tally.calls, recorder.tally.reused_calls) == (1, 2)


def test_the_largest_smaller_limit_is_the_one_that_is_built_on(recorder):
    for limit in (3, 1, 2):
        recorder.ask(cut_at(limit), [ask(n=4, max_tokens=limit)])
    wide = cut_at(8)

    recorder.ask(wide, [ask(n=4, max_tokens=8)])

    assert [request.n for request in wide.asked] == [1]


def test_a_smaller_max_tokens_reuses_nothing(recorder):
    recorder.ask(cut_at(8), [ask(n=2, max_tokens=8)])
    narrow = cut_at(1)

    assert words(recorder.ask(narrow, [ask(n=2, max_tokens=1)])[0]) == [1, 1]
    assert len(narrow.asked) == 1


def test_another_temperature_reuses_nothing(recorder):
    recorder.ask(cut_at(4), [ask(n=4, max_tokens=4)])
    warm = cut_at(8)

    recorder.ask(warm, [ask(n=4, max_tokens=8, temperature=1.0)])

    assert [request.n for request in warm.asked] == [4]


@pytest.mark.parametrize("failure", ["refused", "prompt_too_long"])
def test_a_refusal_holds_for_a_larger_max_tokens_too(recorder, failure):
    recorder.ask(ScriptedModel(lambda request: CallResult(failure=failure, error="no")), [ask(max_tokens=2)])
    wide = cut_at(8)

    assert recorder.ask(wide, [ask(max_tokens=8)])[0].failure == failure
    assert wide.asked == []


def test_a_filtered_response_was_not_cut(recorder):
    filtered = (Response("", "content_filter"), Response("x", "stop"))
    recorder.ask(ScriptedModel(lambda request: CallResult(filtered)), [ask(n=2, max_tokens=2)])
    wide = cut_at(8)

    recorder.ask(wide, [ask(n=2, max_tokens=8)])

    assert wide.asked == []


def test_a_score_under_a_smaller_max_tokens_is_no_response_that_could_be_kept(recorder):
    model = ScriptedModel(lambda request: CallResult(values=(1.0,)))
    for limit in (2, 8):
        answer = recorder.ask(model, [Request("score", user("a"), sampling={"max_tokens": limit})])[0]

        assert answer.values == (1.0,)
    assert len(model.asked) == 2


def test_a_finish_reason_that_the_server_did_not_say_is_not_taken_for_an_end(recorder):
    recorder.ask(ScriptedModel(lambda request: CallResult((Response("x", None),))), [ask(max_tokens=2)])
    wide = cut_at(8)

    recorder.ask(wide, [ask(max_tokens=8)])

    assert len(wide.asked) == 1


def test_what_was_paid_for_a_call_adds_up_over_its_rounds(recorder):
    one_by_one = ScriptedModel(lambda request: replace(responses("x"), input_tokens=3, output_tokens=2))

    answer = recorder.ask(one_by_one, [ask(n=3)])[0]

    assert len(answer.responses) == 3
    assert [request.first_sample for request in one_by_one.asked] == [0, 1, 2]
    (row,) = recorder.ledger.read("SELECT state, input_tokens, output_tokens, cost_usd FROM calls")
    assert row == ("answered", 9, 6, 0.0)


def test_a_filled_slot_keeps_its_place():
    slots = [Response("first", "stop"), None, Response("third", "stop"), None]

    state, merged = merge_responses(slots, responses("second"))

    assert state == "partial"
    assert [response.text for response in merged.responses] == ["first", "second", "third"]
    assert [slot and slot.text for slot in slots] == ["first", "second", "third", None]


def test_a_part_has_a_tally_of_its_own_and_counts_for_the_whole(recorder):
    one, two = recorder.for_part(), recorder.for_part()

    one.ask(ScriptedModel(lambda request: responses("x")), [ask("a"), ask("b")])
    two.ask(ScriptedModel(lambda request: responses("x")), [ask("b"), ask("c")])

    assert (one.tally.calls, two.tally.calls, two.tally.reused_calls) == (2, 1, 1)
    assert (recorder.tally.calls, recorder.tally.reused_calls) == (3, 1)


def test_threads_that_need_the_same_call_make_it_once(recorder):
    started = threading.Event()

    def slow(request):
        started.set()
        time.sleep(0.2)
        return responses("x")

    model = ScriptedModel(slow)
    first = threading.Thread(target=recorder.for_part().ask, args=(model, [ask("a"), ask("b")]))
    first.start()
    started.wait()

    answers = recorder.for_part().ask(model, [ask("b"), ask("c")])
    first.join()

    assert sorted(request.messages[0]["content"] for request in model.asked) == ["a", "b", "c"]
    assert [len(answer.responses) for answer in answers] == [1, 1]


OTHER = """
    import os, signal, sys, time
    sys.path[:0] = {path!r}
    from pathlib import Path
    from scripted import ScriptedModel, responses, user
    from schemas.calls import Request
    from curate.ledger.ledger import Ledger
    from curate.ledger.recorder import Recorder

    def reply(request):
        print("asked", flush=True)
        {act}
        return responses("of the other process")

    with Ledger(Path({ledger!r})) as ledger:
        sampling = {{"temperature": 0.7, "max_tokens": 64}}
        Recorder(ledger).ask(ScriptedModel(reply), [Request("generate", user("a"), sampling=sampling)])
"""


def other_process(ledger, act):
    program = textwrap.dedent(OTHER.format(path=sys.path, ledger=str(ledger), act=act))
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "asked\n"
    return process


def test_a_call_that_another_process_makes_is_waited_for_and_not_paid_again(tmp_path):
    process = other_process(tmp_path / "ledger.sqlite", "time.sleep(1)")
    model = ScriptedModel(lambda request: responses("mine"))

    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        answer = Recorder(ledger).ask(model, [ask("a")])[0]

    process.communicate()
    assert answer.responses[0].text == "of the other process"
    assert model.asked == []


def test_a_call_of_a_process_that_was_killed_is_taken_over(tmp_path):
    process = other_process(tmp_path / "ledger.sqlite", "time.sleep(60)")
    model = ScriptedModel(lambda request: responses("mine"))

    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        recorder = Recorder(ledger)
        threading.Timer(0.3, process.kill).start()
        answer = recorder.ask(model, [ask("a")])[0]

    process.communicate()
    assert answer.responses[0].text == "mine"
    assert recorder.tally.calls == 1
    assert list((tmp_path / "leases").iterdir()) == []


def test_of_two_answers_to_one_call_the_recorded_one_counts(recorder):
    """A process that hung is taken for dead, comes back and answers after all."""
    path = recorder.ledger.path

    def late(request):
        recorder.ledger.read("UPDATE calls SET state = 'failed', owner = 'somebody-else' RETURNING 1")
        with Ledger(path) as other:
            Recorder(other).ask(ScriptedModel(lambda request: responses("quick")), [request])
        return responses("late")

    answers = recorder.ask(ScriptedModel(late), [ask("a")])

    assert answers[0].responses[0].text == "quick"


def test_the_share_of_failures_that_stops_a_run_is_given(tmp_path):
    model = ScriptedModel(lambda request: CallResult(failure="failed_call", error="HTTP 500"))

    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        assert len(Recorder(ledger, max_failed_share=1.0).ask(model, [ask(str(i)) for i in range(20)])) == 20
        with pytest.raises(UserError, match="3 of 3 calls"):
            Recorder(ledger, max_failed_share=0.25).ask(model, [ask(str(i)) for i in range(20)])


def test_an_endpoint_that_fails_less_often_than_it_has_slots_stops_the_run_all_the_same(endpoint, recorder):
    server = endpoint(lambda body: (400, {"error": {"message": "no"}}))
    api = ChatAPI("test", server.url, "tiny", "PAIRWRIGHT_API_KEY", EndpointConfig(budget=recorder.budget))

    with pytest.raises(UserError, match=r"(\d+) of \1 calls to test failed, the last with: HTTP 400: no"):
        recorder.ask(api, [ask(str(i)) for i in range(10)])


def test_recorded_calls_do_not_hide_that_all_new_ones_fail(recorder):
    recorder.ask(ScriptedModel(lambda request: responses("x")), [ask(str(i)) for i in range(100)])
    down = ScriptedModel(lambda request: CallResult(failure="failed_call", error="HTTP 400"))

    with pytest.raises(UserError, match="5 of 5 calls to scripted failed"):
        Recorder(recorder.ledger).ask(down, [ask(str(i)) for i in range(120)])


def test_a_call_that_nobody_makes_any_more_is_not_waited_for(tmp_path):
    """Its process goes on with other things, so its lease lives; the call itself was given up."""
    first = iter([responses("one"), CallResult(failure="failed_call", error="HTTP 500")])
    with Ledger(tmp_path / "ledger.sqlite") as one, Ledger(tmp_path / "ledger.sqlite") as two:
        Recorder(one).ask(ScriptedModel(lambda request: next(first)), [ask(n=2)])
        answer = Recorder(two).ask(ScriptedModel(lambda request: responses("two")), [ask(n=2)])[0]

    assert [response.text for response in answer.responses] == ["one", "two"]


def test_a_local_stage_whose_last_batch_took_long_is_done_and_not_stopped(tmp_path):
    def slow(request):
        time.sleep(0.2)
        return responses("x")

    # 0.3 s: the first batch fits, and there is no second one that could not
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        recorder = Recorder(ledger, Budget(max_hours=0.3 / 3600))
        assert len(recorder.ask(ScriptedModel(slow), [ask("a")])) == 1
        with pytest.raises(CapReached):
            recorder.ask(ScriptedModel(slow), [ask("b"), ask("c")])
