"""Screen pairs: the first rule that matches drops a pair, and nothing is deleted."""

import dataframely as dy
import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.screen.rules import FLAG_RULES, RULES, Rule, RulesConfig, first_match, row_rules, unreliable_scores
from curate.screen.similar.greedy import keep_order, kept_rows, round_threshold
from schemas.names import FLAGS
from schemas.stages import StageName
from schemas.tables import Contaminated, EvalProximity, Measured, Probed, Screened, Topicality, Verdict

FEATURES: dict[StageName, type[dy.Schema]] = {
    StageName.MEASURE_PAIRS: Measured,
    StageName.FIND_CONTAMINATION: Contaminated,
    StageName.MEASURE_TOPICALITY: Topicality,
    StageName.MEASURE_EVAL_PROXIMITY: EvalProximity,
    StageName.SCORE_PROBES: Probed,
    StageName.COLLECT_HUMAN_VERDICTS: Verdict,
}
"""Tables of features of single pairs, in the order that `join_features` takes them."""
SIMILAR = (StageName.FIND_LEXICAL_DUPLICATES, StageName.FIND_SEMANTIC_DUPLICATES)
"""The tables of pairs that are similar."""


def screen_pairs(
    measured: pl.LazyFrame,
    contaminated: pl.LazyFrame,
    placed: pl.LazyFrame,
    near: pl.LazyFrame,
    probed: pl.LazyFrame,
    judged: pl.LazyFrame,
    lexical: pl.LazyFrame,
    semantic: pl.LazyFrame,
    cfg: RulesConfig,
) -> pl.DataFrame:
    """The rule that dropped each pair, in the order of the pairs; pairs without scores pass the rules about scores.

    The tables are those of `FEATURES`, then those of `SIMILAR`, without rows where a stage was left out.
    """
    rows = join_features(measured, contaminated, placed, near, probed, judged)
    alike = pl.concat([lexical, semantic])
    verdicts = rows.select(first_match(row_rules(cfg, rows)).cast(pl.String)).to_series().alias("dropped_by")
    rank = keep_order(rows)
    for rule in RULES:
        if not rule.same_text or rule.name in cfg.skip_rule:
            continue
        if rule.kind:
            verdicts = drop_near_duplicates(rule, rows, verdicts, rank, alike, cfg)
        else:
            verdicts = drop_exact_duplicates(rule, rows, verdicts, rank)
    final = rows.with_columns(verdicts)
    is_surplus = pl.lit(False)
    if cfg.keep is not None:
        first_ids = take_by_quota(final.filter(pl.col("dropped_by").is_null()), cfg)
        is_surplus = pl.col("dropped_by").is_null() & ~pl.col("pair_id").is_in(first_ids.implode())
    flags = [
        pl.when(rule.value.fill_null(False)).then(pl.lit(rule.name)) for rule in FLAG_RULES if rule.value is not None
    ]
    return final.select(
        "pair_id",
        dropped_by=pl.when(is_surplus).then(pl.lit("over_quota")).otherwise("dropped_by"),
        flags=pl.concat_list(flags).list.drop_nulls().cast(pl.List(pl.Enum(FLAGS))),
    ).pipe(Screened.cast)


def join_features(*features: pl.LazyFrame) -> pl.DataFrame:
    """The features of each pair, in the order of the pairs, of the tables of `FEATURES`; null where one has no row."""
    rows, contaminated, placed, near, probed, judged = features
    people = judged.select("pair_id", "verdict", "answers")
    for other in (contaminated.select("pair_id", "has_13gram", "coverage"), placed, near, people):
        rows = rows.join(other, on="pair_id", how="left", maintain_order="left")
    found = rows.collect()
    return found.join(
        unreliable_scores(probed.collect(), found), on="pair_id", how="left", maintain_order="left"
    ).with_row_index("row")


def drop_exact_duplicates(rule: Rule, rows: pl.DataFrame, verdicts: pl.Series, rank: NDArray[np.int64]) -> pl.Series:
    """The verdicts with those of a rule about equal texts in its place among the rules.

    What the rules before it have dropped is left out. Of equal texts one that no other rule drops comes first, for a
    finish reason or a margin may tell them apart.
    """
    before = [other.name for other in RULES[: RULES.index(rule)]]
    places = rank + rows.height * verdicts.is_not_null().to_numpy()
    left = rows.select("row", rule.same_text, place=pl.Series(places)).filter(
        verdicts.is_null() | ~verdicts.is_in(before)
    )
    several = left.filter(pl.col(rule.same_text).is_duplicated())
    again = several.filter(pl.col("place") > pl.col("place").min().over(rule.same_text))
    return verdicts.scatter(again["row"], rule.name)


def drop_near_duplicates(
    rule: Rule, rows: pl.DataFrame, verdicts: pl.Series, rank: NDArray[np.int64], alike: pl.LazyFrame, cfg: RulesConfig
) -> pl.Series:
    """The verdicts with those of a rule that compares pairs with each other; only pairs not dropped yet take part.

    Several pairs made of one prompt, or of one imported row, stand or fall together and never for each other; rows that
    repeat a prompt do.
    """
    same = ["prompt_id"] if rule.kind == "prompt" else ["prompt_id", "chosen_hash"]
    left = rows.select("row", *same, text=rule.same_text, place=pl.Series(rank)).filter(verdicts.is_null())
    # The first row of a prompt stands for all of its rows.
    left = left.with_columns(node=pl.col("row").min().over(same).cast(pl.Int64))
    nodes = left.group_by("node").agg(pl.col("place").min(), pl.col("text").first()).sort("place")
    texts = nodes.select(pl.col("text").unique().sort()).with_row_index("class")
    classes = nodes.join(texts, on="text", how="left", maintain_order="left")["class"].to_numpy()
    edges = class_edges(rows, alike, texts, rule, cfg)
    kept = kept_rows(np.arange(nodes.height), classes.astype(np.int64), edges, cfg.keep_per_cluster)
    fallen = left.join(nodes.filter(~pl.Series(kept, dtype=pl.Boolean)), on="node", how="semi")
    return verdicts.scatter(fallen["row"], rule.name)


def class_edges(
    rows: pl.DataFrame, alike: pl.LazyFrame, texts: pl.DataFrame, rule: Rule, cfg: RulesConfig
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of classes whose texts are alike enough, among the classes of `texts`."""
    least = round_threshold(getattr(cfg, rule.threshold))
    found = alike.filter((pl.col("kind") == rule.kind) & (pl.col("similarity") >= least)).collect()
    places = rows.select("row", "origin", "prompt_hash", "prompt_id", text=rule.same_text)
    one, other = (
        found.select(row=side)
        .join(places, on="row", how="left", maintain_order="left")
        .join(texts, on="text", how="left", maintain_order="left")
        for side in ("left", "right")
    )
    is_edge = one["class"].is_not_null() & other["class"].is_not_null()
    if rule.kind != "prompt":
        is_synthetic = (one["origin"] == "synthetic") & (other["origin"] == "synthetic")
        is_edge &= ~(is_synthetic & (one["prompt_hash"] == other["prompt_hash"]))
        is_edge &= one["prompt_id"] != other["prompt_id"]
    left, right = (end.filter(is_edge)["class"].to_numpy().astype(np.int64) for end in (one, other))
    return left, right


def take_by_quota(accepted: pl.DataFrame, cfg: RulesConfig) -> pl.Series:
    """The ids of the pairs to keep: the first of each flaw up to its quota, then the first of the others."""
    quota = pl.col("flaw").cast(pl.String).replace_strict(dict(cfg.quotas), default=0, return_dtype=pl.Int64)
    place = pl.int_range(pl.len(), dtype=pl.Int64).over("flaw")
    ordered = accepted.sort(place >= quota, maintain_order=True)
    return ordered["pair_id"].head(cfg.keep or 0)
