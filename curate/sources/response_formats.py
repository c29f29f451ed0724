"""Read rows with one or several responses to a prompt and their scores, of which pairs are made."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from curate.sources.fields import Fields, add_system, number, read_tools, refuse_images
from curate.sources.messages import Messages, UnusableRow, check_prompt, join_prompt, read_response
from curate.sources.pair_formats import pair_columns
from curate.sources.prompt_column import Names, prompt_name, row_prompt
from schemas.names import UNKNOWN


class Responses(NamedTuple):
    """Responses to one prompt with their scores; a score that is missing is None."""

    messages: Messages
    responses: list[str]
    scores: list[float | None]
    tools: str | None = None
    """JSON list of the tools that the conversation may call."""
    license: str = UNKNOWN


LISTS: Names = ("responses", "completions", "generations", "answers", "candidates", "outputs", "solutions", "samples")
"""Columns with several responses: a list of texts, or of objects."""
LIST_SCORES: Names = (
    *("scores", "ratings", "rewards", "labels", "is_correct", "correct", "ranks", "rankings", "score"),
    *("rating", "reward", "label", "rank", "correctness"),
)
"""Columns with a list of scores beside a list of texts."""
ITEM_TEXTS: Names = ("response", "answer", "completion", "text", "content", "output", "generation", "messages")
ITEM_SCORES: Names = (
    *("overall_score", "score", "rating", "reward", "pm_score", "fine_grained_score", "label", "is_correct"),
    *("correct", "rank"),
)
SINGLES: Names = ("completion", "response", "answer", "output", "generation", "solution")
"""Columns with one response."""
SINGLE_SCORES: Names = (
    *("label", "labels", "score", "rating", "reward", "is_correct", "correct", "helpfulness", "kto_tag"),
)
RANKS = ("rank", "ranks", "rankings")
"""Of which the lowest is the best."""
LABELS = {"true": 1.0, "false": 0.0, "desirable": 1.0, "undesirable": 0.0, "good": 1.0, "bad": 0.0}
LABELS |= {"correct": 1.0, "incorrect": 0.0, "chosen": 1.0, "rejected": 0.0, "yes": 1.0, "no": 0.0}


def are_lists(fields: Fields, preference: str) -> bool:
    """True for several texts on either side."""
    names = pair_columns(fields)
    sides = [fields.peek(name) for name in names or ()]
    is_list = [isinstance(side, list) and all(isinstance(item, str) for item in side) for side in sides]
    return bool(sides) and all(is_list) and max(map(len, sides)) > 1


def read_lists(fields: Fields, preference: str) -> Responses:
    """All chosen responses, labeled 1, and all rejected ones, labeled 0."""
    names = pair_columns(fields)
    assert names
    chosen, rejected = (fields.get(name) for name in names)
    labels: list[float | None] = [*(1.0 for _ in chosen), *(0.0 for _ in rejected)]
    return Responses(row_prompt(fields), [*chosen, *rejected], labels, read_tools(fields))


def list_column(fields: Fields) -> str | None:
    """The column with several responses."""
    return next((name for name in LISTS if isinstance(fields.peek(name), list)), None)


def are_responses(fields: Fields, preference: str) -> bool:
    """True for a prompt with a list of objects that have a score, or with a list of texts and one of scores."""
    name = list_column(fields)
    if name is None or prompt_name(fields) is None:
        return False
    items = fields.peek(name)
    if items and isinstance(items[0], Mapping):
        return score_name(Fields(items[0]), ITEM_SCORES, preference) is not None
    return score_name(fields, LIST_SCORES, preference) is not None


def score_name(fields: Fields, names: Names, preference: str) -> str | None:
    """The column of scores: the one asked for, else the first in use for them."""
    return fields.first((preference,) if preference else names)


def read_responses(fields: Fields, preference: str) -> Responses:
    """Several responses with their scores, in the order of the row."""
    name = list_column(fields)
    assert name
    items = fields.get(name)
    messages = row_prompt(fields)
    if items and isinstance(items[0], Mapping):
        read = [read_item(Fields(item) if isinstance(item, Mapping) else None, preference) for item in items]
        return Responses(messages, [text for text, _ in read], [score for _, score in read], read_tools(fields))
    column = score_name(fields, LIST_SCORES, preference)
    scores = fields.get(column) if column else None
    if not isinstance(scores, list) or len(scores) != len(items):
        raise UnusableRow("bad_preference")
    texts = [read_response(item)[1] for item in items]
    labels = [read_label(score, column in RANKS) for score in scores]
    return Responses(messages, texts, labels, read_tools(fields))


def read_item(item: Fields | None, preference: str) -> tuple[str, float | None]:
    """The response and the score of one object of a list."""
    name = item.first(ITEM_TEXTS) if item else None
    if item is None or name is None:
        raise UnusableRow("bad_response")
    scored = score_name(item, ITEM_SCORES, preference)
    return read_response(item.get(name))[1], read_label(item.get(scored), scored in RANKS) if scored else None


def read_label(value: Any, is_rank: bool = False) -> float | None:
    """A score, or a label as 1 or 0; of a rank the lowest is the best."""
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and value.strip().lower() in LABELS:
        return LABELS[value.strip().lower()]
    found = number(value)
    return 0.0 - found if is_rank and found is not None else found


def is_single(fields: Fields, preference: str) -> bool:
    """True for one response to a prompt, with a label or a score."""
    if score_name(fields, SINGLE_SCORES, preference) is None:
        return False
    return "messages" in fields or (fields.first(SINGLES) is not None and prompt_name(fields) is not None)


def read_single(fields: Fields, preference: str) -> Responses:
    """One response with its label or score."""
    scored = score_name(fields, SINGLE_SCORES, preference)
    assert scored
    score = read_label(fields.get(scored))
    name = fields.first(SINGLES)
    if name is None or ("messages" in fields and "prompt" not in fields):
        refuse_images(fields)
        before, text = read_response(fields.get("messages"))
        messages = check_prompt(add_system(fields, before))
    else:
        before, text = read_response(fields.get(name))
        prompt = row_prompt(fields)
        messages = join_prompt(prompt, (before, []))
    if score is None:
        raise UnusableRow("bad_preference")
    return Responses(messages, [text], [score], read_tools(fields))
