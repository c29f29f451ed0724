"""Trace one pair back to its prompt, responses, scores, model calls and screening decisions.

print("\\n".join(explain(ExplainConfig(pair_id="0123456789abcdef")).lines()))
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import polars as pl

from curate.config import ExplainConfig
from curate.ledger.entries import call_key
from curate.ledger.prices import usd
from curate.pipeline.mend import recorded_model
from curate.score.score import candidate_requests, side_requests
from curate.screen.explain import Screening, explain_screening
from curate.screen.pii import mask_personal
from curate.store.session import Session, open_session
from curate.store.store import Table
from curate.store.unfinished import Standing, UnfinishedBuild, find_standing, read_unfinished, unfinished_names
from curate.store.workspace import BuildRecord, Workspace
from schemas.errors import UserError
from schemas.stages import MADE_STAGES, PAIRS_STAGES, StageName, newest_stage, pairs_stage


@dataclass(frozen=True)
class Trace:
    """All that is known of a pair, from the first build that has it; personal data is masked."""

    build: str
    source: str
    pair: dict[str, Any]
    """Its row of `Pair`."""
    candidates: list[dict[str, Any]]
    """The responses that were drawn for its prompt, with their scores."""
    calls: list[dict[str, Any]]
    """The calls behind it, as the ledger describes them."""
    screening: Screening | None
    mixes: list[dict[str, Any]]
    """The mixes it is in: `mix`, `sha256`, and `row`, `split` and `source` there."""
    tables: dict[StageName, str]
    unfinished: Standing | None = None
    """Where the build stands, if it was stopped or is being made."""

    def summary(self) -> dict[str, Any]:
        """The JSON object of `curate explain --json`; the names are a contract."""
        shown = ("pair_id", "prompt_id", "messages", "chosen", "rejected", "score_chosen", "score_rejected")
        return {
            "build": self.build,
            "source": self.source,
            **{
                name: self.pair[name]
                for name in (*shown, "z_chosen", "z_rejected", "scorer", "origin", "flaw", "license")
            },
            "candidates": self.candidates,
            "calls": self.calls,
            "screening": self.screening.summary() if self.screening else None,
            "rules": self.screening.thresholds if self.screening else None,
            "mixes": self.mixes,
            "tables": self.tables,
            "unfinished": self.unfinished and self.unfinished.summary(),
        }

    def lines(self) -> list[str]:
        pair = self.pair
        lines = [f"pair {pair['pair_id']}: build '{self.build}', {pair['origin']} responses, from {self.source}"]
        lines += [f"license {pair['license']}"]
        lines += ["", f"prompt {pair['prompt_id']}"]
        lines += [indent(f"[{message['role']}] {message['content']}") for message in pair["messages"]]
        for side in ("chosen", "rejected"):
            score, z = pair[f"score_{side}"], pair[f"z_{side}"]
            shown = "no score" if score is None else f"{score:.4f} by {pair['scorer']}"
            shown += "" if z is None else f", z {z:+.2f}"
            lines += ["", f"{side} ({shown})", indent(pair[side] or "(empty)")]
        if pair["flaw"]:
            lines += ["", f"the rejected response was written to fail by: {pair['flaw']}"]
        if self.candidates:
            lines += ["", "candidates", *map(self._candidate, self.candidates)]
        if self.calls:
            lines += ["", "calls"]
        for call in self.calls:
            tokens = f"{call['input_tokens']} + {call['output_tokens']} tokens, " if call["output_tokens"] else ""
            asked = f"{call['kind']:8} {call['model']} ({call['digest'][:12]})"
            lines.append(f"  {call['call_id']}  {asked} {tokens}cost {usd(call['cost_usd'])}")
        lines += ["", "screening"]
        lines += [f"  {line}" for line in (self.screening.lines() if self.screening else ["not screened"])]
        for mix in self.mixes:
            where = f"row {mix['row']}, {mix['split']}, from {mix['source']}"
            lines.append(f"mix {mix['mix']}: {where} (sha256 {mix['sha256'][:12]})")
        width = max(map(len, self.tables))
        lines += ["", "tables", *(f"  {stage:{width}} {key}" for stage, key in self.tables.items())]
        return [*lines, "", *self.unfinished.lines()] if self.unfinished else lines

    def _candidate(self, candidate: dict[str, Any]) -> str:
        failed = f"score failed: {candidate['reason']}"
        score = failed if candidate["score"] is None else f"{candidate['score']:8.4f}"
        sides = {self.pair["chosen"]: "chosen", self.pair["rejected"]: "rejected"}
        mark = sides.get(candidate["response"], "")
        return f"  {candidate['sample_index']}  {score}  {candidate['finish_reason'] or '-':7} {mark}".rstrip()


def explain(cfg: ExplainConfig) -> Trace:
    """All that is known of a pair, from the first build that has it.

    Raises UserError for an id that no build of the data folder has.
    """
    workspace = Workspace(cfg.data)
    names, unfinished = workspace.build_names(), unfinished_names(workspace)
    if not names and not unfinished:
        raise UserError(f"there is no build in {cfg.data} yet, so no pair '{cfg.pair_id}'; make one with: curate build")
    stopped: list[UnfinishedBuild] = []

    def records() -> Iterator[BuildRecord]:
        # One after another, for what is damaged behind the pair is no hindrance.
        yield from map(workspace.read_build, names)
        stopped.extend(found for name in unfinished if (found := read_unfinished(workspace, name)))
        yield from (build.record for build in stopped if set(build.tables) & set(PAIRS_STAGES))

    with open_session(cfg.data, to_read=True) as session:
        for record in records():
            tables = workspace.open_tables(record)
            if pair := find_pair(tables[pairs_stage(tables)], cfg.pair_id):
                return trace(session, record, tables, pair)
    more = "".join(f"; build '{each.name}' is not finished, go on with: {each.command}" for each in stopped)
    raise UserError(
        f"no build in {cfg.data} has a pair '{cfg.pair_id}'; `curate show NAME` lists the pairs of a build{more}"
    )


def trace(session: Session, record: BuildRecord, tables: dict[StageName, Table], pair: dict[str, Any]) -> Trace:
    """The history of a pair in the tables of one build."""
    candidates = pl.DataFrame()
    if StageName.SAMPLE_RESPONSES in tables:
        drawn = tables[StageName.SAMPLE_RESPONSES].scan().filter(pl.col("prompt_id") == pair["prompt_id"])
        columns = ("candidate_id", "score", "scorer", "reason")
        scores = tables[StageName.SCORE_RESPONSES].scan().select(*columns, score_call="call_id")
        candidates = drawn.join(scores, on="candidate_id", how="left").sort("sample_index").collect()
    # Personal data is printed as its kind; the tables have it as it came.
    masked = {
        "messages": [{**message, "content": mask_personal(message["content"])} for message in pair["messages"]],
        **{side: mask_personal(pair[side]) for side in ("chosen", "rejected")},
    }
    return Trace(
        build=record.name,
        source=record.config["source"],
        pair=pair | masked,
        candidates=[
            {**row, **{name: mask_personal(row[name]) for name in ("response", "reasoning") if row.get(name)}}
            for row in candidates.drop("prompt_id", strict=False).to_dicts()
        ],
        calls=session.ledger.describe(find_calls(record, tables, pair, candidates)),
        screening=explain_screening(tables, pair["pair_id"]),
        mixes=find_mixes(session.workspace, pair["pair_id"]),
        tables=record.tables,
        unfinished=find_standing(session.workspace, record.name),
    )


def find_calls(
    record: BuildRecord, tables: dict[StageName, Table], pair: dict[str, Any], candidates: pl.DataFrame
) -> list[str]:
    """Ids of the calls that wrote, and scored; among them may be some that never had to be made."""
    call_ids = [pair["chosen_call"], pair["rejected_call"]]
    if candidates.height:
        call_ids += [*candidates["call_id"], *candidates["score_call"]]
    # The text that the models were sent: with its personal data, where that was replaced afterwards.
    pair = find_pair(tables[newest_stage(MADE_STAGES, tables)], pair["pair_id"]) or pair
    messages = pair["messages"]
    if record.scorer:
        scorer = recorded_model(**record.scorer)
        if candidates.height:
            requests = candidate_requests(scorer, messages, candidates["response"].to_list())
        else:
            requests = side_requests(scorer, messages, pair["chosen"], pair["rejected"])
        call_ids += [call_key(scorer, request) for request in requests]
    if StageName.SCORE_PROBES in tables:
        probed = tables[StageName.SCORE_PROBES].scan().filter(pl.col("pair_id") == pair["pair_id"]).select("call_id")
        call_ids += probed.collect()["call_id"].to_list()
    return list(dict.fromkeys(call_id for call_id in call_ids if call_id))


def find_pair(table: Table, pair_id: str) -> dict[str, Any] | None:
    """The row of a pair, where the table has it."""
    found = table.scan().filter(pl.col("pair_id") == pair_id).head(1).collect()
    return found.row(0, named=True) if found.height else None


def find_mixes(workspace: Workspace, pair_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for name in workspace.mix_names():
        mix = workspace.open_mix(name)
        lineage = mix.lineage().with_columns(row=pl.int_range(pl.len(), dtype=pl.UInt32).over("split"))
        rows = lineage.filter(pl.col("pair_id") == pair_id).select("row", "split", "source").collect()
        found += [{"mix": name, "sha256": mix.lock.sha256, **row} for row in rows.to_dicts()]
    return found


def indent(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
