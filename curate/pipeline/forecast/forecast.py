"""Estimate the calls, tokens, cost and time a build still needs.

A pilot makes the first prompts for real; the build need not make them again. Then the calls of every stage are
counted, and what one takes is estimated from those that are recorded.

    print(forecast(BuildConfig(source="sft", dry_run=True)).cost_usd())
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from curate.config import BuildConfig
from curate.ledger.ledger import Ledger
from curate.ledger.prices import Price, Prices
from curate.models.limits import EndpointConfig
from curate.pipeline.build import as_screened, endpoint_config, resolve_models, wanted_config
from curate.pipeline.forecast.calls import Call, StageCalls, count_calls, expect_calls, read_made
from curate.pipeline.forecast.intervals import at_least, sum_known, sum_range
from curate.pipeline.rounds import accepted_pairs, rows_needed, rows_read
from curate.pipeline.source import kind_of, most_prompts, source_rows
from curate.pipeline.stage import BuildState
from curate.pipeline.stages import MAKING, make_table, make_tables
from curate.pipeline.validate import validate_build
from curate.stats import NOTHING, Range, share_range
from curate.store.session import open_session
from curate.store.store import stage_lines_hidden
from curate.store.workspace import Workspace
from schemas.stages import StageName

SEEN = 1000
"""Most recorded calls of a stage that its estimate is made from."""


@dataclass(frozen=True)
class StageForecast:
    """The calls one stage still needs, with their tokens, cost and time."""

    stage: StageName
    model: str
    held: int
    """Calls the ledger has the answer of."""
    to_make: Range
    seen: int
    """Recorded calls that the estimate is made from."""
    with_tokens: int
    """Of them, those whose tokens were counted; of none only the bounds are known."""
    input_tokens: Range
    output_tokens: Range
    cost_usd: Range | None
    """None where the price is unknown."""
    seconds: Range | None
    """None where the time of no call was seen."""


@dataclass(frozen=True)
class Forecast:
    """The calls, tokens, cost and time a build still needs."""

    rows: Range
    """Rows of the source it would use; a range with `--num-pairs`."""
    pilot: int
    """Rows made for real."""
    accepted: Range | None
    """Pairs accepted of those that the rows of the pilot can give."""
    never_accepted: tuple[str, ...]
    """Wanted flaws of which the pilot gave no accepted pair."""
    stages: list[StageForecast]
    prices: str
    """Version of the prices."""

    def cost_usd(self) -> Range | None:
        """Of all stages; None if the price of any is unknown."""
        return sum_known([stage.cost_usd for stage in self.stages])

    def seconds(self) -> Range | None:
        """Of all stages, which run one after another; None if any is unknown."""
        return sum_known([stage.seconds for stage in self.stages])

    def summary(self) -> dict[str, Any]:
        """The JSON object of `curate build --dry-run --json`; an unknown cost or time is null."""
        totals = {"cost_usd": self.cost_usd(), "seconds": self.seconds()}
        return {
            "dry_run": True,
            **as_json(self),
            "stages": [as_json(stage) for stage in self.stages],
            **{name: each and each.to_json() for name, each in totals.items()},
        }


def forecast(cfg: BuildConfig) -> Forecast:
    """The estimate of the build `cfg`, after its pilot."""
    cfg = as_screened(cfg)
    validate_build(cfg)
    rows = source_rows(cfg)
    wanted = wanted_config(cfg, cfg.num_pairs) if cfg.num_pairs else None
    prices = Prices.load(cfg.prices, Workspace(cfg.data).prices)
    endpoints = endpoint_config(cfg, prices)
    with open_session(cfg.data, endpoints.budget, cfg.max_failed_share) as session:
        models = resolve_models(cfg, endpoints, session)
        few = replace(rows, num_rows=min(cfg.pilot, most_prompts(cfg) or cfg.pilot))
        pilot, accepted = 0, dict[str | None, int]()
        with stage_lines_hidden():
            if cfg.pilot:
                tables = make_tables(BuildState(replace(cfg, num_pairs=None), models, session, few))
                pilot, accepted = rows_read(tables), accepted_pairs(tables)
            state = BuildState(cfg, models, session, replace(rows, num_rows=most_prompts(cfg)))
            reader = next(stage for stage in MAKING if stage.shape == "read" and stage.applies(state))
            source = make_table(reader, state)
        needed = rows_needed(wanted, rows_read({StageName(source.manifest.stage): source}), pilot, accepted)
        counts = {round(rows): count_calls(state, source, round(rows)) for rows in sorted(set(needed))}
        expected = [expect_calls(state, counts[round(rows)], end) for end, rows in enumerate(needed)]
        stages = [
            estimate_stage(stage, prices.of(stage[1].backend.price_name), endpoints, session.ledger)
            for stage in zip(*expected, strict=True)
        ]
    places = pilot * kind_of(cfg).pairs_per_prompt(cfg)
    share = share_range(sum(accepted.values()), places) if places else None
    quotas = wanted.quotas if wanted and pilot else ()
    never = tuple(flaw for flaw, quota in quotas if quota and not accepted.get(flaw))
    return Forecast(needed, pilot, share, never, stages, prices.version)


def estimate_stage(
    counted: tuple[StageCalls, ...], price: Price | None, endpoints: EndpointConfig, ledger: Ledger
) -> StageForecast:
    """The sums over the calls still to be made: the likely, the fewest and the most."""
    likely, fewest, most = counted
    made = read_made(ledger, likely.seen[:SEEN])
    sums = [sum_tokens(calls, made) for calls in counted]
    inputs, outputs = (span(ends) for ends in zip(*sums, strict=True))
    cost = inputs.times(price.input * 1e-6).plus(outputs.times(price.output * 1e-6)) if price else None
    times = [sum_seconds(calls, made, Range.plus(*both), endpoints) for calls, both in zip(counted, sums, strict=True)]
    known = [seconds for seconds in times if seconds]
    return StageForecast(
        stage=likely.name,
        model=likely.backend.model,
        held=likely.held,
        to_make=Range(likely.count, fewest.count, most.count),
        seen=len(made),
        with_tokens=sum(call.has_tokens for call in made),
        input_tokens=inputs,
        output_tokens=outputs,
        cost_usd=cost,
        seconds=span(known) if len(known) == len(times) else None,
    )


def sum_tokens(calls: StageCalls, made: list[Call]) -> tuple[Range, Range]:
    """Input and output tokens of the calls still to be made.

    The texts of calls about rows that are there are known, and so is the share of the most tokens that such texts
    take. A prompt whose response was truncated tends to long ones: what is asked again for that is estimated from such
    repeats alone. Calls under another limit say nothing of output.
    """
    inputs = outputs = NOTHING
    # A scorer in this process counts no tokens.
    if not calls.backend.is_remote and calls.calls.model == "scorer":
        return inputs, outputs
    counted = [call for call in made if call.has_tokens]
    most_input, most_output = (calls.expected * most for most in calls.most_expected)
    for is_repeat in (False, True):
        some = [call for call in calls.to_make if call.is_repeat == is_repeat]
        expected = 0.0 if is_repeat else calls.expected
        limits = {call.max_tokens for call in some} or {call.max_tokens for call in counted}
        alike = [call for call in counted if call.is_repeat == is_repeat and call.max_tokens in limits]
        known = sum(call.input_tokens for call in some) / max(1, len(some))
        shares = [call.input_share for call in alike or counted]
        inputs = inputs.plus(sum_range(shares, len(some), len(some), times=1).times(known))
        inputs = inputs.plus(sum_range([call.input_tokens for call in alike or counted], expected, most_input))
        most = sum(call.output_tokens for call in some) + (0.0 if is_repeat else most_output)
        outputs = outputs.plus(sum_range([call.output_tokens for call in alike], len(some) + expected, most))
    return inputs, outputs


def sum_seconds(calls: StageCalls, made: list[Call], tokens: Range, endpoints: EndpointConfig) -> Range | None:
    """Seconds of the calls still to be made, which take `tokens`; None if the time of none was seen."""
    times = [call.seconds for call in made if call.seconds]
    if not calls.count or not times:
        return None if calls.count else NOTHING
    seconds = sum_range(times, calls.count, math.inf)
    if calls.backend.is_remote:
        seconds = seconds.times(1 / max(1.0, min(endpoints.concurrency, calls.count)))
        if endpoints.tokens_per_minute:
            seconds = at_least(seconds, tokens.times(60 / endpoints.tokens_per_minute))
        if endpoints.requests_per_minute:
            least = 60 * calls.count / endpoints.requests_per_minute
            seconds = at_least(seconds, Range(least, least, least))
    return seconds


def span(sums: Sequence[Range]) -> Range:
    """Range over three amounts of work: the likely estimate, between the ends of the least and the most."""
    likely, fewest, most = sums
    return Range(likely.estimate, min(fewest.low, likely.low), max(most.high, likely.high))


def as_json(found: Forecast | StageForecast) -> dict[str, Any]:
    """The fields as JSON, a range by its estimate and its ends."""
    values = {field.name: getattr(found, field.name) for field in fields(found)}
    return {name: value.to_json() if isinstance(value, Range) else value for name, value in values.items()}
