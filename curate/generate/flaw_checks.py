"""Check whether the rejected response shows the flaw that was asked for, one check a kind of flaw.

No check calls a model. Lengths are not looked at: each flaw has bounds of its own for them.
"""

# ruff: noqa: RUF001  (signs that look like others are what this module tells apart)

import re
from collections.abc import Callable
from dataclasses import dataclass

from curate.generate.constraints import constraint_rules
from curate.generate.structure import LIST_ITEM, broken_form, is_cut
from curate.generate.words import IS_UNSPACED, content_words, has_quote_text, share_in, strip_markup, words
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

CANNOT = (
    r"(?:can(?:no|')?t|can not|could not|couldn't|(?:won't|will not)(?: be able to)?|unable to|not able to|"
    r"rather not|not allowed to|refuse to|(?:don't|do not) (?:think|believe) i (?:can|should))"
)
DOING = (
    r"(?:help|assist|provide|write|answer|do (?:that|this|so)|give|discuss|support|comply|fulfil|continue|create|"
    r"generate|share|tell|offer|recommend|advise|engage|take part|participate|explain|respond|process|complete|"
    r"talk|comment|address|accommodate|describe|suggest|produce|compose|(?:go|get) into|list|name|translate|guide|"
    r"show|carry out|proceed)"
)
FIGURE_OF_SPEECH = (
    r"(?! (?:\w+ ){0,5}enough\b)(?<!help(?= (?:but|myself|feeling|thinking|noticing|wondering|smiling|laughing)\b))"
    r"(?<!tell(?= you how\b))"
)
"""After "I can't": not "recommend this enough", "help but smile" or "tell you how good it is"."""
REFUSAL = re.compile(
    rf"\bi(?: am|'m|'d| would)? ?(?:really |afraid |truly |sorry,? |but |i |simply |just )*"
    rf"{CANNOT} (?:\w+ ){{0,2}}?{DOING}\b{FIGURE_OF_SPEECH}"
    r"|\bi (?:can't|cannot|can not) in good conscience\b"
    r"|\bi (?:don't|do not|wouldn't|would not) (?:\w+ )?feel comfortable\b"
    rf"|\bit would (?:be (?:inappropriate|irresponsible|unethical|wrong)|not be (?:appropriate|responsible|right)) "
    rf"(?:for me )?to {DOING}\b"
    r"|\b(?:i|we)(?:'m|'d|'ll| am| will| would| must| have to| need to| going to| like to| respectfully| politely"
    r"| regretfully)* decline\b"
    r"|\b(?:i am|i'm) (?:sorry|afraid),? but (?:this|that|your|the) \w+ (?:is|goes|falls|seems|involves|violates)"
    r"|\b(?:i'm|i am) not comfortable\b"
    r"|\bas an ai\b.{0,60}\b(?:can't|cannot|unable|not able|do not|don't|not allowed)\b"
    r"|\b(?:against|violates?) (?:my|our|the) (?:\w+ )?(?:guidelines|polic(?:y|ies)|principles|programming)"
    r"|\bunable to (?:assist|help|comply|fulfil|provide|answer)|\bnot (?:something|anything) i can (?:help|assist|do)"
    r"|(?:抱歉|对不起|對不起|很遗憾|很遺憾).{0,12}(?:不能|无法|無法|不可以)|我(?:不能|无法|無法)(?:帮|協|协|提供|回答|回應|回应|满足|滿足)"
    r"|申し訳.{0,20}(?:できません|できかねます|お答え|お手伝い)|お(?:答え|手伝い)(?:することは)?できません"
    r"|(?:죄송|미안).{0,20}(?:없습니다|수 없)"
    r"|\btut mir leid,? aber\b|\bdabei kann ich (?:\w+ )?nicht helfen|\bich kann (?:\w+ ){0,4}nicht (?:helfen|geben)"
    r"|\bje (?:suis )?(?:vraiment )?(?:désolée?,? mais|ne peux pas)\b"
    r"|\blo siento,? (?:pero )?no puedo\b|\bno puedo (?:ayudar|proporcionar|responder)"
    r"|\b(?:mi dispiace|spiacente),? (?:ma )?non posso\b|\bdesculpe?,? (?:mas )?não posso\b"
    r"|(?:извините|простите|к сожалению).{0,20}(?:не могу|не можем)|\bя не могу (?:помочь|ответить|предоставить)"
)
OPENING = 240
"""Signs at the start in which a refusal is looked for."""

URL = re.compile(r"(?:https?://|www\.|doi\.org/|doi:)\S+", re.IGNORECASE)
FIGURE = re.compile(r"\d+(?:[.,:/]\d+)*")
TITLE = re.compile(r"《[^》]+》|『[^』]+』")
NAME = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
SENTENCE_START = re.compile(r"(?:^|[.!?:…。！？]|\n)[\s\"'“‘(*_]*$")
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
        and not is_truncated(written)
        and not is_refusal(written)
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


def is_malformed(written: Written) -> bool:
    return broken_form(written.chosen, written.rejected)


def is_refusal(written: Written) -> bool:
    """The rejected response begins with a refusal, the chosen one does not."""
    return refuses(written.rejected) and not refuses(written.chosen)


def refuses(text: str) -> bool:
    return bool(REFUSAL.search(strip_markup(text)[:OPENING]))


def is_truncated(written: Written) -> bool:
    """The rejected response stops in the middle, the chosen one does not."""
    return is_cut(written.rejected, written.chosen) and not is_cut(written.chosen)


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
    for match in NAME.finditer(items):
        word = match.group(0)
        if IS_UNSPACED.match(word) or not word[0].isupper() or word.casefold() in NO_NAMES:
            continue
        if not SENTENCE_START.search(items[: match.start()]) or word[1:].isupper() or stands_inside(word, text):
            found.append(word)
    return found


def stands_inside(word: str, text: str) -> bool:
    """True where the capitalized word also stands after the first word of a sentence: it is a name."""
    return any(
        not SENTENCE_START.search(text[: found.start()]) for found in re.finditer(rf"\b{re.escape(word)}\b", text)
    )


CHECKS: dict[WrittenFlaw, Callable[[Written], bool]] = {
    "factual": has_quote,
    "logic": has_quote,
    "incomplete": leaves_out,
    "broken_constraint": breaks_constraint,
    "off_topic": is_off_topic,
    "verbose_padding": is_padded,
    "broken_format": is_malformed,
    "needless_refusal": is_refusal,
    "truncation": is_truncated,
    "unsupported_detail": is_unsupported,
}
