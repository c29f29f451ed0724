"""A file of real pairs in which 2% of the rows carry each of the faults, one a row, and what was planted where."""

import json
import random
import re
from collections.abc import Container
from dataclasses import asdict, dataclass
from pathlib import Path

from screening.evaluation import evaluation_prompts, published_pairs
from screening.faults import FAULTS
from screening.foreign import foreign_lines
from screening.pool import RealPair, real_pairs
from screening.response_faults import SENTENCE_END, is_english
from screening.world import Plant, World

SHARE = 0.02
CLEAN_ROWS = Path(__file__).with_name("clean_rows.json")
WHOLE = re.compile("[.!?)\\]}>*\"'\u201d\u2019`0-9]\\s*$")
"""How a response ends that nobody cut off."""
FEWEST_WORDS = 8


@dataclass(frozen=True)
class Planted:
    """A row with a fault."""

    fault: str
    variant: str
    pair_id: str
    copy_of: str | None
    """The row that a near copy is a copy of."""


def plant_faults(path: Path, seed: int) -> list[Planted]:
    """Write the rows to `path`; the planted ones are returned and written beside it as `NAME.planted.json`."""
    rng = random.Random(seed)
    pairs = real_pairs()
    rows = {pair.pair_id: pair for pair in pairs}
    # rows that were read stay as they were read, and lend their responses to no other
    read = {pair_id for ids in json.loads(CLEAN_ROWS.read_text())["rows"].values() for pair_id in ids}
    free = [pair for pair in pairs if pair.pair_id not in read and is_plain(pair)]
    world = make_world(list(free))
    rng.shuffle(free)
    planted = []
    for fault, variants in FAULTS.items():
        for number in range(round(SHARE * len(pairs))):
            variant = list(variants)[number % len(variants)]
            base, changed = next_fault(free, FAULTS[fault][variant], rng, world, rows)
            # a copy takes the place of one more row, for its original stays
            replaced = free.pop() if fault == "lexical_duplicate" else base
            del rows[replaced.pair_id]
            rows[changed.pair_id] = changed
            copy_of = base.pair_id if fault == "lexical_duplicate" else None
            planted.append(Planted(fault, variant, changed.pair_id, copy_of))
    order = list(rows.values())
    rng.shuffle(order)
    with path.open("w", encoding="utf-8") as lines:
        lines.writelines(json.dumps(pair.row(), ensure_ascii=False) + "\n" for pair in order)
    path.with_suffix(".planted.json").write_text(json.dumps([asdict(row) for row in planted], indent=1))
    return planted


def make_world(pairs: list[RealPair]) -> World:
    """Evaluation prompts only in English, so that the response beside one is in the language of its prompt."""
    evaluation = [prompt for prompt in evaluation_prompts() if is_english(prompt)]
    return World(pairs, evaluation, [pair for pair in published_pairs() if is_plain(pair)], foreign_lines())


def is_plain(pair: RealPair) -> bool:
    """True for a pair that shows no fault yet: in English, both responses of some length, whole, and unlike."""
    responses = (pair.chosen, pair.rejected)
    text = " ".join([*responses, *(message["content"] for message in pair.messages)])
    return pair.chosen != pair.rejected and is_english(text) and all(map(is_whole, responses))


def is_whole(response: str) -> bool:
    """True where a response has some length and an end, and does not go round in circles."""
    words, sentences = response.split(), SENTENCE_END.split(response)
    is_varied = len(set(sentences)) == len(sentences) and 4 * len(set(words)) >= len(words)
    return len(words) >= FEWEST_WORDS and WHOLE.search(response) is not None and is_varied


def next_fault(
    free: list[RealPair], plant: Plant, rng: random.Random, world: World, rows: Container[str]
) -> tuple[RealPair, RealPair]:
    """The last free pair that can carry the fault, taken off the list, and the pair with it, which is no row yet."""
    for place in reversed(range(len(free))):
        changed = plant(free[place], rng, world)
        if changed is not None and changed.pair_id not in rows:
            return free.pop(place), changed
    raise ValueError("no pair is left that can carry the fault")
