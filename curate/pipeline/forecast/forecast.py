"""What a build would take: calls, tokens, cost and time, and what the ledger already holds of it.

A pilot makes the first prompts for real; the build need not make them again. Then every stage is
rehearsed on all prompts: it says what it would ask, and nothing is asked.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from curate.config import BuildConfig
from curate.ledger.entries import find_cut_slots
from curate.ledger.ledger import Ledger, chunks
from curate.ledger.prices import Price
from curate.ledger.recorder import Recorder
from curate.models.chat_api import token_bounds
from curate.models.limits import EndpointConfig
from curate.pipeline.build import endpoint_config, most_prompts, pairs_per_prompt, resolve_models, wanted_config
from curate.pipeline.forecast.intervals import NOTHING, Range, share_range, span_ranges, sum_range
from curate.pipeline.forecast.rehearsal import Asked, ToMake, rehearse
from curate.pipeline.rounds import HOPELESS, Wanted, accepted_pairs, expected_rows, first_round, rows_read
from curate.pipeline.stages import Models, make_tables, source_rows
from curate.pipeline.validate import GENERATED, validate_build
from curate.sources.pairs import read_pairs
from curate.sources.prompts import read_prompts
from curate.sources.rows import RowsConfig
from curate.store.store import Store, Table, stage_lines_hidden
from schemas.calls import Request
from schemas.tables import Pair, Prompt

SEEN = 1000
"""Most recorded calls of a stage that its estimate is made from."""


@dataclass(frozen=True)
class StageEstimate:
    """What one stage has still to ask of its model."""

    stage: str
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
class Estimate:
    """What a build would take from here on."""

    rows: Range
    """Rows of the source it would use; a range with `--num-pairs`."""
    pilot: int
    """Rows made for real."""
    accepted: Range | None
    """Pairs accepted of those that the rows of the pilot can give."""
    never_accepted: tuple[str, ...]
    """Wanted flaws of which the pilot gave no accepted pair."""
    stages: list[StageEstimate]
    prices: str
    """Version of the prices."""

    def cost_usd(self) -> Range | None:
        """Of all stages; None if the price of any is unknown."""
        return summed([stage.cost_usd for stage in self.stages])

    def seconds(self) -> Range | None:
        """Of all stages, which run one after another; None if any is unknown."""
        return summed([stage.seconds for stage in self.stages])


@dataclass(frozen=True)
class Pilot:
    """Rows that were made for real."""

    rows: int = 0
    accepted: Mapping[str | None, int] = field(default_factory=dict)
    """Flaw -> accepted pairs."""


@dataclass(frozen=True)
class Call:
    """A recorded call that was made, for all its responses or for those that another one had left cut."""

    input_tokens: int
    output_tokens: int
    seconds: float
    most_input: int
    """The bound of its input tokens."""
    n: int
    """Responses that it was for."""
    max_tokens: int | None
    is_repeat: bool
    """It replaced responses that were cut."""

    @property
    def has_tokens(self) -> bool:
        """The endpoint said how many: no call takes none."""
        return self.input_tokens + self.output_tokens > 0


def dry_run(cfg: BuildConfig) -> Estimate:
    """The estimate of the build `cfg`, after its pilot."""
    validate_build(cfg)
    rows = source_rows(cfg)
    wanted = wanted_config(cfg, cfg.num_pairs) if cfg.num_pairs else None
    with Ledger(cfg.data / "ledger.sqlite") as ledger:
        terms, prices = endpoint_config(cfg)
        models = resolve_models(cfg, terms)
        recorder = Recorder(ledger, terms.allowance, cfg.max_failed_share)
        store = Store(cfg.data, recorder)
        pilot = run_pilot(cfg, rows, models, store, recorder) if cfg.pilot else Pilot()
        source = read_source(cfg, rows, store)
        needed = rows_needed(wanted, rows_read({"source": source}), pilot)
        ends = [round(number) for number in (needed.low, needed.estimate, needed.high)]
        stages = [
            estimated(stage, asked, prices.of(asked.backend.price_name), terms, ledger)
            for stage, asked in rehearse(cfg, source, ends, models, ledger).items()
        ]
    places = pilot.rows * pairs_per_prompt(cfg)
    accepted = share_range(sum(pilot.accepted.values()), places) if places else None
    return Estimate(needed, pilot.rows, accepted, never_accepted(wanted, pilot), stages, prices.version)


def run_pilot(cfg: BuildConfig, rows: RowsConfig, models: Models, store: Store, recorder: Recorder) -> Pilot:
    """Makes the pairs of the first rows."""
    few = min(cfg.pilot, most_prompts(cfg) or cfg.pilot)
    with stage_lines_hidden():
        tables = make_tables(replace(cfg, num_pairs=None), replace(rows, num_rows=few), models, store, recorder)
    return Pilot(rows_read(tables), accepted_pairs(tables))


def read_source(cfg: BuildConfig, rows: RowsConfig, store: Store) -> Table:
    """All rows that the build may use."""
    usable = replace(rows, num_rows=most_prompts(cfg))
    with stage_lines_hidden():
        if cfg.source in GENERATED:
            return store.read(read_prompts, usable, writes=Prompt)
        return store.read(read_pairs, usable, writes=Pair)


def rows_needed(wanted: Wanted | None, rows: int, pilot: Pilot) -> Range:
    """Rows of the source that the build will use, of the `rows` that it may.

    Its rounds are gone through with the acceptance of the pilot, and with both ends of its interval.
    """
    if wanted is None:
        return Range(rows, rows, rows)
    if not pilot.rows:
        first = min(first_round(wanted), rows)
        return Range(first, first, rows)
    places = pilot.rows * wanted.pairs_per_prompt
    shares: dict[str | None, Range] = {None: share_range(sum(pilot.accepted.values()), places)}
    shares |= {flaw: share_range(pilot.accepted.get(flaw, 0), places) for flaw, _ in wanted.quotas}
    rates = {flaw: found.times(wanted.pairs_per_prompt) for flaw, found in shares.items()}
    likely = expected_rows(wanted, {flaw: rate.estimate for flaw, rate in rates.items()}, rows)
    # The fewer are accepted the more rows are needed, so the ends change places.
    fewest = expected_rows(wanted, {flaw: rate.high for flaw, rate in rates.items()}, rows)
    # A flaw that hardly ever comes out takes more rows than one that is given up.
    rare: dict[str | None, float] = {flaw: quota / wanted.pairs / HOPELESS for flaw, quota in wanted.quotas}
    most = expected_rows(wanted, {flaw: max(rate.low, rare.get(flaw, 0.0)) for flaw, rate in rates.items()}, rows)
    # What a round adds is rounded up, so that a little more acceptance can end with a row more.
    return Range(likely, min(fewest, likely), max(most, likely))


def never_accepted(wanted: Wanted | None, pilot: Pilot) -> tuple[str, ...]:
    """Wanted flaws that no accepted pair of the pilot has."""
    quotas = wanted.quotas if wanted and pilot.rows else ()
    return tuple(flaw for flaw, quota in quotas if quota and not pilot.accepted.get(flaw))


def estimated(stage: str, asked: Asked, price: Price | None, terms: EndpointConfig, ledger: Ledger) -> StageEstimate:
    """The sums over the calls still to be made, from those of the stage that are recorded."""
    calls = recorded(ledger, asked.seen[:SEEN])
    fewest, likely, most = (sums(asked, asked.to_make[:number], calls, price, terms) for _, number in asked.marks)
    return StageEstimate(
        stage=stage,
        model=asked.backend.model,
        held=asked.marks[1][0],
        to_make=Range(*(float(asked.marks[i][1]) for i in (1, 0, 2))),
        seen=len(calls),
        with_tokens=sum(call.has_tokens for call in calls),
        input_tokens=span_ranges(fewest.input_tokens, likely.input_tokens, most.input_tokens),
        output_tokens=span_ranges(fewest.output_tokens, likely.output_tokens, most.output_tokens),
        cost_usd=spanning_known(fewest.cost_usd, likely.cost_usd, most.cost_usd),
        seconds=spanning_known(fewest.seconds, likely.seconds, most.seconds),
    )


@dataclass(frozen=True)
class Sums:
    """What some calls will take; None is unknown."""

    input_tokens: Range
    output_tokens: Range
    cost_usd: Range | None
    seconds: Range | None


def sums(
    asked: Asked,
    to_make: Sequence[ToMake],
    calls: Sequence[Call],
    price: Price | None,
    terms: EndpointConfig,
) -> Sums:
    """Over the calls `to_make`, from those that are recorded."""
    is_remote = asked.backend.is_remote
    if not is_remote and all(call.kind != "generate" for call in to_make):
        # A scorer or encoder in this process counts no tokens.
        input_tokens = output_tokens = NOTHING
    else:
        input_tokens = input_of(to_make, [call for call in calls if call.has_tokens], asked.is_made_up)
        output_tokens = output_of(to_make, [call for call in calls if call.has_tokens])
    cost = None
    if price:
        cost = (input_tokens.times(price.input) + output_tokens.times(price.output)).times(1e-6)
    seconds = seconds_of(to_make, [call for call in calls if call.seconds], is_remote, terms)
    if seconds and is_remote:
        seconds = at_least(seconds, limited(len(to_make), input_tokens + output_tokens, terms))
    return Sums(input_tokens, output_tokens, cost, seconds)


def input_of(to_make: Sequence[ToMake], seen: Sequence[Call], is_made_up: bool) -> Range:
    """Input tokens, which go by the length of what is sent.

    Where that is known only the tokens of a length vary. Where it is made up the lengths do too, so that the interval
    is that of whole calls.
    """
    sizes = [float(call.most_input) for call in to_make]
    most = sum(sizes)
    if not is_made_up or not seen:
        return sum_range([call.input_tokens / call.most_input for call in seen], sizes, most)
    usual = sum(call.most_input for call in seen) / len(seen)
    return sum_range([call.input_tokens for call in seen], [size / usual for size in sizes], most)


def output_of(to_make: Sequence[ToMake], seen: Sequence[Call]) -> Range:
    """Output tokens, which go by the number of responses.

    A prompt whose response was cut tends to long ones: what is asked again for that is estimated from such repeats
    alone. The old limit is no lower bound, for they are drawn anew and may end sooner. Calls under another limit
    say nothing; of none that is alike the bounds are all that can be said.
    """
    found = NOTHING
    for is_repeat in (False, True):
        some = [call for call in to_make if call.is_repeat == is_repeat]
        limits = {call.max_tokens for call in some}
        alike = [call for call in seen if call.is_repeat == is_repeat and call.max_tokens in limits]
        per_response = [call.output_tokens / call.n for call in alike]
        found += sum_range(per_response, [float(call.n) for call in some], sum(call.most_output for call in some))
    return found


def seconds_of(to_make: Sequence[ToMake], seen: Sequence[Call], is_remote: bool, terms: EndpointConfig) -> Range | None:
    """Time, which goes by the call of an endpoint, several of which are made at once, and by the response here.

    The calls of one local batch have equal shares of its time: together they are one thing seen.
    """
    if not to_make:
        return NOTHING
    if not seen:
        return None
    if is_remote:
        at_once = max(1, min(terms.concurrency, len(to_make)))
        return sum_range([call.seconds for call in seen], [1.0] * len(to_make), math.inf).times(1 / at_once)
    batches = Counter(call.seconds / call.n for call in seen)
    return sum_range(
        list(batches), [float(call.n) for call in to_make], math.inf, stands_for=[float(c) for c in batches.values()]
    )


def recorded(ledger: Ledger, call_ids: Sequence[str]) -> list[Call]:
    """Of the calls, those that were made; one that found all it needed in another was not."""
    rows = []
    for some, marks in chunks(list(dict.fromkeys(call_ids))):
        query = (
            "SELECT kind, request, sampling, input_tokens, output_tokens, seconds, reused_from FROM calls "
            f"WHERE call_id IN ({marks}) AND state = 'answered' AND failure IS NULL"
        )
        rows += ledger.read(query, some)
    cut: dict[str, int] = {}
    for some, marks in chunks([row[-1] for row in rows if row[-1]]):
        query = f"SELECT call_id, answer FROM calls WHERE call_id IN ({marks})"
        cut |= {call_id: find_cut_slots(call_id, text).slots.count(None) for call_id, text in ledger.read(query, some)}
    found = []
    for kind, content, sampling, input_tokens, output_tokens, seconds, donor in rows:
        request = Request(kind, sampling=json.loads(sampling), **json.loads(content))
        if n := cut[donor] if donor else request.n:
            most_input = token_bounds(request)[1][0]
            limit = request.sampling.get("max_tokens")
            found.append(Call(input_tokens, output_tokens, seconds, most_input, n, limit, donor is not None))
    return found


def limited(calls: int, tokens: Range, terms: EndpointConfig) -> Range:
    """Seconds that the limits a minute take for so much."""
    by_calls = 60 * calls / terms.requests_per_minute if terms.requests_per_minute else 0.0
    by_tokens = tokens.times(60 / terms.tokens_per_minute) if terms.tokens_per_minute else NOTHING
    return at_least(by_tokens, Range(by_calls, by_calls, by_calls))


def at_least(one: Range, other: Range) -> Range:
    return Range(max(one.estimate, other.estimate), max(one.low, other.low), max(one.high, other.high))


def summed(parts: Sequence[Range | None]) -> Range | None:
    """The sum, None if any part is unknown."""
    known = [part for part in parts if part is not None]
    return sum(known, NOTHING) if len(known) == len(parts) else None


def spanning_known(fewest: Range | None, likely: Range | None, most: Range | None) -> Range | None:
    """As `spanning`, None where any is unknown."""
    return span_ranges(fewest, likely, most) if fewest and likely and most else None
