"""Format a forecast as a table."""

import math
from collections.abc import Callable

from tqdm import tqdm

from curate.cli.columns import align_columns
from curate.ledger.prices import usd
from curate.pipeline.forecast.forecast import Forecast, StageForecast
from curate.pipeline.rounds import HOPELESS
from curate.stats import Range

COLUMNS = ("stage", "cached", "to make", "input tokens", "output tokens", "USD", "time")


def forecast_lines(found: Forecast) -> list[str]:
    """One line a stage, each figure with its 95% interval where it has one."""
    rows = [COLUMNS, *(stage_cells(stage) for stage in found.stages)]
    rows.append(("total", "", "", "", "", format_cost(found.cost_usd()), format_time(found.seconds())))
    about = f"for {format_count(found.rows)} rows of the source, after a pilot of {found.pilot}"
    if found.accepted:
        about += f" in which {format_share(found.accepted)} of the pairs were accepted"
    lines = [*align_columns(rows), about]
    lines.append(f"prices of {found.prices}; in brackets 95% intervals; nothing was built")
    lines += [
        f"no pair with the flaw {flaw} was accepted in the pilot; it is given up after {HOPELESS} prompts without one"
        for flaw in found.never_accepted
    ]
    to_make = [stage for stage in found.stages if stage.to_make.high]
    if any(not stage.with_tokens and stage.input_tokens.high for stage in to_make):
        lines.append("where the tokens of no call are known, tokens and USD are the most they can be")
    if any(stage.seconds is None for stage in to_make):
        lines.append("where no call was seen, the time is unknown")
    return lines


def stage_cells(stage: StageForecast) -> tuple[str, ...]:
    """A stage as a row of the table."""
    name = stage.stage.replace("_", " ")
    tokens = (format_count(stage.input_tokens), format_count(stage.output_tokens))
    calls = (f"{stage.held:,}", format_count(stage.to_make))
    return (name, *calls, *tokens, format_cost(stage.cost_usd), format_time(stage.seconds))


def format_count(value: Range) -> str:
    return format_range(value, lambda number: f"{number:,.0f}")


def format_share(value: Range) -> str:
    return format_range(value, lambda number: f"{number:.0%}")


def format_cost(value: Range | None) -> str:
    """Without the unit, which the head of the column names."""
    return usd(None) if value is None else format_range(value, lambda number: usd(number).removesuffix(" USD"))


def format_time(value: Range | None) -> str:
    if value is None:
        return "unknown"
    return format_range(value, lambda seconds: tqdm.format_interval(round(seconds)))


def format_range(value: Range, shown: Callable[[float], str]) -> str:
    """`12 (10 to 15)`, or `12` where all three read the same or one thing seen gives no interval."""
    if math.isinf(value.high):
        return f"{shown(value.estimate)} (seen once)"
    estimate, low, high = shown(value.estimate), shown(value.low), shown(value.high)
    return estimate if low == estimate == high else f"{estimate} ({low} to {high})"
