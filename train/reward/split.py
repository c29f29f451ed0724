"""Split pairs into training and held-out ones, and plant bad responses among the first."""

from collections.abc import Sequence
from dataclasses import replace

from curate.models.reward_features import last_user_turn
from schemas.ids import digest
from train.config import Share
from train.reward.pairs import TextPair

PLANTED_SHARE = 0.25
"""Training pairs of which a copy is added whose rejected response is a planted one."""
REFUSAL = "I cannot help with that."
PLANTED = ("empty", "full_stop", "repeated", "prompt", "cut_off", "other_answer", "refusal")


def split_pairs(pairs: Sequence[TextPair], share: Share, seed: int) -> tuple[list[TextPair], list[TextPair]]:
    """(train, held out): of the prompt groups 40% are share a, 40% share b, and 20% held out from both."""
    drawn = {group: hash_fraction(seed, group) for group in {pair.group for pair in pairs}}
    low, high = {"a": (0.0, 0.4), "b": (0.4, 0.8), "both": (0.0, 0.8)}[share]
    return [p for p in pairs if low <= drawn[p.group] < high], [p for p in pairs if drawn[p.group] >= 0.8]


def hash_fraction(*key: object) -> float:
    """A number in [0, 1) that depends on `key` alone."""
    return int(digest(list(key))[:12], 16) / 16**12


def plant_pairs(train: Sequence[TextPair], seed: int) -> list[TextPair]:
    """Copies of a share of the pairs, the rejected response replaced by one nobody would choose.

    Human pairs hold hardly any empty, broken or unrelated response, so a head that has only seen them
    may well prefer one.
    """
    planted = []
    for row, pair in enumerate(train):
        key = [seed, pair.group, pair.chosen, pair.rejected]
        if hash_fraction("planted", *key) >= PLANTED_SHARE:
            continue
        # Where a file does not grade its responses, a refusal may be right.
        kinds = PLANTED if pair.is_graded else PLANTED[:-1]
        kind = kinds[int(hash_fraction("kind", *key) * len(kinds))]
        rejected = plant_response(kind, pair, find_other_answer(train, row))
        if rejected is not None and rejected.strip() != pair.chosen.strip():
            planted.append(replace(pair, rejected=rejected))
    return planted


def find_other_answer(train: Sequence[TextPair], row: int) -> str | None:
    """The chosen response of the next pair of the same file about another prompt."""
    pair = train[row]
    following = [*train[row + 1 :], *train[:row]]
    return next((p.chosen for p in following if p.dataset == pair.dataset and p.group != pair.group), None)


def plant_response(kind: str, pair: TextPair, other: str | None) -> str | None:
    """A response nobody would choose; None where the pair allows none of this kind."""
    if kind == "cut_off":
        return pair.chosen[: len(pair.chosen) // 3] if len(pair.chosen) >= 60 else None
    return {
        "empty": "",
        "full_stop": ".",
        "repeated": " ".join(["the"] * 20),
        "prompt": last_user_turn(pair.messages),
        "other_answer": other,
        "refusal": REFUSAL,
    }[kind]
