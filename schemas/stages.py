"""Names of the stages of a build, and which of them give pairs."""

from collections.abc import Container
from enum import StrEnum


class StageName(StrEnum):
    """A stage: the name of its folder of tables, which is a part of the key of every table in it."""

    READ_PROMPTS = "read_prompts"
    SAMPLE_RESPONSES = "sample_responses"
    SCORE_RESPONSES = "score_responses"
    MAKE_PAIRS = "make_pairs"
    WRITE_PAIRS = "write_pairs"
    READ_PAIRS = "read_pairs"
    SCORE_PAIRS = "score_pairs"
    SCORE_PROBES = "score_probes"
    REDACT_PAIRS = "redact_pairs"
    COLLECT_HUMAN_VERDICTS = "collect_human_verdicts"
    SWAP_PAIRS = "swap_pairs"
    MEASURE_PAIRS = "measure_pairs"
    FIND_CONTAMINATION = "find_contamination"
    FIND_LEXICAL_DUPLICATES = "find_lexical_duplicates"
    FIND_SEMANTIC_DUPLICATES = "find_semantic_duplicates"
    MEASURE_TOPICALITY = "measure_topicality"
    MEASURE_EVAL_PROXIMITY = "measure_eval_proximity"
    SCREEN_PAIRS = "screen_pairs"

    @property
    def rows(self) -> str:
        """Its rows in words, for the log."""
        return ROWS[self]


ROWS = {
    StageName.READ_PROMPTS: "prompts",
    StageName.SAMPLE_RESPONSES: "responses",
    StageName.SCORE_RESPONSES: "scores of responses",
    StageName.MAKE_PAIRS: "pairs",
    StageName.WRITE_PAIRS: "written pairs",
    StageName.READ_PAIRS: "pairs",
    StageName.SCORE_PAIRS: "scored pairs",
    StageName.SCORE_PROBES: "scores of probes",
    StageName.REDACT_PAIRS: "pairs without personal data",
    StageName.COLLECT_HUMAN_VERDICTS: "verdicts of reviewers",
    StageName.SWAP_PAIRS: "pairs with labels as reviewers swapped them",
    StageName.MEASURE_PAIRS: "measured pairs",
    StageName.FIND_CONTAMINATION: "contaminated pairs",
    StageName.FIND_LEXICAL_DUPLICATES: "lexical duplicates",
    StageName.FIND_SEMANTIC_DUPLICATES: "semantic duplicates",
    StageName.MEASURE_TOPICALITY: "pairs beside other prompts",
    StageName.MEASURE_EVAL_PROXIMITY: "pairs beside evaluation prompts",
    StageName.SCREEN_PAIRS: "screened pairs",
}
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
