"""Names of the stages of a build, and which of them give pairs."""

from collections.abc import Container
from enum import StrEnum


class StageName(StrEnum):
    """A stage: the name of its folder of tables, which is a part of the key of every table in it."""

    rows: str
    """Its rows in words, for the log."""

    def __new__(cls, name: str, rows: str = "") -> "StageName":
        stage = str.__new__(cls, name)
        stage._value_, stage.rows = name, rows
        return stage

    READ_PROMPTS = "read_prompts", "prompts"
    SAMPLE_RESPONSES = "sample_responses", "responses"
    SCORE_RESPONSES = "score_responses", "scores of responses"
    MAKE_PAIRS = "make_pairs", "pairs"
    WRITE_PAIRS = "write_pairs", "written pairs"
    READ_PAIRS = "read_pairs", "pairs"
    READ_VERDICTS = "read_verdicts", "single votes on pairs"
    SCORE_PAIRS = "score_pairs", "scored pairs"
    SCORE_PROBES = "score_probes", "scores of probes"
    REDACT_PAIRS = "redact_pairs", "pairs without personal data"
    COLLECT_HUMAN_VERDICTS = "collect_human_verdicts", "verdicts of reviewers"
    SWAP_PAIRS = "swap_pairs", "pairs with labels as reviewers swapped them"
    MEASURE_PAIRS = "measure_pairs", "measured pairs"
    FIND_CONTAMINATION = "find_contamination", "contaminated pairs"
    FIND_LEXICAL_DUPLICATES = "find_lexical_duplicates", "lexical duplicates"
    FIND_SEMANTIC_DUPLICATES = "find_semantic_duplicates", "semantic duplicates"
    MEASURE_TOPICALITY = "measure_topicality", "pairs beside other prompts"
    MEASURE_EVAL_PROXIMITY = "measure_eval_proximity", "pairs beside evaluation prompts"
    SCREEN_PAIRS = "screen_pairs", "screened pairs"


MADE_STAGES = (StageName.SCORE_PAIRS, StageName.MAKE_PAIRS, StageName.WRITE_PAIRS, StageName.READ_PAIRS)
"""Stages that give pairs as they were made, before screening and review; the last one first."""
LABELED_STAGES = (StageName.REDACT_PAIRS, *MADE_STAGES)
"""Stages that give pairs with their labels as they were before reviewers swapped any, the last one first."""
PAIRS_STAGES = (StageName.SWAP_PAIRS, *LABELED_STAGES)
"""Stages that give pairs, the last one of a build first."""


def newest_stage(among: tuple[StageName, ...], stages: Container[str]) -> StageName:
    """The first stage of `among` that a build has."""
    return next(stage for stage in among if stage in stages)


def pairs_stage(stages: Container[str]) -> StageName:
    """The stage of a build that gave the pairs that were screened."""
    return newest_stage(PAIRS_STAGES, stages)
