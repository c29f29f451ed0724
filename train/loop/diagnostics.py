"""Warn of metrics that are a reason to stop or to start again with other settings."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from curate.stats import chance_difference

Metrics = dict[str, Any]

LOSS_RISE = 0.01
"""Share by which the held-out loss must rise over its minimum to count."""

CHOSEN_DROP = 0.10
"""Share by which the chosen log-probability may fall."""


def warnings_of(rows: Sequence[Metrics]) -> dict[str, str]:
    """Kind -> the first warning of that kind, from the metrics of a run so far, in order.

    The two held-out warnings follow the checks one by one, so a run that was interrupted gives the
    same warnings as an undisturbed one.
    """
    found: dict[str, str] = {}
    checks = [i for i, row in enumerate(rows) if "eval_loss" in row]
    for at in range(2, len(checks)):
        for kind, text in held_out_value(rows, checks[: at + 1]).items():
            found.setdefault(kind, text)
    if not checks and (text := chosen_drop(epoch_means(rows), "training")):
        found["chosen_logps"] = text
    return found


def held_out_value(rows: Sequence[Metrics], checks: Sequence[int]) -> dict[str, str]:
    """A warning if the held-out loss rises at the last checks, `checks` being positions in `rows`."""
    found = {}
    losses = [rows[i]["eval_loss"] for i in checks]
    lowest = min(range(len(losses)), key=losses.__getitem__)
    # one check above the minimum is noise, and so is a rise of less than a hundredth; two in a row are a turn
    if lowest < len(losses) - 2 and min(losses[-2:]) > (1 + LOSS_RISE) * losses[lowest]:
        found["heldout_loss"] = (
            f"held-out loss had its minimum, {losses[lowest]:.4f}, at step {rows[checks[lowest]]['step']} and is "
            f"{losses[-1]:.4f} at step {rows[checks[-1]]['step']}: fewer epochs or a smaller --lr would do better"
        )
    if "eval_rewards/accuracies" in rows[checks[-1]]:
        if text := accuracy_turn(rows, checks):
            found["heldout_accuracy"] = text
        if text := chosen_drop([rows[i]["eval_logps/chosen"] for i in checks], "held-out"):
            found["chosen_logps"] = text
    return found


def accuracy_turn(rows: Sequence[Metrics], checks: Sequence[int]) -> str:
    """A warning if the last two checks lie below the best one before them, and training above what it was then.

    The fall must be more than `chance` makes of as many pairs: of five held-out pairs one that turns is 20 points.
    """
    held = [rows[i]["eval_rewards/accuracies"] for i in checks[1:]]
    trained = [mean_metric(rows[a:b], "rewards/accuracies") for a, b in pairwise(checks)]
    if len(held) < 3:
        return ""
    best = max(range(len(held) - 2), key=held.__getitem__)
    if held[best] - max(held[-2:]) <= chance_difference(held[best], held[-1], rows[checks[-1]]["eval_rows"]):
        return ""
    if min(trained[-2:]) <= trained[best]:
        return ""
    return (
        f"held-out accuracy fell from {held[best]:.3f} at step {rows[checks[best + 1]]['step']} to {held[-1]:.3f} "
        f"at step {rows[checks[-1]]['step']}, while training's rose from {trained[best]:.3f} to {trained[-1]:.3f}: "
        "the pairs are memorized"
    )


def chosen_drop(logps: Sequence[float], split: str) -> str:
    """A warning if the last mean log-probability of the chosen responses lies too far below the first."""
    if len(logps) < 2 or logps[-1] >= logps[0] * (1 + CHOSEN_DROP):
        return ""
    return (
        f"the log-probability of {split} chosen responses fell by {logps[-1] / logps[0] - 1:.0%}, "
        f"from {logps[0]:.1f} to {logps[-1]:.1f}: a larger --beta or a smaller --lr holds it"
    )


def epoch_means(rows: Sequence[Metrics]) -> list[float]:
    """Mean log-probability of the chosen responses in each epoch that is done: each has seen the same pairs."""
    if not rows or "logps/chosen" not in rows[-1]:
        return []
    epochs = range(1, int(rows[-1]["epoch"]) + 1)
    parts = ([row for row in rows if epoch - 1 < row["epoch"] <= epoch] for epoch in epochs)
    return [mean_metric(part, "logps/chosen") for part in parts]


def mean_metric(rows: Sequence[Metrics], name: str) -> float:
    """Mean over the steps that have the metric; a row that is of several steps counts as often."""
    steps = [(row[name], row.get("steps", 1)) for row in rows if name in row]
    return float(sum(value * count for value, count in steps) / sum(count for _, count in steps))
