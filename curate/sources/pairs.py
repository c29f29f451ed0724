"""Read ready pairs of a file or a hub dataset, in the format its columns show."""

import math
from collections.abc import Callable, Iterator
from decimal import Decimal
from itertools import chain
from typing import Any

from curate.sources import hh, sharegpt, ultrafeedback
from curate.sources.messages import PairText, UnusableRow
from curate.sources.rows import BadRow, Row, RowsConfig, none_usable, raw_rows, raw_text
from curate.store.store import Part, dropped_row, make_part
from schemas.errors import UserError
from schemas.ids import Occurrences, pair_key, prompt_group, prompt_key
from schemas.names import FLAWS
from schemas.stages import StageName
from schemas.tables import Pair

STAGE = StageName.READ_PAIRS
EXAMPLE = '{"prompt": "Why is the sky blue?", "chosen": "Air scatters blue light.", "rejected": "It mirrors the sea."}'

Parse = Callable[[Row], PairText]

PAIRS_PER_PART = 4096
"""More than prompts, for nothing has to be generated: a million pairs are a few hundred files."""


FORMATS = {"sharegpt": sharegpt, "ultrafeedback": ultrafeedback, "hh": hh}
"""In the order they are tried."""


def read_pairs(cfg: RowsConfig) -> Iterator[Part]:
    """Parts of `PAIRS_PER_PART` pairs, the last one shorter; unusable rows come with the pairs they lie among."""
    parse, source = detect_format(cfg)
    ids = Occurrences()
    is_any_usable = False
    rows: list[dict[str, Any]] = []
    dropped: list[dict[str, Any]] = []
    for row in source:
        try:
            rows.append(pair_row(row, parse, ids))
        except UnusableRow as error:
            dropped.append(dropped_row(STAGE, error.reason, raw_text(row)))
        if len(rows) == PAIRS_PER_PART:
            yield make_part(Pair, rows, dropped)
            is_any_usable, rows, dropped = True, [], []
    if not rows and not is_any_usable:
        raise none_usable(cfg, len(dropped), dropped[0]["raw"], EXAMPLE)
    if rows or dropped:
        yield make_part(Pair, rows, dropped)


def detect_format(cfg: RowsConfig) -> tuple[Parse, Iterator[Row | BadRow]]:
    """The parser of the first row that shows a format, and all rows, those before it included."""
    rows = raw_rows(cfg)
    passed: list[Row | BadRow] = []
    for row in rows:
        passed.append(row)
        if isinstance(row, dict):
            for form in FORMATS.values():
                if form.recognize(row):
                    return form.parse, chain(passed, rows)
    columns = next((list(row) for row in passed if isinstance(row, dict)), None)
    if columns is None:
        raise none_usable(cfg, len(passed), raw_text(passed[0]), EXAMPLE)
    expected = "; ".join(f"{name}: {form.COLUMNS}" for name, form in FORMATS.items())
    raise UserError(f"{cfg.path} holds no pairs of a known format: found {', '.join(columns)}; expected {expected}")


def pair_row(row: Row | BadRow, parse: Parse, ids: Occurrences) -> dict[str, Any]:
    if isinstance(row, BadRow):
        raise UnusableRow("unreadable_row")
    messages, chosen, rejected = parse(row)
    given = (row.get("score_chosen"), row.get("score_rejected"))
    scores = tuple(finite(score) for score in given)
    # two nulls are a pair that nobody scored, as an export of unscored pairs writes them
    is_scored = given != (None, None)
    return {
        "pair_id": ids.unique(pair_key(messages, chosen, rejected)),
        "prompt_id": prompt_key(messages),
        "prompt_group": prompt_group(messages),
        "messages": messages,
        "chosen": chosen,
        "rejected": rejected,
        "score_chosen": scores[0],
        "score_rejected": scores[1],
        "failed_score": is_scored and None in scores,
        "scorer": "imported" if is_scored else None,
        "origin": "real",
        "flaw": row["flaw"] if row.get("flaw") in FLAWS else None,
        "chosen_call": None,
        "rejected_call": None,
        "chosen_finish": None,
        "rejected_finish": None,
    }


def finite(score: Any) -> float | None:
    """A number as a finite float; None for anything else."""
    if isinstance(score, bool) or not isinstance(score, int | float | Decimal):
        return None
    try:
        value = float(score)
    except OverflowError:
        return None
    return value if math.isfinite(value) else None
