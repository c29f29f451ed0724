"""Read which of two responses a row prefers: an index, a letter, a name, a strength or three columns of votes."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from curate.sources.fields import Fields, number

STEMS = ("response", "answer", "completion", "output", "conversation", "generation", "human_ref", "reply", "summary")
ENDS = (("_a", "_b"), ("_0", "_1"), ("_1", "_2"), ("0", "1"), ("1", "2"), ("a", "b"))
PREFERENCES = (
    *("preference", "overall_preference", "preference_strength", "winner", "preferred", "better_response_id"),
    *("better_response", "better", "choice", "chosen", "label", "labels", "verdict", "human_preference"),
    *("human_label", "gold_label", "majority", "safer_response_id"),
)
"""Columns that say which of two responses is better, the one that is used first."""
SIGNED = ("overall_preference", "preference_strength")
"""Strengths: below 0 the first response is better, above 0 the second."""
VOTER = re.compile(r"(?:annotator|annotation|human|rater|vote|voter|reviewer)_?\d+")
"""Columns of one person's vote; several are used by their majority."""
JUDGE = re.compile(r"judge_\w+(?<!_raw)")
WINNERS = ("winner_model", "winner_response", "winner")
"""What comes before the ends of two columns of 0 and 1, and before `_tie`."""
SCORE_WORDS = ("score", "rating", "reward")
SPEAKERS = ("model", "response", "assistant", "answer", "system")
"""Words before the end of a side, as in `model_a`."""
TIES = {"tie", "bothbad", "both bad", "both", "equal", "equally good", "draw", "same", "neither", "none", "a=b", "c"}


class Vote(NamedTuple):
    """One vote on two responses, above 0 for the first, below 0 for the second and 0 for a tie."""

    judge: str
    """The column it stands in."""
    strength: float


@dataclass(frozen=True)
class Sides:
    """The columns of two responses."""

    first: str
    second: str
    stem: str
    ends: tuple[str, str]

    def score_columns(self, fields: Fields) -> tuple[str | None, str | None]:
        """The columns with a score of either response."""
        found = []
        for side in (self.first, self.second):
            end = side.removeprefix(self.stem)
            names = [f"{word}{end}" for word in SCORE_WORDS]
            names += [f"{side}_{word}" for word in SCORE_WORDS] + [f"{word}_{side}" for word in SCORE_WORDS]
            found.append(fields.first(tuple(names)))
        return found[0], found[1]


def find_sides(columns: Mapping[str, str]) -> Sides | None:
    """The columns of two responses to one prompt; None where there are none."""
    for stem in STEMS:
        for ends in ENDS:
            if stem + ends[0] in columns and stem + ends[1] in columns:
                return Sides(stem + ends[0], stem + ends[1], stem, (ends[0].strip("_"), ends[1].strip("_")))
    return None


def preference_columns(fields: Fields) -> list[str]:
    """Columns that can say which of two responses is better: known names, then votes, then judges."""
    return fields.layout.once(find_preference_columns)


def find_preference_columns(columns: Mapping[str, str]) -> list[str]:
    names = [name for name in PREFERENCES if name in columns]
    others = [name for name in columns if VOTER.fullmatch(name)]
    judges = [name for name in columns if JUDGE.fullmatch(name)]
    return [*names, *others, *judges]


def read_votes(fields: Fields, sides: Sides) -> list[Vote]:
    """Every vote of a row that can be read."""
    votes = []
    for name in preference_columns(fields):
        strength = read_choice(fields.peek(name), name, sides)
        if strength is not None:
            fields.get(name)
            votes.append(Vote(fields.column(name), strength))
    return [*votes, *individual_votes(fields)]


def individual_votes(fields: Fields) -> list[Vote]:
    """The strengths of several people in one column, as HelpSteer3 has them."""
    found = fields.peek("individual_preference")
    scores = [number(vote.get("score")) for vote in found if isinstance(vote, dict)] if isinstance(found, list) else []
    if scores:
        fields.get("individual_preference")
    return [Vote(f"individual_preference_{i}", -score) for i, score in enumerate(scores) if score is not None]


def used_columns(fields: Fields, preference: str) -> list[str]:
    """The columns whose verdict counts: the one asked for, else the first known name, else all votes of people."""
    if preference:
        return [preference] if preference in fields else []
    names = preference_columns(fields)
    if names and names[0] in PREFERENCES:
        return names[:1]
    return [name for name in names if VOTER.fullmatch(name)] or names[:1]


def describe_preference(fields: Fields, preference: str) -> str:
    """Which columns decide, and which others could, in words."""
    used = [fields.column(name) for name in used_columns(fields, preference)]
    others = [fields.column(name) for name in preference_columns(fields) if fields.column(name) not in used]
    told = f"the majority of {', '.join(used)}" if len(used) > 1 else "".join(used) or "a column of each"
    return f"{told} decides" + (f"; --preference could name {', '.join(others)}" if others else "")


def prefer(fields: Fields, sides: Sides, preference: str) -> float | None:
    """How much the first response is preferred, below 0 where it is the second; None where nothing can be read.

    Of several votes the majority counts, and no majority is a tie.
    """
    used = used_columns(fields, preference)
    if not used:
        return one_hot(fields, sides)
    strengths = [read_choice(fields.get(name), name, sides) for name in used]
    if len(strengths) == 1:
        return strengths[0]
    votes = Counter((strength > 0) - (strength < 0) for strength in strengths if strength is not None)
    if not votes:
        return None
    verdict, count = votes.most_common(1)[0]
    return float(verdict) if 2 * count > votes.total() else 0.0


def one_hot(fields: Fields, sides: Sides) -> float | None:
    """The preference of a row that has a column of 0 or 1 for either response, and for a tie."""
    for stem in WINNERS:
        names = [f"{stem}_{end}" for end in sides.ends]
        if all(name in fields for name in names):
            first, second = (number(float(v) if isinstance(v, bool) else v) for v in map(fields.get, names))
            fields.note("winner_tie")
            return None if first is None or second is None else first - second
    return None


def read_choice(value: Any, name: str, sides: Sides) -> float | None:
    """The strength with which a value prefers the first response; None for a value that cannot be read."""
    if isinstance(value, str) and (found := read_choice_text(value, sides)) is not None:
        return found
    strength = number(value)
    if isinstance(value, bool) or strength is None:
        return None
    if name in SIGNED:
        return -strength
    if name == "labels":
        # SHP: 1 where the first is preferred, whatever the ends are
        return {1.0: 1.0, 0.0: -1.0}.get(strength)
    ends = [number(end) for end in sides.ends]
    if ends[0] is None or ends[1] is None:
        return None
    if strength == ends[0] or strength == ends[1]:
        return 1.0 if strength == ends[0] else -1.0
    middle = (ends[0] + ends[1]) / 2
    if ends[0] < strength < ends[1]:
        # AlpacaEval: the weight of the second response, from 1 to 2
        return (middle > strength) - float(middle < strength)
    return 0.0 if strength == 0 else None


def read_choice_text(value: str, sides: Sides) -> float | None:
    """The strength that words give: a letter, the name of a column or of a model's side, A>B, a tie."""
    text = re.sub(r"[\[\]().\s]+", " ", value.lower()[:100]).strip().replace("-", "_")
    if text in TIES or text.startswith(("tie", "both", "equal")):
        return 0.0
    if marked := re.fullmatch(r"(\w+) ?(<+|>+|=) ?(\w+)", text):
        sign = {">": 1.0, "<": -1.0, "=": 0.0}[marked[2][0]]
        return sign * len(marked[2]) if (marked[1], marked[3]) == sides.ends else None
    for side, end, order, strength in (
        (sides.first, sides.ends[0], ("first", "left"), 1.0),
        (sides.second, sides.ends[1], ("second", "right"), -1.0),
    ):
        names = {f"{kind}{gap}{end}" for kind in (sides.stem, *SPEAKERS) for gap in ("_", " ", "")}
        if text in {side, *order, *names} or (text == end and not end.isdigit()):
            return strength
    return None
