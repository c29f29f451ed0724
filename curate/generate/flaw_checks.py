"""Check whether the rejected response shows the flaw that was asked for, one check a kind of flaw.

No check calls a model. Lengths are not looked at: each flaw has bounds of its own for them.
"""

# ruff: noqa: RUF001  (signs that look like others are what this module tells apart)

import re
from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from curate.generate.constraints import constraint_rules
from curate.screen.text.refusals import find_refusals
from curate.screen.text.structure import LIST_ITEM, broken_form
from curate.screen.text.truncation import find_endings, stops_within
from curate.screen.text.words import IS_UNSPACED, content_words, has_quote_text, share_in, words
from schemas.names import WrittenFlaw

NEW_IN_QUOTE = 0.3
"""Share of the words of what is left out that must be gone; the subject of the rest stays."""
LEFT_OF_CHOSEN = 0.15
"""Share of the chosen response's content words that an incomplete response still has, and one off topic has not."""
OFF_TOPIC = 0.25
"""Largest share of content words from the prompt or the chosen response in one that is off topic."""
KEPT_UNDER_PADDING = 0.5
"""Share of the chosen response's content words that stand in a padded one."""
KEPT_IN_ITEM = 0.5
"""Share of a list item's content words that the chosen response or the prompt has, unless the item is new."""

URL = re.compile(r"(?:https?://|www\.|doi\.org/|doi:)\S+", re.IGNORECASE)
FIGURE = re.compile(r"\d+(?:[.,:/]\d+)*")
TITLE = re.compile(r"《[^》]+》|『[^』]+』")
NAME = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
SENTENCE_START = re.compile(r"(?:^|[.!?:…。！？]|\n)[\s\"'“‘(*_]*$")
LOOK_BACK = 50
NO_NAMES = frozenset(("i", "i'm", "i've", "i'll", "i'd", "ai", "ok"))


@dataclass(frozen=True)
class Written:
    """What one call wrote for a prompt."""

    prompt: str
    """Every turn of the conversation."""
    chosen: str
    rejected: str
    quote: str
    constraint: str = ""


def has_quote(written: Written) -> bool:
    """The quoted span stands in the rejected response only."""
    return has_quote_text(written.quote, written.rejected) and not has_quote_text(written.quote, written.chosen)


def leaves_out(written: Written) -> bool:
    """The quoted part of the chosen response is gone, by text and by words, and the rest is finished."""
    left_out = content_words(written.quote)
    rest = content_words(written.rejected)
    return (
        has_quote_text(written.quote, written.chosen)
        and not has_quote_text(written.quote, written.rejected)
        and 1 - share_in(left_out, rest) >= NEW_IN_QUOTE
        and share_in(content_words(written.chosen), rest) >= LEFT_OF_CHOSEN
        and not is_refusal(written)
        and not is_truncated(written)
    )


def breaks_constraint(written: Written) -> bool:
    """The constraint stands in the prompt, and the rejected response alone breaks it.

    Where it can be counted the count decides; else the quoted span has to stand in the rejected response only.
    """
    if not has_quote_text(written.constraint, written.prompt):
        return False
    demands = list(constraint_rules(written.constraint))
    of_chosen = [keeps(written.chosen) for keeps in demands]
    of_rejected = [keeps(written.rejected) for keeps in demands]
    if False in of_chosen or False in of_rejected:
        return False not in of_chosen
    is_counted = bool(demands) and None not in of_chosen + of_rejected
    return not is_counted and has_quote(written)


def is_off_topic(written: Written) -> bool:
    """The rejected response has few words of the prompt or the chosen response, and is no refusal.

    An answer to the request in words of its own passes too: words alone do not tell it from another subject.
    """
    answer, spoken = content_words(written.chosen), content_words(written.rejected)
    is_elsewhere = share_in(spoken, answer | content_words(written.prompt)) <= OFF_TOPIC
    return bool(spoken) and is_elsewhere and share_in(answer, spoken) < LEFT_OF_CHOSEN and not is_refusal(written)


def is_padded(written: Written) -> bool:
    """The rejected response says what the chosen one says and more, the quoted span among it.

    New figures, names and list items are content and not padding; other content that is added is taken for padding.
    """
    kept = share_in(content_words(written.chosen), content_words(written.rejected))
    is_longer = len(words(written.rejected)) > len(words(written.chosen))
    is_longer_only = is_longer and kept >= KEPT_UNDER_PADDING and has_quote(written)
    return is_longer_only and not adds_items(written) and not is_unsupported(written)


def adds_items(written: Written) -> bool:
    """The rejected response has more list items than the list that is the chosen one, and one that is mostly new."""
    had, has = LIST_ITEM.findall(written.chosen), LIST_ITEM.findall(written.rejected)
    known = content_words(f"{written.prompt}\n{written.chosen}")
    return 1 < len(had) < len(has) and any(share_in(content_words(item), known) < KEPT_IN_ITEM for item in has)


def is_refusal(written: Written) -> bool:
    """The rejected response begins with a refusal, the chosen one does not."""
    chosen, rejected = find_refusals(pl.Series([written.chosen, written.rejected]))
    return rejected and not chosen


def is_truncated(written: Written) -> bool:
    """The rejected response stops in the middle, the chosen one does not."""
    chosen, rejected = find_endings(pl.Series([written.chosen, written.rejected]))
    return chosen != "yes" and (rejected == "yes" or stops_within(written.rejected, written.chosen))


def is_unsupported(written: Written) -> bool:
    """The quoted span stands in the rejected response only, and has a figure, name or source that is new there."""
    if not has_quote(written):
        return False
    known = f"{written.prompt}\n{written.chosen}"
    known_words = frozenset(words(known))
    return any(
        not set(words(detail)) <= known_words if NAME.fullmatch(detail) else not has_quote_text(detail, known)
        for detail in specifics(written.quote, written.rejected)
    )


def specifics(quote: str, text: str) -> list[str]:
    """Figures, addresses, titles and names in a span of `text`."""
    found = [match.group(0) for pattern in (URL, TITLE) for match in pattern.finditer(quote)]
    items = LIST_ITEM.sub(r"\1", quote)
    found += FIGURE.findall(URL.sub(" ", items))
    inside: frozenset[str] | None = None
    for match in NAME.finditer(items):
        word = match.group(0)
        if IS_UNSPACED.match(word) or not word[0].isupper() or word.casefold() in NO_NAMES:
            continue
        if not starts_sentence(items, match.start()) or word[1:].isupper():
            found.append(word)
            continue
        inside = inside if inside is not None else names_inside(text)
        if word in inside:
            found.append(word)
    return found


def names_inside(text: str) -> frozenset[str]:
    """The words that stand after the first word of a sentence: with a capital they are names."""
    found = set()
    for match in NAME.finditer(text):
        first, *others = re.split("['’-]", match.group(0))
        found.update(others)
        if not starts_sentence(text, match.start()):
            found.update((first, match.group(0)))
    return frozenset(found)


def starts_sentence(text: str, at: int) -> bool:
    """The word at `at` is the first of a sentence; signs before it are looked at, no farther than `LOOK_BACK`."""
    return bool(SENTENCE_START.search(text, max(0, at - LOOK_BACK), at))


CHECKS: dict[WrittenFlaw, Callable[[Written], bool]] = {
    "factual": has_quote,
    "logic": has_quote,
    "incomplete": leaves_out,
    "broken_constraint": breaks_constraint,
    "off_topic": is_off_topic,
    "verbose_padding": is_padded,
    "broken_format": lambda written: broken_form(written.chosen, written.rejected),
    "needless_refusal": is_refusal,
    "truncation": is_truncated,
    "unsupported_detail": is_unsupported,
}
