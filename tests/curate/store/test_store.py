import json
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import ScriptedModel, completion, responses, user

from curate.files import write_atomically
from curate.ledger.ledger import Ledger
from curate.ledger.recorder import Recorder
from curate.ledger.spend_cap import Budget
from curate.models.chat_api import ChatAPI
from curate.models.limits import EndpointConfig
from curate.store.store import RAW_LIMIT, Part, Store, dropped_row, make_frame, make_part
from schemas.calls import CallResult, Request
from schemas.errors import UserError
from schemas.ids import short_id
from schemas.manifest import FORMAT
from schemas.stages import StageName
from schemas.tables import Dropped, Prompt


@dataclass(frozen=True)
class CountConfig:
    parts: int = 3
    label: str = "row"
    where: str = field(default="here", metadata={"key": False})


def rows(label: str, index: int) -> list[dict[str, object]]:
    return [
        {
            "prompt_id": f"{label}{index}",
            "place": index,
            "messages": user(label),
            "prompt_group": short_id(label),
            "license": "MIT",
        }
    ]


def count_up(cfg: CountConfig) -> Iterator[Part]:
    for index in range(cfg.parts):
        yield make_part(
            Prompt, rows(cfg.label, index), [dropped_row("count_up", "bad_prompt", "?")] if index == 0 else []
        )


def copy_rows(prompts: pl.DataFrame, cfg: CountConfig, *, made: list[str]) -> Part:
    made += prompts["prompt_id"].to_list()
    return Part(prompts, Dropped.create_empty())


@pytest.fixture
def store(tmp_path, recorder):
    return Store(tmp_path, recorder)


def test_a_table_without_parts_is_whole(store):
    table = store.read(StageName.READ_PROMPTS, count_up, CountConfig(parts=0), writes=Prompt)

    assert (table.rows, table.dropped) == (0, {})


def test_unchanged_work_is_a_read(store):
    source, made = store.read(StageName.READ_PROMPTS, count_up, CountConfig(), writes=Prompt), []

    first = store.map(StageName.MAKE_PAIRS, copy_rows, CountConfig(), source, writes=Prompt, made=made)
    second = store.map(StageName.MAKE_PAIRS, copy_rows, CountConfig(), source, writes=Prompt, made=made)

    assert made == ["row0", "row1", "row2"]
    assert first.identity == second.identity


def test_a_config_field_outside_the_key_does_not_make_another_table(store):
    one = store.read(StageName.READ_PROMPTS, count_up, CountConfig(where="here"), writes=Prompt)
    two = store.read(StageName.READ_PROMPTS, count_up, CountConfig(where="there"), writes=Prompt)
    other = store.read(StageName.READ_PROMPTS, count_up, CountConfig(label="line"), writes=Prompt)

    assert one.folder == two.folder != other.folder


def test_an_interrupted_table_goes_on_at_the_first_missing_part_with_the_same_bytes(store):
    source, made = store.read(StageName.READ_PROMPTS, count_up, CountConfig(), writes=Prompt), []
    whole = store.map(StageName.MAKE_PAIRS, copy_rows, CountConfig(), source, writes=Prompt, made=made)
    for name in ("manifest.json", "part-00002.json", "part-00002.parquet", "part-00001.json"):
        (whole.folder / name).unlink()
    made.clear()

    again = store.map(StageName.MAKE_PAIRS, copy_rows, CountConfig(), source, writes=Prompt, made=made)

    assert made == ["row1", "row2"]
    assert again.manifest.sha256 == whole.manifest.sha256


def test_rows_and_dropped_rows_are_counted(store):
    table = store.read(StageName.READ_PROMPTS, count_up, CountConfig(), writes=Prompt)

    assert (table.rows, table.dropped) == (3, {"bad_prompt": 1})
    assert table.scan_dropped().collect()["raw"].to_list() == ['"?"']


def test_a_part_that_breaks_its_schema_is_not_written(store):
    def broken(cfg: CountConfig) -> Iterator[Part]:
        yield Part(make_frame(Prompt, rows("a", 0) * 2), Dropped.create_empty())

    with pytest.raises(Exception, match="primary_key"):
        store.read(StageName.READ_PROMPTS, broken, CountConfig(), writes=Prompt)

    assert not list(store.tables.glob("*/*/part-*"))


def test_a_table_with_failed_calls_is_made_again_and_only_they_are_asked(store, recorder):
    is_down = True

    def reply(request: Request) -> CallResult:
        if is_down and request.messages[0]["content"] == "3":
            return CallResult(failure="failed_call", error="HTTP 503")
        return responses("x")

    model = ScriptedModel(reply)

    def ask_all(prompts: pl.DataFrame, cfg: CountConfig, *, recorder: Recorder) -> Part:
        answers = recorder.ask(model, [Request("generate", user(str(i))) for i in range(9)])
        failed = [dropped_row("ask_all", answer.failure, "") for answer in answers if answer.failure]
        return Part(prompts, make_frame(Dropped, failed))

    source = store.read(StageName.READ_PROMPTS, count_up, CountConfig(parts=1), writes=Prompt)
    first = store.map(StageName.SAMPLE_RESPONSES, ask_all, CountConfig(), source, writes=Prompt, recorder=recorder)
    is_down = False
    second = store.map(StageName.SAMPLE_RESPONSES, ask_all, CountConfig(), source, writes=Prompt, recorder=recorder)

    assert (first.dropped, second.dropped) == ({"failed_call": 1}, {})
    assert len(model.asked) == 10
    # The first table stays whole beside the second: a mix may be locked to it.
    assert first.folder != second.folder
    assert first.damage() == []


@pytest.mark.parametrize(
    ("written", "sentence"), [(FORMAT + 1, "newer pairwright .*upgrade"), (1, "earlier pairwright")]
)
def test_a_table_of_another_format_is_refused(store, written, sentence):
    table = store.read(StageName.READ_PROMPTS, count_up, CountConfig(), writes=Prompt)
    path = table.folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": written}))

    with pytest.raises(UserError, match=sentence):
        store.read(StageName.READ_PROMPTS, count_up, CountConfig(), writes=Prompt)


def test_a_damaged_part_is_found(store):
    table = store.read(StageName.READ_PROMPTS, count_up, CountConfig(), writes=Prompt)
    damaged = table.whole_files()[1]
    damaged.write_bytes(b"")

    assert [error.found.split()[0] for error in table.damage()] == [str(damaged)]


def test_a_full_disk_is_one_sentence_and_leaves_nothing_half_written(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(UserError, match="no room to write"):
            write_atomically(tmp_path / "part.parquet", b"x" * 2000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert list(tmp_path.iterdir()) == []


def test_paid_answers_are_recorded_where_the_part_before_them_cannot_be_written(tmp_path, endpoint):
    """The first part is answered at once and has no place to go; those after it are still under way."""

    def answer(body):
        if not body["messages"][0]["content"].startswith("0"):
            time.sleep(0.5)
        return 200, completion("x")

    def ask_all(prompts: pl.DataFrame, cfg: CountConfig, *, model: ChatAPI, recorder: Recorder) -> Part:
        first = prompts["prompt_id"][0]
        part_of[first] = part_of.get(first, len(part_of))
        texts = [f"{source_ids.index(first)} {i}" for i in range(4)]
        recorder.ask(model, [Request("generate", user(text), sampling={"max_tokens": 8}) for text in texts])
        return Part(prompts, make_frame(Dropped, []))

    server, part_of = endpoint(answer), {}
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        budget = Budget()
        recorder = Recorder(ledger, budget)
        store = Store(tmp_path, recorder)
        source = store.read(StageName.READ_PROMPTS, count_up, CountConfig(parts=3), writes=Prompt)
        source_ids = [source.part(i)["prompt_id"][0] for i in range(3)]
        (tmp_path / StageName.SAMPLE_RESPONSES).write_text("in the way")
        model = ChatAPI("test", server.url, "tiny", "PAIRWRIGHT_API_KEY", EndpointConfig(budget=budget))

        with pytest.raises(UserError, match="cannot write"):
            store.map(
                StageName.SAMPLE_RESPONSES,
                ask_all,
                CountConfig(),
                source,
                writes=Prompt,
                model=model,
                recorder=recorder,
            )

        assert ledger.counts() == {"answered": len(server.bodies)} == {"answered": 12}


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.text(min_size=4000, max_size=4100),
    lambda values: st.lists(values, max_size=4) | st.dictionaries(st.text(), values, max_size=4),
)


def strict(text: str) -> Any:
    """JSON as other readers take it: without NaN."""
    return json.loads(text, parse_constant=lambda word: pytest.fail(word))


@given(st.text() | JSON_VALUES.map(json.dumps) | st.text(alphabet='"\\\n\x00\ud800', min_size=5000, max_size=12_000))
def test_the_raw_of_a_dropped_row_is_short_json_that_can_be_saved(text):
    raw = dropped_row("read_pairs", "bad_prompt", text)["raw"]

    strict(raw)
    assert len(raw) <= RAW_LIMIT
    raw.encode("utf-8")


@pytest.mark.parametrize(
    ("text", "raw"),
    [
        ("", '""'),
        ("HTTP 500: no", '"HTTP 500: no"'),
        ('{"a": 1}', '{"a": 1}'),
        (" [1,2] ", " [1,2] "),
        ("null", "null"),
        ('{"a": NaN, "b": -Infinity}', '{"a": "NaN", "b": "-Infinity"}'),
        ('{"a": "cut', '"{\\"a\\": \\"cut"'),
        ("half \ud800", '"half \\ud800"'),
        ('"half \\ud800"', '"half \\ud800"'),
        ("9" * 5000, f'"{"9" * 5000}"'),
    ],
)
def test_what_is_json_stands_as_it_came_and_other_text_is_a_string(text, raw):
    assert dropped_row("read_pairs", "bad_prompt", text)["raw"] == raw


def test_long_texts_are_cut_and_short_ones_are_kept():
    row = {"flaw": "logic", "fired": True, "chosen": "c" * 20_000, "rejected": "short"}

    found = strict(dropped_row("write_pairs", "length_ratio", json.dumps(row))["raw"])

    assert found | {"chosen": ""} == row | {"chosen": ""}
    assert found["chosen"].endswith("c…") and len(found["chosen"]) > 4000


@pytest.mark.parametrize("text", ["[" * 100_000, "[" * 500 + "]" * 500, json.dumps(list(range(9999)))], ids=len)
def test_what_cannot_be_shortened_within_is_kept_by_its_start(text):
    raw = dropped_row("read_pairs", "unreadable_row", text)["raw"]

    found = strict(raw)
    assert len(raw) <= RAW_LIMIT
    assert isinstance(found, list) or text.startswith(found.removesuffix("…"))
