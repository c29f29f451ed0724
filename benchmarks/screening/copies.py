"""Changed copies of a pair: the pair given stays in the file, what is returned is its copy."""

import random
import re
from dataclasses import replace

from screening.pool import RealPair
from screening.world import World, edited_prompt

SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


def copy_respaced(pair: RealPair, rng: random.Random, world: World) -> RealPair:
    """Other letter case in the responses and other spacing in the prompt."""
    spaced = edited_prompt(pair, lambda text: f" {text.replace('. ', '.  ')}\n")
    return replace(spaced, chosen=pair.chosen.upper(), rejected=pair.rejected.lower())


def copy_repunctuated(pair: RealPair, rng: random.Random, world: World) -> RealPair:
    """Commas lost, full stops turned to exclamation marks, on all sides."""

    def change(text: str) -> str:
        return re.sub(r"\.(?=\s|$)", "!", text.replace(", ", " "))

    changed = edited_prompt(pair, change)
    return replace(changed, chosen=change(pair.chosen) + " ", rejected=change(pair.rejected))


def copy_with_slips(pair: RealPair, rng: random.Random, world: World) -> RealPair:
    """One word in 25 misspelled or lost in the prompt, and in both responses."""
    changed = edited_prompt(pair, lambda text: with_slips(text, rng))
    return replace(changed, chosen=with_slips(pair.chosen, rng, least=1), rejected=with_slips(pair.rejected, rng))


def copy_with_courtesy(pair: RealPair, rng: random.Random, world: World) -> RealPair:
    """A greeting before the prompt, and the same responses."""
    before = rng.choice(["Hi! ", "Hello. ", "Please help: "])
    return edited_prompt(pair, lambda text: f"{before}{text}")


def copy_with_closing(pair: RealPair, rng: random.Random, world: World) -> RealPair:
    """A sentence more at the end of the chosen response."""
    closing = rng.choice(["I hope this helps!", "Let me know if you have more questions.", "Happy to say more."])
    return replace(pair, chosen=f"{pair.chosen}\n\n{closing}")


def copy_shortened(pair: RealPair, rng: random.Random, world: World) -> RealPair | None:
    """The last of six or more sentences of the chosen response is left out."""
    sentences = SENTENCE_END.split(pair.chosen)
    last = sentences[-1]
    if len(sentences) < 6 or len(last) > len(pair.chosen) / 6:
        return None
    return replace(pair, chosen=pair.chosen.removesuffix(last).rstrip())


def copy_against_another(pair: RealPair, rng: random.Random, world: World) -> RealPair:
    """The same prompt and chosen response above a rejected one that says a sentence more."""
    return replace(pair, rejected=f"{pair.rejected} That is all I know about it.")


def with_slips(text: str, rng: random.Random, least: int = 0) -> str:
    """Every 25th word, by chance, misspelled or lost; white space stays."""
    words = re.split(r"(\s+)", text)
    places = [i for i in range(0, len(words), 2) if len(words[i]) > 3]
    count = min(len(places), max(least, len(places) // 25))
    for place in rng.sample(places, count):
        word = words[place]
        middle = len(word) // 2
        words[place] = rng.choice([word[:middle] + word[middle + 1 :], word[0] + word[2] + word[1] + word[3:], ""])
    return "".join(words)
