"""Card of a mix: the README.md of its folder, for a stranger who finds it on the hub.

It follows from the recipe and the lock alone: a mix that is made again has the same card.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

from curate.config import Thresholds
from curate.mix.card.header import card_header
from curate.mix.card.known_limits import count_pairs, known_limits
from curate.mix.card.markdown import bullets, code, fenced, plain, table
from curate.mix.recipe import Recipe
from curate.store.mixes import CHECKSUMS, CROISSANT, LINEAGE, LOCK, RECIPE, MixLock
from schemas.names import DROP_REASONS

MADE = {"sampled": "sampled from a model", "written": "written by a model", "imported": "imported"}
HOW = {
    "sampled": "several responses to each prompt, of which a scorer names the better and the worse one; prompts from",
    "written": "both responses by one model, which put a flaw into the rejected one; prompts from",
    "imported": "ready pairs from",
}
OWN = "samples"
"""The prompts and pairs that come with pairwright."""
REASONS = {
    "flaw_not_found": "the flaw that the rejected response was written with is not in it",
    "failed_score": "no score could be had",
    "human_reject": "reviewers found both responses bad, or neither better",
    "tie": "the scores are equal, or differ by no more than the noise of the scorer",
    "low_margin": "the scorer puts the chosen response too little above the rejected one, or below it",
    "low_z_margin": "the same, in standard deviations of the scores of a prompt",
    "leaked_tokens": "a response holds tokens of a chat template, or the system message",
    "prompt_echo": "a response repeats the prompt",
    "repetition": "a response repeats itself",
    "contaminated": "the pair holds a part of an evaluation prompt",
    "off_topic": "a response fits another prompt far better than its own",
    "lexical_duplicate": "a better pair has nearly the same wording",
    "semantic_duplicate_prompt": "a better pair has a prompt of nearly the same meaning",
    "semantic_duplicate_pair": "a better pair has nearly the same meaning",
    "over_quota": "as many pairs as were asked for come before it",
}
"""Reason for which rows are dropped -> what it means, where its name does not say so."""
COLUMNS = {
    "prompt": "the conversation, a list of messages with `role` and `content`",
    "chosen, rejected": "the better and the worse response, each a list of one message of the assistant",
    "tools": "JSON list of the tools that the conversation may call, or null",
    "prompt_id, prompt_group, pair_id": "ids; no `prompt_group` has rows in both splits",
    "source": "the build that the pair is from, as named below",
    "score_chosen, score_rejected, scorer": "scores, and what gave them; null where nothing did",
    "origin": "`synthetic` where a model wrote the responses for this mix, `real` where the pair was imported",
    "flaw": "how the rejected response fails, where that is known",
    "license": "SPDX expression of the terms of the row, or `unknown`",
}


def write_card(recipe: Recipe, lock: MixLock) -> str:
    """The card of a mix."""
    sections = {
        "Use it": usage(lock),
        "Columns": table(("Column", "Meaning"), ((code_names(name), text) for name, text in COLUMNS.items())),
        "Sources": source_table(lock) + model_lines(lock),
        "Recipe": recipe_text(recipe, lock),
        "What was dropped": waterfall(lock),
        "Screening": thresholds_text(lock),
        "Evaluation prompts": contamination_text(lock),
        "Review by people": review_text(lock),
        "Licenses": license_text(lock),
        "Known limits": bullets(known_limits(lock)),
        "Citation": citation(lock),
    }
    body = "".join(f"\n## {title}\n\n{text}" for title, text in sections.items() if text)
    return f"{card_header(lock)}\n# {plain(lock.name)}\n\n{introduction(lock)}{body}"


def introduction(lock: MixLock) -> str:
    """What the mix is, in a few sentences."""
    facts, count = lock.facts, len(lock.sources)
    parts = {"real": "imported, from files or other datasets", "synthetic": "made for it, with responses of models"}
    origins = {parts[origin]: rows for origin, rows in facts["origins"].items()}
    made = " and ".join(f"{rows:,} {'was' if rows == 1 else 'were'} {text}" for text, rows in origins.items())
    if len(origins) == 1:
        made = f"All were {next(iter(origins))}"
    heldout = f"{lock.heldout:,} held out (`test`)" if lock.heldout else "none held out"
    chosen, rejected = (facts["lengths"][side] for side in ("chosen", "rejected"))
    return (
        f"{count_pairs(lock.rows)} of a preferred (chosen) and a worse (rejected) response to one prompt, to train "
        f"language models with DPO and similar methods: {lock.train:,} to train on (`train`) and {heldout}. "
        f"{made}. They come from {count} source{'' if count == 1 else 's'} and were put together by "
        "pairwright.\n\n"
        f"A chosen response has {chosen['median']:,} words and punctuation marks in the median ({chosen['low']:,} to "
        f"{chosen['high']:,} from the 5th to the 95th percentile), a rejected one {rejected['median']:,} "
        f"({rejected['low']:,} to {rejected['high']:,}).\n"
    )


def usage(lock: MixLock) -> str:
    """How to load the mix and train on it."""
    evaluated = '    eval_dataset=mix["test"],\n' if lock.heldout else ""
    python = (
        "from datasets import load_dataset\n"
        "from trl import DPOConfig, DPOTrainer\n\n"
        'mix = load_dataset("OWNER/NAME")  # or the path of this folder\n'
        "trainer = DPOTrainer(\n"
        '    "Qwen/Qwen3-0.6B",  # or your own model\n'
        '    args=DPOConfig(output_dir="dpo"),\n'
        '    train_dataset=mix["train"],\n'
        f"{evaluated}"
        ")\n"
        "trainer.train()\n"
    )
    return (
        fenced("python", python)
        + "\nWith pairwright, the mix becomes a build whose `test` rows no mix trains on:\n\n"
        + fenced("bash", "curate pull OWNER/NAME")
        + f"\n`{LINEAGE}` has a row for each `pair_id` with flags, verdicts of reviewers, the reasoning before each "
        f"response and why it ended. `{LOCK}` holds the digests of all files, `{CHECKSUMS}` is for "
        f"`sha256sum --check`, and `{CROISSANT}` describes the mix to machines.\n"
    )


def code_names(names: str) -> str:
    return ", ".join(code(name) for name in names.split(", "))


def source_table(lock: MixLock) -> str:
    """A row for each source, from what came in to what is in the mix."""
    rows = []
    for source in lock.sources:
        told = lock.facts["sources"][source.build]
        counts = (f"{told['rows_in']:,}", f"{told['kept']:,}", f"{source.rows:,}")
        rows.append((code(source.build), origin_name(told["from"]), MADE[told["made"]], *counts))
    return table(("Source", "From", "Made", "Rows in", "Passed screening", "In the mix"), rows)


def origin_name(name: str) -> str:
    return "pairwright's samples" if name == OWN else code(name)


def model_lines(lock: MixLock) -> str:
    """The models and files behind each source, and how its pairs were made."""
    lines = []
    for name, told in lock.facts["sources"].items():
        parts = [f"{HOW[told['made']]} {origin_name(told['from'])} (digest {code(told['from_sha256'][:12])})"]
        if generator := told["generator"]:
            parts.append(f"responses by {code(generator['model'])} (digest {code(generator['digest'][:12])})")
        if scorer := told["scorer"]:
            noise = "" if told["noise"] is None else f", noise of a margin {told['noise']:.4g}"
            parts.append(f"scored by {code(scorer['model'])} (digest {code(scorer['digest'][:12])}{noise})")
        elif "imported" in told["scorers"]:
            parts.append("scores as they came with the pairs")
        lines.append(f"{code(name)}: {'; '.join(parts)}")
    flaws = ", ".join(f"{flaw.replace('_', ' ')} {rows:,}" for flaw, rows in lock.facts["flaws"].items())
    return "\n" + bullets(lines) + (f"\nKnown flaws of rejected responses (pairs): {flaws}.\n" if flaws else "")


def recipe_text(recipe: Recipe, lock: MixLock) -> str:
    """The recipe as its file has it."""
    return (
        f"The same recipe and the same builds give the same bytes; the sha256 of the content is {code(lock.sha256)}. "
        f"This is `{RECIPE}`:\n\n{fenced('toml', recipe.to_toml())}"
    )


def waterfall(lock: MixLock) -> str:
    """Rows of each source, from those that came in to those in the mix, with the reasons why others were dropped."""
    facts = list(lock.facts["sources"].values())
    left_out = [source.left_out for source in lock.sources]
    counts = [
        ("rows in", [told["rows_in"] for told in facts]),
        *count_reasons("dropped", [told["dropped"] for told in facts], DROP_REASONS),
        ("passed screening", [told["kept"] for told in facts]),
        *count_reasons("left out", left_out, dict.fromkeys(reason for reasons in left_out for reason in reasons)),
        ("in the mix", [source.rows for source in lock.sources]),
    ]
    rows = [(name, *[f"{count:,}" for count in row]) for name, row in counts]
    met = [reason for reason in REASONS if any(reason in told["dropped"] for told in facts)]
    meanings = bullets(f"{reason.replace('_', ' ')}: {REASONS[reason]}" for reason in met)
    return table(("Rows", *map(code, lock.facts["sources"])), rows) + (f"\n{meanings}" if meanings else "")


def count_reasons(
    word: str, found: Sequence[Mapping[str, int]], reasons: Iterable[str]
) -> Iterator[tuple[str, list[int]]]:
    """A row for each reason that any source has."""
    for reason in reasons:
        if any(reason in each for each in found):
            yield f"{word}: {reason.replace('_', ' ')}", [each.get(reason, 0) for each in found]


def thresholds_text(lock: MixLock) -> str:
    """The thresholds that were set, with the sources that each value is of where they differ."""
    sources = lock.facts["sources"]
    rows = []
    for field in fields(Thresholds):
        values = {name: show_value(told["thresholds"].get(field.name)) for name, told in sources.items()}
        if not any(values.values()):
            continue
        about = Thresholds.__pydantic_fields__[field.name].description or ""
        rows.append((code(field.name), show_values(values), plain(first_sentence(about))))
    flags = ", ".join(f"{code(flag)} {count:,}" for flag, count in lock.facts["flags"].items())
    flagged = f"\nFlags of pairs that are in the mix: {flags}.\n" if flags else ""
    return table(("Threshold", "Value", "Meaning"), rows) + flagged


def show_value(value: Any) -> str:
    """The value of a threshold; nothing where it is off."""
    if isinstance(value, list):
        return ", ".join(map(code, value))
    return "" if value is None or value is False or value == "" else code("yes" if value is True else f"{value}")


def show_values(values: Mapping[str, str]) -> str:
    """One value where all sources have the same, else each value with its sources."""
    if len(set(values.values())) == 1:
        return next(iter(values.values()))
    names = {value: [code(name) for name, each in values.items() if each == value] for value in values.values()}
    return "; ".join(f"{value or 'off'} ({', '.join(named)})" for value, named in names.items())


def first_sentence(text: str) -> str:
    return re.split(r"(?<=\.)\s", " ".join(text.split()), maxsplit=1)[0]


def contamination_text(lock: MixLock) -> str:
    """The evaluation prompts that pairs were compared with, and what was dropped for them."""
    checked: dict[str, list[str]] = {}
    for name, told in lock.facts["sources"].items():
        files = ", ".join(
            f"{code(each['name'])} (sha256 {code(each['sha256'][:12])})" for each in told["checked_against"]
        )
        checked.setdefault(files, []).append(code(name))
    dropped = sum(told["dropped"].get("contaminated", 0) for told in lock.facts["sources"].values())
    return (
        "A pair is dropped that holds 13 words in a row, or half of the 8-grams, of an evaluation prompt; "
        f"{count_pairs(dropped)} did. Looked for in each source were the prompts of these files:\n\n"
        + bullets(f"{', '.join(names)}: {files or 'none'}" for files, names in checked.items())
    )


def review_text(lock: MixLock) -> str:
    """The verdicts of reviewers; nothing where nobody judged a pair."""
    lines = list(review_lines(lock))
    if not lines:
        return ""
    head = (
        f"{lock.facts['judged']:,} of {count_pairs(lock.rows)} of the mix were judged by people. These are the "
        "verdicts on all pairs of a source, dropped ones among them (accept: the label is right; swap: it was wrong "
        "and was swapped; tie: neither response is better; reject: both are bad):\n\n"
    )
    return head + bullets(lines)


def review_lines(lock: MixLock) -> Iterator[str]:
    """A line for each source that people judged pairs of."""
    for name, told in lock.facts["sources"].items():
        if review := told["review"]:
            random = show_verdicts(review["random"], review["random_split"])
            drawn = f"; on those drawn at random: {random}" if random else ""
            people = f"{review['reviewers']:,} reviewer{'' if review['reviewers'] == 1 else 's'}"
            said = show_verdicts(review["verdicts"], review["split"])
            yield f"{code(name)}: {count_pairs(review['judged'])} by {people}: {said}{drawn}"


def show_verdicts(verdicts: Mapping[str, int], split: int) -> str:
    told = {**verdicts, "no majority": split}
    return ", ".join(f"{verdict} {count:,}" for verdict, count in told.items() if count)


def license_text(lock: MixLock) -> str:
    """The license of the whole, and the terms of the rows."""
    told = lock.facts["license"]
    whole = told["license"]
    said = {
        "other": "No single license stands for the whole mix: each row has its own, in the column `license`.",
        "unknown": "The license of this mix is not known. Ask whoever published it before you use it.",
    }
    rows = sorted(lock.licenses.items(), key=lambda item: (-item[1], item[0]))
    text = said.get(whole, f"The whole mix may be used under {code(whole)}.") + "\n\n"
    text += table(("License of the row", "Pairs"), ((code(license), f"{count:,}") for license, count in rows))
    notes = [
        f"{code(term['license'])}: {plain(term['note'])}{linked(term['link'])}"
        for term in told["terms"]
        if term["note"]
    ]
    notes += [f"Conflict: {plain(conflict)}" for conflict in told["conflicts"]]
    return text + (f"\n{bullets(notes)}" if notes else "")


def linked(address: str) -> str:
    """The address of terms as a link, in brackets."""
    if not address:
        return ""
    return f" (<{address}>)" if re.fullmatch(r"https?://[^\s<>]+", address) else f" ({plain(address)})"


def citation(lock: MixLock) -> str:
    return fenced("bibtex", bibtex(lock))


def bibtex(lock: MixLock) -> str:
    """The entry of the mix; its version is the digest of its content."""
    key = re.sub(r"[^A-Za-z0-9]+", "-", lock.name).strip("-")
    title = lock.name.replace("_", "\\_")
    return (
        f"@misc{{{key}-{lock.sha256[:8]},\n"
        f"  title = {{{{{title}}}: {lock.rows} preference pairs}},\n"
        f"  note = {{Version {lock.sha256}, made with pairwright}},\n"
        "}\n"
    )
