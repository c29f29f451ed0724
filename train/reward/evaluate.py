"""Evaluate a reward head: its accuracy on held-out pairs beside "longer wins", and the probes that fool it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from curate.models.reward_features import Conversation, last_user_turn
from curate.stats import bootstrap_interval
from train.reward.pairs import TextPair
from train.reward.split import REFUSAL

RESAMPLES = 2000
PROBED_PROMPTS = 20
"""Held-out prompts of each file on which worthless responses are tried."""
PROBES = (
    "an empty response",
    "a full stop",
    '"the the the the"',
    f'"{REFUSAL}"',
    "the prompt itself",
    "the chosen response to another prompt",
)

Interval = tuple[float, float, float]
"""Estimate, and the lower and upper end of its 95% interval."""


def win_values(margins: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 where the chosen response scores higher, 0.5 on a tie, else 0."""
    return np.where(margins > 0, 1.0, np.where(margins == 0, 0.5, 0.0))


def mean_by_dataset(pairs: Sequence[TextPair], values: NDArray[np.float64], seed: int) -> dict[str, Interval]:
    """File -> mean of its pairs' values with its interval; `all` pools the files."""
    datasets = dict.fromkeys(pair.dataset for pair in pairs)
    rows = {name: [row for row, pair in enumerate(pairs) if pair.dataset == name] for name in datasets}
    rows["all"] = list(range(len(pairs)))
    found = {}
    for name, chosen in rows.items():
        # Whole prompt groups are drawn, as their pairs are alike.
        low, high = bootstrap_interval(values[chosen], seed, [pairs[row].group for row in chosen], RESAMPLES)
        found[name] = (round(float(values[chosen].mean()), 4), round(low, 4), round(high, 4))
    return found


def length_margins(pairs: Sequence[TextPair]) -> NDArray[np.float64]:
    """Characters of the chosen less those of the rejected response: the rule "longer wins" as a scorer."""
    return np.array([len(pair.chosen) - len(pair.rejected) for pair in pairs], dtype=float)


def probed_rows(heldout: Sequence[TextPair]) -> list[int]:
    """The row of the first pair of each of the first prompt groups of every file."""
    by_file: dict[str, dict[str, int]] = {}
    for row, pair in enumerate(heldout):
        by_file.setdefault(pair.dataset, {}).setdefault(pair.group, row)
    return [row for groups in by_file.values() for row in list(groups.values())[:PROBED_PROMPTS]]


def probe_responses(pairs: Sequence[TextPair]) -> list[tuple[Conversation, str]]:
    """For each pair its prompt with every worthless response, in the order of `PROBES`."""
    # The neighbor is of the same file but for the last of each, so it is no easier to tell than need be.
    others = [*pairs[1:], *pairs[:1]]
    return [
        (pair.messages, response)
        for pair, other in zip(pairs, others, strict=True)
        for response in ("", ".", "the the the the", REFUSAL, last_user_turn(pair.messages), other.chosen)
    ]


def probe_wins(
    pairs: Sequence[TextPair], chosen: NDArray[np.float64], probes: NDArray[np.float64]
) -> dict[str, dict[str, list[int]]]:
    """Worthless response -> file -> [prompts on which it scores at least as high as the chosen one, prompts]."""
    wins = probes.reshape(len(pairs), len(PROBES)) >= chosen[:, None]
    found: dict[str, dict[str, list[int]]] = {probe: {} for probe in PROBES}
    for row, pair in enumerate(pairs):
        for probe, is_won in zip(PROBES, wins[row].tolist(), strict=True):
            count = found[probe].setdefault(pair.dataset, [0, 0])
            count[0] += is_won
            count[1] += 1
    return found
