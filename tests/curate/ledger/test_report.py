"""`curate ledger`: what the calls cost, and whether the record of them is whole."""

import json
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime

import polars as pl
import pytest
from scripted import ScriptedModel, responses, user

from curate.cli.main import main
from curate.ledger.entries import call_key
from curate.ledger.ledger import Ledger
from curate.ledger.maintenance import check_ledger
from curate.ledger.prices import Price, Prices
from curate.ledger.recorder import Recorder
from curate.ledger.report import CALLS_PER_PAGE, LedgerReport, ModelDay, kind_of_error, report_ledger
from curate.ledger.spend_cap import Budget
from schemas.calls import CallResult, Request, Response

PRICES = Prices({"openai:priced": Price(10, 30)}, {}, "")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def add(tmp_path):
    """Makes calls to a model through the ledger, one for each answer."""

    def make(model: str, *answers: CallResult, kind: str = "generate", price_name: str | None = None) -> None:
        texts = [f"{model} {kind} {i}" for i in range(len(answers))]
        costs = [PRICES.cost(price_name, answer.input_tokens, answer.output_tokens) for answer in answers]
        charged = [replace(answer, cost_usd=cost) for answer, cost in zip(answers, costs, strict=True)]
        said = dict(zip(texts, charged, strict=True))
        backend = ScriptedModel(lambda request: said[request.messages[0]["content"]])
        backend.model, backend.price_name = model, price_name
        with Ledger(tmp_path / "ledger.sqlite") as ledger:
            recorder = Recorder(ledger, Budget(prices=PRICES), max_failed_share=1.0)
            recorder.ask(backend, [Request(kind, user(text), sampling={"temperature": 0.7}) for text in texts])

    return make


@pytest.fixture
def change(tmp_path):
    """Changes the file behind the ledger's back."""

    def run(statement: str, *values: object) -> None:
        db = sqlite3.connect(tmp_path / "ledger.sqlite")
        with db:
            db.execute(statement, values)
        db.close()

    return run


@pytest.fixture
def run(tmp_path, capsys):
    """Runs `curate ledger`; gives the exit code, what was printed, and errors."""

    def command(*words: str) -> tuple[int, str, str]:
        code = main(["ledger", "--data", str(tmp_path), *words])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return command


def said(text: str, input_tokens: int = 100, output_tokens: int = 10) -> CallResult:
    return CallResult(responses(text).responses, input_tokens=input_tokens, output_tokens=output_tokens)


def failed(error: str) -> CallResult:
    return CallResult(failure="failed_call", error=error)


def abandon(data, text: str = "abandoned") -> tuple[ScriptedModel, Request]:
    """A call that a process wrote down and did not live to answer."""
    model, request = ScriptedModel(lambda request: responses("x")), Request("generate", user(text))
    with Ledger(data / "ledger.sqlite") as ledger:
        ledger.claim(model, [(call_key(model, request), request)])
    return model, request


def row(found: LedgerReport, model: str) -> ModelDay:
    return next(line for line in found.totals if line.model == model)


def test_calls_are_summed_by_model_and_utc_day(path, add, change):
    add("openai:priced", said("a"), said("b"), price_name="openai:priced")
    add("smollm2", said("a"))
    midnight = datetime(2026, 3, 1, tzinfo=UTC).timestamp()
    change("UPDATE calls SET answered_at = ? WHERE model = 'smollm2'", midnight)
    change("UPDATE calls SET answered_at = ? WHERE request LIKE '%priced generate 0%'", midnight - 1)
    change("UPDATE calls SET answered_at = ? WHERE request LIKE '%priced generate 1%'", midnight)
    change("UPDATE calls SET asked_at = 0")

    totals = report_ledger(path).totals

    assert [(line.day, line.model, line.calls, line.input_tokens) for line in totals] == [
        ("2026-02-28", "openai:priced", 1, 100),
        ("2026-03-01", "openai:priced", 1, 100),
        ("2026-03-01", "smollm2", 1, 100),
    ]


def test_an_unknown_cost_is_counted_and_never_summed_as_nothing(path, add, run):
    add("openai:priced", said("a"), said("b"), price_name="openai:priced")
    add("openai:other", said("a"), price_name="openai:other")
    add("smollm2", said("a"))

    found = report_ledger(path)
    _, out, _ = run()

    # 2 x (100 x 10 + 10 x 30) / 1e6 = 0.0026
    assert row(found, "openai:priced").cost_usd == pytest.approx(0.0026)
    assert (row(found, "openai:other").cost_usd, row(found, "openai:other").unknown_cost) == (None, 1)
    assert (row(found, "smollm2").cost_usd, row(found, "smollm2").unknown_cost) == (0.0, 0)
    assert (found.total.cost_usd, found.total.unknown_cost, found.total.calls) == (pytest.approx(0.0026), 1, 4)
    lines = {line.split()[1]: line for line in out.splitlines()[1:4]}
    assert lines["openai:priced"].endswith("0.002600 USD")
    assert lines["openai:other"].endswith("unknown")
    assert lines["smollm2"].endswith(" 0 USD")
    assert out.splitlines()[4].endswith("0.002600 USD + unknown for 1 calls")


def test_failures_are_counted_by_kind_and_status(path, add, run):
    add(
        "openai:m",
        said("fine"),
        failed("HTTP 500: worker 17 fell over, after 12 s"),
        failed("HTTP 500: worker 18 fell over, after 13 s"),
        failed("no answer within 600 s, after 1800 s"),
        CallResult(failure="refused", error="HTTP 400: content_policy"),
    )

    found = report_ledger(path)
    _, out, _ = run()

    assert found.total.failed == 4
    assert {(line.failure, line.error): line.calls for line in found.failures} == {
        ("failed_call", "HTTP 500"): 2,
        ("failed_call", "no answer within 600 s"): 1,
        ("refused", "HTTP 400"): 1,
    }
    assert "2  failed_call: HTTP 500" in out


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("", ""),
        ("HTTP 429: slow down: really", "HTTP 429"),
        ("the connection broke (ServerDisconnectedError), after 3 s", "the connection broke"),
        ("expected a JSON object with 'chosen' and 'rejected', got 'x'", "expected a JSON object with 'chosen'"),
    ],
)
def test_errors_of_one_kind_have_one_name(error, kind):
    assert kind_of_error(error) == kind


def test_a_call_that_was_never_answered_may_have_been_charged(tmp_path, path, run):
    abandon(tmp_path)

    found = report_ledger(path)
    _, out, _ = run()

    assert (found.total.calls, found.never_answered, found.under_way, found.total.cost_usd) == (0, 1, 0, None)
    assert "1 calls never answered: those that were sent may have been charged" in out


def test_a_call_of_a_process_at_work_is_under_way(tmp_path, path):
    model, request = ScriptedModel(lambda request: responses("x")), Request("generate", user("now"))
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.claim(model, [(call_key(model, request), request)])

        found = report_ledger(path)

    assert (found.never_answered, found.under_way) == (0, 1)


def test_a_failed_call_that_is_asked_again_is_under_way_too(tmp_path, path, add):
    add("openai:m", failed("HTTP 500: x"))
    model = ScriptedModel(lambda request: responses("x"))
    model.model = "openai:m"
    request = Request("generate", user("openai:m generate 0"), sampling={"temperature": 0.7})
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.claim(model, [(call_key(model, request), request)])

        assert report_ledger(path).under_way == 1


def test_a_ledger_without_calls_has_nothing_to_tell(tmp_path, run):
    with Ledger(tmp_path / "ledger.sqlite"):
        pass

    code, out, _ = run("--json")

    found = json.loads(out)
    assert code == 0
    assert (found["calls"], found["unknown_cost"], found["totals"], found["failures"]) == (0, 0, [], [])


@pytest.mark.parametrize("words", [[], ["--check"], ["--compact"], ["--export", "calls.parquet"]])
def test_where_there_is_no_ledger_none_is_made(tmp_path, run, words):
    code, _, err = run(*words)

    assert code == 2
    assert "no ledger in" in err
    assert list(tmp_path.iterdir()) == []


def test_one_thing_is_done_at_a_time(run):
    code, _, err = run("--check", "--compact")

    assert code == 2
    assert "one of --export, --compact and --check" in err


def test_every_call_is_exported_with_its_numbers_unpacked(tmp_path, add, run):
    add("openai:other", said("a"), price_name="openai:other")
    add("head", CallResult(values=(0.1,)), kind="score")
    add("minilm", CallResult(values=(0.5, 0.25)), kind="embed")
    abandon(tmp_path)

    code, out, _ = run("--export", str(tmp_path / "new" / "calls.parquet"), "--json")

    calls = pl.read_parquet(tmp_path / "new" / "calls.parquet")
    by_model = {call["model"]: call for call in calls.to_dicts()}
    assert code == 0
    assert json.loads(out)["calls"] == calls.height == 4
    assert calls.schema["numbers"] == pl.List(pl.Float64)
    assert (by_model["head"]["numbers"], by_model["minilm"]["numbers"]) == ([0.1], [0.5, 0.25])
    assert by_model["openai:other"]["cost_usd"] is None
    assert (by_model["scripted"]["state"], by_model["scripted"]["cost_usd"]) == ("asked", None)
    assert json.loads(by_model["openai:other"]["answer"])["responses"] == [["a", "stop"]]
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["calls.parquet"]


def test_an_export_of_several_pages_misses_nothing(tmp_path, add, run):
    add("openai:m", *(said(str(i)) for i in range(2 * CALLS_PER_PAGE + 1)))

    run("--export", str(tmp_path / "calls.parquet"))

    calls = pl.read_parquet(tmp_path / "calls.parquet")
    assert calls["call_id"].n_unique() == calls.height == 2 * CALLS_PER_PAGE + 1


def test_an_export_replaces_no_file(tmp_path, add, run):
    add("openai:m", said("a"))
    (tmp_path / "calls.parquet").write_text("mine")

    code, _, err = run("--export", str(tmp_path / "calls.parquet"))

    assert code == 2
    assert "exists already" in err
    assert (tmp_path / "calls.parquet").read_text() == "mine"


def test_an_export_that_cannot_be_written_leaves_nothing(tmp_path, add, change, run):
    add("head", CallResult(values=(0.1,)), kind="score")
    change("UPDATE calls SET numbers = x'00'")
    (tmp_path / "file").write_text("in the way")

    damaged, _, first = run("--export", str(tmp_path / "calls.parquet"))
    blocked, _, second = run("--export", str(tmp_path / "file" / "calls.parquet"))

    assert (damaged, blocked) == (2, 2)
    assert "is damaged" in first and "cannot write" in second
    assert not list(tmp_path.glob("*calls.parquet*"))


def test_compacting_drops_what_has_no_answer_and_nothing_else(tmp_path, path, add, change, run):
    add("openai:m", said("a"), CallResult(failure="refused", error="HTTP 400: no"), *[failed("HTTP 500: x")] * 3)
    change("UPDATE calls SET cost_usd = 0.5 WHERE request LIKE '%generate 4%'")
    abandon(tmp_path, "long " * 200_000)

    code, out, _ = run("--compact", "--json")

    found = json.loads(out)
    after = report_ledger(path)
    assert code == 0
    assert (found["failed"], found["abandoned"]) == (2, 1)
    assert found["bytes_before"] - found["bytes_after"] > 900_000
    assert after.bytes == found["bytes_after"]
    # the answer, the refusal, and the failure that was charged
    assert (after.total.calls, after.total.failed, after.never_answered) == (3, 2, 0)
    assert check_ledger(path).faults == []


def test_an_answer_with_reasoning_has_no_fault(path, add):
    add("openai:m", CallResult((Response("Fine.", "stop", "Hm."),)))

    assert check_ledger(path).faults == []


def test_compacting_waits_for_a_process_at_work(tmp_path, path, add, run):
    add("openai:m", failed("HTTP 500: x"))
    model, request = ScriptedModel(lambda request: responses("x")), Request("generate", user("now"))
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.claim(model, [(call_key(model, request), request)])

        code, _, err = run("--compact")

    assert code == 2
    assert "is making calls" in err
    assert report_ledger(path).total.failed == 1


def test_calls_of_every_state_pass_the_check(tmp_path, add, run):
    add("openai:m", said("a"), failed("HTTP 500: x"), CallResult(failure="refused", error="no"))
    add("minilm", CallResult(values=(0.5, 0.25)), kind="embed")
    abandon(tmp_path)

    assert run("--check")[:2] == (0, "whole\n")


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("UPDATE calls SET request = '{'", "what was asked is not JSON"),
        ("UPDATE calls SET request = replace(request, 'generate 0', 'generate 1')", "the identity is not the digest"),
        ("UPDATE calls SET sampling = '{\"temperature\": 0.8}'", "the id is not the digest"),
        ("UPDATE calls SET call_id = 'other'", "call other: the id is not the digest"),
        ("UPDATE calls SET answer = substr(answer, 1, 20)", "the answer cannot be read"),
        ("UPDATE calls SET answer = NULL", "the answer cannot be read"),
        ("UPDATE calls SET answer = '[]'", "the answer cannot be read"),
        ('UPDATE calls SET answer = \'{"responses": [], "failure": null, "error": null}\'', "0 responses, 1 were"),
        ("UPDATE calls SET answered_at = NULL", "answered, but without a time"),
        ("UPDATE calls SET input_tokens = -1", "input_tokens is -1"),
        ("UPDATE calls SET cost_usd = -0.5", "cost_usd is -0.5"),
        ("UPDATE calls SET output_tokens = 'many'", "output_tokens is 'many'"),
        ("UPDATE calls SET failure = 'refused'", "the failure is None in the answer and 'refused' beside it"),
        ("UPDATE calls SET reused_from = 'nowhere'", "took over responses of nowhere"),
    ],
)
def test_a_call_that_was_tampered_with_is_a_fault_and_exit_code_1(add, change, run, statement, fault):
    add("openai:m", said("a"))
    change(statement)

    code, out, _ = run("--check", "--json")

    _, lines, _ = run("--check")
    found = json.loads(out)
    assert code == 1
    assert found == {"good": False, "faults": lines.splitlines()}
    assert len(found["faults"]) == 1 and fault in found["faults"][0]


def test_a_score_without_numbers_is_a_fault(path, add, change):
    add("head", CallResult(values=(0.1,)), kind="score")
    change("UPDATE calls SET numbers = NULL")

    assert [fault.split(": ")[1] for fault in check_ledger(path).faults] == ["no numbers"]


def test_a_file_that_is_no_ledger_is_a_fault(tmp_path, run):
    (tmp_path / "ledger.sqlite").write_bytes(b"not a database" * 1000)

    code, out, _ = run("--check")

    assert code == 1
    assert "is damaged" in out


def test_a_page_of_the_file_that_was_overwritten_is_a_fault(tmp_path, add, run):
    add("openai:m", *(said("word " * 500) for _ in range(50)))
    path = tmp_path / "ledger.sqlite"
    content = bytearray(path.read_bytes())
    content[8192:24576] = bytes(16384)
    path.write_bytes(content)

    code, out, _ = run("--check")

    assert code == 1
    assert out.strip()
