"""A tokenizer with its chat template: renders turns, encodes them and finds the token that ends a turn."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from jinja2 import TemplateError

from curate.models.system_message import SYSTEM_MOVED
from schemas.errors import UserError
from schemas.tool_turns import PROBE, PROBE_TOOLS, PROBED, Message, template_form

log = logging.getLogger(__name__)

Reason = Literal[
    "template_refused",
    "tool_calls",
    "not_learned",
    "rewritten_by_template",
    "end_inside_response",
    "empty_response",
    "empty_prompt",
    "prompt_too_long",
    "same_when_cut",
]
"""Reasons a row cannot be trained on.

template_refused       the chat template raises an error for the conversation
tool_calls             the chat template has no place for tools, or not for the calls of the conversation
not_learned            no response of the conversation is to be learned
rewritten_by_template  the prompt is no prefix of the conversation once the response is there
end_inside_response    a response holds the token that ends a turn before its own end
empty_response         the template leaves nothing of a response
empty_prompt           the template writes nothing before the response, so nothing could predict its first token
prompt_too_long        the last user turn alone leaves no room for a response
same_when_cut          the chosen and the rejected response are the same tokens, or become so when truncated
"""


class Unfit(Exception):
    """A row that cannot be trained on, with the reason it is counted under."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Chat:
    """A tokenizer with its chat template, and how its turns end."""

    tokenizer: Any
    ends: frozenset[int]
    """Every token that ends a turn, as sampling stops at them."""
    eos: int
    """Written after a response where the template writes no end."""
    pad: int
    suffix: str
    """Plain text that the template writes after a response, which is no part of the response."""
    takes_tools: bool
    """Whether the template writes calls of tools and what they gave."""
    takes_system: bool
    """Whether the template takes a system message; else its text opens the first user turn."""


def read_chat(name: str, tokenizer: Any, generation_config: Any) -> Chat:
    """The tokenizer of model `name` with its chat template. Raises UserError where it cannot hold a conversation."""
    # Brings torch, which the processes that only make tokens do without.
    from curate.models.hf_generator import end_tokens

    if not tokenizer.chat_template:
        raise UserError(f"{name} has no chat template, so it cannot hold a conversation; use a model that has one")
    if tokenizer.eos_token_id is None:
        raise UserError(f"the tokenizer of {name} has no EOS token, so no response could end; set eos_token in it")
    eos = int(tokenizer.eos_token_id)
    suffix, end = after_response(tokenizer)
    ends = frozenset([*end_tokens(tokenizer, generation_config), *([] if end is None else [end])])
    pad = eos if tokenizer.pad_token_id is None else int(tokenizer.pad_token_id)
    has_system = takes_system(tokenizer)
    if not has_system:
        log.warning("%s: the chat template refuses %s", name, SYSTEM_MOVED)
    return Chat(tokenizer, ends, eos, pad, suffix if end is None else "", takes_tools(tokenizer), has_system)


def after_response(tokenizer: Any) -> tuple[str, int | None]:
    """The text that the template writes after a response, and the special token in it that ends the turn."""
    mark = "\u0001response\u0001"
    rendered = render(tokenizer, [{"role": "user", "content": "a"}, {"role": "assistant", "content": mark}])
    suffix = rendered.partition(mark)[2]
    special = {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}
    ids = tokenizer(suffix, add_special_tokens=False)["input_ids"] if suffix else []
    return suffix, next((token for token in ids if token in special), None)


def takes_tools(tokenizer: Any) -> bool:
    """Whether the template writes the name, the argument and the result of a call."""
    try:
        text = render(tokenizer, template_form(PROBE), tools=PROBE_TOOLS)
    except Unfit:
        return False
    return all(word in text for word in PROBED)


def takes_system(tokenizer: Any) -> bool:
    """Whether the template takes a system message before a user turn."""
    try:
        render(tokenizer, [{"role": role, "content": "a"} for role in ("system", "user", "assistant")])
    except Unfit:
        return False
    return True


def render(
    tokenizer: Any, messages: Sequence[Message], prompt: bool = False, tools: list[dict[str, Any]] | None = None
) -> str:
    """The conversation as text; with `prompt`, up to where the next response begins.

    `learn`, which says of a turn whether it is learned, is not for the template.
    """
    turns = [{name: value for name, value in turn.items() if name != "learn"} for turn in messages]
    try:
        text: str = tokenizer.apply_chat_template(turns, tools=tools, tokenize=False, add_generation_prompt=prompt)
    except (TemplateError, TypeError, ValueError) as error:
        raise Unfit("template_refused") from error
    return text


def encode(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    """The tokens of each text and none beside them."""
    encoded: list[list[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return encoded


def end_once(chat: Chat, piece: list[int]) -> tuple[list[int], list[int]]:
    """A response with exactly one end after it, and what the template writes behind that."""
    at = next((i for i, token in enumerate(piece) if token in chat.ends), len(piece))
    if not chat.tokenizer.decode(piece[:at]).strip():
        raise Unfit("empty_response")
    if at == len(piece):
        return [*piece, chat.eos], []
    rest = [token for token in piece[at + 1 :] if token not in chat.ends]
    # A response that brought its own end loses the second one; text after an end is no part of a response.
    if rest and str(chat.tokenizer.decode(rest)).strip():
        raise Unfit("end_inside_response")
    return piece[: at + 1], rest
