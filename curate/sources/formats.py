"""Formats of rows with preferences: one table from the columns of a row to a pair or to responses with scores."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, NamedTuple

from curate.sources.fields import PROMPTS, Fields, add_system, number, prompt_turns, read_tools, refuse_images
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
from schemas.names import UNKNOWN

Gives = Literal["pair", "responses", "response"]


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


class Responses(NamedTuple):
    """Responses to one prompt with their scores; a score that is missing is None."""

    messages: Messages
    responses: list[str]
    scores: list[float | None]
    tools: str | None = None
    """JSON list of the tools that the conversation may call."""
    license: str = UNKNOWN


@dataclass(frozen=True)
class Format:
    """One way in which rows hold preferences."""

    name: str
    columns: str
    """What a row has, in words."""
    gives: Gives
    """A pair, responses of which pairs are made, or one response of a prompt that other rows hold others of."""
    recognize: Callable[[Fields, str], bool]
    """Takes the row and the column asked for with `--preference`."""
    read: Callable[[Fields, str], Ready | Responses]


Names = tuple[str, ...]

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


def read_row(fields: Fields, preference: str = "") -> tuple[Format, Ready | Responses]:
    """The format of a row, and what it holds. Raises UnusableRow for a row of no format or with a fault."""
    form = find_format(fields, preference)
    if form is None:
        raise UnusableRow("unreadable_row")
    return form, form.read(fields, preference)


def find_format(fields: Fields, preference: str = "") -> Format | None:
    """The first format that recognizes a row."""
    return next((form for form in FORMATS if form.recognize(fields, preference)), None)


def prompt_name(fields: Fields, without: Names = ()) -> str | None:
    """The column of a row's prompt; those that may hold something else count only where they hold a conversation."""
    names = tuple(name for name in fields.layout.present(tuple(PROMPTS)) if name not in without)
    if len(names) > 1:
        # What may be about the prompt is the prompt where nothing else is, or where it holds a conversation.
        names = tuple(name for name in names if name not in ABOUT or is_turns(fields.peek(name)))
    return fields.first(names)


ABOUT = ("input", "context", "history")
"""Columns that another prompt may come with."""


def is_turns(value: Any) -> bool:
    """True for a list of messages."""
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)


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


def row_prompt(fields: Fields) -> Messages:
    """The prompt of a row that has a column for it."""
    name = prompt_name(fields)
    if name is None:
        raise UnusableRow("bad_prompt")
    return check_prompt(prompt_turns(fields, name))


def list_column(fields: Fields) -> str | None:
    """The column with several responses."""
    return next((name for name in LISTS if isinstance(fields.peek(name), list)), None)


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


FORMATS = (
    Format("lists", "a prompt, and lists of texts `chosen` and `rejected`", "responses", are_lists, read_lists),
    Format(
        "messages",
        "`messages` that end in the chosen response, `rejected_response`",
        "pair",
        is_rejected_beside_messages,
        read_rejected_beside_messages,
    ),
    Format(
        "pair",
        "`chosen`, `rejected` (text or messages) and a prompt in `prompt`, `instruction`, `question`, `messages` or "
        "`conversations`, or both sides with their whole conversation",
        "pair",
        is_pair,
        read_pair,
    ),
    Format(
        "ranked",
        "`context` and two `completions`, each with `rank` and `completion` (NeMo-RL)",
        "pair",
        are_two_ranked,
        read_two_ranked,
    ),
    Format(
        "responses",
        "a prompt, and `responses`, `completions` or `answers` with scores or labels",
        "responses",
        are_responses,
        read_responses,
    ),
    Format(
        "two",
        "a prompt, `response_a` and `response_b` (or 0 and 1, 1 and 2), and `winner`, `preference` or a score of each",
        "pair",
        are_two,
        read_two,
    ),
    Format(
        "labeled",
        "a prompt, `completion` or `response`, and `label` or `score`, with several rows of a prompt (KTO)",
        "response",
        is_single,
        read_single,
    ),
)
"""In the order they are tried."""
