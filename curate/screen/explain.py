"""What screening found of one pair: the rule that dropped it, and all that the rules looked at."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from curate.screen.rules import RULES
from curate.screen.screen import KINDS
from curate.screen.similar.greedy import round_threshold
from curate.store.store import Table

NAMES: list[str] = [rule.name for rule in RULES]

SEEN = {
    "measured": "measure_pairs",
    "contaminated": "find_contamination",
    "placed": "measure_topicality",
    "near": "measure_eval_proximity",
    "judged": "collect_human_verdicts",
}

TEXT_OF = {
    "duplicate_pair": "pair_hash",
    "lexical_duplicate": "chosen_hash",
    "semantic_duplicate_prompt": "prompt_hash",
    "semantic_duplicate_pair": "chosen_hash",
}
"""Rule -> the text that it holds against others."""


def explain_screening(tables: Mapping[str, Table], pair_id: str) -> dict[str, Any] | None:
    """The verdict on a pair with what was measured of it, and the pair that was kept in its place, if one was.

    None for a build that holds no verdict on it.
    """
    found = find_stage_row(tables, "screen_pairs", pair_id)
    if found is None:
        return None
    if "measure_pairs" not in tables:
        # A build of an earlier version, whose verdicts name the pair that was kept instead.
        return {"flags": [], **found, **dict.fromkeys(SEEN), "probes": []}
    seen = {name: find_stage_row(tables, stage, pair_id) for name, stage in SEEN.items()}
    probes = []
    if "score_probes" in tables:
        scores = tables["score_probes"].scan().filter(pl.col("pair_id") == pair_id).select("probe", "score", "reason")
        probes = scores.collect().to_dicts()
    return {**found, **find_kept_instead(tables, pair_id, found["dropped_by"]), **seen, "probes": probes}


def find_stage_row(tables: Mapping[str, Table], stage: str, pair_id: str) -> dict[str, Any] | None:
    """The row of a pair; None where the stage was left out or has none."""
    if stage not in tables:
        return None
    found = tables[stage].scan().filter(pl.col("pair_id") == pair_id).head(1).collect()
    return found.row(0, named=True) if found.height else None


def find_kept_instead(tables: Mapping[str, Table], pair_id: str, reason: str | None) -> dict[str, Any]:
    """`duplicate_of` and `similarity`: the best pair that the rule kept and that this one is like; else nulls."""
    nothing: dict[str, Any] = {"duplicate_of": None, "similarity": None}
    if reason not in (*KINDS, "duplicate_pair"):
        return nothing
    text = TEXT_OF[reason]
    rows = (
        tables["measure_pairs"]
        .scan()
        .select("pair_id", "z_margin", "margin", text=text)
        .with_row_index("row")
        .join(tables["screen_pairs"].scan().select("pair_id", pl.col("dropped_by").cast(pl.String)), on="pair_id")
        .collect()
    )
    own = rows.filter(pl.col("pair_id") == pair_id)["text"].item()
    similar = pl.concat(
        [pl.DataFrame({"text": [own], "similarity": [1.0]}, {"text": pl.UInt64, "similarity": pl.Float32})]
    )
    if reason in KINDS:
        similar = pl.concat([similar, find_linked(tables, rows, own, reason)])
    # What a later rule dropped was kept by this one.
    later = NAMES[NAMES.index(reason) + 1 :]
    others = rows.filter(
        pl.col("pair_id") != pair_id, pl.col("dropped_by").is_null() | pl.col("dropped_by").is_in(later)
    )
    best = others.join(similar, on="text").sort(
        "z_margin", "margin", "pair_id", descending=[True, True, False], nulls_last=True
    )
    if best.is_empty():
        return nothing
    return {"duplicate_of": best["pair_id"][0], "similarity": round(best["similarity"][0], 4)}


def find_linked(tables: Mapping[str, Table], rows: pl.DataFrame, own: int, reason: str) -> pl.DataFrame:
    """The texts that are alike enough to the text `own`."""
    cfg = tables["screen_pairs"].manifest.config
    least = round_threshold(cfg["max_jaccard"] if reason == "lexical_duplicate" else cfg["max_cosine"])
    alike = tables["find_lexical_duplicates" if reason == "lexical_duplicate" else "find_semantic_duplicates"].scan()
    edges = alike.filter((pl.col("kind") == KINDS[reason]) & (pl.col("similarity") >= least)).collect()
    here = rows.filter(pl.col("text") == own)["row"].implode()
    ends = [
        edges.filter(pl.col(near).is_in(here)).select("similarity", row=far)
        for near, far in (("left", "right"), ("right", "left"))
    ]
    found = pl.concat(ends).join(rows.select("row", "text"), on="row")
    return found.group_by("text").agg(pl.col("similarity").max()).select("text", "similarity")


def screening_lines(found: dict[str, Any] | None, rules: Mapping[str, Any]) -> list[str]:
    """The verdict for people to read; `rules` is the config that it was given under."""
    if found is None:
        return ["not screened"]
    lines = [f"dropped by {found['dropped_by']}" if found["dropped_by"] else "kept"]
    if found["duplicate_of"]:
        similarity = "" if found["similarity"] is None else f" ({found['similarity']:.3f})"
        lines[0] += f": too like {found['duplicate_of']}{similarity}"
    if judged := found["judged"]:
        people = f" of {', '.join(judged['reviewers'])}" if judged["reviewers"] else ""
        said = f"{judged['verdict']}, by {len(judged['reviewers'])}" if judged["verdict"] else "no majority"
        lines.append(f"people: {said} of {judged['answers']} answers{people}")
    measured = found["measured"]
    if measured is None:
        return lines
    margin = "no margin" if measured["margin"] is None else f"margin {measured['margin']:.4f}"
    if measured["z_margin"] is not None:
        margin += f", {measured['z_margin']:.2f} in z"
    noise = f"noise {rules['noise']:g}, " if rules.get("noise") else ""
    lines.append(f"{margin} ({noise}min margin {rules['min_margin']:g})")
    for side in ("chosen", "rejected"):
        facts = (
            f"{measured[f'{side}_tokens']} tokens, cut off: {measured[f'{side}_cut']}, "
            f"repeats {measured[f'{side}_repetition_share']:.2f}, echoes {measured[f'{side}_echo_share']:.2f}, "
            f"other language {measured[f'{side}_foreign_share']:.2f}"
        )
        placed = found["placed"]
        if placed and placed[f"{side}_cos_prompt"] is not None:
            facts += f", cosine to its prompt {placed[f'{side}_cos_prompt']:.2f}"
            if placed[f"{side}_cos_other_prompt"] is not None:
                facts += f", to another {placed[f'{side}_cos_other_prompt']:.2f}"
        lines.append(f"{side}: {facts}")
    if hit := found["contaminated"]:
        lines.append(f"holds {hit['coverage']:.0%} of prompt {hit['prompt']} of {hit['against']}")
    near = found["near"]
    if near and near["max_cos_eval"] is not None:
        lines.append(f"cosine to the nearest evaluation prompt {near['max_cos_eval']:.2f}")
    if found["flags"]:
        lines.append(f"flagged: {', '.join(found['flags'])}")
    return lines
