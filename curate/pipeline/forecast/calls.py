"""Count the calls a build still needs: those its stages declare, less those cached in the ledger.

Each stage is run on the rows that are there, with a recorder that looks up and asks nobody. Rows that cannot be there
yet, for the calls before them are not made, are estimated: their number times the calls the stage declares for one.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import polars as pl

from curate.ledger.entries import call_key, request_rest
from curate.ledger.ledger import Ledger
from curate.ledger.recorder import Recorder, WhyLost, nothing_lost
from curate.ledger.report import read_spent
from curate.models.chat_api import CHARACTERS_PER_TOKEN, token_bounds
from curate.models.judge_prompts import thinking_request
from curate.models.resolve import LazyModel
from curate.pipeline.stage import NO_CALLS, PAIRS, BuildState, Calls, Stage
from curate.pipeline.stages import MAKING
from curate.stats import Range, share_range
from curate.store.store import Table
from schemas.calls import Backend, CallResult, Request
from schemas.ids import digest
from schemas.stages import StageName, pairs_stage


@dataclass(frozen=True)
class Call:
    """A call: made, with what it took, or still to be made, with the most it can take."""

    input_tokens: int
    output_tokens: int
    max_tokens: int | None
    is_repeat: bool
    """It is for responses in place of those that a smaller `--max-tokens` truncated."""
    seconds: float = 0.0
    input_share: float = 1.0
    """Of the most that its texts could take."""

    @property
    def has_tokens(self) -> bool:
        """The endpoint said how many: no call takes none."""
        return self.input_tokens + self.output_tokens > 0


@dataclass
class StageCalls:
    """The calls of one stage about some rows of the source."""

    name: StageName
    calls: Calls
    backend: LazyModel
    held: int = 0
    """Calls whose answer the ledger has."""
    seen: list[str] = field(default_factory=list)
    """Recorded calls of the stage, those under a smaller `max_tokens` included."""
    to_make: list[Call] = field(default_factory=list)
    expected: float = 0.0
    """Calls about rows that are not there yet."""
    most_expected: tuple[int, int] = (0, 0)
    """Most tokens in and out of such a call."""
    arriving: int = 0
    """Prompts whose rows are there and reach the stage."""
    leaving: int = 0
    """Of these, prompts that leave it."""
    missing: int = 0
    """Calls of these prompts without an answer, a call that two of them share counted twice."""
    partial: list[float] = field(default_factory=list)
    """Of each call with some of its responses recorded, the share to be asked for."""

    @property
    def count(self) -> float:
        """All calls still to be made."""
        return len(self.to_make) + self.expected


class DryRecorder(Recorder):
    """A recorder that looks up the ledger and makes no call: a call that is not cached has failed."""

    def __init__(self, ledger: Ledger, counted: StageCalls) -> None:
        super().__init__(ledger)
        self._counted = counted

    def ask(self, backend: Backend, requests: Sequence[Request], why_lost: WhyLost = nothing_lost) -> list[CallResult]:
        """The recorded answers; the others are counted."""
        ids = [call_key(backend, request) for request in requests]
        first = dict(zip(ids, requests, strict=True))
        found, counted = self.ledger.look(backend, list(first.items())), self._counted
        answers, times = dict(found.answers), Counter(ids)
        counted.held += len(answers)
        counted.seen += answers
        for call_id, request in first.items():
            if call_id in answers:
                continue
            held = found.held.get(call_id)
            if held and held.is_whole:
                counted.held += 1
                answers[call_id] = held.refusal or CallResult(tuple(slot for slot in held.slots if slot))
                continue
            donor = held.reused_from if held else None
            counted.seen += [donor] if donor else []
            rest = request_rest(request, held.slots) if held else request
            counted.to_make.append(
                Call(*most_tokens(rest), rest.sampling.get("max_tokens"), is_repeat=donor is not None)
            )
            if held and (slots := tuple(slot for slot in held.slots if slot)):
                counted.partial += times[call_id] * [1 - len(slots) / request.n]
                answers[call_id] = CallResult(slots)
            else:
                counted.missing += times[call_id]
                answers[call_id] = CallResult(failure="failed_call", error="not made yet")
        return [answers[call_id] for call_id in ids]


def count_calls(state: BuildState, source: Table, rows: int) -> list[StageCalls]:
    """The calls of each stage about rows that are there, for the first `rows` of the source, in order of the stages."""
    stages = [stage for stage in MAKING if stage.shape == "map" and stage.applies(state)]
    counted = [StageCalls(stage.name, stage.calls, getattr(state.models, stage.calls.model)) for stage in stages]
    left, met = rows, set[str]()
    for index in range(len(source.manifest.parts)):
        part = source.part(index).head(left)
        left -= part.height
        if state.kind.is_generated:
            # Equal prompts share all their calls, those about rows that are not there yet too.
            keys = pl.Series([digest(messages) for messages in part["messages"].to_list()], dtype=pl.String)
            part = part.filter(keys.is_first_distinct() & ~keys.is_in(list(met)))
            met |= set(keys)
        if part.is_empty():
            continue
        frames = {StageName(source.manifest.stage): part}
        for stage, calls in zip(stages, counted, strict=True):
            count_part(state, stage, calls, part, frames)
    return counted


def count_part(
    state: BuildState, stage: Stage, calls: StageCalls, part: pl.DataFrame, frames: dict[StageName, pl.DataFrame]
) -> None:
    """Run a stage on the rows of a part that are there, and count its calls."""
    tools = stage.tools(state)
    if stage.calls is not NO_CALLS:
        tools["recorder"] = DryRecorder(state.session.ledger, calls)
    inputs = [frames[pairs_stage(frames) if name == PAIRS else name] for name in stage.inputs]
    made = frames[stage.name] = stage.run(*inputs, stage.config(state), **tools).rows
    calls.arriving += inputs[-1]["prompt_id"].n_unique()
    calls.leaving += made["prompt_id"].n_unique() if "prompt_id" in made.columns else 0
    if calls.calls.example:
        unknown = CHARACTERS_PER_TOKEN * state.cfg.most_tokens * calls.calls.responses(state)
        for messages in part["messages"].to_list():
            inward, outward = most_tokens(calls.calls.example(state, messages), unknown)
            most = calls.most_expected
            calls.most_expected = (max(most[0], inward), max(most[1], outward))


def expect_calls(state: BuildState, counted: Sequence[StageCalls], end: int) -> list[StageCalls]:
    """The same with the calls expected about rows that are not there yet; stages without calls are left out.

    `end` picks from the range of the share of prompts that reach a stage: 0 the estimate, 1 the low and 2 the high end.
    """
    pending, partial, found = 0.0, list[float](), list[StageCalls]()
    not_made: list[tuple[float, float]] = []
    """Prompts whose calls are not made in a stage, and the share of all prompts that reach it."""
    for calls in counted:
        complete = counted[0].arriving - sum(prompts for prompts, _ in not_made)
        reach = share_range(min(calls.arriving, complete), complete) if complete > 0 else Range(1.0, 0.0, 1.0)
        waiting = sum(prompts * min(1.0, reach[end] / before) for prompts, before in not_made)
        per_prompt, shown = calls.calls.per_prompt(state), calls.calls.responses(state)
        new = sum(1 - (1 - share) ** shown for share in partial)
        found.append(replace(calls, expected=(waiting + new) * per_prompt))
        pending += new + calls.missing / max(1, per_prompt)
        partial = calls.partial
        # Prompts that a stage loses are first those whose calls are not made, then those that it drops.
        if lost := min(pending, calls.arriving - calls.leaving):
            not_made.append((lost, reach.estimate))
            pending -= lost
    return [calls for calls in found if calls.calls is not NO_CALLS]


def most_tokens(request: Request, unknown: int = 0) -> tuple[int, int]:
    """The most tokens that a call can take in, `unknown` of them beside its texts, and give out.

    A judge may be asked again, with room for its reasoning.
    """
    asked = [request, *filter(None, [thinking_request(request) if request.kind == "score" else None])]
    inward, outward = (sum(ends) for ends in zip(*(token_bounds(each)[1] for each in asked), strict=True))
    return inward + unknown * len(asked), outward


def read_made(ledger: Ledger, call_ids: Sequence[str]) -> list[Call]:
    """What the recorded calls took."""
    return [
        Call(
            spent.input_tokens,
            spent.output_tokens,
            spent.request.sampling.get("max_tokens"),
            spent.is_repeat,
            spent.seconds,
            spent.input_tokens / most_tokens(spent.request)[0],
        )
        for spent in read_spent(ledger, list(dict.fromkeys(call_ids)))
    ]
