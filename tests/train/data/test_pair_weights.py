"""Weights are those of the file, or one sentence says what is wrong with it."""

import json

import numpy as np
import polars as pl
import pytest

from schemas.errors import UserError
from train.data.pair_weights import read_weights


@pytest.fixture
def write(tmp_path):
    """Write (pair_id, weight) rows to a file of this kind."""

    def make(rows, kind="csv"):
        path = tmp_path / f"weights.{kind}"
        if kind == "parquet":
            frame = pl.DataFrame(rows, schema=["pair_id", "weight"], orient="row", infer_schema_length=None)
            frame.with_columns(note=pl.lit("x")).write_parquet(path)
        elif kind == "jsonl":
            texts = [json.dumps({"note": [1], "pair_id": pair, "weight": weight}) for pair, weight in rows]
            path.write_text("".join(text + "\n" for text in texts))
        else:
            path.write_text("note,pair_id,weight\n" + "".join(f"x,{pair},{weight}\n" for pair, weight in rows))
        return path

    return make


every_kind = pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])


def refused(path, row_ids=("a", "b")):
    with pytest.raises(UserError) as error:
        read_weights(path, row_ids)
    assert "\n" not in str(error.value)
    return str(error.value).replace(str(path), "FILE")


@every_kind
def test_no_pairs_have_no_weights(write, kind):
    found = read_weights(write([("a", 1.0)], kind), [])

    assert found.shape == (0,)
    assert found.dtype == np.float64


@every_kind
def test_weights_come_in_the_order_of_the_pairs(write, kind):
    path = write([("c", 0.1), ("z", 9), ("a", 0), ("b", 2.5)], kind)

    assert read_weights(path, ["a", "b", "c", "b"]).tolist() == [0.0, 2.5, 0.1, 2.5]


@every_kind
def test_whole_numbers_before_fractions_are_weights_too(write, kind):
    path = write([(f"p{i}", 1) for i in range(2000)] + [("a", 0.25)], kind)

    assert read_weights(path, ["a", "p1999"]).tolist() == [0.25, 1.0]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_an_id_of_digits_keeps_its_zeros(write, kind):
    path = write([("0012", 1), ("12", 2), ("1e3", 3)], kind)

    assert read_weights(path, ["0012", "12", "1e3"]).tolist() == [1.0, 2.0, 3.0]


@every_kind
def test_the_same_weight_twice_is_one(write, kind):
    path = write([("a", 2), ("b", 1), ("a", 2.0)], kind)

    assert read_weights(path, ["a", "b"]).tolist() == [2.0, 1.0]


@every_kind
def test_one_pair_with_two_weights_is_refused_with_both_rows(write, kind):
    path = write([("b", 1), ("a", 2), ("a", 2), ("a", 3)], kind)

    assert refused(path) == "rows 2 and 4 of FILE give pair a different weights; keep one of them"


@every_kind
def test_a_negative_weight_is_refused_with_its_row(write, kind):
    path = write([("a", 1), ("b", -0.5)], kind)

    assert refused(path) == ("row 2 of FILE gives pair b the weight -0.5; a weight must be a finite number, at least 0")


@pytest.mark.parametrize("weight", ["nan", "inf", "-inf", "much"])
def test_what_is_no_finite_number_is_refused_with_its_row(write, weight):
    assert refused(write([("a", 1), ("b", weight)])).startswith(f"row 2 of FILE gives pair b the weight {weight};")


@pytest.mark.parametrize("weight", [float("nan"), float("inf")])
def test_what_is_no_finite_number_is_refused_in_parquet(write, weight):
    assert "row 2 of FILE gives pair b the weight" in refused(write([("a", 1.0), ("b", weight)], "parquet"))


def test_an_empty_weight_is_refused_with_its_row(write):
    assert refused(write([("a", ""), ("b", 1)])).startswith("row 1 of FILE gives pair a no weight;")
    assert refused(write([("a", None), ("b", 1)], "jsonl")).startswith("row 1 of FILE gives pair a no weight;")


def test_a_row_of_no_pair_is_refused(write):
    assert refused(write([("a", 1), ("", 1)])).startswith("row 2 of FILE has no pair_id;")


@every_kind
def test_a_pair_without_a_weight_is_refused_by_name(write, kind):
    assert refused(write([("a", 1)], kind), ["b", "a", "c"]).startswith(
        "FILE has no weight for 2 pairs of the mix, such as b, c; add them"
    )


@every_kind
def test_weights_of_nothing_but_0_are_refused(write, kind):
    path = write([("a", 0), ("b", 0.0), ("z", 1)], kind)

    assert refused(path) == "the weights in FILE of the pairs of the mix add up to 0; some must be over 0"


def test_weights_whose_sum_is_no_number_are_refused(write):
    assert "add up to inf" in refused(write([("a", 1.7e308), ("b", 1.7e308)]))


@pytest.mark.parametrize(("columns", "missing"), [("pair_id,w", "weight"), ("id,w", "pair_id and weight")])
def test_a_missing_column_is_named(tmp_path, columns, missing):
    path = tmp_path / "weights.csv"
    path.write_text(f"{columns}\na,1\n")

    assert refused(path) == f"FILE has no column {missing}; it needs pair_id and weight"


def test_a_line_without_the_field_is_named(tmp_path):
    path = tmp_path / "weights.jsonl"
    path.write_text('{"id": "a", "weight": 1}\n')

    assert refused(path).startswith("row 1 of FILE has no pair_id;")


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
@pytest.mark.parametrize("content", [b"", b"\xff\xfe{", None])
def test_a_file_that_is_absent_empty_or_something_else_is_refused(tmp_path, kind, content):
    path = tmp_path / f"weights.{kind}"
    if content is not None:
        path.write_bytes(content)

    assert "FILE" in refused(path)


def test_a_file_of_another_kind_is_refused(tmp_path):
    assert refused(tmp_path / "weights.xlsx").startswith("FILE is no .parquet, .csv or .jsonl file")
