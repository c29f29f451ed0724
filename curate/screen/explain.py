"""Explain the screening of one pair: the rule that dropped it, and the features that the rules use."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from curate.screen.rules import RULES, Rule
from curate.screen.screen import FEATURES
from curate.screen.similar.greedy import best_first, round_threshold
from curate.store.store import Table
from schemas.stages import StageName


@dataclass(frozen=True)
class Screening:
    """The verdict on a pair and what it rests on."""

    dropped_by: str | None
    flags: list[str]
    duplicate_of: str | None
    """The best pair that the rule kept and that this one is like."""
    similarity: float | None
    features: dict[StageName, dict[str, Any] | None]
    """Stage -> the row of the pair, null where the stage was left out or has none."""
    probes: list[dict[str, Any]]
    """`probe`, `score` and `reason` of each response that says nothing."""
    thresholds: dict[str, Any]
    """The thresholds of the screening."""

    def summary(self) -> dict[str, Any]:
        """The same as JSON."""
        return {
            "dropped_by": self.dropped_by,
            "flags": self.flags,
            "duplicate_of": self.duplicate_of,
            "similarity": self.similarity,
            **{str(stage): row for stage, row in self.features.items()},
            "probes": self.probes,
        }

    def lines(self) -> list[str]:
        """The same for people to read."""
        lines = [f"dropped by {self.dropped_by}" if self.dropped_by else "kept"]
        if self.duplicate_of:
            similarity = "" if self.similarity is None else f" ({self.similarity:.3f})"
            lines[0] += f": too like {self.duplicate_of}{similarity}"
        if judged := self.features[StageName.COLLECT_HUMAN_VERDICTS]:
            people = f" of {', '.join(judged['reviewers'])}" if judged["reviewers"] else ""
            said = f"{judged['verdict']}, by {len(judged['reviewers'])}" if judged["verdict"] else "no majority"
            lines.append(f"reviewers: {said} of {judged['answers']} answers{people}")
        measured = self.features[StageName.MEASURE_PAIRS]
        if measured is None:
            return lines
        margin = "no margin" if measured["margin"] is None else f"margin {measured['margin']:.4f}"
        if measured["z_margin"] is not None:
            margin += f", {measured['z_margin']:.2f} in z"
        noise = f"noise {self.thresholds['noise']:g}, " if self.thresholds["noise"] else ""
        lines.append(f"{margin} ({noise}min margin {self.thresholds['min_margin']:g})")
        lines += [self._side(side, measured) for side in ("chosen", "rejected")]
        if hit := self.features[StageName.FIND_CONTAMINATION]:
            lines.append(f"holds {hit['coverage']:.0%} of prompt {hit['prompt']} of {hit['against']}")
        near = self.features[StageName.MEASURE_EVAL_PROXIMITY]
        if near and near["max_cos_eval"] is not None:
            lines.append(f"cosine to the nearest evaluation prompt {near['max_cos_eval']:.2f}")
        if self.flags:
            lines.append(f"flagged: {', '.join(self.flags)}")
        return lines

    def _side(self, side: str, measured: dict[str, Any]) -> str:
        facts = (
            f"{measured[f'{side}_tokens']} tokens, truncated: {measured[f'{side}_cut']}, "
            f"repeats {measured[f'{side}_repetition_share']:.2f}, echoes {measured[f'{side}_echo_share']:.2f}, "
            f"other language {measured[f'{side}_foreign_share']:.2f}"
        )
        topics = self.features[StageName.MEASURE_TOPICALITY]
        if topics and topics[f"{side}_cos_prompt"] is not None:
            facts += f", cosine to its prompt {topics[f'{side}_cos_prompt']:.2f}"
            if topics[f"{side}_cos_other_prompt"] is not None:
                facts += f", to another {topics[f'{side}_cos_other_prompt']:.2f}"
        return f"{side}: {facts}"


def explain_screening(tables: Mapping[StageName, Table], pair_id: str) -> Screening | None:
    """The verdict on a pair with what was measured of it, and the pair that was kept in its place, if one was.

    None for a build that holds no verdict on it.
    """
    found = find_stage_row(tables, StageName.SCREEN_PAIRS, pair_id)
    if found is None:
        return None
    probes: list[dict[str, Any]] = []
    if StageName.SCORE_PROBES in tables:
        scores = tables[StageName.SCORE_PROBES].scan().filter(pl.col("pair_id") == pair_id)
        probes = scores.select("probe", "score", "reason").collect().to_dicts()
    duplicate_of, similarity = find_kept_instead(tables, pair_id, found["dropped_by"])
    return Screening(
        dropped_by=found["dropped_by"],
        flags=found["flags"],
        duplicate_of=duplicate_of,
        similarity=similarity,
        features={
            stage: find_stage_row(tables, stage, pair_id) for stage in FEATURES if stage != StageName.SCORE_PROBES
        },
        probes=probes,
        thresholds=tables[StageName.SCREEN_PAIRS].manifest.config,
    )


def find_stage_row(tables: Mapping[StageName, Table], stage: StageName, pair_id: str) -> dict[str, Any] | None:
    """The row of a pair; None where the stage was left out or has none."""
    if stage not in tables:
        return None
    found = tables[stage].scan().filter(pl.col("pair_id") == pair_id).head(1).collect()
    return found.row(0, named=True) if found.height else None


def find_kept_instead(
    tables: Mapping[StageName, Table], pair_id: str, reason: str | None
) -> tuple[str | None, float | None]:
    """The best pair that the rule kept and that this one is like, and how alike they are; else nulls."""
    rule = next((rule for rule in RULES if rule.name == reason), None)
    if rule is None or not rule.same_text:
        return None, None
    verdicts = tables[StageName.SCREEN_PAIRS].scan().select("pair_id", pl.col("dropped_by").cast(pl.String))
    rows = (
        tables[StageName.MEASURE_PAIRS]
        .scan()
        .select("pair_id", "z_margin", "margin", text=rule.same_text)
        .with_row_index("row")
        .join(verdicts, on="pair_id")
        .collect()
    )
    own = rows.filter(pl.col("pair_id") == pair_id)["text"].item()
    similar = pl.DataFrame({"text": [own], "similarity": [1.0]}, {"text": pl.UInt64, "similarity": pl.Float32})
    if rule.kind:
        similar = pl.concat([similar, find_linked(tables, rows, own, rule)])
    # What a later rule dropped was kept by this one.
    later = [other.name for other in RULES[RULES.index(rule) + 1 :]]
    others = rows.filter(
        pl.col("pair_id") != pair_id, pl.col("dropped_by").is_null() | pl.col("dropped_by").is_in(later)
    )
    best = best_first(others.join(similar, on="text"))
    if best.is_empty():
        return None, None
    return best["pair_id"][0], round(best["similarity"][0], 4)


def find_linked(tables: Mapping[StageName, Table], rows: pl.DataFrame, own: int, rule: Rule) -> pl.DataFrame:
    """The texts that are alike enough to the text `own`."""
    least = round_threshold(tables[StageName.SCREEN_PAIRS].manifest.config[rule.threshold])
    alike = tables[rule.stage].scan()
    edges = alike.filter((pl.col("kind") == rule.kind) & (pl.col("similarity") >= least)).collect()
    here = rows.filter(pl.col("text") == own)["row"].implode()
    ends = [
        edges.filter(pl.col(near).is_in(here)).select("similarity", row=far)
        for near, far in (("left", "right"), ("right", "left"))
    ]
    found = pl.concat(ends).join(rows.select("row", "text"), on="row")
    return found.group_by("text").agg(pl.col("similarity").max()).select("text", "similarity")
