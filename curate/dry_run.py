"""What a build would take: calls, tokens, cost and time, and what the ledger already holds of it.

A pilot makes the first prompts for real; the build need not make them again. Then every stage is
rehearsed on all prompts: it says what it would ask, and nothing is asked.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import polars as pl

from curate.backends.calls import Answer, Backend, Request, Response
from curate.backends.chat_api import token_bounds
from curate.backends.ledger import Ledger, call_key, chunks, rest_of
from curate.backends.limits import Terms
from curate.backends.recorder import Recorder
from curate.build import (
    Models,
    most_prompts,
    named_models,
    pairs_per_prompt,
    read_terms,
    sampled_by,
    scored_by,
    screened_pairs,
    source_rows,
    written_by,
)
from curate.config import BuildConfig
from curate.estimate import NOTHING, Range, share, total
from curate.generate.contrast import write_contrasts
from curate.generate.self_sample import sample_responses
from curate.parts import Part, frame
from curate.prices import Price
from curate.refusals import GENERATED, check
from curate.rounds import FIRST_SHARE, accepted_pairs, rows_read, stage_lines_hidden
from curate.score import score_pairs, score_responses
from curate.screen.screen import prompt_request
from curate.sources.pairs import read_pairs
from curate.sources.prompts import read_prompts
from curate.sources.rows import RowsConfig
from curate.store import Store, Table
from schemas.tables import Pair, Prompt

SEEN = 1000
"""Most recorded calls of a stage that its estimate is made from."""
UNSEEN_RESPONSE = "word " * 50
"""Stands for a response that is not drawn yet where the next stage is rehearsed."""


@dataclass(frozen=True)
class StageEstimate:
    """What one stage has still to ask of its model."""

    stage: str
    model: str
    held: int
    """Calls the ledger has the answer of."""
    to_make: Range
    seen: int
    """Recorded calls that the estimate is made from; of none only the bounds are known."""
    input_tokens: Range
    output_tokens: Range
    cost_usd: Range | None
    """None where the price is unknown."""
    seconds: Range | None
    """None where no call was seen."""


@dataclass(frozen=True)
class Estimate:
    """What a build would take from here on."""

    rows: Range
    """Rows of the source it would use; a range with `--num-pairs`."""
    pilot: int
    """Rows made for real."""
    accepted: Range | None
    """Pairs accepted of those that the rows of the pilot can give."""
    stages: list[StageEstimate]
    prices: str
    """Version of the prices."""

    def cost_usd(self) -> Range | None:
        """Of all stages; None if the price of any is unknown."""
        return summed([stage.cost_usd for stage in self.stages])

    def seconds(self) -> Range | None:
        """Of all stages, which run one after another; None if any is unknown."""
        return summed([stage.seconds for stage in self.stages])


@dataclass
class Asked:
    """What one stage asks in a rehearsal."""

    backend: Backend
    held: list[str] = field(default_factory=list)
    to_make: list[Request] = field(default_factory=list)


class Rehearsal(Recorder):
    """A recorder that knows what the ledger holds, and makes no call."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        self.asked: dict[str, Asked] = {}

    def begin(self, stage: str, backend: Backend) -> None:
        """The calls from here on are of this stage."""
        self._now = self.asked.setdefault(stage, Asked(backend))

    def ask(self, backend: Backend, requests: Sequence[Request]) -> list[Answer]:
        """The recorded answers, and a made-up one for each call that would be made."""
        ids = [call_key(backend, request) for request in requests]
        first = dict(zip(ids, requests, strict=True))
        found = self.ledger.look(backend, list(first.items()))
        answers = dict(found.answers)
        self._now.held += found.answers
        for call_id, request in first.items():
            if call_id not in answers:
                held = found.held.get(call_id)
                if held and held.is_whole:
                    self._now.held.append(call_id)
                else:
                    self._now.to_make.append(rest_of(request, held.slots) if held else request)
                answers[call_id] = made_up(request)
        return [answers[call_id] for call_id in ids]


def made_up(request: Request) -> Answer:
    """As many responses as asked for, or a score; a pair cannot be made up."""
    if request.kind != "generate":
        return Answer(values=(0.0,))
    if request.schema:
        return Answer(failure="failed_call", error="not asked in a rehearsal")
    return Answer(tuple(Response(f"{i} {UNSEEN_RESPONSE}", "stop") for i in range(request.n)))


def dry_run(cfg: BuildConfig) -> Estimate:
    """The estimate of the build `cfg`, after its pilot."""
    check(cfg)
    rows = source_rows(cfg)
    with Ledger(cfg.data / "ledger.sqlite") as ledger:
        terms, prices = read_terms(cfg)
        models = named_models(cfg, terms)
        recorder = Recorder(ledger, terms.allowance, cfg.max_failed)
        store = Store(cfg.data, recorder)
        pilot, accepted = run_pilot(cfg, rows, models, store, recorder) if cfg.pilot else (0, None)
        source = read_source(cfg, rows, store)
        needed = rows_needed(cfg, rows_read({"source": source}), accepted)
        rehearsal = rehearse(cfg, source, round(needed.estimate), models, ledger)
        stages = [
            estimated(stage, asked, needed, prices.of(asked.backend.price_name), terms, ledger)
            for stage, asked in rehearsal.asked.items()
        ]
    return Estimate(needed, pilot, accepted, stages, prices.version)


def run_pilot(
    cfg: BuildConfig, rows: RowsConfig, models: Models, store: Store, recorder: Recorder
) -> tuple[int, Range | None]:
    """Makes the pairs of the first rows; returns how many rows there were, and the share of pairs accepted."""
    few = min(cfg.pilot, most_prompts(cfg) or cfg.pilot)
    with stage_lines_hidden():
        tables = screened_pairs(replace(cfg, num_pairs=None), replace(rows, num_rows=few), models, store, recorder)
    pilot = rows_read(tables)
    places = pilot * pairs_per_prompt(cfg)
    return pilot, share(sum(accepted_pairs(tables).values()), places) if places else None


def read_source(cfg: BuildConfig, rows: RowsConfig, store: Store) -> Table:
    """All rows that the build may use."""
    usable = replace(rows, num_rows=most_prompts(cfg))
    with stage_lines_hidden():
        if cfg.source in GENERATED:
            return store.read(read_prompts, usable, writes=Prompt)
        return store.read(read_pairs, usable, writes=Pair)


def rows_needed(cfg: BuildConfig, rows: int, accepted: Range | None) -> Range:
    """Rows of the source that the build will use, of the `rows` there are."""
    if not cfg.num_pairs:
        return Range(rows, rows, rows)
    wanted = cfg.num_pairs / pairs_per_prompt(cfg)
    found = accepted or Range(1 / FIRST_SHARE, 0.0, 1.0)
    # The fewer are accepted the more rows are needed, so the ends change places.
    needed = [math.ceil(wanted / part) if part else rows for part in (found.estimate, found.high, found.low)]
    return Range(*(float(min(rows, number)) for number in needed))


def rehearse(cfg: BuildConfig, source: Table, rows: int, models: Models, ledger: Ledger) -> Rehearsal:
    """What the stages would ask about the first `rows` rows of the source."""
    rehearsal = Rehearsal(ledger)
    generator, scorer, embedder = models.generator, models.scorer, models.embedder
    for index in range(len(source.manifest.parts)):
        pairs = prompts = source.part(index).head(rows)
        rows -= prompts.height
        if cfg.source == "sft" and generator and scorer:
            rehearsal.begin("sample_responses", generator)
            drawn = sampled_by(cfg, generator)
            candidates = sample_responses(prompts, drawn, generator=generator, recorder=rehearsal).rows
            rehearsal.begin("score_responses", scorer)
            score_responses(prompts, candidates, scored_by(scorer), scorer=scorer, recorder=rehearsal)
        elif cfg.source == "gpt" and generator:
            rehearsal.begin("write_contrasts", generator)
            asked = written_by(cfg, generator)
            pairs = with_unseen(prompts, write_contrasts(prompts, asked, generator=generator, recorder=rehearsal))
        if scorer and cfg.source != "sft":
            rehearsal.begin("score_pairs", scorer)
            score_pairs(pairs, scored_by(scorer), scorer=scorer, recorder=rehearsal)
        rehearsal.begin("screen_pairs", embedder)
        rehearsal.ask(embedder, [prompt_request(messages) for messages in prompts["messages"].to_list()])
    return rehearsal


def with_unseen(prompts: pl.DataFrame, written: Part) -> pl.DataFrame:
    """The written pairs, and one made-up pair for each that will come of the prompts still to be asked about."""
    unseen = prompts.join(written.dropped.filter(pl.col("reason") == "failed_call"), on="prompt_id", how="semi")
    known = prompts.height - unseen.height
    accepted = written.rows.height / known if known else 1.0
    rows = [
        {
            **row,
            "pair_id": row["prompt_id"],
            "chosen": UNSEEN_RESPONSE,
            "rejected": f"not {UNSEEN_RESPONSE}",
            "failed_score": False,
            "origin": "synthetic",
        }
        for row in unseen.head(round(accepted * unseen.height)).to_dicts()
    ]
    return pl.concat([written.rows, frame(Pair, rows)])


def estimated(
    stage: str, asked: Asked, rows: Range, price: Price | None, terms: Terms, ledger: Ledger
) -> StageEstimate:
    """The sums over the calls still to be made, from those of the stage that are recorded."""
    seen = recorded(ledger, asked.held[:SEEN])
    sizes = [token_bounds(request)[1] for request in asked.to_make]
    most_input, most_output = sum(size for size, _ in sizes), sum(size for _, size in sizes)
    samples = [float(request.n) for request in asked.to_make]
    is_remote = asked.backend.is_remote
    # Tokens in go by the length of what is sent, tokens out and local work by the number of responses.
    input_tokens = total([call.input_tokens / call.size for call in seen], [size for size, _ in sizes], most_input)
    output_tokens = total([call.output_tokens / call.n for call in seen], samples, most_output)
    seconds = None
    if seen:
        per_call = [call.seconds if is_remote else call.seconds / call.n for call in seen]
        # The calls of one local batch have equal shares of its time: together they are one thing seen.
        per_call = per_call if is_remote else sorted(set(per_call))
        work = total(per_call, [1.0] * len(samples) if is_remote else samples, math.inf)
        at_once = max(1, min(terms.concurrency, len(samples))) if is_remote else 1
        seconds = at_least(work.times(1 / at_once), limited(len(samples), input_tokens + output_tokens, terms))
    if not is_remote and all(request.kind != "generate" for request in asked.to_make):
        # A scorer or encoder in this process counts no tokens.
        input_tokens = output_tokens = NOTHING
    cost = None
    if price:
        cost = (input_tokens.times(price.input) + output_tokens.times(price.output)).times(1e-6)
    return StageEstimate(
        stage=stage,
        model=asked.backend.model,
        held=len(asked.held),
        to_make=Range(*(float(len(samples)),) * 3).over(rows),
        seen=len(seen),
        input_tokens=input_tokens.over(rows),
        output_tokens=output_tokens.over(rows),
        cost_usd=cost and cost.over(rows),
        seconds=seconds and seconds.over(rows),
    )


@dataclass(frozen=True)
class Call:
    """A recorded call."""

    input_tokens: int
    output_tokens: int
    seconds: float
    size: int
    """The bound of its input tokens."""
    n: int


def recorded(ledger: Ledger, call_ids: Sequence[str]) -> list[Call]:
    """Of the calls, those that were made for themselves in one go."""
    found = []
    for some, marks in chunks(call_ids):
        query = (
            "SELECT kind, request, sampling, input_tokens, output_tokens, seconds FROM calls "
            f"WHERE call_id IN ({marks}) AND reused_from IS NULL AND failure IS NULL"
        )
        for kind, request, sampling, input_tokens, output_tokens, seconds in ledger.read(query, some):
            asked = Request(kind, sampling=json.loads(sampling), **json.loads(request))
            found.append(Call(input_tokens, output_tokens, seconds, token_bounds(asked)[1][0], asked.n))
    return found


def limited(calls: int, tokens: Range, terms: Terms) -> Range:
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
