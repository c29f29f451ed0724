"""Closed lists of names that stages share: roles, drop reasons, flags, flaws, samplers, verdicts."""

from typing import Literal, get_args

Role = Literal["system", "user", "assistant", "tool_call", "tool"]
"""Who speaks. A `tool_call` is the JSON of what the assistant calls, a `tool` turn what that gave."""

Guard = Literal[
    "empty",
    "too_short",
    "truncated",
    "broken_encoding",
    "leaked_tokens",
    "prompt_echo",
    "repetition",
    "wrong_language",
]
"""What makes a response degenerate whatever its score, in the order it is looked for.

empty            nothing but white space, invisible characters and template tokens
too_short        fewer tokens than `--min-tokens`
truncated        it stops without an end: by its finish reason, else by its text
broken_encoding  text that went through the wrong character set
leaked_tokens    template tokens, or the text of the system message
prompt_echo      it repeats the prompt
repetition       it repeats itself
wrong_language   another language than the prompt is in or asks for
"""

UnpairedReason = Literal[
    "unreadable_row",
    "bad_prompt",
    "bad_response",
    "image",
    "tool_calls",
    "unread_structure",
    "prompt_mismatch",
    "bad_preference",
    "unpaired",
    "prompt_too_long",
    "failed_call",
    "refused",
    "truncated_reasoning",
    "malformed_json",
    "truncated_json",
    "near_identical",
    "length_ratio",
    "flaw_not_found",
    "failed_score",
    Guard,
]
"""Why a row of a source never became a pair, in the order the stages can meet them.

unreadable_row   a line that is not JSON, or a row without the columns of its format
bad_prompt       a prompt that is null, not text, empty, not a conversation ending in a user turn, or refused
                 by the chat template of the model
bad_response     a response that is null or not text
image            an image, a sound or a video is a part of the row
tool_calls       a response is the call of a tool, or a model is to answer what a tool gave
unread_structure a text was rendered by a chat template, or holds messages or calls that cannot be read
prompt_mismatch  the chosen and the rejected side disagree about the prompt
bad_preference   the preference says of neither response that it is the better one
unpaired         a response with a label, and no response to its prompt with another one
prompt_too_long  the prompt leaves no room for a response in the model's context
failed_call      the model could not be asked, or did not answer
refused          the endpoint declined to answer (content filter or refusal field), or the model called a tool
truncated_reasoning  the limit of tokens was used up before the response began, as by a model that reasons
malformed_json   the response is not the JSON that was asked for
truncated_json   the limit of tokens was used up before that JSON was whole
near_identical   the two written responses say the same
length_ratio     the rejected response is too long or too short for the flaw it was written with
flaw_not_found   the check of the flaw finds no trace of it in the rejected response
failed_score     fewer than two candidates that are not degenerate have a finite score
a guard          too few candidates are left because most of those set aside are so
"""

ScreenReason = Literal[
    "human_reject",
    "failed_score",
    "empty",
    "tie",
    "identical",
    "duplicate_pair",
    "low_margin",
    "low_z_margin",
    "low_score",
    "outside_quantiles",
    "too_short",
    "truncated",
    "broken_encoding",
    "leaked_tokens",
    "prompt_echo",
    "repetition",
    "wrong_language",
    "similar_responses",
    "personal_data",
    "contaminated",
    "off_topic",
    "lexical_duplicate",
    "semantic_duplicate_prompt",
    "semantic_duplicate_pair",
    "over_quota",
]
"""Why a pair is dropped by screening, in the order the rules are tried; the first match wins.

human_reject  reviewers found both responses bad, or neither better
tie           the margin is not larger than the noise of the scorer
over_quota    as many pairs as `--num-pairs` asks for come before it
"""

PersonalData = Literal["email", "phone", "card_number", "ip_address", "api_key"]

Flag = Literal[
    "refusal_chosen",
    "refusal_rejected",
    "maybe_truncated",
    "scorer_unreliable",
    "near_evaluation",
    "needs_review",
    PersonalData,
]
"""What reviewers should look at in a pair that is not dropped for it.

refusal_chosen, refusal_rejected  the response declines; some refusals are right
maybe_truncated                   a response ends as if it were truncated, which short notes and code do as well
scorer_unreliable                 the scorer puts a response that says nothing above both
near_evaluation                   the prompt is nearly one of the evaluation prompts
needs_review                      reviewers judged it, and no verdict has more than half of their answers
email ... api_key                 personal data or a secret in the text
"""

UNKNOWN = "unknown"
"""The license of what nobody says the license of."""

UNPAIRED_REASONS: tuple[str, ...] = get_args(UnpairedReason)
GUARDS: tuple[Guard, ...] = get_args(Guard)
SCREEN_REASONS: tuple[str, ...] = get_args(ScreenReason)
FLAGS: tuple[str, ...] = get_args(Flag)
PERSONAL_DATA: tuple[PersonalData, ...] = get_args(PersonalData)
DROP_REASONS = tuple(reason for reason in UNPAIRED_REASONS if reason not in SCREEN_REASONS) + SCREEN_REASONS
"""In the order of output: reasons that screening uses too stand in the order of screening."""

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

Origin = Literal["real", "synthetic"]
"""Whether a pair was imported, or a model wrote its responses here."""

Severity = Literal["minor", "major", "critical"]
"""What a flaw does to the reader.

minor     costs the reader time; the answer is still there
major     the answer is only partly of use
critical  there is no answer, or one that misleads
"""

WRITTEN_FLAWS: tuple[WrittenFlaw, ...] = get_args(WrittenFlaw)
FLAWS: tuple[Flaw, ...] = get_args(Flaw)
ORIGINS: tuple[Origin, ...] = get_args(Origin)

Sampler = Literal["random", "suspicious", "diverse", "gold"]
"""Why a pair is sent for review.

random      drawn at random within its source and margin band; estimates go by these records alone
suspicious  the most suspicious first: flags, a small margin, scorers that disagree
diverse     unlike the others, and of small margin
gold        not a pair of the dataset: its answer is known, and shows how well reviewers judge
"""

Better = Literal["a", "b", "equal", "both_bad"]
"""Which of two responses a reviewer finds better."""

VerdictName = Literal["accept", "swap", "tie", "reject"]
"""What reviewers answered about the label of a pair: it is right, it must be swapped, neither response is better, or
both are bad."""

AnswerStatus = Literal["submitted", "withdrawn", "unreadable"]
"""Whether an answer counts.

submitted   the reviewer stands by it
withdrawn   the reviewer took it back: discarded, a draft again, or deleted
unreadable  it holds a label that is not ours; kept, and counted
"""

SAMPLERS: tuple[Sampler, ...] = get_args(Sampler)
BETTER: tuple[Better, ...] = get_args(Better)
VERDICTS: tuple[VerdictName, ...] = get_args(VerdictName)
ANSWER_STATUSES: tuple[AnswerStatus, ...] = get_args(AnswerStatus)
