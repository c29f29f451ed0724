"""Faults of one response: empty, cut off, in another language, repeating itself, about something else."""

import random
import re
from dataclasses import replace

from screening.foreign import passage
from screening.pool import RealPair
from screening.world import Plant, World, a_side, on_a_side, with_response

LATIN = ["ca", "de", "es", "fi", "fr", "gl", "hr", "id", "it", "nl", "pl", "pt", "ro", "tr"]
MENTIONS_LANGUAGE = re.compile(
    r"translat|language|sentence in|\b(?:english|french|german|spanish|portuguese|italian|catalan|galician|dutch"
    r"|polish|turkish|romanian|finnish|indonesian|croatian|arabic|hebrew|persian|farsi|urdu|hindi|marathi|bengali"
    r"|gujarati|punjabi|panjabi|odia|oriya|malayalam|tamil|telugu|khmer|korean|japanese|chinese|russian|bulgarian"
    r"|greek|latin|swedish|danish|czech)\b",
    re.IGNORECASE,
)
COMMON = frozenset(["the", "of", "to", "and", "is", "in", "for", "it", "that", "you", "with", "are", "what", "how"])
SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
CODE_BLOCK = re.compile(r"```.*?\n(.+?)```", re.DOTALL)


def empty(text: str) -> Plant:
    """`text` in place of the chosen or the rejected response."""
    return lambda pair, rng, world: on_a_side(pair, text, rng)


def empty_both(pair: RealPair, rng: random.Random, world: World) -> RealPair:
    return replace(pair, chosen="", rejected=" ")


def cut_in_word(pair: RealPair, rng: random.Random, world: World) -> RealPair | None:
    return cut(pair, rng, r"\b[^\W\d_]{3,}(?=[^\W\d_]{3})")


def cut_in_sentence(pair: RealPair, rng: random.Random, world: World) -> RealPair | None:
    return cut(pair, rng, r"[^\W\d_],?(?=[ ][^\W\d_])")


def cut_in_list(pair: RealPair, rng: random.Random, world: World) -> RealPair | None:
    return cut(pair, rng, r"\n\s*(?:\d+[.)]|[-*])\s+\**[^\W\d_]+(?=[ ][^\W\d_])")


def cut_in_code(pair: RealPair, rng: random.Random, world: World) -> RealPair | None:
    """The fence stays open."""
    side = a_side(rng)
    text = getattr(pair, side)
    blocks = [match for match in CODE_BLOCK.finditer(text) if len(match[1]) > 100]
    if not blocks:
        return None
    block = rng.choice(blocks)
    return with_response(pair, side, text[: block.start(1) + int(len(block[1]) * rng.uniform(0.3, 0.8))].rstrip())


def cut(pair: RealPair, rng: random.Random, ending: str) -> RealPair | None:
    """A response of 40 words or more, cut after 30% to 80% where a match of `ending` ends."""
    side = a_side(rng)
    text = getattr(pair, side)
    if len(text.split()) < 40:
        return None
    ends = [m.end() for m in re.finditer(ending, text) if 0.3 * len(text) < m.end() < 0.8 * len(text)]
    return with_response(pair, side, text[: rng.choice(ends)]) if ends else None


def in_latin_script(pair: RealPair, rng: random.Random, world: World) -> RealPair | None:
    return in_other_language(pair, rng, world, [name for name in world.foreign if name in LATIN])


def in_other_script(pair: RealPair, rng: random.Random, world: World) -> RealPair | None:
    return in_other_language(pair, rng, world, [name for name in world.foreign if name not in LATIN])


def in_other_language(pair: RealPair, rng: random.Random, world: World, languages: list[str]) -> RealPair | None:
    """A passage of 80 to 300 characters for a response; not where the prompt speaks of languages."""
    if any(MENTIONS_LANGUAGE.search(m["content"]) or not is_english(m["content"]) for m in pair.messages):
        return None
    return on_a_side(pair, passage(world.foreign, languages, rng.choice([80, 150, 300]), rng), rng)


def is_english(text: str) -> bool:
    """Nearly all of the letters are ASCII, and one word in 20 is a common one of English."""
    words = text.lower().split()
    is_ascii = sum(letter.isascii() for letter in text) >= 0.97 * len(text)
    return is_ascii and 20 * sum(word in COMMON for word in words) >= len(words)


def sentence_again(pair: RealPair, rng: random.Random, world: World) -> RealPair | None:
    """One sentence of a response again and again, 60% to 90% of its words."""
    side = a_side(rng)
    sentences = SENTENCE_END.split(getattr(pair, side))
    places = [i for i, sentence in enumerate(sentences) if len(sentence.split()) >= 6]
    if not places:
        return None
    place = rng.choice(places)
    kept = " ".join(sentences[: place + 1])
    return with_response(pair, side, f"{kept} {looped(sentences[place], kept, rng)}")


def phrase_again(pair: RealPair, rng: random.Random, world: World) -> RealPair | None:
    """The first half of a response, then three to eight words without an end."""
    side = a_side(rng)
    words = getattr(pair, side).split()
    if len(words) < 16:
        return None
    kept = words[: len(words) // 2]
    phrase = kept[-rng.randint(3, 8) :]
    return with_response(pair, side, f"{' '.join(kept)} {looped(' '.join(phrase), ' '.join(kept), rng)}.")


def word_again(pair: RealPair, rng: random.Random, world: World) -> RealPair | None:
    """The beginning of a response, then its last word again and again."""
    side = a_side(rng)
    words = getattr(pair, side).split()
    places = [i for i, word in enumerate(words[: len(words) // 2]) if i >= 5 and word.isalpha()]
    if not places:
        return None
    kept = " ".join(words[: places[-1] + 1])
    return with_response(pair, side, f"{kept} {looped(words[places[-1]], kept, rng)}.")


def items_again(pair: RealPair, rng: random.Random, world: World) -> RealPair | None:
    """A list whose items are one sentence."""
    side = a_side(rng)
    sentences = [s for s in SENTENCE_END.split(getattr(pair, side)) if len(s.split()) >= 8]
    if not sentences:
        return None
    item = rng.choice(sentences)
    return with_response(pair, side, "\n".join(f"{number}. {item}" for number in range(1, rng.randint(5, 20))))


def all_again(times: int) -> Plant:
    """The whole response said so many times."""

    def plant(pair: RealPair, rng: random.Random, world: World) -> RealPair | None:
        side = a_side(rng)
        text = getattr(pair, side)
        return with_response(pair, side, "\n\n".join([text] * times)) if len(text.split()) >= 20 else None

    return plant


def looped(text: str, kept: str, rng: random.Random) -> str:
    """`text` so often that it is 60% to 90% of the words, at least four times."""
    share = rng.uniform(0.6, 0.9)
    words = len(kept.split()) * share / (1 - share)
    return " ".join([text] * max(4, round(words / len(text.split()))))


def of_another_row(is_same_source: bool) -> Plant:
    """One response of another row with 15 words or more."""

    def plant(pair: RealPair, rng: random.Random, world: World) -> RealPair:
        donors = [o for o in world.others(pair, is_same_source) if len(o.chosen.split()) >= 15]
        return on_a_side(pair, rng.choice(donors).chosen, rng)

    return plant


def both_of_another_row(pair: RealPair, rng: random.Random, world: World) -> RealPair:
    donor = rng.choice([o for o in world.others(pair, False) if min(map(word_count, (o.chosen, o.rejected))) >= 15])
    return replace(pair, chosen=donor.chosen, rejected=donor.rejected)


def word_count(text: str) -> int:
    return len(text.split())
