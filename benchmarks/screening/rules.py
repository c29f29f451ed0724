"""Measure what each rule finds of planted faults, and what it drops of rows that were read and found clean."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy.stats import binomtest
from screening.curate_runs import curate, verdicts
from screening.evaluation import evaluation_files
from screening.faults import FAULTS, FOUND_BY
from screening.plant import CLEAN_ROWS, Planted, plant_faults

from schemas.names import SCREEN_REASONS

SEEDS = (1, 2, 3)
"""Of the files that faults are planted into."""

Verdicts = dict[str, str | None]


@dataclass(frozen=True)
class Share:
    """So many of so many, with the 95% interval of Wilson."""

    count: int
    total: int

    @property
    def share(self) -> float:
        return self.count / self.total

    @property
    def interval(self) -> tuple[float, float]:
        found = binomtest(self.count, self.total).proportion_ci(method="wilson")
        return float(found.low), float(found.high)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.share:6.1%} ({low:.1%} to {high:.1%}) of {self.total}"


def judge_rules(data: Path, seeds: Sequence[int] = SEEDS) -> dict[str, dict[str, Any]]:
    """Print the tables and return rule -> recall, false alarms and number, for the last line.

    A clean row counts as a false alarm when the rule drops it in any of the files.
    """
    against = [text for path in evaluation_files(data) for text in ("--decontaminate", str(path))]
    planted: list[tuple[Planted, Verdicts]] = []
    screened: list[Verdicts] = []
    for seed in seeds:
        path = data / f"planted_{seed}.jsonl"
        rows = plant_faults(path, seed)
        curate("build", "--source", str(path), "--name", f"planted_{seed}", *against, data=data)
        screened.append(verdicts(data, f"planted_{seed}"))
        planted += [(row, screened[-1]) for row in rows]
    recalls = {fault: recall([row for row in planted if row[0].fault == fault]) for fault in FAULTS}
    judged = {rule: false_alarms(rule, screened) for rule in json.loads(CLEAN_ROWS.read_text())["rules"]}
    print_faults(recalls, planted)
    print_false_alarms(judged)
    return {rule: figures(recalls.get(rule), alarms) for rule, alarms in judged.items()}


def recall(planted: list[tuple[Planted, Verdicts]]) -> Share:
    """Rows found by a rule that names their fault, of those that can be."""
    testable = [(row, screened) for row, screened in planted if not is_alone(row, screened)]
    return Share(sum(is_found(row, screened) for row, screened in testable), len(testable))


def is_found(row: Planted, screened: Verdicts) -> bool:
    """Of a near copy either it or its original must fall."""
    names = FOUND_BY[row.fault]
    return screened[row.pair_id] in names or (row.copy_of is not None and screened[row.copy_of] in names)


def is_alone(row: Planted, screened: Verdicts) -> bool:
    """True for a near copy that is none any more, since it or its original fell for something else."""
    if row.copy_of is None or is_found(row, screened):
        return False
    return screened[row.pair_id] is not None or screened[row.copy_of] is not None


def false_alarms(rule: str, screened: list[Verdicts]) -> Share:
    """Rows clean for the rule that it drops, of those that no earlier rule keeps from it."""
    clean = json.loads(CLEAN_ROWS.read_text())
    names = FOUND_BY.get(rule, (rule,))
    earlier = set(SCREEN_REASONS[: max(SCREEN_REASONS.index(name) for name in names)]) - set(names)
    dropped = total = 0
    for pair_id in (pair_id for ids in clean["rows"].values() for pair_id in ids):
        found = {verdict[pair_id] for verdict in screened}
        if rule not in clean["not_clean"].get(pair_id, ()) and not found <= earlier:
            total += 1
            dropped += not found.isdisjoint(names)
    return Share(dropped, total)


def figures(found: Share | None, alarms: Share) -> dict[str, Any]:
    """`n` planted rows of a fault; a rule that nothing was planted for has no recall."""
    return {
        "recall": None if found is None else round(found.share, 4),
        "recall_95": None if found is None else rounded(found.interval),
        "false_alarms": round(alarms.share, 4),
        "false_alarms_95": rounded(alarms.interval),
        "n": 0 if found is None else found.total,
        "clean_rows": alarms.total,
    }


def rounded(interval: tuple[float, float]) -> list[float]:
    return [round(end, 4) for end in interval]


def print_faults(recalls: dict[str, Share], planted: list[tuple[Planted, Verdicts]]) -> None:
    """Recall by fault and by the way it was planted, and what became of the rows that were not found."""
    for fault, found in recalls.items():
        rows = [row for row in planted if row[0].fault == fault]
        print(f"{fault:16} found {found}, by {' or '.join(FOUND_BY[fault])}")
        for variant in FAULTS[fault]:
            of_it = [row for row in rows if row[0].variant == variant]
            missed = Counter(fate(row, screened) for row, screened in of_it if not is_found(row, screened))
            rest = "".join(f", {count} {name}" for name, count in missed.most_common())
            print(f"  {variant:20} {recall(of_it).count:3} of {len(of_it)}{rest}")


def fate(row: Planted, screened: Verdicts) -> str:
    """What became of a row that was not found."""
    return "left without its original" if is_alone(row, screened) else screened[row.pair_id] or "kept"


def print_false_alarms(judged: dict[str, Share]) -> None:
    for rule, alarms in judged.items():
        print(f"{rule:16} false alarms {alarms} clean rows")
