"""Build exactly `--num-pairs` accepted pairs: add prompts round by round until that many pass.

The rows of a source are shuffled first and taken then, so the prompts of a round are the first of the
next one, and the ledger has all that was asked about them. What a round adds follows from the rows of
the one before, so the same recorded responses always end with the same prompts.
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from curate.stats import Range, share_range
from curate.store.store import Table, stage_lines_hidden
from schemas.stages import StageName, pairs_stage

log = logging.getLogger(__name__)

FIRST_SHARE = 1.2
"""Prompts of the first round for each pair wanted."""
HOPELESS = 30
"""Prompts after which a flaw that no accepted pair has is given up."""
MARGIN = 1.1
"""Prompts added for each that the acceptance so far says is missing."""


@dataclass(frozen=True)
class Wanted:
    """The pairs the rounds must reach."""

    pairs: int
    pairs_per_prompt: int = 1
    """Most that one prompt can give."""
    max_prompts: int | None = None
    quotas: tuple[tuple[str, int], ...] = ()
    """Flaw -> accepted pairs of it."""


def build_until(wanted: Wanted, make: Callable[[int], dict[StageName, Table]]) -> dict[StageName, Table]:
    """The tables of the first round with enough accepted pairs, or of the last that is allowed or possible.

    `make(rows)` gives the tables of a build from so many rows of the source; one line is logged a round.
    """
    rows = first_round(wanted)
    number = 0
    while True:
        number += 1
        with stage_lines_hidden():
            tables = make(rows)
        used, accepted = rows_read(tables), accepted_pairs(tables)
        more = to_add(wanted, accepted, used)
        is_end = used < rows or rows == wanted.max_prompts
        if not is_end and wanted.max_prompts:
            more = min(more, wanted.max_prompts - rows)
        log.info(
            "round %d: %d of %d accepted from %d prompts%s",
            number,
            sum(accepted.values()),
            wanted.pairs,
            used,
            f"; adding {more}{for_flaws(wanted, accepted)}" if more and not is_end else "",
        )
        if is_end or not more:
            return tables
        rows += more


def for_flaws(wanted: Wanted, accepted: Mapping[str | None, int]) -> str:
    """The flaws that are still short where there are enough pairs of all flaws together."""
    if sum(accepted.values()) < wanted.pairs:
        return ""
    found = [(flaw, quota, accepted.get(flaw, 0)) for flaw, quota in wanted.quotas]
    short = ", ".join(f"{so_far} of {quota} {flaw}" for flaw, quota, so_far in found if so_far < quota)
    return f" because there are only {short}"


def first_round(wanted: Wanted) -> int:
    """Rows of the first round."""
    rows = math.ceil(FIRST_SHARE * wanted.pairs / wanted.pairs_per_prompt)
    return min(rows, wanted.max_prompts or rows)


def to_add(wanted: Wanted, accepted: Mapping[str | None, int], used: int) -> int:
    """Rows to add after `used` rows gave the `accepted` pairs of each flaw; 0 when there are enough."""
    found = [(wanted.pairs, sum(accepted.values()))]
    return still_missing([*found, *((quota, accepted.get(flaw, 0)) for flaw, quota in wanted.quotas)], used)


def still_missing(found: Sequence[tuple[int, int]], used: int) -> int:
    """Rows to add where `used` rows gave so many of the pairs wanted: (wanted, accepted) of all, then of each flaw.

    At most as many again, because the acceptance of a few rows says little. A flaw that was asked for `HOPELESS`
    times and never accepted is given up: it would use up every prompt there is.
    """
    pairs = found[0][0]
    added = [
        math.ceil(MARGIN * (number - so_far) * used / so_far) if so_far else used
        for place, (number, so_far) in enumerate(found)
        if number > so_far and not (place and not so_far and used * number >= HOPELESS * pairs)
    ]
    return min(max(added, default=0), used)


def rows_needed(wanted: Wanted | None, rows: int, pilot: int, accepted: Mapping[str | None, int]) -> Range:
    """Rows of the source that the build will use, of the `rows` that it may.

    Its rounds are gone through with the pairs accepted of the `pilot` rows, and with both ends of that interval.
    """
    if wanted is None:
        return Range(rows, rows, rows)
    if not pilot:
        first = min(first_round(wanted), rows)
        return Range(first, first, rows)
    places = pilot * wanted.pairs_per_prompt
    shares: dict[str | None, Range] = {None: share_range(sum(accepted.values()), places)}
    shares |= {flaw: share_range(accepted.get(flaw, 0), places) for flaw, _ in wanted.quotas}
    rates = {flaw: found.times(wanted.pairs_per_prompt) for flaw, found in shares.items()}
    likely = expected_rows(wanted, {flaw: rate.estimate for flaw, rate in rates.items()}, rows)
    # The fewer are accepted the more rows are needed, so the ends change places.
    fewest = expected_rows(wanted, {flaw: rate.high for flaw, rate in rates.items()}, rows)
    # A flaw that hardly ever comes out takes more rows than one that is given up.
    rare: dict[str | None, float] = {flaw: quota / wanted.pairs / HOPELESS for flaw, quota in wanted.quotas}
    most = expected_rows(wanted, {flaw: max(rate.low, rare.get(flaw, 0.0)) for flaw, rate in rates.items()}, rows)
    # What a round adds is rounded up, so that a little more acceptance can end with a row more.
    return Range(likely, min(fewest, likely), max(most, likely))


def expected_rows(wanted: Wanted, rates: Mapping[str | None, float], rows: int) -> int:
    """Rows that `build_until` would end with, of the `rows` it may use at most.

    `rates` are accepted pairs for each row, of every flaw with a quota; None stands for all pairs together.
    """
    numbers: list[tuple[str | None, int]] = [(None, wanted.pairs), *wanted.quotas]
    used = first_round(wanted)
    while used < rows:
        # Rounded first, for 0.29 · 100 is a little less than 29.
        more = still_missing([(number, math.floor(round(rates[flaw] * used, 9))) for flaw, number in numbers], used)
        if not more:
            break
        used += more
    return min(used, rows)


def flaw_quotas(shares: Sequence[tuple[str, float]], pairs: int) -> tuple[tuple[str, int], ...]:
    """Flaw -> its part of `pairs` by the largest remainders, ties to the flaw named first; the sum is `pairs`."""
    total = sum(share for _, share in shares)
    exact = [pairs * share / total for _, share in shares]
    quotas = [math.floor(part) for part in exact]
    # Rounded, so that shares which are equal but for their last digit tie.
    by_remainder = sorted(range(len(shares)), key=lambda i: -round(exact[i] - quotas[i], 9))
    for i in by_remainder[: pairs - sum(quotas)]:
        quotas[i] += 1
    return tuple((flaw, quota) for (flaw, _), quota in zip(shares, quotas, strict=True))


def rows_read(tables: Mapping[StageName, Table]) -> int:
    """Rows of the source behind the tables of a build, unusable ones included."""
    source = next(iter(tables.values()))
    return source.rows + sum(source.dropped.values())


def accepted_pairs(tables: Mapping[StageName, Table]) -> dict[str | None, int]:
    """Flaw -> pairs that pass all rules but that of their number."""
    pairs, screened = tables[pairs_stage(tables)], tables[StageName.SCREEN_PAIRS]
    passed = screened.scan().filter(pl.col("dropped_by").is_null() | (pl.col("dropped_by") == "over_quota"))
    flaws = pairs.scan().select("pair_id", pl.col("flaw").cast(pl.String))
    return dict(passed.join(flaws, on="pair_id").group_by("flaw").len().collect().rows())
