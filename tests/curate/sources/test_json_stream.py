"""The rows of a JSON document are those of `json.loads`, read a little at a time; a broken value costs only itself."""

import json
import math
import time
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.sources import json_stream
from curate.sources.json_stream import JsonText, NotJson
from curate.sources.row import LONGEST, BadRow
from curate.sources.rows import first_rows, raw_rows, rows_config
from schemas.errors import UserError

PAIR = {"prompt": "Why?", "chosen": "So.", "rejected": "No."}
TURNS = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]


@pytest.fixture
def read(tmp_path):
    """The rows of a file of this content, as they lie; in another order they are the same."""

    def rows(content, name="rows.json"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        found = list(raw_rows(rows_config(str(path), None, None)))
        shuffled = list(raw_rows(rows_config(str(path), None, 7)))
        assert sorted(map(repr, shuffled)) == sorted(map(repr, found))
        return found

    return rows


def refused(read, *content):
    with pytest.raises(UserError) as error:
        read(*content)
    return str(error.value)


both = pytest.mark.parametrize("name", ["rows.json", "rows.jsonl"])


@both
@pytest.mark.parametrize("content", ["[]", " [ ] \n", "[\n\n]"])
def test_an_empty_array_has_no_rows(read, name, content):
    assert "has no rows" in refused(read, content, name)


@both
@pytest.mark.parametrize("indent", [None, 1])
def test_an_array_is_read_whatever_the_ending(read, name, indent):
    rows = [PAIR | {"n": i} for i in range(3)]

    assert read("\n " + json.dumps(rows, indent=indent) + "\n", name) == rows


@both
def test_objects_one_a_line_are_read_whatever_the_ending(read, name):
    assert read(json.dumps(PAIR) + "\r\n\n" + json.dumps(PAIR) + "\n{broken\n", name) == [PAIR, PAIR, BadRow("{broken")]


@both
def test_objects_over_several_lines_are_read_whatever_the_ending(read, name):
    assert read(json.dumps(PAIR, indent=2) + "\n" + json.dumps(PAIR, indent=2), name) == [PAIR, PAIR]


def test_objects_on_one_line_are_read(read):
    assert read(json.dumps(PAIR) + json.dumps(PAIR) + " " + json.dumps(PAIR)) == [PAIR] * 3


def test_lists_one_a_line_are_lines(read):
    assert read('["a"]\n' + json.dumps(PAIR), "rows.jsonl") == [BadRow('["a"]'), PAIR]


@pytest.mark.parametrize("name", ["data", "rows", "examples", "instances", "items", "records", "train", "pairs"])
def test_a_list_of_rows_in_an_object_is_read(read, name):
    around = {"version": "1", "count": 2, "meta": {"a": [1]}, "tags": ["x"], name: [PAIR, PAIR], "license": None}

    assert read(json.dumps(around)) == [PAIR, PAIR]
    assert read(json.dumps(around, indent=1), "rows.json") == [PAIR, PAIR]


def test_the_list_of_a_known_name_is_the_list_of_rows(read, caplog):
    around = {"features": [{"name": "prompt"}], "train": [PAIR], "test": [PAIR, PAIR]}

    assert read(json.dumps(around)) == [PAIR]
    assert [record.getMessage().partition("rows.json: ")[2] for record in caplog.records] == [
        "rows are read from 'train'; not used: features, test"
    ]


def test_several_lists_of_other_names_are_refused(read):
    assert "several lists of objects (a, b)" in refused(read, json.dumps({"a": [PAIR], "b": [PAIR]}))


def test_an_empty_list_of_rows_has_no_rows(read):
    assert "has no rows" in refused(read, '{"version": 1, "data": []}')


@pytest.mark.parametrize(
    "row",
    [
        PAIR,
        {"id": 1, "dialog": TURNS},
        {"messages": TURNS, "rejected_response": "No."},
        {"instruction": "Add.", "instances": [{"input": "1 2", "output": "3"}]},
        {"id": 1, "turns": [{"from": "human", "value": "Why?"}]},
    ],
)
def test_one_row_is_a_row_whatever_lists_it_holds(read, row):
    assert read(json.dumps(row)) == read(json.dumps(row), "rows.jsonl") == [row]
    assert read(json.dumps(row, indent=1)) == read(json.dumps(row, indent=1), "rows.jsonl") == [row]


def test_a_line_of_a_jsonl_is_a_row_whatever_it_holds(read):
    assert read(json.dumps({"data": [PAIR]}), "rows.jsonl") == [{"data": [PAIR]}]


@pytest.mark.parametrize(
    ("item", "raw"),
    [
        (b'{"prompt": "caf\xe9"}', '{"prompt": "caf\\xe9"}'),
        (b'{"prompt": "a\nb"}', '{"prompt": "a\nb"}'),
        (b'{"prompt": "a", }', '{"prompt": "a", }'),
        (b"{'prompt': [1, 2]}", "{'prompt': [1, 2]}"),
        (b'{"n": ' + b"9" * 5000 + b"}", '{"n": ' + "9" * 5000 + "}"),
        (b"[" * 4000 + b"]" * 4000, "[" * 4000 + "]" * 4000),
        (b'"text, [here]"', '"text, [here]"'),
        (b"NaN", "NaN"),
    ],
)
def test_an_item_that_is_no_row_is_kept_as_it_came_and_the_others_stay(read, item, raw):
    good = json.dumps(PAIR).encode()

    assert read(b"[" + good + b", " + item + b",\n" + good + b"]") == [PAIR, BadRow(raw), PAIR]
    assert read(b'{"data": [' + good + b", " + item + b"]}") == [PAIR, BadRow(raw)]


def test_a_comma_behind_the_last_item_does_no_harm(read):
    assert read(json.dumps([PAIR])[:-1] + ",\n]") == [PAIR]


def test_of_two_keys_of_a_name_the_last_counts_and_numbers_are_what_they_were(read):
    (row,) = read(
        '[{"a": 1, "a": 2, "b": NaN, "c": -Infinity, "d": 12345678901234567890, "e": "\\u0000\\ud83d\\ude00"}]'
    )

    assert (row["a"], row["c"], row["d"], row["e"]) == (2, -math.inf, 12345678901234567890, "\0😀")
    assert math.isnan(row["b"])


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_a_document_that_is_cut_short_is_refused(read, cut):
    for whole in (json.dumps([PAIR, PAIR]), json.dumps({"version": 1, "data": [PAIR, PAIR]})):
        assert "is no JSON that holds rows" in refused(read, whole[:-cut])


@pytest.mark.parametrize("more", ["]", "{}", ", 1", "x"])
def test_what_follows_a_document_is_not_passed_over(read, more):
    assert "is no JSON that holds rows" in refused(read, json.dumps([PAIR, PAIR]) + more)


def test_a_value_that_is_too_long_is_refused(read):
    assert "a value has more than" in refused(read, '["' + "x" * (2 * LONGEST) + '"]')


def test_the_first_rows_need_no_whole_file(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text("[" + ",".join([json.dumps(PAIR)] * 9000) + ", and then nothing")

    assert first_rows(rows_config(str(path), None, 30), 1000) == [PAIR] * 1000


@pytest.mark.parametrize(
    "pattern",
    ['"', "[", "{", '\\"', '{"', '[{"a":', "1", "-", "a,", '"\\', "\\u00", '{"a":1}', "tru", "\n", ",", '"a"'],
)
@pytest.mark.parametrize("start", ["[", '{"data": [', '["'])
def test_no_text_takes_more_than_linear_time(tmp_path, pattern, start):
    def took(length):
        text = start + pattern * (length // len(pattern))
        begun = time.process_time()
        try:
            for _ in json_stream.document_rows("array" if start[0] == "[" else "object", lambda: StringIO(text), "x"):
                pass
        except NotJson:
            pass
        return time.process_time() - begun

    assert took(400_000) < 8 * took(100_000) + 0.5


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


@given(
    rows=st.lists(st.dictionaries(st.text(max_size=6), values, max_size=4), max_size=6),
    chunk=st.integers(1, 40),
    layout=st.sampled_from([{}, {"indent": 1}, {"ensure_ascii": False, "separators": (",", ":")}]),
)
def test_any_document_is_read_as_json_reads_it_wherever_the_text_is_cut(rows, chunk, layout):
    text = json.dumps(rows, **layout)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "CHUNK", chunk)
        found = list(JsonText(StringIO(text)).items())

    assert [row for row in found if not isinstance(row, BadRow)] == [row for row in json.loads(text)][: len(found)]
    assert len(found) == len(rows)


@given(text=st.text('[]{}",:\\ \n1a-\udcff', max_size=40), chunk=st.integers(1, 8))
def test_any_text_gives_rows_or_is_refused(text, chunk):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "CHUNK", chunk)
        for layout in ("array", "object", "values"):
            try:
                for row in json_stream.document_rows(layout, lambda: StringIO(text), "x"):
                    assert isinstance(row, dict | BadRow)
            except NotJson:
                pass
