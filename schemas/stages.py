"""?"""

from collections.abc import Container

MADE_STAGES = ("score_pairs", "make_pairs", "write_pairs", "read_pairs")
"""Stages that give pairs as they were made, whatever screening or people say of them; the last one first."""
PAIRS_STAGES = ("swap_pairs", "redact_pairs", *MADE_STAGES)
"""Stages that give pairs, the last one of a build first."""


def pairs_stage(stages: Container[str]) -> str:
    """Which of a build's stages gave the pairs that were screened."""
    return next(stage for stage in PAIRS_STAGES if stage in stages)


def labeled_stage(stages: Container[str]) -> str:
    """Which of a build's stages gave the pairs with their labels as they were before people swapped any."""
    return next(stage for stage in PAIRS_STAGES[1:] if stage in stages)
