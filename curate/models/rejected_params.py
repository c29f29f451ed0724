"""Detect what an endpoint refuses of a chat call, from its error text, and ask without it."""

import re
from collections.abc import Collection, Mapping
from typing import Any

from curate.models.refusals import TRANSIENT
from curate.models.reply_body import EndpointError
from curate.models.system_message import SYSTEM_MOVED, has_system, without_system

NOT_TAKEN = (
    r"unsupported|unrecognized|unknown|unexpected|extra_forbidden|deprecated|only the default|cannot both|no longer|"
    r"instead|(not|n't) (be )?(support|allow|accept|permit|available|recogni|a valid)|additional propert"
)
REFUSALS: dict[tuple[str, ...], tuple[str, ...]] = {
    ("response_format",): (r"response_format|json_schema|structured|grammar|guided",),
    ("logprobs", "top_logprobs"): (r"logprobs",),
    ("system",): (
        r"\b(system|developer)\b['\"`]? ?(role|message|prompt|instruction|turn)s?\b.{0,60}"
        r"(not|n't|unsupported|invalid|unexpected|disallow|must|only|top-level|cannot)|"
        r"(not|n't|unsupported|invalid|unexpected|unknown|disallow\w+|unrecognized|got|no)\b.{0,60}"
        r"\b(system|developer)\b['\"`]? ?(role|message|prompt|instruction|turn)|"
        r"\broles?\b.{0,60}\b(system|developer)\b|\b(system|developer)['\"`]? is not (one of|a valid|allowed)|"
        r"roles? must alternate|only user and assistant|'user'( or|,) '(assistant|model)'|"
        r"(first|start|begin)\w*\b.{0,40}\buser\b.{0,10}\b(message|role|turn)|(message|turn)\b.{0,20}\bfrom.{0,10}\buser\b",
    ),
    # OpenAI's newer models refuse the first, other servers may not know the second.
    ("max_tokens",): (r"\bmax_tokens\b", NOT_TAKEN),
    ("max_completion_tokens",): (r"\bmax_completion_tokens\b", NOT_TAKEN),
    ("n",): (
        r"(?<![\w\\.'/-])['\"`]?\bn\b['\"`]?\s*(=|>|<|:|must|should|is\b|value|param|cannot|greater|larger|not\b|to\b)|"
        r"['\"`]n['\"`]|(param\w*|argument|field|value of|support\w*|of|option|property|only)\s*:?\s+n\b(?!['/-])|"
        r"(multiple|several|more than (one|1)|only (one|1|a single)) (\w+ )?(candidate|completion|choice|generation|"
        r"response|output)|candidate_?count|best_of|num_(return_sequences|generations|completions)",
    ),
    # A value out of range is the user's to mend; only a parameter that is not taken at all may be left out.
    # Of two that do not go together the first is left out, for the temperature is what most is said by.
    ("top_p",): (r"\btop_p\b", NOT_TAKEN),
    ("temperature",): (r"\btemperature\b", NOT_TAKEN),
}
"""What goes together -> what an error says, all of it, that refuses it; tried in this order."""

OTHER_NAME = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
"""A limit that is refused by one name is sent by the other."""
CONSEQUENCES = {
    "system": SYSTEM_MOVED,
    "n": "several responses a call and is asked for one at a time",
    **{name: f"{name} and is asked with {other}" for name, other in OTHER_NAME.items()},
}
SAMPLING = {"temperature", "top_p"}


class ParametersRefused(Exception):
    """The endpoint does not take some parameters of a call, and may well answer one without them."""

    def __init__(self, names: tuple[str, ...], problem: str, status: int | None) -> None:
        super().__init__(problem)
        self.names = names
        self.status = status


def refused_parameters(error: EndpointError, sent: Mapping[str, Any]) -> tuple[str, ...]:
    """Those of the parameters `sent` that an error refuses; none where it is about something else."""
    words = error.words
    for names, patterns in REFUSALS.items():
        # A server that stumbles may name anything; llama.cpp stumbles over what a chat template refuses.
        if error.status in TRANSIENT and (error.status, names) != (500, ("system",)):
            continue
        is_sent = has_system(sent.get("messages", [])) if names == ("system",) else names[0] in sent
        if is_sent and all(re.search(pattern, words, re.IGNORECASE) for pattern in patterns):
            return names
    return ()


def adapt(body: Mapping[str, Any], refused: Collection[str]) -> dict[str, Any]:
    """A call without what is refused: its limit by its other name, its system message in the first user turn."""
    adapted = {}
    for name, value in body.items():
        if name not in refused:
            adapted[name] = value
        elif name in OTHER_NAME:
            adapted[OTHER_NAME[name]] = value
    if "system" in refused and has_system(body["messages"]):
        adapted["messages"] = without_system(body["messages"])
    return adapted


def describe_refusal(names: Collection[str]) -> list[str]:
    """What the endpoint refuses and how it is asked from then on, a sentence each."""
    left_out = [name for name in names if name not in CONSEQUENCES]
    told = [CONSEQUENCES[name] for name in names if name in CONSEQUENCES]
    if left_out:
        end = "; sampling then follows the model's own defaults" if SAMPLING & set(left_out) else ""
        told.append(f"{', '.join(left_out)} and is asked without{end}")
    return [f"the endpoint refuses {sentence}" for sentence in told]
