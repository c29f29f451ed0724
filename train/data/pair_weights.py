"""Read a weight for every pair from a file."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.files import file_sha256
from schemas.errors import UserError

COLUMNS = ("pair_id", "weight")


def read_weights(path: Path, row_ids: Sequence[str]) -> NDArray[np.float64]:
    """The weight of each of these pairs, in this order; the file may hold others too.

    Raises UserError where a pair has none or two, or a weight is no number from 0 on.
    """
    given = read_table(path)
    unusable = pl.col("pair_id").is_null() | ~pl.col("value").is_between(0, np.inf, closed="left").fill_null(False)
    for row, pair, weight, _ in given.filter(unusable).head(1).iter_rows():
        if pair is None:
            raise UserError(f"row {row} of {path} has no pair_id; take it out, or say which pair its weight is of")
        said = "no weight" if weight is None else f"the weight {weight}"
        raise UserError(f"row {row} of {path} gives pair {pair} {said}; a weight must be a finite number, at least 0")
    clashing = given.filter(pl.col("pair_id").is_duplicated()).filter(pl.col("value").n_unique().over("pair_id") > 1)
    if clashing.height:
        pair = clashing["pair_id"][0]
        first, other = clashing.filter(pair_id=pair).unique("value", keep="first", maintain_order=True)["row"][:2]
        raise UserError(f"rows {first} and {other} of {path} give pair {pair} different weights; keep one of them")
    pairs = pl.DataFrame({"pair_id": row_ids}, schema={"pair_id": pl.String})
    found = pairs.join(given.unique("pair_id"), on="pair_id", how="left", maintain_order="left")
    without = found.filter(pl.col("value").is_null())["pair_id"]
    if without.len():
        raise UserError(
            f"{path} has no weight for {without.len()} pairs of the mix, such as {', '.join(without[:10])}; add them, "
            "with weight 0 where they should not count"
        )
    total = found["value"].sum()
    if pairs.height and not 0 < total < np.inf:
        raise UserError(f"the weights in {path} of the pairs of the mix add up to {total:g}; some must be over 0")
    return found["value"].to_numpy(writable=True)


def weights_sha256(path: Path) -> str:
    """Digest of the weights, as part of the identity of a run."""
    if not path.is_file():
        raise UserError(f"no file {path}; --weights names a .parquet, .csv or .jsonl file with pair_id and weight")
    return file_sha256(path)


def read_table(path: Path) -> pl.DataFrame:
    """Columns row, from 1 on, pair_id, weight as it is written, and value: the weight, null where it is no number."""
    try:
        table = scan_weights(path)
        if missing := [name for name in COLUMNS if name not in table.collect_schema()]:
            raise UserError(f"{path} has no column {' and '.join(missing)}; it needs pair_id and weight")
        value = pl.col("weight").cast(pl.Float64, strict=False).alias("value")
        return (
            table.with_row_index("row", offset=1)
            .select("row", pl.col("pair_id").cast(pl.String), "weight", value)
            .collect()
        )
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{path} cannot be read ({reason}); name a .parquet, .csv or .jsonl file") from error


def scan_weights(path: Path) -> pl.LazyFrame:
    """The file's rows, read as needed; a text's columns are texts, so that an id of digits keeps its zeros."""
    match path.suffix:
        case ".parquet":
            return pl.scan_parquet(path, glob=False)
        case ".csv":
            return pl.scan_csv(path, infer_schema=False, glob=False)
        case ".jsonl":
            # its bytes, for a path is always a pattern to it
            return pl.scan_ndjson(path.read_bytes(), schema=dict.fromkeys(COLUMNS, pl.String))
    raise UserError(f"{path} is no .parquet, .csv or .jsonl file with columns pair_id and weight; --weights needs one")
