"""The closed lists that stages share: reasons, kinds of flaw, kinds of call."""

from typing import Literal, get_args

Role = Literal["system", "user", "assistant"]

UnpairedReason = Literal[
    "unreadable_row",
    "bad_prompt",
    "bad_response",
    "prompt_mismatch",
    "prompt_too_long",
    "failed_call",
    "refused",
    "malformed_json",
    "near_identical",
    "length_ratio",
    "flaw_not_found",
    "failed_score",
    "empty",
]
"""Why a row of a source never became a pair, in the order the stages can meet them.

unreadable_row   a line that is not JSON, or a row without the columns of its format
bad_prompt       a prompt that is null, not text, empty, not a conversation ending in a user turn, or refused
                 by the chat template of the model
bad_response     a response that is null or not text
prompt_mismatch  the chosen and the rejected side disagree about the prompt
prompt_too_long  the prompt leaves no room for a response in the model's context
failed_call      the model could not be asked, or did not answer
refused          the endpoint declined to answer (content filter or refusal field)
malformed_json   the response is not the JSON that was asked for
near_identical   the two responses that were written say the same
length_ratio     the rejected response is too long or too short for the flaw it was written with
flaw_not_found   the check of the flaw finds no trace of it in the rejected response
failed_score     fewer than two candidates with text have a finite score
empty            fewer than two candidates have any text
"""

ScreenReason = Literal[
    "failed_score",
    "empty",
    "tie",
    "identical",
    "low_margin",
    "duplicate_pair",
    "near_duplicate_prompt",
    "surplus",
]
"""Why a pair is dropped by screening, in the order the rules are tried; the first match wins.

tie      the margin is not larger than the noise of the scorer
surplus  as many pairs as `--num-pairs` asks for come before it
"""

UNPAIRED_REASONS: tuple[str, ...] = get_args(UnpairedReason)
SCREEN_REASONS: tuple[str, ...] = get_args(ScreenReason)
DROP_REASONS: tuple[str, ...] = tuple(dict.fromkeys(UNPAIRED_REASONS + SCREEN_REASONS))

WrittenFlaw = Literal[
    "factual",
    "logic",
    "incomplete",
    "broken_constraint",
    "off_topic",
    "verbose_padding",
    "broken_format",
    "needless_refusal",
    "truncation",
    "unsupported_detail",
]
"""How a rejected response can be asked to fail; each has a check in `curate.generate.flaw_checks`."""

Flaw = Literal[WrittenFlaw, "repetition", "incoherent", "wrong_language", "bad_code"]
"""How a rejected response fails, where that is known; the last four occur in imported pairs only."""

Severity = Literal["minor", "major", "critical"]
"""What a flaw does to the reader.

minor     costs the reader time; the answer is still there
major     the answer is only partly of use
critical  there is no answer, or one that misleads
"""

WRITTEN_FLAWS: tuple[WrittenFlaw, ...] = get_args(WrittenFlaw)
FLAWS: tuple[Flaw, ...] = get_args(Flaw)
