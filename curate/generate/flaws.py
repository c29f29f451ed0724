"""Flaws of written pairs: their instructions, which prompt is asked for which, and how each came out."""

import difflib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import polars as pl

from curate.generate.flaw_checks import Written
from curate.screen.text.words import are_similar, strip_markup, words
from schemas.errors import UserError
from schemas.ids import normalize
from schemas.names import WRITTEN_FLAWS, Severity, UnpairedReason, WrittenFlaw
from schemas.stages import StageName

INSTRUCTION = """\
You write preference data. For the conversation you are given, write two responses to its last user message.
"chosen" is correct and complete, keeps to everything that is asked, and goes step by step where that helps.
"rejected" is written in its own words and is as good as you can make it but for one flaw, "{flaw}": {flawed}
The flaw costs the reader something and shows in the text itself; do not point it out, excuse it or add another one.
"flaw" is "{flaw}". "quote" is {quote}, copied sign by sign, at most 30 words.
"constraint" is {constraint}.
Answer with one JSON object with exactly these five keys, all texts, and nothing else:
{{"chosen": "...", "rejected": "...", "flaw": "{flaw}", "quote": "...", "constraint": "..."}}"""

FLAWED_PAIR_SCHEMA = {
    "type": "object",
    "properties": {
        "chosen": {"type": "string"},
        "rejected": {"type": "string"},
        "flaw": {"type": "string", "enum": list(WRITTEN_FLAWS)},
        "quote": {"type": "string"},
        "constraint": {"type": "string"},
    },
    "required": ["chosen", "rejected", "flaw", "quote", "constraint"],
    "additionalProperties": False,
}

SAME_WORDS = 0.95
"""Share of words in the same order from which two responses say the same."""
NOT_COMPARED: frozenset[WrittenFlaw] = frozenset(
    ("factual", "logic", "broken_format", "truncation", "unsupported_detail")
)
"""Flaws that a few signs can make: a wrong year, a wrong sign, a lost fence, a lost end, an invented name."""

Shares = tuple[tuple[WrittenFlaw, float], ...]
"""Flaws and the share of prompts that is asked for each; the shares sum to 1."""

ASKED_FLAW = r'^\{"flaw": "(\w+)"'
FIRED = r'^\{"flaw": "\w+", "fired": (true|false)'


@dataclass(frozen=True)
class FlawKind:
    """Instruction for a flaw, and the lengths that its pairs must have."""

    severity: Severity
    flawed: str
    """How the rejected response fails."""
    quote: str
    """The span that shows it."""
    min_ratio: float
    """Smallest length of the rejected response over the chosen one, in characters."""
    max_ratio: float
    """Largest length of the rejected response over the chosen one, in characters."""
    constraint: str = "an empty text"


FLAW_KINDS: dict[WrittenFlaw, FlawKind] = {
    "factual": FlawKind(
        "critical",
        "it states something false as if it were true: a wrong name, date, figure, cause or property, which misleads "
        "who relies on it.",
        "the false statement, from rejected",
        min_ratio=0.4,
        max_ratio=2.5,
    ),
    "logic": FlawKind(
        "critical",
        "its facts are right, but a step of its reasoning, calculation or code does not follow, and so it ends in a "
        "wrong result.",
        "the step that does not follow, from rejected",
        min_ratio=0.3,
        max_ratio=3.0,
    ),
    "incomplete": FlawKind(
        "major",
        "it leaves out a part that the user needs (a step, a case, a condition, one of several questions) and ends as "
        "if nothing were missing. It is at least a fifth shorter than chosen.",
        "the sentence or step of chosen that is left out, from chosen",
        min_ratio=0.1,
        max_ratio=0.9,
    ),
    "broken_constraint": FlawKind(
        "major",
        "its content is right, but it breaks one demand of the conversation, such as a length, a number of items, a "
        "form, a language, a tone, an audience, or a word to use or to avoid. If there is no such demand, it breaks a "
        "limit of the request itself, such as its subject, place, time or number.",
        "the span that breaks the demand, from rejected",
        min_ratio=0.05,
        max_ratio=20.0,
        constraint="the one demand that is broken, copied sign by sign from the conversation",
    ),
    "off_topic": FlawKind(
        "critical",
        "it drifts to another subject that only sounds related, never answers, and shares hardly any words with "
        "chosen.",
        "a sentence that has nothing to do with the request, from rejected",
        min_ratio=0.25,
        max_ratio=4.0,
    ),
    "verbose_padding": FlawKind(
        "minor",
        "it says all that chosen says, mostly in the same words, buried in preamble, repetition, hedging and empty "
        "phrases. It is one and a half to three times as long as chosen.",
        "a sentence of padding, from rejected",
        min_ratio=1.25,
        max_ratio=6.0,
    ),
    "broken_format": FlawKind(
        "major",
        "its content is that of chosen in the same words, but its form is broken: a code fence, bracket, bold mark, "
        "link or tag that never closes, JSON that does not parse, a table whose rows do not fit, literal \\n instead "
        "of line breaks, or a list or table run together into one line. Give chosen a form that can break, such as a "
        "list, a table, a code block or JSON.",
        "the place where the form breaks, from rejected",
        min_ratio=0.4,
        max_ratio=2.5,
    ),
    "needless_refusal": FlawKind(
        "critical",
        "its first sentence declines a harmless request, as an over-careful assistant would (I can't help with that), "
        "and the reason it gives does not hold.",
        "the refusal, from rejected",
        min_ratio=0.02,
        max_ratio=2.5,
    ),
    "truncation": FlawKind(
        "major",
        "it is on its way to a full answer and stops in the middle of a sentence, a word or a code block, before the "
        "part that matters most. It is shorter than chosen, which is finished.",
        "its last words, from rejected",
        min_ratio=0.1,
        max_ratio=0.95,
    ),
    "unsupported_detail": FlawKind(
        "major",
        "it adds made-up specifics as if they were known: figures, dates, names of people, places or studies, or web "
        "addresses, for which neither the conversation nor chosen gives a ground. Two sentences or more hold them.",
        "a sentence with such details, from rejected",
        min_ratio=0.6,
        max_ratio=3.0,
    ),
}


def parse_flaws(text: str) -> dict[WrittenFlaw, float]:
    """Shares of the flaws, summing to 1, in the order of `WRITTEN_FLAWS`, without those of share 0.

    "factual=2,logic=1" gives two thirds and one third; "" gives all flaws alike; "none" gives no shares.
    """
    if text.strip() == "none":
        return {}
    if not text.strip():
        return dict.fromkeys(WRITTEN_FLAWS, 1 / len(WRITTEN_FLAWS))
    given: dict[str, float] = {}
    for item in text.split(","):
        name, has_share, share = (part.strip() for part in item.partition("="))
        if name not in WRITTEN_FLAWS:
            near = difflib.get_close_matches(name, WRITTEN_FLAWS, n=1, cutoff=0.5)
            hint = f"; did you mean '{near[0]}'?" if near else f"; known are {', '.join(WRITTEN_FLAWS)}"
            raise UserError(f"--flaws names '{name}', which is no flaw that can be asked for{hint}")
        if name in given:
            raise UserError(f"--flaws gives '{name}' twice")
        try:
            given[name] = float(share)
        except ValueError:
            found = f"'{share}'" if has_share else "none"
            raise UserError(f"--flaws wants a share after '{name}', such as {name}=.5; found {found}") from None
        if not 0 <= given[name] < math.inf:
            raise UserError(f"--flaws gives '{name}' the share {share}; it must be 0 or more")
    total = sum(given.values())
    if not 0 < total < math.inf:
        raise UserError("--flaws gives shares that sum to 0; give one of them more, or say 'none'")
    return {name: given[name] / total for name in WRITTEN_FLAWS if given.get(name)}


@lru_cache(maxsize=8)
def deal_flaws(shares: Shares, count: int) -> tuple[WrittenFlaw, ...]:
    """The flaws that the first `count` prompts of a source are asked for, in the order of the prompts.

    Of any first n prompts a flaw has its share, rounded down or up: the quota method of M. L. Balinski and H. P. Young
    (1975), who deal seats one after another. What comes later changes nothing before it.
    """
    dealt: list[WrittenFlaw] = []
    counts = dict.fromkeys((flaw for flaw, _ in shares), 0)
    for place in range(1, count + 1):
        # Rounded, so that shares which are equal but for their last digit tie.
        remainders = {flaw: round(place * share - counts[flaw], 9) for flaw, share in shares}
        # The flaw of which another prompt is due first; of those due at one place, the largest remainder.
        due = [
            (round((counts[flaw] + 1) / share, 9), -remainders[flaw], order)
            for order, (flaw, share) in enumerate(shares)
            if remainders[flaw] > 0
        ]
        flaw, _ = shares[min(due)[-1]]
        counts[flaw] += 1
        dealt.append(flaw)
    return tuple(dealt)


def flaw_instruction(flaw: WrittenFlaw) -> str:
    """The instruction to the writer of a pair with `flaw`."""
    kind = FLAW_KINDS[flaw]
    return INSTRUCTION.format(flaw=flaw, flawed=kind.flawed, quote=kind.quote, constraint=kind.constraint)


def unusable_reason(flaw: WrittenFlaw, named: str, written: Written, fired: bool) -> UnpairedReason | None:
    """The reason a written pair is no pair with `flaw`, in the order the reasons are tried; None for one that is.

    A pair whose writer names another flaw than it was asked for is not trusted to have planted this one alone.
    """
    if not (strip_markup(written.chosen) and strip_markup(written.rejected)):
        return "empty"
    if is_near_identical(flaw, written.chosen, written.rejected):
        return "near_identical"
    kind = FLAW_KINDS[flaw]
    if not kind.min_ratio <= len(written.rejected.strip()) / len(written.chosen.strip()) <= kind.max_ratio:
        return "length_ratio"
    if not fired or "_".join(re.findall(r"[a-z]+", named.casefold())) != flaw:
        return "flaw_not_found"
    return None


def is_near_identical(flaw: WrittenFlaw, chosen: str, rejected: str) -> bool:
    """True for the same words, and for nearly the same where a few words cannot make the flaw."""
    if flaw in ("broken_format", "broken_constraint"):
        # The case, signs and line breaks that other comparisons leave out are what these flaws can be about.
        return chosen.strip() == rejected.strip()
    if flaw in ("factual", "logic"):
        # "5 - 3" and "5 + 3" are the same words but not the same step.
        return without_stops(chosen) == without_stops(rejected)
    if normalize(chosen) == normalize(rejected):
        return True
    if flaw in NOT_COMPARED:
        return False
    return are_similar(words(chosen), words(rejected), SAME_WORDS)


def without_stops(text: str) -> str:
    return " ".join(re.sub(r"[.,;:!?'\"]", " ", strip_markup(text)).split())


def raw_row(flaw: WrittenFlaw, fired: bool | None, rest: Mapping[str, Any]) -> str:
    """The text kept of a pair that cannot be used. The flaw asked for and whether its check fired stand first, where
    truncating a long text leaves them; `fired` is null where there was nothing to check."""
    return json.dumps({"flaw": flaw, "fired": fired} | dict(rest), ensure_ascii=False)


def flaw_summary(pairs: pl.DataFrame, dropped: pl.DataFrame, shares: Shares) -> pl.DataFrame:
    """Counts of each flaw, in the order of `shares`, from the pairs and the dropped rows of `write_pairs`.

    `asked` counts prompts, `checked` the pairs that came back as JSON, `fired` those whose check found the flaw, and
    `written` those that became pairs. `check_rate` is fired over checked, null of nothing, and `quota` the part that
    was wanted.
    """
    lost = dropped.filter(pl.col("stage") == StageName.WRITE_PAIRS).select(
        flaw=pl.col("raw").str.extract(ASKED_FLAW),
        fired=pl.col("raw").str.extract(FIRED) == "true",
        written=pl.lit(False),
    )
    kept = pairs.select(flaw=pl.col("flaw").cast(pl.String), fired=pl.lit(True), written=pl.lit(True))
    counts = (
        pl.concat([lost, kept])
        .group_by("flaw")
        .agg(
            asked=pl.len(),
            checked=pl.col("fired").count(),
            fired=pl.col("fired").sum(),
            written=pl.col("written").sum(),
        )
    )
    quotas = pl.DataFrame(
        [(flaw, FLAW_KINDS[flaw].severity, share) for flaw, share in shares],
        schema={"flaw": pl.String, "severity": pl.String, "quota": pl.Float64},
        orient="row",
    )
    number = pl.col("asked", "checked", "fired", "written").fill_null(0)
    return (
        quotas.join(counts, on="flaw", how="left", maintain_order="left")
        .with_columns(number)
        .with_columns(
            check_rate=pl.when(pl.col("checked") > 0).then(pl.col("fired") / pl.col("checked")),
        )
        .select("flaw", "severity", "asked", "checked", "fired", "check_rate", "written", "quota")
    )
