"""Files that users of other tools reported, and others of their kinds: what is in them is read whatever it lies in."""

import csv
import datetime
import json
from decimal import Decimal
from pathlib import Path

import datasets
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.config import BuildConfig
from curate.pipeline.build import Built, build
from schemas.stages import StageName

SKIPPED = ("off_topic", "semantic_duplicate_prompt", "semantic_duplicate_pair", "contaminated")
QUESTION = "Why do cats purr when they are held?"
CHOSEN = "Cats purr because small muscles of the larynx twitch, mostly when they are calm and content."
REJECTED = "Cats purr because an engine in the belly runs on milk, and nobody can ever turn it off again."
PAIR = {"prompt": QUESTION, "chosen": CHOSEN, "rejected": REJECTED}
OTHER = {
    "prompt": "What makes the sky look blue at noon?",
    "chosen": "The air scatters the short blue waves of sunlight far more than the long red ones.",
    "rejected": "The sky mirrors the sea, which is blue because fish like that color better than any other.",
}
TURNS = {
    "chosen": [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": CHOSEN}],
    "rejected": [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": REJECTED}],
}


@pytest.fixture
def built(tmp_path):
    """A build of a file; rules that embed texts are left out."""

    def make(path: Path | str) -> Built:
        return build(BuildConfig(source=str(path), data=tmp_path / "data", skip_rule=SKIPPED, name="b"))

    return make


def outcome(made: Built) -> tuple[int, dict[str, int]]:
    """Pairs kept, and rows dropped by reason."""
    return made.counts.kept, {reason: rows for reason, rows in made.counts.dropped.items() if rows}


def texts(made: Built) -> set[tuple[str, str, str]]:
    rows = made.pairs.scan().collect().to_dicts()
    return {(row["messages"][-1]["content"], row["chosen"], row["rejected"]) for row in rows}


def lines(*rows: dict) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize(
    ("name", "kept", "dropped"),
    [
        ("array_in_jsonl", 2, {}),
        ("cp1252_row", 1, {"unreadable_row": 1}),
        ("csv", 1, {}),
        ("data_wrapper", 1, {}),
        ("nul_char", 1, {"broken_encoding": 1}),
        ("pq_arrow_json", 2, {}),
        ("pq_datasets_json_feature", 1, {}),
        ("pq_dictionary", 2, {}),
        ("pq_null_prompt_with_bytes", 1, {"bad_prompt": 1}),
        ("pq_struct_null_fields", 1, {}),
    ],
)
def test_reported_file_is_read_as_expected(case, built, name, kept, dropped):
    (path,) = case(name).glob("in.*")

    made = built(path)

    assert outcome(made) == (kept, dropped)
    assert all("{" not in text for row in texts(made) for text in row)
    assert all(row["messages"][-1]["role"] == "user" for row in made.pairs.scan().collect().to_dicts())


def test_a_line_in_cp1252_is_kept_as_it_came(case, built):
    made = built(case("cp1252_row") / "in.jsonl")

    (dropped,) = made.tables[StageName.READ_PAIRS].scan_dropped().collect().to_dicts()
    assert "Caf\\xe9 or tea?" in json.loads(dropped["raw"])


ARRAYS = {
    "one_line.jsonl": json.dumps([PAIR, OTHER]),
    "a_row_a_line.jsonl": "[\n" + ",\n".join(json.dumps(row) for row in (PAIR, OTHER)) + "\n]\n",
    "blank_start.ndjson": "\r\n\t " + json.dumps([PAIR, OTHER], indent=4),
    "with_mark.jsonl": "\ufeff" + json.dumps([PAIR, OTHER]),
    "objects_over_lines.jsonl": json.dumps(PAIR, indent=1) + "\n" + json.dumps(OTHER, indent=1),
    "lines.json": lines(PAIR, OTHER),
    "last_comma.json": json.dumps([PAIR, OTHER])[:-1] + ",]",
}


@pytest.mark.parametrize("name", ARRAYS)
def test_json_is_read_however_its_rows_lie(built, tmp_path, name):
    (tmp_path / name).write_text(ARRAYS[name], encoding="utf-8")

    assert outcome(built(tmp_path / name)) == (2, {})


BROKEN = {
    "latin1.jsonl": lines(PAIR).encode() + '{"prompt": "Größe?", "chosen": "a", "rejected": "b"}\n'.encode("latin-1"),
    "mac_roman.json": b"[" + lines(PAIR).encode() + ', {"prompt": "Größe?"}]'.encode("mac-roman"),
    "half_a_line.jsonl": lines(PAIR).encode() + lines(PAIR).encode()[:60],
    "utf8_cut.csv": f'prompt,chosen,rejected\n{QUESTION},"{CHOSEN}","{REJECTED}"\n'.encode() + b"caf\xc3,a,b\n",
    "shift_jis.jsonl": lines(PAIR).encode() + '{"prompt": "猫はなぜ鳴く"}\n'.encode("shift-jis"),
    "raw_line_break.jsonl": lines(PAIR).encode() + b'{"prompt": "a\tb", "chosen": "c"}',
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_row_that_cannot_be_read_costs_only_itself(built, tmp_path, name):
    (tmp_path / name).write_bytes(BROKEN[name])

    made = built(tmp_path / name)

    assert outcome(made) == (1, {"unreadable_row": 1})
    assert made.tables[StageName.READ_PAIRS].scan_dropped().collect()["raw"].item()


def write_table(
    path: Path, delimiter: str, encoding: str = "utf-8", end: str = "\r\n", quoting: int = csv.QUOTE_MINIMAL
):
    row = [f'{QUESTION}\n\nSay "purr", please; and\tnow.', CHOSEN, REJECTED, "8", "2.5"]
    with path.open("w", encoding=encoding, newline="") as stream:
        writer = csv.writer(stream, delimiter=delimiter, lineterminator=end, quoting=quoting)
        writer.writerows([["prompt", "chosen", "rejected", "score_chosen", "score_rejected"], row])
    return row


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("commas.csv", {"delimiter": ","}),
        ("excel.csv", {"delimiter": ";", "encoding": "utf-8-sig"}),
        ("unicode_text.csv", {"delimiter": "\t", "encoding": "utf-16"}),
        ("tabs.tsv", {"delimiter": "\t", "end": "\n"}),
        ("all_quoted.csv", {"delimiter": ",", "quoting": csv.QUOTE_ALL, "end": "\n"}),
    ],
)
def test_a_table_of_texts_is_read_with_its_scores(built, tmp_path, name, layout):
    prompt, chosen, rejected, *_ = write_table(tmp_path / name, **layout)

    made = built(tmp_path / name)

    assert outcome(made) == (1, {})
    assert texts(made) == {(prompt, chosen, rejected)}
    assert made.pairs.scan().select("score_chosen", "score_rejected").collect().row(0) == (8, 2.5)


def test_a_table_with_messages_as_json_is_read(built, tmp_path):
    with (tmp_path / "rows.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["chosen", "rejected"], [json.dumps(side) for side in TURNS.values()]])

    assert texts(built(tmp_path / "rows.csv")) == {(QUESTION, CHOSEN, REJECTED)}


@pytest.mark.parametrize(
    "around",
    [
        {"rows": [PAIR, OTHER], "num_rows_total": 2, "partial": False},
        {"dataset_info": {"name": "x", "splits": ["train"]}, "examples": [PAIR, OTHER]},
        {"train": [PAIR, OTHER], "test": [PAIR]},
        {"preference_pairs": [PAIR, OTHER], "created": "2024-01-01", "authors": ["a", "b"]},
        {"features": [{"name": "prompt"}], "data": [PAIR, OTHER]},
    ],
)
@pytest.mark.parametrize("indent", [None, 2])
def test_rows_in_an_object_are_read(built, tmp_path, around, indent):
    (tmp_path / "rows.json").write_text(json.dumps(around, indent=indent))

    assert outcome(built(tmp_path / "rows.json")) == (2, {})


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.parquet", "rows.json"])
@pytest.mark.parametrize("side", ["prompt", "chosen", "rejected"])
def test_a_nul_sign_in_a_text_stays(built, tmp_path, name, side):
    row = PAIR | {side: PAIR[side] + " \x00 And so on."}
    match name:
        case "rows.csv":
            with (tmp_path / name).open("w", newline="") as stream:
                csv.writer(stream).writerows([row.keys(), row.values()])
        case "rows.parquet":
            pl.DataFrame([row]).write_parquet(tmp_path / name)
        case _:
            (tmp_path / name).write_text(json.dumps([row]) if name.endswith("json") else lines(row))

    assert texts(built(tmp_path / name)) == {tuple(row.values())}


JSON = pa.json_()
STORED = {side: json.dumps(turns) for side, turns in TURNS.items()}
JSON_TABLES = {
    "large": {side: pa.array([text], pa.json_(pa.large_string())) for side, text in STORED.items()},
    "turns": {
        side: pa.ListArray.from_arrays([0, 2], pa.array([json.dumps(turn) for turn in turns], JSON))
        for side, turns in TURNS.items()
    },
    "only_content": {side: pa.array([json.dumps(turns[1:])], JSON) for side, turns in TURNS.items()}
    | {"prompt": pa.array([json.dumps(TURNS["chosen"][:1])], JSON)},
    "text": {name: pa.array([json.dumps(text)], JSON) for name, text in PAIR.items()},
    "metadata": {name: pa.array([text]) for name, text in PAIR.items()} | {"meta": pa.array(['{"a": [1, {}]}'], JSON)},
}


@pytest.mark.parametrize("kind", ["parquet", "arrow", "undeclared"])
@pytest.mark.parametrize("name", JSON_TABLES)
def test_columns_of_json_are_read_as_what_they_say(built, tmp_path, name, kind):
    table = pa.table(JSON_TABLES[name])
    path = tmp_path / f"rows.{'arrow' if kind == 'arrow' else 'parquet'}"
    if kind == "arrow":
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table)
    else:
        pq.write_table(table, path, store_schema=kind == "parquet" or name != "text")

    assert texts(built(path)) == {(QUESTION, CHOSEN, REJECTED)}


@pytest.mark.parametrize("kind", ["parquet", "saved", "saved:train"])
def test_the_json_feature_of_datasets_is_read(built, tmp_path, kind):
    features = datasets.Features({side: datasets.List(datasets.Json()) for side in TURNS})
    rows = [{side: [turn | {"extra": [1, "a"]} for turn in turns] for side, turns in TURNS.items()}]
    dataset = datasets.Dataset.from_list(rows, features=features)
    if kind == "parquet":
        dataset.to_parquet(tmp_path / "rows.parquet")
    elif kind == "saved":
        dataset.save_to_disk(tmp_path / "saved")
    else:
        datasets.DatasetDict(train=dataset, test=dataset).save_to_disk(tmp_path / "saved")

    assert texts(built(tmp_path / ("rows.parquet" if kind == "parquet" else kind))) == {(QUESTION, CHOSEN, REJECTED)}


TYPES = {
    "large_dictionary": (pa.dictionary(pa.int64(), pa.large_string()), pa.int64()),
    "small_dictionary": (pa.dictionary(pa.int8(), pa.string()), pa.uint8()),
    "views": (pa.string_view(), pa.int16()),
    "large": (pa.large_string(), pa.float32()),
    "decimals": (pa.string(), pa.decimal128(5, 2)),
}


@pytest.mark.parametrize("ending", ["parquet", "arrow", "feather"])
@pytest.mark.parametrize("name", TYPES)
def test_every_type_of_text_and_number_is_read(built, tmp_path, name, ending):
    text, number = TYPES[name]
    values = {"score_chosen": Decimal(8), "score_rejected": Decimal(2)}
    if not pa.types.is_decimal(number):
        values = {column: int(value) for column, value in values.items()}
    columns = {column: pa.array([value, value]).cast(text) for column, value in PAIR.items()}
    table = pa.table(columns | {column: pa.array([value, None], number) for column, value in values.items()})
    path = tmp_path / f"rows.{ending}"
    if ending == "parquet":
        pq.write_table(table, path)
    else:
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table)

    made = built(path)

    assert texts(made) == {(QUESTION, CHOSEN, REJECTED)}
    assert made.pairs.scan().select("score_chosen", "score_rejected").collect().row(0) in {(8, 2), (None, None)}


@pytest.mark.parametrize(
    "beside",
    [
        pa.array([b"\xff\xd8", None], pa.large_binary()),
        pa.array([[{"bytes": b"\x89PNG", "path": None}], []]),
        pa.array([datetime.datetime(2024, 1, 1), None]),
        pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int64())),
        pa.array([Decimal("1.50"), None]),
    ],
)
def test_what_lies_beside_a_null_prompt_is_kept_as_json(built, tmp_path, beside):
    columns = {column: [value, None if column == "prompt" else value] for column, value in PAIR.items()}
    pq.write_table(pa.table(columns | {"extra": beside}), tmp_path / "rows.parquet")

    made = built(tmp_path / "rows.parquet")

    assert outcome(made) == (1, {"bad_prompt": 1})
    json.loads(made.tables[StageName.READ_PAIRS].scan_dropped().collect()["raw"].item())


@pytest.mark.parametrize("turn_type", ["null", "null_list", "null_struct", "null_map"])
@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_fields_of_turns_that_hold_nothing_are_passed_over(built, tmp_path, turn_type, ending):
    empty = {
        "null": pa.null(),
        "null_list": pa.list_(pa.null()),
        "null_struct": pa.struct({"name": pa.null(), "arguments": pa.null()}),
        "null_map": pa.map_(pa.string(), pa.string()),
    }[turn_type]
    fields = {"role": pa.string(), "content": pa.string(), "tool_calls": empty, "name": pa.null()}
    table = pa.table({side: pa.array([turns], pa.list_(pa.struct(fields))) for side, turns in TURNS.items()})
    path = tmp_path / f"rows.{ending}"
    if ending == "parquet":
        pq.write_table(table, path)
    else:
        with pa.ipc.new_stream(path, table.schema) as writer:
            writer.write_table(table)

    assert texts(built(path)) == {(QUESTION, CHOSEN, REJECTED)}
