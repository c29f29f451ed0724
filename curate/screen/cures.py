"""Name what to do about rows that are lost: one cure a reason."""

from curate.screen.rules import RULES

NO_FLAW = "give a --generator that plants the flaws it is asked for, or other --flaws"
CURES = {
    "unreadable_row": "give rows in one of the formats that the README lists, or name their columns with --columns",
    "bad_prompt": "give conversations of texts that end in a turn of the user",
    "bad_response": "give rows whose two responses are texts",
    "image": "give rows of text alone",
    "tool_calls": "give rows whose responses are texts: a response that calls a tool is no preference between texts",
    "unread_structure": "give messages, or texts as they were before a chat template rendered them",
    "prompt_mismatch": "give rows whose two sides answer one prompt",
    "bad_preference": "give rows that say which response is better, or name the column with --preference",
    "unpaired": "give both labels to responses to one prompt",
    "prompt_too_long": "give a model with a longer context, a smaller --max-tokens, or shorter prompts",
    "failed_call": "`curate ledger` lists the errors; failed calls are asked again",
    "refused": "the endpoint declines to answer; give another model, or other prompts",
    "truncated_reasoning": "a larger --max-tokens, or a smaller --reasoning-effort, leaves room for a response",
    "truncated_json": "a larger --max-tokens lets the JSON end",
    "malformed_json": "give a --generator that keeps to a JSON schema, or the plain --flaws none",
    "near_identical": NO_FLAW,
    "length_ratio": NO_FLAW,
    "flaw_not_found": NO_FLAW,
    "failed_score": "give another --scorer, or rows whose scores are numbers; `curate ledger` lists failed calls",
    "empty": "give a model, or rows, with responses that say something",
    "truncated": "a larger --max-tokens lets responses end; --skip-rule truncated would let those of a file pass",
    "broken_encoding": "save the texts as UTF-8; --skip-rule broken_encoding would let them pass",
    "leaked_tokens": "give a --generator with its own chat template; --skip-rule leaked_tokens would let them pass",
    "human_reject": "--skip-rule human_reject would let them pass against the verdicts of reviewers",
    "tie": "give a --scorer that tells them apart; --skip-rule tie would let them pass",
    "identical": "give a larger --temperature, or rows whose responses differ",
    "duplicate_pair": "give rows that do not repeat; --skip-rule duplicate_pair would let them pass",
    "personal_data": "--redact in place of --drop-personal-data would let them pass",
    "contaminated": "give prompts that are no evaluation; --skip-rule contaminated would let them pass",
}
"""Reason -> what to do, for reasons that no threshold moves."""


def cure(reason: str) -> str:
    """What lets rows pass that are dropped for `reason`."""
    rule = next((rule for rule in RULES if rule.name == reason), None)
    if rule and rule.threshold:
        return f"another {rule.flag}, or --skip-rule {rule.name}, would let them pass"
    return CURES[reason]
