"""Say what a mix does not tell or is known to get wrong, from its own counts."""

from collections.abc import Callable, Mapping
from typing import Any

from curate.mix.card.markdown import code
from curate.store.mixes import MixLock
from schemas.names import PERSONAL_DATA

FLAGGED = {
    "scorer_unreliable": "In {pairs} the scorer put a response that says nothing, such as a full stop or a refusal, "
    "above both responses (flag `scorer_unreliable`).",
    "maybe_truncated": "In {pairs} a response may end too early (flag `maybe_truncated`).",
    "refusal_chosen": "In {pairs} the chosen response declines to answer (flag `refusal_chosen`).",
    "near_evaluation": "In {pairs} the prompt is close to an evaluation prompt (flag `near_evaluation`).",
    "needs_review": "In {pairs} reviewers did not agree on a verdict (flag `needs_review`).",
}
LENGTH_BIAS = 0.6
"""From this share of pairs with a longer chosen response on, the mix is said to teach length."""


def known_limits(lock: MixLock) -> list[str]:
    """Sentences in Markdown, the gravest first."""
    flags = lock.facts["flags"]
    return [
        *label_limits(lock),
        *[text.format(pairs=count_pairs(flags[flag])) for flag, text in FLAGGED.items() if flag in flags],
        *length_limits(lock),
        *personal_limits(lock),
        *screening_limits(lock),
        *mix_limits(lock),
    ]


def label_limits(lock: MixLock) -> list[str]:
    """Who says that the chosen response is the better one."""
    sources, judged = lock.facts["sources"], lock.facts["judged"]
    limits = [
        f"People judged {judged:,} of the {count_pairs(lock.rows)} of this mix; the labels of the others were not "
        "checked here."
        if judged
        else "No person checked the labels here: they come from the sources, or from models."
    ]
    if names := names_where(sources, lambda source: source["made"] == "imported" and not source["scorer"]):
        limits.append(f"No model scored the pairs of {names} here: their labels are taken as they came.")
    if names := names_where(sources, lambda source: source["scorer"] and source["noise"] is None):
        limits.append(f"The noise of the scorer was not measured for {names}: a small margin may be a tie.")
    if names := names_where(sources, lambda source: source["scorer"] and not source["is_probed"]):
        limits.append(f"Whether the scorer prefers responses that say nothing was not tried for {names}.")
    against = ("tie", "low_margin", "low_z_margin")
    dropped = sum(
        source["dropped"].get(reason, 0)
        for source in sources.values()
        if source["made"] == "imported" and source["scorer"]
        for reason in against
    )
    if dropped:
        limits.append(
            f"{count_pairs(dropped)} whose label the scorer contradicts, or hardly supports, "
            f"{'was' if dropped == 1 else 'were'} dropped: the labels that are left are those it agrees with."
        )
    return limits


def length_limits(lock: MixLock) -> list[str]:
    share = lock.facts["chosen_longer"] / lock.rows
    if share < LENGTH_BIAS:
        return []
    return [f"The chosen response is the longer one in {share:.0%} of the pairs: a model may learn to write more."]


def personal_limits(lock: MixLock) -> list[str]:
    """Personal data that was found, by kind, and where it was replaced."""
    flags = lock.facts["flags"]
    found = [f"{flag.replace('_', ' ')} {flags[flag]:,}" for flag in PERSONAL_DATA if flag in flags]
    limits = [f"Some pairs hold what looks like personal data or secrets (pairs: {', '.join(found)})."] if found else []
    if names := names_where(lock.facts["sources"], lambda source: source["thresholds"]["redact"]):
        limits.append(f"Personal data that was found by its form in {names} was replaced by its kind, as in [email].")
    return limits


def screening_limits(lock: MixLock) -> list[str]:
    """What was not looked for."""
    sources = lock.facts["sources"]
    limits = []
    if names := ", ".join(code(source.build) for source in lock.sources if not source.is_embedded):
        between = ", and between the sources" if len(lock.sources) > 1 else ""
        limits.append(f"Near-duplicates were found by wording alone, not by meaning, in {names}{between}.")
    if names := names_where(sources, lambda source: not source["checked_against"]):
        limits.append(f"Evaluation prompts were not looked for in {names}.")
    for name, source in sources.items():
        if rules := ", ".join(map(code, source["thresholds"]["skip_rule"])):
            limits.append(f"Rules that {code(name)} was not screened by: {rules}.")
    return limits


def mix_limits(lock: MixLock) -> list[str]:
    limits = []
    if unknown := lock.facts["license"]["unknown"]:
        limits.append(f"The license of {count_pairs(unknown)} is unknown.")
    if not lock.heldout:
        limits.append("No pair is held out: there is no `test` split.")
    if lock.facts["license"]["conflicts"]:
        limits.append("Terms of its rows contradict each other; see Licenses.")
    return [*limits, "The languages of the pairs were not recorded."]


def names_where(sources: Mapping[str, Any], applies: Callable[[Any], object]) -> str:
    """The names of the sources that something is true of."""
    return ", ".join(code(name) for name, source in sources.items() if applies(source))


def count_pairs(count: int) -> str:
    return f"{count:,} pair{'' if count == 1 else 's'}"
