"""An estimate as a table for people, and as JSON."""

import math
from collections.abc import Callable
from typing import Any

from tqdm import tqdm

from curate.cli.columns import align_columns
from curate.ledger.prices import usd
from curate.pipeline.forecast.forecast import Estimate, StageEstimate
from curate.pipeline.forecast.intervals import Range
from curate.pipeline.rounds import HOPELESS

COLUMNS = ("stage", "held", "to make", "input tokens", "output tokens", "USD", "time")


def bill(estimate: Estimate) -> str:
    """One line a stage, each figure with its 95% interval where it has one."""
    rows = [COLUMNS, *(stage_row(stage) for stage in estimate.stages)]
    rows.append(("total", "", "", "", "", cost(estimate.cost_usd()), time(estimate.seconds())))
    lines = align_columns(rows)
    about = f"for {counted(estimate.rows)} rows of the source, after a pilot of {estimate.pilot}"
    if estimate.accepted:
        about += f" in which {percent(estimate.accepted)} of the pairs were accepted"
    lines += [about, f"prices of {estimate.prices}; in brackets 95% intervals; nothing was built"]
    lines += [
        f"no pair with the flaw {flaw} was accepted in the pilot; it is given up after {HOPELESS} prompts without one"
        for flaw in estimate.never_accepted
    ]
    to_make = [stage for stage in estimate.stages if stage.to_make.high]
    if any(not stage.with_tokens and stage.input_tokens.high for stage in to_make):
        lines.append("where the tokens of no call are known, tokens and USD are the most they can be")
    if any(stage.seconds is None for stage in to_make):
        lines.append("where no call was seen, the time is unknown")
    return "\n".join(lines)


def bill_json(estimate: Estimate) -> dict[str, Any]:
    """What `curate build --dry-run --json` prints; an unknown cost or time is null."""
    return {
        "dry_run": True,
        "rows": ends(estimate.rows),
        "pilot": estimate.pilot,
        "accepted": ends(estimate.accepted),
        "never_accepted": list(estimate.never_accepted),
        "stages": [
            {
                "stage": stage.stage,
                "model": stage.model,
                "held": stage.held,
                "to_make": ends(stage.to_make),
                "seen": stage.seen,
                "with_tokens": stage.with_tokens,
                "input_tokens": ends(stage.input_tokens),
                "output_tokens": ends(stage.output_tokens),
                "cost_usd": ends(stage.cost_usd),
                "seconds": ends(stage.seconds),
            }
            for stage in estimate.stages
        ],
        "cost_usd": ends(estimate.cost_usd()),
        "seconds": ends(estimate.seconds()),
        "prices": estimate.prices,
    }


def stage_row(stage: StageEstimate) -> tuple[str, ...]:
    name = stage.stage.replace("_", " ")
    tokens = (counted(stage.input_tokens), counted(stage.output_tokens))
    return (name, f"{stage.held:,}", counted(stage.to_make), *tokens, cost(stage.cost_usd), time(stage.seconds))


def counted(value: Range) -> str:
    return with_ends(value, lambda number: f"{number:,.0f}")


def percent(value: Range) -> str:
    return with_ends(value, lambda number: f"{number:.0%}")


def cost(value: Range | None) -> str:
    """Without the unit, which the head of the column names."""
    return usd(None) if value is None else with_ends(value, lambda number: usd(number).removesuffix(" USD"))


def time(value: Range | None) -> str:
    return "unknown" if value is None else with_ends(value, lambda seconds: tqdm.format_interval(round(seconds)))


def with_ends(value: Range, shown: Callable[[float], str]) -> str:
    """`12 (10 to 15)`, or `12` where all three read the same or one thing seen gives no interval."""
    if math.isinf(value.high):
        return f"{shown(value.estimate)} (seen once)"
    estimate, low, high = shown(value.estimate), shown(value.low), shown(value.high)
    return estimate if low == estimate == high else f"{estimate} ({low} to {high})"


def ends(value: Range | None) -> dict[str, float | None] | None:
    """A range as JSON; an end that nothing bounds is null."""
    if value is None:
        return None
    high = None if math.isinf(value.high) else round(value.high, 6)
    return {"estimate": round(value.estimate, 6), "low": round(value.low, 6), "high": high}
