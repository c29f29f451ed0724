"""Detect the parameters of a chat call that an endpoint refuses, from its error text."""

import re
from collections.abc import Collection

NOT_TAKEN = (
    r"unsupported|unrecognized|unknown|deprecated|only the default|(not|n't) (be )?"
    r"(support|allow|accept|permit|available)|cannot both"
)
REFUSALS: dict[tuple[str, ...], tuple[str, ...]] = {
    ("response_format",): (r"response_format|json_schema|structured|grammar|guided",),
    ("logprobs", "top_logprobs"): (r"logprobs",),
    # A value out of range is the user's to mend; only a parameter that is not taken at all may be left out.
    # Of two that do not go together the first is left out, for the temperature is what most is said by.
    ("top_p",): (r"\btop_p\b", NOT_TAKEN),
    ("temperature",): (r"\btemperature\b", NOT_TAKEN),
}
"""Parameters that go together -> what an error says, all of it, that refuses them; tried in this order."""

SAMPLING = {"temperature", "top_p"}


class ParametersRefused(Exception):
    """The endpoint does not take some parameters of a call, and may well answer one without them."""

    def __init__(self, names: tuple[str, ...], problem: str) -> None:
        super().__init__(problem)
        self.names = names


def refused_parameters(problem: str, sent: Collection[str]) -> tuple[str, ...]:
    """Those of the parameters `sent` that an error refuses; none where it is about something else."""
    for names, patterns in REFUSALS.items():
        if names[0] in sent and all(re.search(pattern, problem, re.IGNORECASE) for pattern in patterns):
            return names
    return ()
