"""Count how often a scorer prefers a probe to real responses, over the pairs that come with pairwright."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from curate.audit.noise import read_scores, sample_pairs
from curate.ledger.recorder import Recorder
from curate.score.probes import PROBES
from curate.score.score import Messages, compare_request_for, is_pairwise, score_request_for, side_requests
from curate.stats import wilson
from schemas.calls import Backend

CUT_SHARE = 0.4
"""Of the characters of the chosen response, up to the end of a word: enough to be fluent, and no answer."""
CALLED = {
    "empty": "an empty response",
    "full_stop": "a full stop",
    "refusal": "a refusal",
    "echo": "the prompt itself",
    "cut": "the first 40% of the chosen one",
    "other": "an answer to another prompt",
}
Side = Literal["chosen", "rejected"]
SIDES: tuple[Side, ...] = ("chosen", "rejected")

Pairs = Sequence[tuple[tuple[Messages, str, str], list[str]]]
"""Pairs, each with its probes in the order of `CALLED`."""
Margins = NDArray[np.float64]
"""(pairs, probes, sides): by how much the probe is better than the response; NaN where a score failed."""


@dataclass(frozen=True)
class Preference:
    """Wins, ties and failures of one probe against the chosen, or the rejected, response of each pair."""

    probe: str
    over: Side
    wins: int
    ties: int
    compared: int
    failed: int
    """Pairs of which a score was missing; they are not among those compared."""

    def interval(self) -> tuple[float, float, float]:
        """Share of wins with its 95% interval."""
        if not self.compared:
            return 0.0, 0.0, 1.0
        share = self.wins / self.compared
        return share, *wilson(share, self.compared)

    @property
    def is_preferred(self) -> bool:
        """It wins in more than half of the pairs."""
        return 2 * self.wins > self.compared


@dataclass(frozen=True)
class ProbeStudy:
    """All probes of one scorer."""

    scorer: str
    preferences: list[Preference]
    """Each probe beside the chosen, then beside the rejected response."""

    def preferred(self) -> list[Preference]:
        """Probes that the scorer prefers to chosen responses, the clearest first.

        Those over rejected responses are counted only: some rejected responses deserve no better.
        """
        found = [one for one in self.preferences if one.over == "chosen" and one.is_preferred]
        return sorted(found, key=lambda one: -one.interval()[0])

    def sentence(self) -> str:
        """The result in one line."""
        if found := self.preferred():
            first, *rest = found
            more = f"; also {join_names(rest)}" if rest else ""
            of = f"{format_preference(first, ' prompts')}{more}"
            return f"{self.scorer} prefers {CALLED[first.probe]} to the chosen one in {of}{self.failures()}"
        beside_chosen = [one for one in self.preferences if one.over == "chosen"]
        return f"{self.scorer} prefers to the chosen one {join_names(beside_chosen)}{self.failures()}"

    def failures(self) -> str:
        """The comparisons with the chosen response that failed, in words."""
        failed = [one for one in self.preferences if one.over == "chosen" and one.failed]
        return "".join(f"; {one.failed} scores failed beside {CALLED[one.probe]}" for one in failed)

    def to_json(self) -> dict[str, Any]:
        """All figures; the names are a contract."""
        return {
            "scorer": self.scorer,
            "probes": [
                {
                    **asdict(one),
                    **{name: round(end, 4) for name, end in zip(("share", "low", "high"), one.interval(), strict=True)},
                }
                for one in self.preferences
            ],
        }


def probe_scorer(scorer: Backend, recorder: Recorder, num: int) -> ProbeStudy:
    """Compare six probes with both responses of `num` sample pairs by `scorer`.

    A pairwise scorer is shown each probe with each response, in both orders; any other one scores each by itself.
    """
    pairs = sample_pairs(max(num, 2))
    asked = [(pair, probe_responses(pair, answer_to_another(pairs, i))) for i, pair in enumerate(pairs[:num])]
    compare = compare_pairwise if is_pairwise(scorer) else compare_scores
    margins = compare(scorer, recorder, asked)
    counted = [
        count_preferences(probe, side, margins[:, i, j])
        for i, probe in enumerate(CALLED)
        for j, side in enumerate(SIDES)
    ]
    return ProbeStudy(scorer.model, counted)


def compare_scores(scorer: Backend, recorder: Recorder, asked: Pairs) -> Margins:
    """By how much each probe scores above each response."""
    requests = [
        request
        for pair, probes in asked
        for request in (*side_requests(scorer, *pair), *(score_request_for(scorer, pair[0], probe) for probe in probes))
    ]
    scores = read_scores(scorer, recorder.ask(scorer, requests)).reshape(len(asked), len(SIDES) + len(CALLED))
    sides, probes = np.split(scores, [len(SIDES)], axis=1)
    return probes[:, :, None] - sides[:, None, :]


def compare_pairwise(scorer: Backend, recorder: Recorder, asked: Pairs) -> Margins:
    """The probability that each probe is better than each response, less one half."""
    requests = [
        compare_request_for(scorer, messages, *two)
        for (messages, *sides), probes in asked
        for probe in probes
        for side in sides
        for two in ((probe, side), (side, probe))
    ]
    better = read_scores(scorer, recorder.ask(scorer, requests))
    return better.reshape(len(asked), len(CALLED), len(SIDES)) - 0.5


def count_preferences(probe: str, side: Side, margins: NDArray[np.float64]) -> Preference:
    """Wins, ties and failures of a probe over one response of each pair."""
    wins, ties, failed = (int(found.sum()) for found in (margins > 0, margins == 0, np.isnan(margins)))
    return Preference(probe, side, wins, ties, len(margins) - failed, failed)


def probe_responses(pair: tuple[Messages, str, str], other: str) -> list[str]:
    """The probes of a pair, in the order of `CALLED`."""
    messages, chosen, _ = pair
    return [*PROBES.values(), messages[-1]["content"], first_words(chosen), other]


def first_words(text: str) -> str:
    """The first words of a text, `CUT_SHARE` of its characters; the first characters of a single long word."""
    start = text[: int(CUT_SHARE * len(text))]
    return start.rsplit(None, 1)[0] if len(start.split()) > 1 else start


def answer_to_another(pairs: Sequence[tuple[Messages, str, str]], place: int) -> str:
    """The chosen response of the next pair that is about another prompt."""
    later = [*pairs[place + 1 :], *pairs[:place]]
    return next(chosen for messages, chosen, _ in later if messages != pairs[place][0])


def join_names(some: Sequence[Preference]) -> str:
    return ", ".join(f"{CALLED[one.probe]} in {format_preference(one)}" for one in some)


def format_preference(one: Preference, what: str = "") -> str:
    """`58 of 60 prompts (97%, 89% to 99%)`."""
    share, low, high = one.interval()
    return f"{one.wins} of {one.compared}{what} ({share:.0%}, {low:.0%} to {high:.0%})"
