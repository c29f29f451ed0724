"""Pairs with an evaluation prompt in their prompt: whole, in part, respelled, among other text."""

import random
import re
from dataclasses import replace

from screening.pool import RealPair, user
from screening.world import World, edited_prompt

SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


def evaluation_whole(pair: RealPair, rng: random.Random, world: World) -> RealPair:
    return replace(pair, messages=user(rng.choice(world.evaluation)))


def evaluation_respelled(pair: RealPair, rng: random.Random, world: World) -> RealPair:
    """Other letter case, spacing and punctuation."""
    text = re.sub(r"[,.;:!?](?=\s|$)", rng.choice(["", " -", " ..."]), a_prompt(world, rng, 8))
    return replace(pair, messages=user(rng.choice([text.upper(), text.lower(), text.replace(" ", "  ")])))


def evaluation_surrounded(pair: RealPair, rng: random.Random, world: World) -> RealPair:
    return put_into_prompt(pair, a_prompt(world, rng, 13), rng)


def evaluation_in_part(pair: RealPair, rng: random.Random, world: World) -> RealPair:
    """60% of the words of a prompt of 26 or more, in a row."""
    words = a_prompt(world, rng, 26).split()
    length = -(-len(words) * 6 // 10)
    start = rng.randrange(len(words) - length + 1)
    return put_into_prompt(pair, " ".join(words[start : start + length]), rng)


def evaluation_edited(pair: RealPair, rng: random.Random, world: World) -> RealPair:
    """Every 20th word of a prompt of 40 or more replaced."""
    words = a_prompt(world, rng, 40).split()
    for place in range(10, len(words), 20):
        words[place] = rng.choice(pair.chosen.split())
    return put_into_prompt(pair, " ".join(words), rng)


def evaluation_in_earlier_turn(pair: RealPair, rng: random.Random, world: World) -> RealPair:
    before = [*user(a_prompt(world, rng, 8)), {"role": "assistant", "content": "Sure, let us talk about that."}]
    is_system = pair.messages[0]["role"] == "system"
    return replace(pair, messages=[*pair.messages[:is_system], *before, *pair.messages[is_system:]])


def evaluation_many_times(pair: RealPair, rng: random.Random, world: World) -> RealPair:
    """The same evaluation prompt in every row of this variant: it is no boilerplate for that."""
    prompt = next(prompt for prompt in world.evaluation if 20 <= len(prompt.split()) <= 60)
    return put_into_prompt(pair, prompt, rng)


def evaluation_published(pair: RealPair, rng: random.Random, world: World) -> RealPair:
    """A pair that came with an evaluation prompt in place of this one."""
    return rng.choice(world.published)


def a_prompt(world: World, rng: random.Random, least: int) -> str:
    """An evaluation prompt of at least so many words."""
    return rng.choice([prompt for prompt in world.evaluation if len(prompt.split()) >= least])


def put_into_prompt(pair: RealPair, text: str, rng: random.Random) -> RealPair:
    """`text` before, after or within the last turn."""

    def change(prompt: str) -> str:
        sentences = SENTENCE_END.split(prompt)
        place = rng.randrange(len(sentences) + 1)
        return "\n\n".join([" ".join(sentences[:place]), text, " ".join(sentences[place:])]).strip()

    return edited_prompt(pair, change)
