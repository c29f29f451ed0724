"""The way back from a pair: its prompt, responses, scores, calls, rules and mixes."""

from pathlib import Path
from typing import Any

import polars as pl

from curate.config import ExplainConfig
from curate.ledger.entries import call_key
from curate.ledger.ledger import Ledger
from curate.ledger.prices import usd
from curate.models.resolve import LazyModel
from curate.score.score import candidate_requests, side_requests
from curate.screen.explain import explain_screening, screening_lines
from curate.screen.pii import mask_personal
from curate.store.store import Table, open_table
from curate.store.workspace import build_names, mix_names, read_build, read_lock
from schemas.calls import Backend
from schemas.errors import UserError
from schemas.stages import MADE_STAGES, pairs_stage


def explain(cfg: ExplainConfig) -> dict[str, Any]:
    """All that is known of a pair, from the first build that has it.

    Raises UserError for an id that no build of the data directory has.
    """
    names = build_names(cfg.data)
    if not names:
        raise UserError(f"there is no build in {cfg.data} yet, so no pair '{cfg.pair_id}'; make one with: curate build")
    with Ledger(cfg.data / "ledger.sqlite") as ledger:
        for name in names:
            built = read_build(cfg.data, name)
            tables = {stage: open_table(cfg.data, stage, key) for stage, key in built["tables"].items()}
            pairs = tables[pairs_stage(tables)]
            if pair := find_row(pairs, "pair_id", cfg.pair_id):
                return trace(cfg, name, built, tables, pair, ledger)
    raise UserError(f"no build in {cfg.data} has a pair '{cfg.pair_id}'; `curate show NAME` lists the pairs of a build")


def trace(
    cfg: ExplainConfig,
    name: str,
    built: dict[str, Any],
    tables: dict[str, Table],
    pair: dict[str, Any],
    ledger: Ledger,
) -> dict[str, Any]:
    """What the tables of one build say of a pair."""
    candidates = pl.DataFrame()
    if "sample_responses" in tables:
        drawn = tables["sample_responses"].scan().filter(pl.col("prompt_id") == pair["prompt_id"])
        columns = ("candidate_id", "score", "scorer", "reason")
        scores = tables["score_responses"].scan().select(*columns, score_call="call_id")
        candidates = drawn.join(scores, on="candidate_id", how="left").sort("sample_index").collect()
    return {
        "pair_id": pair["pair_id"],
        "build": name,
        "source": built["config"]["source"],
        "prompt_id": pair["prompt_id"],
        # Personal data is printed as its kind; the tables have it as it came.
        "messages": [{**message, "content": mask_personal(message["content"])} for message in pair["messages"]],
        "chosen": mask_personal(pair["chosen"]),
        "rejected": mask_personal(pair["rejected"]),
        "score_chosen": pair["score_chosen"],
        "score_rejected": pair["score_rejected"],
        # Tables of earlier versions do not have them.
        "z_chosen": pair.get("z_chosen"),
        "z_rejected": pair.get("z_rejected"),
        "scorer": pair["scorer"],
        "origin": pair["origin"],
        "flaw": pair["flaw"],
        "candidates": [
            {**row, "response": mask_personal(row["response"])}
            for row in candidates.drop("prompt_id", strict=False).to_dicts()
        ],
        "calls": ledger.describe(find_calls(built, tables, pair, candidates)),
        "screening": explain_screening(tables, pair["pair_id"]),
        "rules": tables["screen_pairs"].manifest.config,
        "mixes": find_mixes(cfg.data, pair["pair_id"]),
        "tables": built["tables"],
    }


def find_calls(
    built: dict[str, Any], tables: dict[str, Table], pair: dict[str, Any], candidates: pl.DataFrame
) -> list[str]:
    """Ids of the calls that wrote, and scored; among them may be some that never had to be made."""
    call_ids = [pair["chosen_call"], pair["rejected_call"]]
    if candidates.height:
        call_ids += [*candidates["call_id"], *candidates["score_call"]]
    # As the models were asked: with its personal data, where that was replaced afterwards.
    asked_in = next(stage for stage in MADE_STAGES if stage in tables)
    pair = find_row(tables[asked_in], "pair_id", pair["pair_id"]) or pair
    messages = pair["messages"]
    # Builds of earlier versions do not say how their scorer asked.
    if recorded := built.get("scorer"):
        scorer = key_only_model(**recorded)
        if candidates.height:
            requests = candidate_requests(scorer, messages, candidates["response"].to_list())
        else:
            requests = side_requests(scorer, messages, pair["chosen"], pair["rejected"])
        call_ids += [call_key(scorer, request) for request in requests]
    if "score_probes" in tables:
        probed = tables["score_probes"].scan().filter(pl.col("pair_id") == pair["pair_id"]).select("call_id")
        call_ids += probed.collect()["call_id"].to_list()
    return list(dict.fromkeys(call_id for call_id in call_ids if call_id))


def key_only_model(model: str, digest: str, **asks: Any) -> LazyModel:
    """A model as a record names it, which is all that the key of a call needs."""

    def load() -> Backend:
        raise AssertionError(f"{model} is only a name here")

    return LazyModel(model, digest, load, **asks)


def find_row(table: Table, column: str, value: str) -> dict[str, Any] | None:
    """The row whose `column` is `value`."""
    found = table.scan().filter(pl.col(column) == value).head(1).collect()
    return found.row(0, named=True) if found.height else None


def find_mixes(data: Path, pair_id: str) -> list[dict[str, Any]]:
    """The mixes a pair is in, and where."""
    found = []
    for name in mix_names(data):
        path = data / "mixes" / f"{name}.parquet"
        if path.exists():
            rows = pl.scan_parquet(path).filter(pl.col("pair_id") == pair_id).select("row", "split", "source").collect()
            sha256 = read_lock(data / "mixes" / f"{name}.lock.json")["sha256"]
            found += [{"mix": name, "sha256": sha256, **row} for row in rows.to_dicts()]
    return found


def format_trace(found: dict[str, Any]) -> str:
    """`explain`'s answer for people to read."""
    lines = [f"pair {found['pair_id']}: build '{found['build']}', {found['origin']} responses, from {found['source']}"]
    lines += ["", f"prompt {found['prompt_id']}"]
    lines += [indent(f"[{message['role']}] {message['content']}") for message in found["messages"]]
    for side in ("chosen", "rejected"):
        score, z = found[f"score_{side}"], found[f"z_{side}"]
        shown = "no score" if score is None else f"{score:.4f} by {found['scorer']}"
        shown += "" if z is None else f", z {z:+.2f}"
        lines += ["", f"{side} ({shown})", indent(found[side] or "(empty)")]
    if found["flaw"]:
        lines += ["", f"the rejected response was written to fail by: {found['flaw']}"]
    if found["candidates"]:
        lines += ["", "candidates"]
        for candidate in found["candidates"]:
            failed = f"score failed: {candidate['reason']}"
            score = failed if candidate["score"] is None else f"{candidate['score']:8.4f}"
            mark = {found["chosen"]: "chosen", found["rejected"]: "rejected"}.get(candidate["response"], "")
            lines.append(
                f"  {candidate['sample_index']}  {score}  {candidate['finish_reason'] or '-':7} {mark}".rstrip()
            )
    if found["calls"]:
        lines += ["", "calls"]
        for call in found["calls"]:
            tokens = f"{call['input_tokens']} + {call['output_tokens']} tokens, " if call["output_tokens"] else ""
            asked = f"{call['kind']:8} {call['model']} ({call['digest'][:12]})"
            lines.append(f"  {call['call_id']}  {asked} {tokens}cost {usd(call['cost_usd'])}")
    lines += ["", "screening", *(f"  {line}" for line in screening_lines(found["screening"], found["rules"]))]
    for row in found["mixes"]:
        where = f"row {row['row']}, {row['split']}, from {row['source']}"
        lines.append(f"mix {row['mix']}: {where} (sha256 {row['sha256'][:12]})")
    lines += ["", "tables", *(f"  {stage:18} {key}" for stage, key in found["tables"].items())]
    return "\n".join(lines)


def indent(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
