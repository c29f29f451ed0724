"""Rows of a build or a mix as all export formats take them, read a batch at a time."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol

import polars as pl

from curate.mix.concerns import build_concerns, mix_concerns
from curate.mix.public_names import public_model
from curate.screen.pii import mask_personal
from curate.store.mixes import Mix, Split, as_pairs
from curate.store.workspace import Workspace
from schemas.stages import StageName

Messages = list[dict[str, str]]

ROWS_PER_BATCH = 4096
TOOL_ROLES = ("tool_call", "tool")


@dataclass(frozen=True)
class ExportRow:
    """One pair, whatever it comes from."""

    prompt: Messages
    """Turns with our own roles."""
    chosen: str
    rejected: str
    tools: str | None
    """JSON list of the tools that the conversation may call."""
    pair_id: str
    prompt_id: str
    prompt_group: str
    source: str
    score_chosen: float | None
    score_rejected: float | None
    scorer: str | None
    origin: str
    flaw: str | None
    license: str
    reasoning_chosen: str | None
    reasoning_rejected: str | None

    @property
    def system(self) -> str:
        """The system text, empty where there is none."""
        return self.prompt[0]["content"] if self.prompt and self.prompt[0]["role"] == "system" else ""

    @property
    def turns(self) -> Messages:
        """The prompt without its system text."""
        return [turn for turn in self.prompt if turn["role"] != "system"]

    @property
    def has_tools(self) -> bool:
        return self.tools is not None or any(turn["role"] in TOOL_ROLES for turn in self.prompt)


class ExportSource(Protocol):
    """What is exported."""

    @property
    def kind(self) -> Literal["mix", "build"]: ...

    @property
    def name(self) -> str: ...

    @property
    def splits(self) -> tuple[Split, ...]: ...

    def has_tool_turns(self) -> bool:
        """Whether a tool is called in any conversation."""
        ...

    def rows(self, split: Split) -> Iterator[ExportRow]:
        """The rows of a split in training order."""
        ...

    def concerns(self) -> list[str]:
        """What may keep the rows from being passed on."""
        ...


@dataclass(frozen=True)
class BuildSource:
    """The pairs of a build that screening kept; prompt groups that their source holds out are held out here too."""

    workspace: Workspace
    name: str
    kind: Literal["mix", "build"] = "build"

    @property
    def splits(self) -> tuple[Split, ...]:
        return ("train", "heldout") if self._heldout_groups else ("train",)

    def has_tool_turns(self) -> bool:
        return any_tool_turns(self.workspace.open_pairs(self.workspace.read_build(self.name)).scan(), "messages")

    def rows(self, split: Split) -> Iterator[ExportRow]:
        for pair in self._pairs():
            if pair["dropped_by"] is None and (pair["prompt_group"] in self._heldout_groups) == (split == "heldout"):
                yield pair_row(pair, self.name)

    def concerns(self) -> list[str]:
        return list(build_concerns(self.workspace, self.name).values())

    def dropped_pairs(self) -> Iterator[tuple[ExportRow, str, list[str]]]:
        """Pairs that screening dropped, each with the reason and its flags."""
        for pair in self._pairs():
            if pair["dropped_by"] is not None:
                yield pair_row(pair, self.name), pair["dropped_by"], pair["flags"]

    def unpaired_rows(self) -> Iterator[dict[str, Any]]:
        """Rows of `Dropped` of all stages, in the order of the stages."""
        tables = self.workspace.open_tables(self.workspace.read_build(self.name))
        for table in tables.values():
            if table.dropped:
                for row in flat_rows(table.scan_dropped()):
                    # Rows are dropped before personal data is replaced in pairs.
                    raw = mask_personal(row["raw"]) if StageName.REDACT_PAIRS in tables else row["raw"]
                    yield row | {"raw": raw}

    @cached_property
    def _heldout_groups(self) -> set[str]:
        pairs = self.workspace.open_pairs(self.workspace.read_build(self.name)).scan()
        return set(pairs.filter("is_heldout").select("prompt_group").collect()["prompt_group"])

    def _pairs(self) -> Iterator[dict[str, Any]]:
        """All pairs with the verdict of screening."""
        record = self.workspace.read_build(self.name)
        pairs = self.workspace.open_pairs(record)
        screened = self.workspace.open_tables(record)[StageName.SCREEN_PAIRS].scan().collect()
        for part in range(len(pairs.manifest.parts)):
            rows = pairs.part(part).join(screened, on="pair_id", how="left", maintain_order="left")
            yield from rows.iter_rows(named=True)


@dataclass(frozen=True)
class MixSource:
    """The rows of a published mix."""

    mix: Mix
    kind: Literal["mix", "build"] = "mix"
    splits: tuple[Split, ...] = ("train", "heldout")

    @property
    def name(self) -> str:
        return self.mix.name

    def has_tool_turns(self) -> bool:
        return any_tool_turns(self.mix.scan(), "prompt")

    def concerns(self) -> list[str]:
        return list(mix_concerns(self.mix).values())

    def rows(self, split: Split) -> Iterator[ExportRow]:
        told = self.mix.lineage().filter(split=split).select("pair_id", "reasoning_chosen", "reasoning_rejected")
        for row, lineage in zip(flat_rows(as_pairs(self.mix.scan(split))), flat_rows(told), strict=True):
            assert row["pair_id"] == lineage["pair_id"]
            yield ExportRow(
                prompt=row["messages"],
                chosen=row["chosen"],
                rejected=row["rejected"],
                source=row["source"],
                reasoning_chosen=lineage["reasoning_chosen"],
                reasoning_rejected=lineage["reasoning_rejected"],
                **shared_fields(row),
            )


def pair_row(pair: dict[str, Any], build: str) -> ExportRow:
    """A row of `Pair`."""
    return ExportRow(
        prompt=pair["messages"],
        chosen=pair["chosen"],
        rejected=pair["rejected"],
        source=build,
        reasoning_chosen=pair["chosen_reasoning"],
        reasoning_rejected=pair["rejected_reasoning"],
        **shared_fields(pair),
    )


def shared_fields(row: dict[str, Any]) -> dict[str, Any]:
    """What rows of builds and of mixes call alike."""
    names = ("tools", "pair_id", "prompt_id", "prompt_group", "origin", "flaw", "license")
    scores = {name: finite(row[name]) for name in ("score_chosen", "score_rejected")}
    scorer = row["scorer"] and public_model(row["scorer"])
    return {**{name: row[name] for name in names}, **scores, "scorer": scorer}


def finite(score: float | None) -> float | None:
    """The score, None for what JSON cannot hold."""
    return score if score is not None and math.isfinite(score) else None


def any_tool_turns(rows: pl.LazyFrame, column: str) -> bool:
    """Whether a conversation in a column of turns calls a tool."""
    role = pl.element().struct.field("role")
    found = pl.col(column).list.eval(role.is_in(TOOL_ROLES)).list.any().any()
    return bool(rows.select(found).collect().item())


def flat_rows(rows: pl.LazyFrame) -> Iterator[dict[str, Any]]:
    """The rows one after another, read a batch at a time."""
    for batch in rows.collect_batches(chunk_size=ROWS_PER_BATCH, maintain_order=True):
        yield from batch.iter_rows(named=True)
