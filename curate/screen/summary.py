"""What each rule dropped, with examples, and which threshold keeps some where all are dropped."""

import math
from dataclasses import dataclass
from typing import Any

import dataframely as dy
import polars as pl

from curate.screen.pii import mask_personal
from curate.screen.rules import RULES, Rule, RulesConfig, checks_rejected_guards, row_rules
from curate.screen.screen import join_features
from curate.store.store import Table
from schemas.stages import pairs_stage
from schemas.tables import Contaminated, EvalProximity, Measured, Probed, Topicality, Verdict

EXAMPLES = 3
TEXT_SHOWN = 90

TOGETHER: dict[str, type[dy.Schema]] = {
    "measure_pairs": Measured,
    "find_contamination": Contaminated,
    "measure_topicality": Topicality,
    "measure_eval_proximity": EvalProximity,
    "score_probes": Probed,
    "collect_human_verdicts": Verdict,
}
"""The tables that say something of single pairs, in the order that `together` takes them."""


def summarize_rules(tables: dict[str, Table]) -> list[dict[str, Any]]:
    """One row a rule that dropped a pair, in their order: how many, their share, and the first few of them.

    Personal data in the examples is masked, whatever was asked for.
    """
    screened, pairs = tables["screen_pairs"], tables[pairs_stage(tables)]
    verdicts = screened.scan().select("pair_id", pl.col("dropped_by").cast(pl.String)).with_row_index("row").collect()
    counts = dict(verdicts.group_by("dropped_by").len().rows())
    firsts = verdicts.filter(
        pl.col("dropped_by").is_not_null() & (pl.int_range(pl.len()).over("dropped_by") < EXAMPLES)
    )
    texts = rows_at(pairs, firsts["row"])
    shown = firsts.join(texts, on="pair_id", how="left", maintain_order="left")
    return [
        {
            "rule": rule.name,
            "looks_at": rule.looks_at,
            "threshold": f"--{rule.threshold.replace('_', '-')}" if rule.threshold else None,
            "dropped": counts[rule.name],
            "share": counts[rule.name] / verdicts.height,
            "examples": [example_pair(row) for row in shown.filter(pl.col("dropped_by") == rule.name).to_dicts()],
        }
        for rule in RULES
        if counts.get(rule.name)
    ]


def rows_at(pairs: Table, rows: pl.Series) -> pl.DataFrame:
    """The pairs that stand at these places; only the parts that hold one are read."""
    start, found = 0, []
    for index, part in enumerate(pairs.manifest.parts):
        within = [row - start for row in rows if start <= row < start + part.rows]
        if within:
            found.append(pairs.part(index)[within].select("pair_id", "messages", "chosen", "rejected"))
        start += part.rows
    return pl.concat(found) if found else pairs.part(0).head(0).select("pair_id", "messages", "chosen", "rejected")


def example_pair(row: dict[str, Any]) -> dict[str, str]:
    """A pair by the start of its texts, and the end of a response, where being cut would show."""
    texts = {"prompt": row["messages"][-1]["content"], "chosen": row["chosen"], "rejected": row["rejected"]}
    return {"pair_id": row["pair_id"], **{name: one_line(mask_personal(text)) for name, text in texts.items()}}


def one_line(text: str) -> str:
    """A text on one line, its middle left out where it is long."""
    flat = " ".join(text.split())
    return flat if len(flat) <= TEXT_SHOWN else f"{flat[: TEXT_SHOWN // 2]} … {flat[-TEXT_SHOWN // 2 + 3 :]}"


def suggest_threshold(tables: dict[str, Table], cfg: RulesConfig) -> str | None:
    """Where no pair was kept: the rule that dropped most and what would keep the first of them; else None."""
    screened = tables["screen_pairs"]
    verdicts = screened.scan().select(pl.col("dropped_by").cast(pl.String)).collect().to_series()
    if not verdicts.len() or verdicts.null_count():
        return None
    counts = verdicts.value_counts(sort=True)
    name, dropped = next(row for row in counts.sort("count", "dropped_by", descending=[True, False]).rows())
    rule = next(rule for rule in RULES if rule.name == name)
    return f"no pair was kept; {name} dropped {dropped} of {verdicts.len()}: {suggest_remedy(rule, tables, cfg)}"


def suggest_remedy(rule: Rule, tables: dict[str, Table], cfg: RulesConfig) -> str:
    """What would let the first pairs past a rule."""
    if found := loosest_passing(rule, tables, cfg):
        first, quarter = found
        least = -math.inf if rule.name == "low_score" else 0.0
        if first < least:
            # The chosen response has the smaller score: no margin that may be asked for lets the pair pass.
            return f"--skip-rule {rule.name} would let them pass"
        rest = f", {shortest(quarter)} a quarter of them" if least <= quarter != first else ""
        return f"{flag_of(rule)} {shortest(first)} would keep the first{rest}"
    if rule.threshold:
        return f"another {flag_of(rule)}, or --skip-rule {rule.name}, would let them pass"
    return f"--skip-rule {rule.name} would let them pass" if rule.can_skip else "look at where the pairs come from"


def shortest(number: float) -> str:
    """A number of at most 4 digits after the point, all of them: one more or less might not let the pair pass."""
    return f"{number:.4f}".rstrip("0").rstrip(".")


@dataclass(frozen=True)
class Value:
    """What a rule holds against its threshold."""

    value: pl.Expr
    is_least: bool = False
    """The threshold is the least value that passes; else the largest."""


def distance_expressions(cfg: RulesConfig) -> dict[str, Value]:
    """Rule -> what it compares, for rules whose threshold is one number."""

    def worst(name: str, is_least: bool = False) -> Value:
        rejected = pl.when(checks_rejected_guards(cfg)).then(pl.col(f"rejected_{name}"))
        across = pl.min_horizontal if is_least else pl.max_horizontal
        return Value(across(pl.col(f"chosen_{name}"), rejected), is_least)

    def beyond(side: str) -> pl.Expr:
        return pl.col(f"{side}_cos_other_prompt") - pl.col(f"{side}_cos_prompt")

    return {
        "low_margin": Value(pl.col("margin"), is_least=True),
        "low_z_margin": Value(pl.col("z_margin"), is_least=True),
        "low_score": Value(pl.col("score_chosen"), is_least=True),
        "too_short": worst("tokens", is_least=True),
        "prompt_echo": worst("echo_share"),
        "repetition": worst("repetition_share"),
        "wrong_language": worst("foreign_share"),
        "similar_responses": Value(pl.col("response_similarity")),
        "off_topic": Value(
            pl.max_horizontal(beyond("chosen"), pl.when(checks_rejected_guards(cfg)).then(beyond("rejected")))
        ),
    }


def scan_stage(tables: dict[str, Table], stage: str, schema: type[dy.Schema]) -> pl.LazyFrame:
    """The rows of a stage; none where it was left out."""
    return tables[stage].scan() if stage in tables else schema.create_empty().lazy()


def flag_of(rule: Rule) -> str:
    return f"--{rule.threshold.replace('_', '-')}"


def loosest_passing(rule: Rule, tables: dict[str, Table], cfg: RulesConfig) -> tuple[float, float] | None:
    """The threshold at which the first pairs pass a rule, and that for a quarter, of those no other rule drops.

    Rounded to 4 digits on the side where they pass; None where a threshold is no single number or nothing passes.
    """
    value = distance_expressions(cfg).get(rule.name)
    if value is None:
        return None
    rows = join_features(*(scan_stage(tables, stage, schema) for stage, schema in TOGETHER.items()))
    rules = row_rules(cfg, rows)
    others = [other.fill_null(False) for name, other in rules.items() if name != rule.name]
    alone = rows.filter(rules[rule.name].fill_null(False), ~pl.any_horizontal(pl.lit(False), *others))
    values = alone.select(value.value.cast(pl.Float64)).to_series().drop_nulls()
    if values.is_empty():
        return None
    if not value.is_least:
        values = -values
    best, quarter = values.max(), values.quantile(0.75, interpolation="higher")
    assert isinstance(best, float) and isinstance(quarter, float)
    sign = 1 if value.is_least else -1
    first, a_quarter = (sign * math.floor(number * 1e4) / 1e4 for number in (best, quarter))
    return first, a_quarter
