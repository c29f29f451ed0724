"""What every stage of a build would ask: it is asked of nobody, and what no model has said yet is made up."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import polars as pl

from curate.config import BuildConfig
from curate.generate.contrast import write_pairs
from curate.generate.self_sample import sample_responses
from curate.ledger.entries import PartialResponses, call_key, request_rest
from curate.ledger.ledger import Ledger
from curate.ledger.recorder import Recorder
from curate.models.chat_api import CHARACTERS_PER_TOKEN, token_bounds
from curate.models.resolve import LazyModel
from curate.pipeline.pairing import make_pairs
from curate.pipeline.stages import Models, contrast_config, pair_config, sample_config, score_config
from curate.score.probes import probe_requests
from curate.score.score import is_pairwise, score_pairs, score_responses
from curate.store.store import Part, Table, make_frame
from schemas.calls import Backend, CallResult, Kind, Request, Response
from schemas.tables import Pair


@dataclass(frozen=True)
class ToMake:
    """A call that would be made."""

    kind: Kind
    n: int
    max_tokens: int | None
    most_input: int
    """Tokens."""
    most_output: int
    is_repeat: bool
    """It is for responses in place of those that were cut."""


@dataclass
class Asked:
    """What one stage asks in a rehearsal."""

    backend: Backend
    is_made_up: bool
    """What it asks about is in part made up, so that the length of it is not known."""
    held: int = 0
    """Calls whose answer the ledger has."""
    seen: list[str] = field(default_factory=list)
    """Recorded calls of the stage, those under a smaller `max_tokens` included."""
    to_make: list[ToMake] = field(default_factory=list)
    marks: list[tuple[int, int]] = field(default_factory=list)
    """`held` and the length of `to_make` after each number of rows that was asked about."""

    def mark(self) -> None:
        self.marks.append((self.held, len(self.to_make)))


@dataclass
class Lengths:
    """Lengths of texts, in characters."""

    characters: int = 0
    count: int = 0

    def add(self, texts: Iterable[str]) -> None:
        for text in texts:
            self.characters += len(text)
            self.count += 1

    def mean(self, of_none: int) -> int:
        """The mean, rounded up; `of_none` where there is no text."""
        return math.ceil(self.characters / self.count) if self.count else of_none


class Rehearsal(Recorder):
    """A recorder that knows what the ledger holds, and makes no call."""

    def __init__(self, ledger: Ledger, cfg: BuildConfig) -> None:
        super().__init__(ledger)
        self.asked: dict[str, Asked] = {}
        self._max_tokens = cfg.max_tokens
        self._drawn = Lengths()
        """Of the recorded responses."""
        self._written = Lengths()
        """Of the chosen and rejected responses of the recorded pairs."""
        self.unasked: set[str] = set()
        """Calls of the stage about the rows at hand whose answer is made up."""
        self._known_prompts = 0
        """Prompts whose answer, a pair or none, is recorded."""

    def begin(self, stage: str, backend: Backend, is_made_up: bool = False) -> None:
        """The calls from here on are of this stage."""
        self._now = self.asked.setdefault(stage, Asked(backend, is_made_up))
        self.unasked = set()

    def ask(self, backend: Backend, requests: Sequence[Request]) -> list[CallResult]:
        """The recorded answers, and made-up responses in place of those that would be asked for."""
        ids = [call_key(backend, request) for request in requests]
        first = dict(zip(ids, requests, strict=True))
        found = self.ledger.look(backend, list(first.items()))
        answers = dict(found.answers)
        self._now.held += len(answers)
        self._now.seen += answers
        # Of whole answers alone: what ended by itself under a smaller limit is shorter than the rest.
        for call_id, answer in answers.items():
            if first[call_id].kind == "generate":
                self._drawn.add(response.text for response in answer.responses)
        for call_id, request in first.items():
            if call_id in answers:
                continue
            held = found.held.get(call_id)
            donor = held.reused_from if held else None
            slots: PartialResponses = held.slots if held else [None] * request.n
            if donor:
                self._now.seen.append(donor)
            if held and held.is_whole:
                self._now.held += 1
                answers[call_id] = held.refusal or CallResult(tuple(slot for slot in slots if slot))
            else:
                self._now.to_make.append(to_make(request_rest(request, slots), is_repeat=donor is not None))
                self.unasked.add(call_id)
                answers[call_id] = self._made_up(request, slots)
        return [answers[call_id] for call_id in ids]

    def with_unseen(self, prompts: pl.DataFrame, written: Part) -> pl.DataFrame:
        """The written pairs, and one made-up pair for each that will come of the prompts still to be asked about."""
        unseen = prompts.join(written.dropped.filter(pl.col("reason") == "failed_call"), on="prompt_id", how="semi")
        self._known_prompts += prompts.height - unseen.height
        self._written.add(text for row in written.rows.select("chosen", "rejected").rows() for text in row)
        accepted = self._written.count / 2 / self._known_prompts if self._known_prompts else 1.0
        # Both are written in one response.
        text = words(self._written.mean(CHARACTERS_PER_TOKEN * self._max_tokens // 2))
        rows = [
            {
                **row,
                "pair_id": row["prompt_id"],
                "chosen": text,
                "rejected": f"not {text}",
                "failed_score": False,
                "origin": "synthetic",
            }
            for row in unseen.head(round(accepted * unseen.height)).to_dicts()
        ]
        return pl.concat([written.rows, make_frame(Pair, rows)])

    def _made_up(self, request: Request, slots: PartialResponses) -> CallResult:
        """The responses that are there and others beside them, or a score; a pair cannot be made up."""
        if request.kind != "generate":
            return CallResult(values=(0.0,))
        if request.schema:
            return CallResult(failure="failed_call", error="not asked in a rehearsal")
        text = words(self._drawn.mean(CHARACTERS_PER_TOKEN * self._max_tokens))
        return CallResult(tuple(slot or Response(f"{i} {text}", "stop") for i, slot in enumerate(slots)))


def to_make(request: Request, is_repeat: bool) -> ToMake:
    """The call and its bounds."""
    _, (most_input, most_output) = token_bounds(request)
    return ToMake(request.kind, request.n, request.sampling.get("max_tokens"), most_input, most_output, is_repeat)


def words(length: int) -> str:
    """A text of so many characters."""
    return ("word " * (length // 5 + 1))[:length]


def rehearse(cfg: BuildConfig, source: Table, ends: Sequence[int], models: Models, ledger: Ledger) -> dict[str, Asked]:
    """What each stage would ask about the first rows of the source, with a mark at each of `ends`, which ascend."""
    rehearsal = Rehearsal(ledger, cfg)
    done = passed = 0
    for rows in pieces(source, ends):
        rehearse_rows(cfg, rows, models, rehearsal)
        done += rows.height
        while passed < len(ends) and ends[passed] <= done:
            passed += 1
            for asked in rehearsal.asked.values():
                asked.mark()
    # Rows that cannot be used count among those of a source, so that its end may come first.
    for asked in rehearsal.asked.values():
        while len(asked.marks) < len(ends):
            asked.mark()
    return rehearsal.asked


def pieces(source: Table, ends: Sequence[int]) -> Iterator[pl.DataFrame]:
    """The parts of the source, divided at each of `ends` and with nothing after the last."""
    start = 0
    for index in range(len(source.manifest.parts)):
        part = source.part(index)
        stop = start + part.height
        bounds = sorted({start, *(end for end in ends if start < end < stop), min(stop, max(ends))})
        for at, until in pairwise(bounds):
            if at >= start:
                yield part.slice(at - start, until - at)
        start = stop


def rehearse_rows(cfg: BuildConfig, rows: pl.DataFrame, models: Models, rehearsal: Rehearsal) -> None:
    """Every stage that asks a model, on some rows of the source."""
    generator, scorer = models.generator, models.scorer
    paired = rows
    if cfg.source == "sft" and generator and scorer:
        paired = rehearse_sampling(cfg, rows, generator, scorer, rehearsal)
    elif cfg.source == "gpt" and generator:
        rehearsal.begin("write_pairs", generator)
        asked = contrast_config(cfg, generator)
        paired = rehearsal.with_unseen(rows, write_pairs(rows, asked, generator=generator, recorder=rehearsal))
    if scorer and cfg.source != "sft":
        rehearsal.begin("score_pairs", scorer, is_made_up=cfg.source == "gpt")
        score_pairs(paired, score_config(scorer), scorer=scorer, recorder=rehearsal)
    if scorer and not cfg.no_probes and not is_pairwise(scorer):
        rehearsal.begin("score_probes", scorer)
        requests = [
            request for messages in paired["messages"] for request in probe_requests(scorer, messages.to_list())
        ]
        rehearsal.ask(scorer, requests)


def rehearse_sampling(
    cfg: BuildConfig, rows: pl.DataFrame, generator: LazyModel, scorer: LazyModel, rehearsal: Rehearsal
) -> pl.DataFrame:
    """The prompts that have a pair, and those of which that is not known, as some of their scores are made up."""
    rehearsal.begin("sample_responses", generator)
    candidates = sample_responses(rows, sample_config(cfg, generator), generator=generator, recorder=rehearsal).rows
    unasked = rehearsal.unasked
    rehearsal.begin("score_responses", scorer, is_made_up=True)
    scores = score_responses(rows, candidates, score_config(scorer), scorer=scorer, recorder=rehearsal).rows
    made_up = pl.DataFrame({"call_id": sorted(unasked | rehearsal.unasked)}, schema={"call_id": pl.String})
    called = pl.concat([table.select("prompt_id", "call_id") for table in (candidates, scores)])
    unknown = called.join(made_up, on="call_id", how="semi").select("prompt_id")
    pairs = make_pairs(rows, candidates, scores, pair_config(cfg)).rows.select("prompt_id")
    return rows.join(pl.concat([unknown, pairs]).unique(), on="prompt_id", how="semi", maintain_order="left")
