"""Summarize each rule with examples, and suggest the threshold that keeps some pairs where all are dropped."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from curate.screen.cures import cure
from curate.screen.pii import mask_personal
from curate.screen.rules import RULES, Rule, RulesConfig, row_rules, worst_value
from curate.screen.screen import FEATURES, join_features
from curate.store.store import Table
from schemas.stages import StageName, pairs_stage

EXAMPLES = 3
TEXT_SHOWN = 90


@dataclass(frozen=True)
class Example:
    """A pair by the start of its texts, and the end of a response, where truncation would show; nothing personal."""

    pair_id: str
    prompt: str
    chosen: str
    rejected: str


@dataclass(frozen=True)
class RuleCount:
    """The pairs that one rule dropped, counted, with examples."""

    rule: str
    drops: str
    """The reason it drops pairs, in words."""
    threshold: str | None
    """The flag that moves it."""
    dropped: int
    share: float
    """Of all pairs of the build."""
    examples: list[Example]

    def lines(self) -> list[str]:
        """The count, the share, and the first pairs it dropped."""
        moved = f" ({self.threshold})" if self.threshold else ""
        lines = [f"{-self.dropped:>9,}  {self.share:>6.1%}  {self.rule}{moved}: {self.drops}"]
        for example in self.examples:
            lines.append(f"{'':21}{example.pair_id}")
            texts = {"prompt": example.prompt, "chosen": example.chosen, "rejected": example.rejected}
            lines += [f"{'':23}{name:8}  {text}" for name, text in texts.items()]
        return lines


def summarize_rules(tables: Mapping[StageName, Table]) -> list[RuleCount]:
    """One count a rule that dropped a pair, in their order, with the first few of its pairs."""
    screened, pairs = tables[StageName.SCREEN_PAIRS], tables[pairs_stage(tables)]
    verdicts = screened.scan().select("pair_id", pl.col("dropped_by").cast(pl.String)).with_row_index("row").collect()
    counts = dict(verdicts.group_by("dropped_by").len().rows())
    firsts = verdicts.filter(
        pl.col("dropped_by").is_not_null() & (pl.int_range(pl.len()).over("dropped_by") < EXAMPLES)
    )
    shown = firsts.join(rows_at(pairs, firsts["row"]), on="pair_id", how="left", maintain_order="left")
    return [
        RuleCount(
            rule=rule.name,
            drops=rule.drops,
            threshold=rule.flag or None,
            dropped=counts[rule.name],
            share=counts[rule.name] / verdicts.height,
            examples=[make_example(row) for row in shown.filter(pl.col("dropped_by") == rule.name).to_dicts()],
        )
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


def make_example(row: dict[str, Any]) -> Example:
    texts = (row["messages"][-1]["content"], row["chosen"], row["rejected"])
    return Example(row["pair_id"], *(one_line(mask_personal(text)) for text in texts))


def one_line(text: str) -> str:
    """A text on one line, its middle left out where it is long."""
    flat = " ".join(text.split())
    return flat if len(flat) <= TEXT_SHOWN else f"{flat[: TEXT_SHOWN // 2]} … {flat[-TEXT_SHOWN // 2 + 3 :]}"


def suggest_threshold(tables: Mapping[StageName, Table], cfg: RulesConfig) -> str | None:
    """A hint where no pair was kept: the rule that dropped most and the flag that keeps the first pairs; else None."""
    screened = tables[StageName.SCREEN_PAIRS]
    verdicts = screened.scan().select(pl.col("dropped_by").cast(pl.String)).collect().to_series()
    if not verdicts.len() or verdicts.null_count():
        return None
    name, dropped = verdicts.value_counts().sort("count", "dropped_by", descending=[True, False]).row(0)
    return f"no pair was kept; {name} dropped {dropped} of {verdicts.len()}: {suggest_remedy(name, tables, cfg)}"


def suggest_remedy(reason: str, tables: Mapping[StageName, Table], cfg: RulesConfig) -> str:
    """The flag that would let the first of the pairs pass that were dropped for `reason`, else its cure."""
    rule = next((rule for rule in RULES if rule.name == reason), None)
    if rule and (found := loosest_passing(rule, tables, cfg)):
        first, quarter = found
        least = -math.inf if rule.name == "low_score" else 0.0
        if first < least:
            # The chosen response has the smaller score: no margin that may be asked for lets the pair pass.
            return f"--skip-rule {rule.name} would let them pass"
        rest = f", {shortest(quarter)} a quarter of them" if least <= quarter != first else ""
        return f"{rule.flag} {shortest(first)} would keep the first{rest}"
    return cure(reason)


def shortest(number: float) -> str:
    """A number of at most 4 digits after the point, all of them: one more or less might not let the pair pass."""
    return f"{number:.4f}".rstrip("0").rstrip(".")


def loosest_passing(rule: Rule, tables: Mapping[StageName, Table], cfg: RulesConfig) -> tuple[float, float] | None:
    """The threshold at which the first pairs pass a rule, and that for a quarter, of those no other rule drops.

    Rounded to 4 digits on the side where they pass; None where a threshold is no single number or nothing passes.
    """
    value = worst_value(rule, cfg)
    if value is None:
        return None
    scans = [tables[stage].scan() if stage in tables else of.create_empty().lazy() for stage, of in FEATURES.items()]
    rows = join_features(*scans)
    rules = row_rules(cfg, rows)
    others = [other.fill_null(False) for name, other in rules.items() if name != rule.name]
    alone = rows.filter(rules[rule.name].fill_null(False), ~pl.any_horizontal(pl.lit(False), *others))
    values = alone.select(value.cast(pl.Float64)).to_series().drop_nulls()
    if values.is_empty():
        return None
    if not rule.is_least:
        values = -values
    best, quarter = values.max(), values.quantile(0.75, interpolation="higher")
    assert isinstance(best, float) and isinstance(quarter, float)
    sign = 1 if rule.is_least else -1
    first, a_quarter = (sign * math.floor(number * 1e4) / 1e4 for number in (best, quarter))
    return first, a_quarter
