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
from curate.pipeline.stages import PAIRS, STAGES, BuildState, Calls, Stage
from curate.store.store import Table
from schemas.calls import Backend, CallResult, Request
from schemas.stages import StageName, pairs_stage


@dataclass(frozen=True)
class CallToMake:
    """A call that is not recorded, with the most it can take."""

    most_input: int
    """Tokens."""
    most_output: int
    max_tokens: int | None
    is_repeat: bool
    """It is for responses in place of those that a smaller `--max-tokens` truncated."""


@dataclass
class StageCalls:
    """The calls of one stage about some rows of the source."""

    stage: Stage
    calls: Calls
    backend: LazyModel
    held: int = 0
    """Calls whose answer the ledger has."""
    seen: list[str] = field(default_factory=list)
    """Recorded calls of the stage, those under a smaller `max_tokens` included."""
    to_make: list[CallToMake] = field(default_factory=list)
    expected: float = 0.0
    """Calls about rows that are not there yet."""
    most_expected: tuple[int, int] = (0, 0)
    """Most tokens in and out of such a call."""

    @property
    def count(self) -> float:
        """All calls still to be made."""
        return len(self.to_make) + self.expected


@dataclass
class Flow:
    """Prompts that reach a stage and leave it, of those whose rows are there."""

    arriving: int = 0
    leaving: int = 0
    missing: float = 0.0
    """Of those arriving, prompts with calls still to be made."""


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
            else:
                donor = held.reused_from if held else None
                counted.seen += [donor] if donor else []
                counted.to_make.append(call_to_make(request_rest(request, held.slots) if held else request, donor))
                answers[call_id] = CallResult(failure="failed_call", error="not made yet")
        return [answers[call_id] for call_id in ids]


def call_to_make(request: Request, donor: str | None) -> CallToMake:
    """The call with its bounds; `donor` holds those of its responses that ended by themselves."""
    _, (most_input, most_output) = token_bounds(request)
    return CallToMake(most_input, most_output, request.sampling.get("max_tokens"), donor is not None)


def count_calls(state: BuildState, source: Table, rows: int) -> list[StageCalls]:
    """The calls that each stage still needs for the first `rows` of the source, in the order of the stages."""
    stages = [stage for stage in STAGES if not stage.is_screening and stage.shape == "map" and stage.applies(state)]
    counted = {
        stage.name: StageCalls(stage, stage.calls, getattr(state, stage.calls.model)) for stage in stages if stage.calls
    }
    flows = {stage.name: Flow() for stage in stages}
    left = rows
    for index in range(len(source.manifest.parts)):
        part = source.part(index).head(left)
        left -= part.height
        if part.height:
            run_dry(state, StageName(source.manifest.stage), part, stages, counted, flows)
            for calls in counted.values():
                bound_expected(state, calls, part)
    waiting = pending = 0.0
    for stage in stages:
        flow = flows[stage.name]
        if stage.name in counted:
            counted[stage.name].expected = waiting * counted[stage.name].calls.per_prompt(state)
        pending += flow.missing
        lost = flow.arriving - flow.leaving
        not_made = min(pending, lost)
        complete = flow.arriving - not_made
        survival = min(1.0, flow.leaving / complete) if complete >= 1 else 1.0
        waiting, pending = (waiting + not_made) * survival, pending - not_made
    return list(counted.values())


def run_dry(
    state: BuildState,
    source: StageName,
    part: pl.DataFrame,
    stages: Sequence[Stage],
    counted: dict[StageName, StageCalls],
    flows: dict[StageName, Flow],
) -> None:
    """Run the stages on the rows of one part that are there; adds to `counted` and `flows`."""
    frames = {source: part}
    for stage in stages:
        inputs = [frames[pairs_stage(frames) if name == PAIRS else name] for name in stage.inputs]
        tools = stage.tools(state)
        if stage.name in counted:
            tools["recorder"] = DryRecorder(state.session.ledger, counted[stage.name])
            before = len(counted[stage.name].to_make)
        frames[stage.name] = stage.run(*inputs, stage.config(state), **tools).rows
        flow = flows[stage.name]
        flow.arriving += inputs[-1]["prompt_id"].n_unique()
        flow.leaving += frames[stage.name].get_column("prompt_id").n_unique() if has_prompts(frames[stage.name]) else 0
        if stage.name in counted:
            made = len(counted[stage.name].to_make) - before
            flow.missing += made / max(1, counted[stage.name].calls.per_prompt(state))


def has_prompts(rows: pl.DataFrame) -> bool:
    """Whether the rows of a stage go on to another one, prompt by prompt."""
    return "prompt_id" in rows.columns


def bound_expected(state: BuildState, calls: StageCalls, part: pl.DataFrame) -> None:
    """Raise the bound of a call about rows that are not there yet to that of the longest prompt."""
    if calls.calls.example is None:
        return
    unknown = CHARACTERS_PER_TOKEN * state.cfg.max_tokens * calls.calls.responses(state)
    for messages in part["messages"].to_list():
        most_input, most_output = token_bounds(calls.calls.example(state, messages))[1]
        most = calls.most_expected
        calls.most_expected = (max(most[0], most_input + unknown), max(most[1], most_output))


@dataclass(frozen=True)
class MadeCall:
    """A recorded call that was made, for all its responses or for those that another one had left truncated."""

    input_tokens: int
    output_tokens: int
    seconds: float
    max_tokens: int | None
    is_repeat: bool
    """It replaced responses that were truncated."""

    @property
    def has_tokens(self) -> bool:
        """The endpoint said how many: no call takes none."""
        return self.input_tokens + self.output_tokens > 0


def read_made(ledger: Ledger, call_ids: Sequence[str]) -> list[MadeCall]:
    """Of the calls, those that were made; one that found all it needed in another was not."""
    rows = []
    for some, marks in chunks(list(dict.fromkeys(call_ids))):
        query = (
            "SELECT request, sampling, input_tokens, output_tokens, seconds, reused_from FROM calls "
            f"WHERE call_id IN ({marks}) AND state = 'answered' AND failure IS NULL"
        )
        rows += ledger.read(query, some)
    cut: dict[str, int] = {}
    for some, marks in chunks([row[-1] for row in rows if row[-1]]):
        query = f"SELECT call_id, answer FROM calls WHERE call_id IN ({marks})"
        cut |= {call_id: find_cut_slots(call_id, text).slots.count(None) for call_id, text in ledger.read(query, some)}
    return [
        MadeCall(input_tokens, output_tokens, seconds, json.loads(sampling).get("max_tokens"), donor is not None)
        for _, sampling, input_tokens, output_tokens, seconds, donor in rows
        if not donor or cut[donor]
    ]
