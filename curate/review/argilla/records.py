"""Records of a dataset in Argilla: sent in parts, and looked up by our ids."""

import html
import json
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl
from tqdm import tqdm

from curate.ledger.progress import SECONDS_BETWEEN_LINES, has_width
from curate.review.argilla.client import ArgillaClient, NetworkError
from curate.review.argilla.dataset import Dataset
from curate.review.display import LONGEST, display_messages, display_text

log = logging.getLogger(__name__)

MOST_RECORDS = 500
"""A request, by Argilla's limit."""
MOST_BYTES = 5_000_000
"""A request, about; a single record may be larger."""
MOST_TERMS = 250
"""Values of a filter, by Argilla's limit."""


def send_records(
    server: ArgillaClient, dataset: Dataset, rows: pl.DataFrame, *, seed: int, suggest: bool
) -> Iterator[set[str]]:
    """Send rows of `ReviewRecord` in random order, and give the ids of each part that the server has taken.

    Raises NetworkError, with how far it came, where the network is lost.
    """
    # Random, so that a reviewer's queue has every sampler in it from the start.
    rows = rows.sort("record_id").sample(fraction=1.0, shuffle=True, seed=seed)
    rows = rows.with_columns(preferred=preferred_response() if suggest else pl.lit(None, pl.String))
    done, started = 0, time.monotonic()
    last_line = started
    with tqdm(
        desc=f"sending '{dataset.name}'",
        unit=" records",
        total=len(rows),
        file=sys.stderr,
        leave=False,
        dynamic_ncols=True,
        delay=1.0,
        disable=not has_width(),
    ) as bar:
        for part in split_requests(make_record(row, dataset) for row in rows.iter_rows(named=True)):
            try:
                server.put(f"/datasets/{dataset.id}/records/bulk", {"items": part})
            except NetworkError as error:
                raise NetworkError(
                    f"{error}; {done:,} of {len(rows):,} records are there: give the same command again for the rest"
                ) from error
            yield {record["external_id"] for record in part}
            done += len(part)
            bar.update(len(part))
            now = time.monotonic()
            if bar.disable and now - last_line >= SECONDS_BETWEEN_LINES:
                last_line, rate = now, done / (now - started)
                left = tqdm.format_interval((len(rows) - done) / rate)
                log.info(
                    "sending '%s': %d of %d records, %.0f a second, %s left", dataset.name, done, len(rows), rate, left
                )


def preferred_response() -> pl.Expr:
    """The response that the scorer prefers, as a value of `better`; null where nothing was scored."""
    margin = pl.col("margin")
    a_wins = pl.col("a_is_chosen") == (margin > 0)
    return pl.when(margin == 0).then(pl.lit("equal")).when(a_wins).then(pl.lit("a")).when(~a_wins).then(pl.lit("b"))


def make_record(row: dict[str, Any], dataset: Dataset) -> dict[str, Any]:
    """A row of `ReviewRecord` as Argilla takes it."""
    record: dict[str, Any] = {
        "external_id": row["record_id"],
        "fields": {
            "prompt": display_messages(row["messages"], escape_text),
            "response_a": escape_text(row["response_a"]),
            "response_b": escape_text(row["response_b"]),
        },
        "metadata": {"source": row["source"], "flags": row["flags"] or ["none"], "margin_band": row["band"]},
    }
    if row["preferred"]:
        record["suggestions"] = [
            {"question_id": dataset.better_id, "value": row["preferred"], "agent": "scorer", "type": "model"}
        ]
    return record


def escape_text(text: str, empty: str = "(empty response)") -> str:
    """`text` as `display_text` gives it, escaped for a page that renders HTML: text of a model must not run there.

    Argilla's limit is on the escaped text, so of one with many signs less is shown.
    """
    longest = min(LONGEST, len(text))
    while len(found := html.escape(display_text(text, empty, longest), quote=False)) > LONGEST:
        longest = longest * LONGEST // len(found)
    return found


def split_requests(records: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Records in parts that one request may hold."""
    part: list[dict[str, Any]] = []
    part_bytes = 0
    for record in records:
        size = len(json.dumps(record, ensure_ascii=False).encode())
        if part and (len(part) == MOST_RECORDS or part_bytes + size > MOST_BYTES):
            yield part
            part, part_bytes = [], 0
        part.append(record)
        part_bytes += size
    if part:
        yield part


def has_cut_text() -> pl.Expr:
    """True for a row with a text that is shortened for display."""
    contents = pl.col("messages").list.eval(pl.element().struct.field("content").str.len_chars() > LONGEST).list.any()
    return pl.any_horizontal(contents, pl.col("response_a", "response_b").str.len_chars() > LONGEST)


def find_records(server: ArgillaClient, dataset: Dataset, record_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Those of the records that the dataset holds, by our ids, with all responses."""
    found: dict[str, dict[str, Any]] = {}
    for start in range(0, len(record_ids), MOST_TERMS):
        some = list(record_ids[start : start + MOST_TERMS])
        scope = {"entity": "record", "property": "external_id"}
        answer = server.search(
            f"/datasets/{dataset.id}/records/search",
            {"filters": {"type": "and", "and": [{"type": "terms", "scope": scope, "values": some}]}},
            include="responses",
            limit=MOST_TERMS,
        )
        found |= {item["record"]["external_id"]: item["record"] for item in answer["items"]}
    return found
