"""Read rows with a better and a worse response, or with two and which is better, as pairs."""

from collections.abc import Mapping
from itertools import product
from typing import Any, NamedTuple

from curate.sources.fields import Fields, add_system, number, prompt_turns, read_tools, refuse_images
from curate.sources.messages import (
    Messages,
    UnusableRow,
    check_prompt,
    is_rendered,
    is_text,
    join_prompt,
    read_response,
    string_list,
)
from curate.sources.preferences import SCORE_WORDS, Sides, find_sides, prefer, preference_columns, read_votes
from curate.sources.prompt_column import Names, prompt_name
from schemas.names import UNKNOWN


class Ready(NamedTuple):
    """A pair, whatever its format was."""

    messages: Messages
    chosen: str
    rejected: str
    scores: tuple[Any, Any] | None = None
    """As the row has them; None where it has no column for them."""
    votes: tuple[tuple[str, bool, float], ...] = ()
    """Judge, whether the chosen response stood first, and strength for the chosen one, of every vote."""
    tools: str | None = None
    """JSON list of the tools that the conversation may call."""
    license: str = UNKNOWN


BETTER = (
    *(("chosen", "rejected"), ("preferred", "non_preferred"), ("preferred", "dispreferred"), ("better", "worse")),
    *(("winner", "loser"), ("win", "lose"), ("good", "bad"), ("positive", "negative"), ("accepted", "rejected")),
)
"""Words for the better and the worse response."""
SIDE_FORMS: Names = (
    *("{}", "{}_response", "response_{}", "{}_output", "{}_answer", "answer_{}", "{}_completion", "{}_text"),
    *("{}_message", "{}_messages", "{}_conversation", "{}_solution", "{}_summary"),
)
PAIR_COLUMNS = [tuple(map(form.format, words)) for words, form in product(BETTER, SIDE_FORMS)]
"""Columns of a better and a worse response, in the order they are looked for."""
SCORE_FORMS = [
    *(form for word in SCORE_WORDS for form in (f"{word}_{{}}", f"{{}}_{word}")),
    *("{}_rm_score", "rm_score_{}", "{}_avg_rating", "{}_quality"),
]
"""Columns of the scores of both."""


def pair_columns(fields: Fields) -> Names | None:
    """The columns of the better and the worse response."""
    return fields.layout.once(find_pair_columns)


def find_pair_columns(columns: Mapping[str, str]) -> Names | None:
    return next((names for names in PAIR_COLUMNS if all(name in columns for name in names)), None)


def is_pair(fields: Fields, preference: str) -> bool:
    """True for a row with two sides, and a prompt or sides that hold one."""
    if (names := pair_columns(fields)) is None:
        return False
    sides = [fields.peek(name) for name in names]
    return prompt_name(fields) is not None or any(map(is_whole, sides))


def is_whole(side: Any) -> bool:
    """True for a side that may hold its prompt: messages, or a text that does."""
    if is_text(side):
        return side.lstrip().startswith(("Human:", "[{", "{")) or is_rendered(side)
    return isinstance(side, list | Mapping)


def read_pair(fields: Fields, preference: str) -> Ready:
    """A row with a better and a worse response."""
    names = pair_columns(fields)
    assert names
    chosen, rejected = (fields.get(name) for name in names)
    return join_sides(fields, chosen, rejected)._replace(scores=side_scores(fields))


def join_sides(fields: Fields, chosen: Any, rejected: Any) -> Ready:
    """A pair of two sides and the prompt of the row, where it has a column for it."""
    refuse_images(fields)
    name = prompt_name(fields)
    prompt = prompt_turns(fields, name) if name else None
    if prompt is None and not any(map(is_whole, (chosen, rejected))):
        raise UnusableRow("bad_response" if None in (chosen, rejected) else "unreadable_row")
    if prompt is not None:
        prompt = check_prompt(without_answer(prompt, chosen) if name in ("messages", "conversations") else prompt)
    if any(is_text(side) and prompt is None and is_rendered(side) for side in (chosen, rejected)):
        raise UnusableRow("unread_structure")
    (before, text), (before_other, other) = read_response(chosen), read_response(rejected)
    if prompt is None and not (before and before_other):
        raise UnusableRow("prompt_mismatch" if before or before_other else "bad_prompt")
    messages = join_prompt(prompt, (before, before_other))
    if prompt is None:
        messages = add_system(fields, messages)
    if name and opens_response(fields.peek(name)):
        text, other = text.removeprefix(" "), other.removeprefix(" ")
    return Ready(messages, text, other, tools=read_tools(fields))


def opens_response(prompt: Any) -> bool:
    """True for a dialogue as text that ends where the response begins."""
    return is_text(prompt) and prompt.endswith("\n\nAssistant:")


def without_answer(messages: Messages, chosen: Any) -> Messages:
    """Messages without the last turn, where that is the chosen response."""
    if messages[-1]["role"] != "assistant" or len(messages) < 2:
        return messages
    return messages[:-1] if read_response(chosen)[1].strip() == messages[-1]["content"].strip() else messages


def side_scores(fields: Fields) -> tuple[Any, Any] | None:
    """The scores of both sides, in the columns in use for them; None where there is no such column."""
    if (columns := fields.layout.once(find_score_columns)) is None:
        return None
    return fields.get(columns[0]), fields.get(columns[1])


def find_score_columns(columns: Mapping[str, str]) -> tuple[str, str] | None:
    """The columns of the scores of both sides, of which either may be missing."""
    sides = find_pair_columns(columns) or ("chosen", "rejected")
    own = [words for words in BETTER if all(word in side for word, side in zip(words, sides, strict=True))]
    for chosen, rejected in (*own, ("chosen", "rejected"), sides):
        for form in SCORE_FORMS:
            found = (form.format(chosen), form.format(rejected))
            if found[0] in columns or found[1] in columns:
                return found
    return None


def is_rejected_beside_messages(fields: Fields, preference: str) -> bool:
    return "messages" in fields and ("rejected_response" in fields or "rejected_messages" in fields)


def read_rejected_beside_messages(fields: Fields, preference: str) -> Ready:
    """A conversation that ends in the chosen response, and the rejected response to its prompt."""
    refuse_images(fields)
    name = fields.first(("rejected_response", "rejected_messages"))
    assert name
    before, chosen = read_response(fields.get("messages"))
    before_rejected, rejected = read_response(fields.get(name))
    prompt = check_prompt(add_system(fields, before))
    messages = join_prompt(prompt, (before_rejected, []))
    return Ready(messages, chosen, rejected, side_scores(fields), tools=read_tools(fields))


def are_two_ranked(fields: Fields, preference: str) -> bool:
    """True for NeMo-RL's form of a pair: two completions of a context, of which the one of lower rank is better."""
    items = fields.peek("completions")
    is_pair = "context" in fields and isinstance(items, list) and len(items) == 2
    return is_pair and preference in ("", "rank") and all(is_ranked(item) for item in items)


def is_ranked(item: Any) -> bool:
    return isinstance(item, Mapping) and {"rank", "completion"} <= item.keys()


def read_two_ranked(fields: Fields, preference: str) -> Ready:
    """The two completions by their ranks; their scores are the ranks with the sign turned."""
    ranks = [number(item["rank"]) for item in fields.get("completions")]
    if None in ranks or ranks[0] == ranks[1]:
        raise UnusableRow("bad_preference")
    chosen, rejected = sorted(fields.get("completions"), key=lambda item: float(item["rank"]))
    pair = join_sides(fields, chosen["completion"], rejected["completion"])
    return pair._replace(scores=(0.0 - float(chosen["rank"]), 0.0 - float(rejected["rank"])))


def are_two(fields: Fields, preference: str) -> bool:
    """True for two responses with a preference, or with a score of each."""
    if (sides := fields.layout.once(find_sides)) is None:
        return False
    is_told = bool(preference_columns(fields)) or prefer(fields, sides, "") is not None
    return is_told or (preference in fields if preference else all(sides.score_columns(fields)))


def read_two(fields: Fields, preference: str) -> Ready:
    """Two responses and which is better; a tie has equal scores, which screening drops."""
    sides = fields.layout.once(find_sides)
    assert sides
    scores = side_values(fields, sides)
    strength = prefer(fields, sides, preference)
    if strength is None and scores is not None and not preference and not preference_columns(fields):
        first, second = (number(score) for score in scores)
        strength = None if first is None or second is None else first - second
    if strength is None:
        raise UnusableRow("bad_preference")
    first, second = fields.get(sides.first), fields.get(sides.second)
    texts = [string_list(first), string_list(second)]
    if all(text is not None and len(text) == 1 for text in texts):
        (first,), (second,) = texts  # type: ignore[misc]
    is_first = strength >= 0
    pair = join_sides(fields, *((first, second) if is_first else (second, first)))
    if strength == 0:
        scores = (0, 0)
    elif scores is None:
        scores = (abs(strength), 0)
    elif not is_first:
        scores = scores[::-1]
    sign = 1 if is_first else -1
    votes = tuple((vote.judge, is_first, sign * vote.strength) for vote in read_votes(fields, sides))
    return pair._replace(scores=scores, votes=votes)


def side_values(fields: Fields, sides: Sides) -> tuple[Any, Any] | None:
    """The scores of both responses as the row has them."""
    first, second = sides.score_columns(fields)
    return (fields.get(first), fields.get(second)) if first and second else None
