"""Options that the user adds to the calls of a model: sent to the endpoint, and part of the identity of a call.

    --reasoning-effort low --extra-body '{"chat_template_kwargs": {"enable_thinking": true}}'

Unset they leave no trace, so that calls recorded without them keep their keys.
"""

import json
from typing import Any, NoReturn

from curate.config import BuildConfig, JudgeConfig
from curate.models.judge_prompts import THINKING_TOKENS
from schemas.errors import UserError

Options = dict[str, Any]
"""Sampling parameters of a request: `reasoning_effort`, `extra_body`, and `max_tokens` of a judge."""

OWN = {
    "model": "the name of the model says it",
    "messages": "pairwright writes them",
    "n": "pairwright counts responses by it",
    "stream": "responses are read whole",
    "max_tokens": "use --{role}max-tokens",
    "max_completion_tokens": "use --{role}max-tokens",
    "reasoning_effort": "use --{role}reasoning-effort",
}
"""Keys that an extra body may not hold, and why."""


def generator_options(cfg: BuildConfig) -> Options:
    """The options of the generator. Raises UserError for an extra body that cannot be sent."""
    return read_options(cfg.reasoning_effort, cfg.extra_body, "")


def judge_options(cfg: JudgeConfig) -> Options:
    """The options of a judge; one that was told how to reason has room for it. Raises UserError likewise."""
    options = read_options(cfg.judge_reasoning_effort, cfg.judge_extra_body, "judge-")
    limit = cfg.judge_max_tokens or (THINKING_TOKENS if options else None)
    return options | ({"max_tokens": limit} if limit else {})


def read_options(effort: str, extra_body: str, role: str) -> Options:
    """The options that are set; `role` begins the names of their flags."""
    options: Options = {"reasoning_effort": effort} if effort else {}
    return options | ({"extra_body": read_extra_body(extra_body, role)} if extra_body else {})


def read_extra_body(text: str, role: str) -> dict[str, Any]:
    """The JSON object of `--extra-body`. Raises UserError for anything else, and for a key that is not the user's."""

    def refuse_number(name: str) -> NoReturn:
        raise ValueError(f"JSON has no {name}")

    flag = f"--{role}extra-body"
    try:
        body = json.loads(text, parse_constant=refuse_number)
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{flag} must be a JSON object such as '{{\"top_k\": 20}}', found {text[:80]} ({error})"
        ) from error
    if not isinstance(body, dict) or not body:
        raise UserError(f"{flag} must be a JSON object with at least one key, found {text[:80]}")
    for name in OWN:
        if name in body:
            raise UserError(f"{flag} may not hold '{name}': {OWN[name].format(role=role)}")
    return body


def flag_names(options: Options, role: str) -> str:
    """The flags of options; `role` begins their names."""
    # The limit of a judge follows from its other options where it is not given.
    given = [name for name in options if name != "max_tokens"] or list(options)
    return " and ".join(f"--{role}{name.replace('_', '-')}" for name in given)


def no_judge_error(options: Options) -> UserError:
    """The error for options of a judge where none judges."""
    # The name of the scorer is not repeated: it may hold a password.
    return UserError(f"{flag_names(options, 'judge-')}: for a judge, and none is named; give judge:GENERATOR")
