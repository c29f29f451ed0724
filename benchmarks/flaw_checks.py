"""Measure how often each flaw check fires on its flaw, on the other flaws, and on good responses.

Three sets of pairs, all without a call to a model:

- samples: the hand-written sample pairs. Nobody quoted the flaw in them, so a quote is made up: the longest sentence
  that stands in the rejected response only (for `incomplete`: in the chosen one only), and the whole conversation
  as the constraint. Checks that rest on the writer's quote therefore say little here; the others say what they can do.
- planted: a flaw put by rule into chosen responses of UltraFeedback: cut in a word, last third left out, answer to
  another prompt, refusal, filler around it, form broken, invented detail, other number.
- good: UltraFeedback pairs whose rejected response also got 7 of 10 or more, each as if it were flawed.

The last line is one JSON object.
"""

import argparse
import json
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl

from curate.files import asset
from curate.generate.constraints import constraint_rules
from curate.generate.flaw_checks import CHECKS, Written
from curate.generate.flaws import FLAW_KINDS, unusable_reason
from curate.screen.text.words import strip_markup
from schemas.names import FLAWS, WRITTEN_FLAWS, WrittenFlaw

ULTRAFEEDBACK = Path(__file__).parents[2] / "shared" / "datasets" / "ultrafeedback_pairs.parquet"
GOOD = 7.0
"""Score, of 10, from which a rejected response of UltraFeedback is taken for a good one."""
SENTENCE = re.compile(r"[^\n]*?[.!?。](?=\s|$)|[^\n]+")
FILLER = (
    "That is a really interesting question, and one that many people have asked themselves over the years.",
    "Before we come to the point, it is worth taking a moment to consider the matter from several sides.",
    "Of course, there are many ways to look at this, and each of them has something to be said for it.",
    "With all of that in mind, and keeping in view what has been said so far, let us go on.",
    "To sum up, and to repeat what was said above, these are the things to keep in mind when all is said and done.",
    "I hope that this was of use to you; please feel free to ask more questions at any time.",
)
REFUSALS = (
    "I'm sorry, but I can't help with that.",
    "I'm not able to assist with this request, as it could be misused.",
    "As an AI language model, I cannot provide this kind of information.",
    "I must decline to answer this, since it may go against my guidelines.",
)
INVENTED = (
    "A 2019 study by Dr. Helena Marwick at Uppsala found this in 73.4% of 1,862 cases.",
    "This was first described by Johannes Tiedemann in 1847, see https://www.tiedemann-archive.org/notes/318.",
)
PlantedPair = tuple[str, str, str, str, str]
"""(flaw, prompt, chosen, rejected, quote)"""
Plant = Callable[[str, str, random.Random], tuple[str, str] | None]
"""(chosen, a chosen response to another prompt, chance) -> (rejected, quote), or None where the flaw has no place."""


def cut(chosen: str, _: str, chance: random.Random) -> tuple[str, str] | None:
    places = [i for i in range(len(chosen) // 4, len(chosen) * 9 // 10) if chosen[i - 1 : i + 1].isalpha()]
    if len(places) < 2:
        return None
    rejected = chosen[: chance.choice(places)]
    return rejected, rejected[-40:]


def leave_out(chosen: str, _: str, chance: random.Random) -> tuple[str, str] | None:
    sentences = SENTENCE.findall(chosen)
    keep = len(sentences) - max(1, len(sentences) // 3)
    if keep < 1 or len(sentences) < 3:
        return None
    return chosen[: chosen.find(sentences[keep])].rstrip(), chance.choice(sentences[keep:]).strip()


def answer_another(_: str, other: str, __: random.Random) -> tuple[str, str]:
    return other, SENTENCE.findall(other)[0]


def refuse(_: str, __: str, chance: random.Random) -> tuple[str, str]:
    refusal = chance.choice(REFUSALS)
    return f"{refusal} Please ask me something else instead.", refusal


def pad(chosen: str, _: str, chance: random.Random) -> tuple[str, str]:
    filler = list(FILLER) * (1 + len(chosen) // 800)
    middle = len(filler) // 2
    return f"{' '.join(filler[:middle])}\n\n{chosen}\n\n{' '.join(filler[middle:])}", chance.choice(FILLER)


def break_form(chosen: str, _: str, __: random.Random) -> tuple[str, str] | None:
    """Run a list together, or leave off the last code fence, bold mark or bracket."""
    if chosen.count("```") >= 2:
        return "".join(chosen.rsplit("```", 1)), "```"
    if len(re.findall(r"^\s*(?:[-*]|\d+\.)\s", chosen, re.MULTILINE)) >= 3:
        return " ".join(re.sub(r"^\s*(?:[-*]|\d+\.)\s", "", chosen, flags=re.MULTILINE).split()), chosen[:40]
    for mark in ("**", ")", "]", "}"):
        if mark in chosen:
            return "".join(chosen.rsplit(mark, 1)), chosen[-40:]
    return None


def invent(chosen: str, _: str, chance: random.Random) -> tuple[str, str]:
    invented = chance.choice(INVENTED)
    return f"{chosen} {invented}", invented


def change_number(chosen: str, _: str, chance: random.Random) -> tuple[str, str] | None:
    found = list(re.finditer(r"(?<![\d.,])\d{1,4}(?![\d.,])", chosen))
    if not found:
        return None
    place = chance.choice(found)
    wrong = str(int(place.group(0)) * 3 + 7)
    rejected = chosen[: place.start()] + wrong + chosen[place.end() :]
    line_start = rejected.rfind("\n", 0, place.start()) + 1
    return rejected, rejected[line_start : place.start() + len(wrong)]


PLANTS: dict[WrittenFlaw, Plant] = {
    "factual": change_number,
    "incomplete": leave_out,
    "off_topic": answer_another,
    "verbose_padding": pad,
    "broken_format": break_form,
    "needless_refusal": refuse,
    "truncation": cut,
    "unsupported_detail": invent,
}


def own_sentence(text: str, other: str) -> str:
    """The longest sentence of `text` that does not stand in `other`."""
    known = strip_markup(other)
    found = [sentence.strip() for sentence in SENTENCE.findall(text) if strip_markup(sentence) not in known]
    return max(found, key=len, default="")


def with_quote(pair: PlantedPair, flaw: WrittenFlaw) -> Written:
    """The pair as its writer would hand it over if it had been asked for `flaw`."""
    planted, prompt, chosen, rejected, quote = pair
    if planted != flaw or not quote:
        quote = own_sentence(chosen, rejected) if flaw == "incomplete" else own_sentence(rejected, chosen)
    return Written(prompt, chosen, rejected, quote, prompt)


def sample_pairs() -> list[PlantedPair]:
    """(flaw, prompt, chosen, rejected, quote) of the hand-written pairs."""
    rows = [json.loads(line) for line in asset("samples", "pairs.jsonl").read_text(encoding="utf-8").splitlines()]
    return [(row["flaw"], conversation(row["prompt"]), row["chosen"], row["rejected"], "") for row in rows]


def conversation(prompt: str | list[dict[str, str]]) -> str:
    return prompt if isinstance(prompt, str) else "\n".join(message["content"] for message in prompt)


def plant_pairs(texts: Sequence[tuple[str, str]], seed: int) -> list[PlantedPair]:
    """(flaw, prompt, chosen, rejected, quote) for every flaw that can be put into each (prompt, response)."""
    chance = random.Random(seed)
    pairs = []
    for i, (prompt, chosen) in enumerate(texts):
        other = texts[(i + len(texts) // 2) % len(texts)][1]
        for flaw, plant in PLANTS.items():
            made = plant(chosen, other, chance)
            if made and made[0].strip() != chosen.strip():
                pairs.append((str(flaw), prompt, chosen, *made))
    return pairs


def rates(pairs: Sequence[PlantedPair]) -> dict[str, dict[str, float]]:
    """planted flaw -> check -> share of pairs on which it fires."""
    fired: dict[str, dict[str, list[bool]]] = {}
    for pair in pairs:
        for check in WRITTEN_FLAWS:
            has_fired = CHECKS[check](with_quote(pair, check))
            fired.setdefault(pair[0], {}).setdefault(check, []).append(has_fired)
    return {flaw: {check: sum(found) / len(found) for check, found in row.items()} for flaw, row in fired.items()}


def kept_share(pairs: Sequence[PlantedPair], asked: WrittenFlaw) -> float | None:
    """Share of pairs that a build which asked for the flaw would keep: check, lengths and difference together."""
    written = [with_quote(pair, asked) for pair in pairs]
    kept = [unusable_reason(asked, asked, pair, CHECKS[asked](pair)) is None for pair in written]
    return sum(kept) / len(kept) if kept else None


def count_demands(pairs: Sequence[PlantedPair]) -> dict[str, int]:
    """Pairs whose prompt has a demand that can be counted, and how many of either side do not break it."""
    found = [(list(constraint_rules(prompt)), chosen, rejected) for _, prompt, chosen, rejected, _ in pairs]
    asked = [pair for pair in found if pair[0]]
    return {
        "prompts": len(asked),
        "chosen_unbroken": sum(False not in [keeps(chosen) for keeps in demands] for demands, chosen, _ in asked),
        "rejected_unbroken": sum(False not in [keeps(rejected) for keeps in demands] for demands, _, rejected in asked),
    }


def print_matrix(title: str, table: dict[str, dict[str, float]], counts: dict[str, int]) -> None:
    """Rows: what is in the rejected response; columns: the checks; cells: percent that fire."""
    print(f"\n{title}: percent of pairs on which each check fires")
    print(f"{'in the pairs':<20}{'pairs':>6}" + "".join(f"{check[:11]:>12}" for check in WRITTEN_FLAWS))
    for flaw in sorted(table, key=FLAWS.index):
        cells = "".join(f"{100 * table[flaw][check]:>12.0f}" for check in WRITTEN_FLAWS)
        print(f"{flaw:<20}{counts[flaw]:>6}{cells}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ultrafeedback", type=Path, default=ULTRAFEEDBACK)
    parser.add_argument("--seed", type=int, default=30)
    args = parser.parse_args()
    sets = {"samples": sample_pairs()}
    good: list[PlantedPair] = []
    if args.ultrafeedback.exists():
        rows = pl.read_parquet(args.ultrafeedback)
        texts = [(p, c) for p, c in rows.select("prompt", "chosen").rows() if len(c.split()) >= 20]
        sets["planted"] = plant_pairs(texts, args.seed)
        alike = rows.filter(pl.col("score_rejected") >= GOOD).select("prompt", "chosen", "rejected").rows()
        good = [("good", p, c, r, "") for p, c, r in alike if c.strip() and r.strip()]
    found = {name: rates(pairs) for name, pairs in sets.items()}
    false_alarms = rates(good).get("good", {})
    for name, pairs in sets.items():
        print_matrix(name, found[name], {flaw: sum(pair[0] == flaw for pair in pairs) for flaw in found[name]})
    print(
        f"\n{'check':<20}{'severity':>10}{'samples: own':>14}{'others':>8}{'planted: own':>14}{'others':>8}{'kept':>8}",
        end="",
    )
    print(f"{'good':>8}{'kept':>8}   percent; good: {len(good)} pairs")
    summary = {}
    for check in WRITTEN_FLAWS:
        row: dict[str, float | None] = {}
        for name, table in found.items():
            others = [table[flaw][check] for flaw in table if flaw != check]
            row[f"{name}_own"] = table[check][check] if check in table else None
            row[f"{name}_others"] = sum(others) / len(others)
            row[f"{name}_kept"] = kept_share([pair for pair in sets[name] if pair[0] == check], check)
        row["good"] = false_alarms.get(check)
        row["good_kept"] = kept_share(good, check)
        summary[check] = {name: None if share is None else round(share, 4) for name, share in row.items()}
        cells = [percent(row.get(name)) for name in ("samples_own", "samples_others", "planted_own", "planted_others")]
        last = [percent(row.get(name)) for name in ("planted_kept", "good", "good_kept")]
        print(f"{check:<20}{FLAW_KINDS[check].severity:>10}", end="")
        print(f"{cells[0]:>14}{cells[1]:>8}{cells[2]:>14}{cells[3]:>8}{last[0]:>8}{last[1]:>8}{last[2]:>8}")
    demands = count_demands(good)
    print(f"good pairs whose prompt has a demand that can be counted: {demands}")
    sizes = {name: len(pairs) for name, pairs in sets.items()} | {"good": len(good)}
    print(json.dumps({"checks": summary, "counted": demands, "pairs": sizes}))


def percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f}"


if __name__ == "__main__":
    main()
