"""Count the calls a build still needs: those its stages declare, less those cached in the ledger.

Each stage is run on the rows that are there, with a recorder that looks up and asks nobody. Rows that cannot be there
yet, for the calls before them are not made, are estimated: their number times the calls the stage declares for one.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import polars as pl

from curate.ledger.entries import call_key, find_cut_slots, request_rest
from curate.ledger.ledger import Ledger, chunks
from curate.ledger.recorder import Recorder
from curate.models.chat_api import CHARACTERS_PER_TOKEN, token_bounds
from curate.models.resolve import LazyModel
from curate.pipeline.stages import NO_CALLS, PAIRS, STAGES, BuildState, Calls, Stage
from curate.store.store import Table
from schemas.calls import Backend, CallResult, Request
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
    missing: float = 0.0
    """Of those arriving, prompts with calls still to be made."""

    @property
    def count(self) -> float:
        """All calls still to be made."""
        return len(self.to_make) + self.expected


class DryRecorder(Recorder):
    """A recorder that looks up the ledger and makes no call: a call that is not cached has failed."""

    def __init__(self, ledger: Ledger, counted: StageCalls) -> None:
        super().__init__(ledger)
        self._counted = counted

    def ask(self, backend: Backend, requests: Sequence[Request]) -> list[CallResult]:
        """The recorded answers; the others are counted."""
        ids = [call_key(backend, request) for request in requests]
        first = dict(zip(ids, requests, strict=True))
        found, counted = self.ledger.look(backend, list(first.items())), self._counted
        answers = dict(found.answers)
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
                Call(*token_bounds(rest)[1], rest.sampling.get("max_tokens"), is_repeat=donor is not None)
            )
            answers[call_id] = CallResult(failure="failed_call", error="not made yet")
        return [answers[call_id] for call_id in ids]


def count_calls(state: BuildState, source: Table, rows: int) -> list[StageCalls]:
    """The calls that each stage still needs for the first `rows` of the source, in the order of the stages."""
    stages = [stage for stage in STAGES if not stage.is_screening and stage.shape == "map" and stage.applies(state)]
    counted = {
        stage.name: StageCalls(stage.name, stage.calls, getattr(state.models, stage.calls.model)) for stage in stages
    }
    left = rows
    for index in range(len(source.manifest.parts)):
        part = source.part(index).head(left)
        left -= part.height
        if part.height:
            run_dry(state, StageName(source.manifest.stage), part, stages, counted)
    waiting = pending = 0.0
    for calls in counted.values():
        calls.expected = waiting * calls.calls.per_prompt(state)
        pending += calls.missing
        # Prompts that a stage loses are first those whose calls are not made, then those that it drops.
        not_made = min(pending, calls.arriving - calls.leaving)
        complete = calls.arriving - not_made
        survival = min(1.0, calls.leaving / complete) if complete >= 1 else 1.0
        waiting, pending = (waiting + not_made) * survival, pending - not_made
    return [calls for calls in counted.values() if calls.calls is not NO_CALLS]


def run_dry(
    state: BuildState,
    source: StageName,
    part: pl.DataFrame,
    stages: Sequence[Stage],
    counted: dict[StageName, StageCalls],
) -> None:
    """Run the stages on the rows of one part that are there, and count."""
    frames = {source: part}
    for stage in stages:
        calls = counted[stage.name]
        tools, before = stage.tools(state), len(calls.to_make)
        if stage.calls is not NO_CALLS:
            tools["recorder"] = DryRecorder(state.session.ledger, calls)
        inputs = [frames[pairs_stage(frames) if name == PAIRS else name] for name in stage.inputs]
        made = frames[stage.name] = stage.run(*inputs, stage.config(state), **tools).rows
        calls.arriving += inputs[-1]["prompt_id"].n_unique()
        calls.leaving += made["prompt_id"].n_unique() if "prompt_id" in made.columns else 0
        calls.missing += (len(calls.to_make) - before) / max(1, calls.calls.per_prompt(state))
        if example := calls.calls.example:
            unknown = CHARACTERS_PER_TOKEN * state.cfg.max_tokens * calls.calls.responses(state)
            bounds = (token_bounds(example(state, messages))[1] for messages in part["messages"].to_list())
            inward, outward = zip(calls.most_expected, *((most + unknown, out) for most, out in bounds), strict=True)
            calls.most_expected = (max(inward), max(outward))


def read_made(ledger: Ledger, call_ids: Sequence[str]) -> list[Call]:
    """Of the calls, those that were made; one that found all it needed in another was not."""
    rows = []
    for some, marks in chunks(list(dict.fromkeys(call_ids))):
        query = (
            "SELECT input_tokens, output_tokens, sampling, reused_from, seconds FROM calls "
            f"WHERE call_id IN ({marks}) AND state = 'answered' AND failure IS NULL"
        )
        rows += ledger.read(query, some)
    cut: dict[str, int] = {}
    for some, marks in chunks([donor for *_, donor, _ in rows if donor]):
        query = f"SELECT call_id, answer FROM calls WHERE call_id IN ({marks})"
        cut |= {call_id: find_cut_slots(call_id, text).slots.count(None) for call_id, text in ledger.read(query, some)}
    return [
        Call(inward, outward, json.loads(sampling).get("max_tokens"), donor is not None, seconds)
        for inward, outward, sampling, donor, seconds in rows
        if not donor or cut[donor]
    ]
