"""Conversations and pairs as token ids, checked before step 0: one end after each response, nothing lost unsaid.

What is learnt is found by rendering the template twice, up to a response and with it, and never by
looking for markers, so it holds for every chat template.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from jinja2 import TemplateError
from numpy.typing import NDArray

from curate.backends.hf_model import end_tokens
from schemas.errors import UserError
from schemas.ids import Message

Reason = Literal[
    "template_refused",
    "rewritten_by_template",
    "end_inside_response",
    "empty_response",
    "prompt_too_long",
    "same_when_cut",
]
"""Why a row cannot be trained on.

template_refused       the chat template raises an error for the conversation
rewritten_by_template  the prompt is no prefix of the conversation once the response is there
end_inside_response    a response holds the token that ends a turn before its own end
empty_response         the template leaves nothing of a response
prompt_too_long        the last user turn alone leaves no room for a response
same_when_cut          the chosen and the rejected response are the same tokens, or become so when cut
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
    """What the template writes after a response when that is plain text, and so no part of the response."""


@dataclass(frozen=True)
class Tokens:
    """Tokens of a prompt or a conversation, and which of them are learnt."""

    ids: NDArray[np.int32]
    learnt: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Row:
    """One row of training data: a conversation, or the chosen and the rejected side of a pair."""

    row_id: str
    sides: tuple[Tokens, ...]


@dataclass
class Preflight:
    """What became of the rows before the first step."""

    rows: int = 0
    kept: int = 0
    cut: Counter[str] = field(default_factory=Counter)
    """`prompt` rows that lost their oldest turns; `response`, `chosen`, `rejected` ones that lost their end."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Reason -> rows."""

    def summary(self) -> str:
        """One line for the log."""
        sides = {"prompt": "start of {} prompts", "response": "end of {} responses"}
        sides |= {side: f"end of {{}} {side} responses" for side in ("chosen", "rejected")}
        cut = ", ".join(text.format(self.cut[side]) for side, text in sides.items() if self.cut[side])
        dropped = ", ".join(f"{count} {reason}" for reason, count in sorted(self.dropped.items()))
        return f"{self.rows} rows in, {self.kept} kept; cut: {cut or 'nothing'}; dropped: {dropped or 'none'}"

    def to_json(self) -> dict[str, Any]:
        return {"rows": self.rows, "kept": self.kept, "cut": dict(self.cut), "dropped": dict(self.dropped)}


def read_chat(name: str, tokenizer: Any, generation_config: Any) -> Chat:
    """How the tokenizer of model `name` writes conversations. Raises UserError where it cannot."""
    if not tokenizer.chat_template:
        raise UserError(f"{name} has no chat template, so it cannot hold a conversation; use a model that has one")
    if tokenizer.eos_token_id is None:
        raise UserError(f"the tokenizer of {name} has no EOS token, so no response could end; set eos_token in it")
    eos = int(tokenizer.eos_token_id)
    suffix, end = after_response(tokenizer)
    ends = frozenset([*end_tokens(tokenizer, generation_config), *([] if end is None else [end])])
    pad = eos if tokenizer.pad_token_id is None else int(tokenizer.pad_token_id)
    return Chat(tokenizer, ends, eos, pad, suffix if end is None else "")


def after_response(tokenizer: Any) -> tuple[str, int | None]:
    """What the template writes after a response, and the special token in it that ends the turn."""
    mark = "\u0001response\u0001"
    rendered = render(tokenizer, [{"role": "user", "content": "a"}, {"role": "assistant", "content": mark}])
    suffix = rendered.partition(mark)[2]
    special = {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}
    ids = tokenizer(suffix, add_special_tokens=False)["input_ids"] if suffix else []
    return suffix, next((token for token in ids if token in special), None)


def pair_row(
    chat: Chat, row_id: str, messages: Sequence[Message], chosen: str, rejected: str, max_length: int, said: Preflight
) -> Row | None:
    """A pair as two sequences with the same prompt, or None, counted, where it does not fit."""
    said.rows += 1
    try:
        for prompt in shorter(messages):
            sides = [last_turn(chat, prompt, response) for response in (chosen, rejected)]
            if max(map(len, sides)) <= max_length:
                break
        fitted = [cut_end(side, max_length) for side in sides]
        if np.array_equal(fitted[0].ids, fitted[1].ids):
            raise Unfit("same_when_cut")
    except Unfit as error:
        said.dropped[error.reason] += 1
        return None
    said.kept += 1
    said.cut["prompt"] += len(prompt) < len(messages)
    for name, side, short in zip(("chosen", "rejected"), sides, fitted, strict=True):
        said.cut[name] += len(short) < len(side)
    return Row(row_id, tuple(fitted))


def conversation_row(
    chat: Chat, row_id: str, messages: Sequence[Message], max_length: int, said: Preflight
) -> Row | None:
    """A conversation whose responses are all learnt, the last turn being one; None, counted, where it does not fit."""
    said.rows += 1
    try:
        for kept in shorter(messages):
            whole = sequence(chat, kept, [i for i, turn in enumerate(kept) if turn["role"] == "assistant"])
            if len(whole) <= max_length:
                break
        fitted = cut_end(whole, max_length)
    except Unfit as error:
        said.dropped[error.reason] += 1
        return None
    said.kept += 1
    said.cut["prompt"] += len(kept) < len(messages)
    said.cut["response"] += len(fitted) < len(whole)
    return Row(row_id, (fitted,))


def shorter(messages: Sequence[Message]) -> Iterator[list[Message]]:
    """`messages`, then without the oldest exchanges, then without the system message; the last user turn stays."""
    system = [turn for turn in messages[:1] if turn["role"] == "system"]
    users = [i for i, turn in enumerate(messages) if turn["role"] == "user"]
    yield list(messages)
    for start in users[1:]:
        yield [*system, *messages[start:]]
    if system and users:
        yield list(messages[users[-1] :])


def last_turn(chat: Chat, messages: Sequence[Message], response: str) -> Tokens:
    """A prompt and a response to it, of which the response is learnt."""
    return sequence(chat, [*messages, {"role": "assistant", "content": response}], [len(messages)])


def cut_end(whole: Tokens, max_length: int) -> Tokens:
    """The first `max_length` tokens, of which some must be learnt."""
    if not whole.learnt[:max_length].any():
        raise Unfit("prompt_too_long")
    return Tokens(whole.ids[:max_length], whole.learnt[:max_length])


def sequence(chat: Chat, messages: Sequence[Message], turns: Sequence[int]) -> Tokens:
    """A conversation up to the end of its last response; the responses at `turns` are learnt.

    An earlier response that the template writes otherwise once turns follow it is read and not learnt.
    """
    full = render(chat.tokenizer, messages)
    spans = [response_span(chat, messages, turn, full) for turn in turns]
    if spans[-1] is None:
        raise Unfit("rewritten_by_template")
    cuts = [0, *(cut for span in spans if span for cut in span)]
    ids: list[int] = []
    learnt: list[bool] = []
    for index, piece in enumerate(pieces(chat.tokenizer, full, cuts)):
        if index % 2:
            response, rest = ended_once(chat, piece)
            ids += response
            learnt += [True] * len(response)
            piece = rest if index + 1 < len(cuts) - 1 else []
        ids += piece
        learnt += [False] * len(piece)
    return Tokens(np.array(ids, dtype=np.int32), np.array(learnt))


def response_span(chat: Chat, messages: Sequence[Message], turn: int, full: str) -> tuple[int, int] | None:
    """Where the response at `turn` and what ends it stand in the rendered conversation."""
    if not turn:
        return None
    before = render(chat.tokenizer, messages[:turn], prompt=True)
    through = render(chat.tokenizer, messages[: turn + 1])
    if not (full.startswith(through) and through.startswith(before)):
        return None
    return len(before), len(through.removesuffix(chat.suffix))


def render(tokenizer: Any, messages: Sequence[Message], prompt: bool = False) -> str:
    """The conversation as text; with `prompt`, up to where the next response begins."""
    try:
        text: str = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=prompt)
    except TemplateError as error:
        raise Unfit("template_refused") from error
    return text


def pieces(tokenizer: Any, text: str, cuts: Sequence[int]) -> list[list[int]]:
    """Tokens of `text` between the cuts; every piece before a cut is what the text up to it gives by itself.

    So a prompt is a token prefix of its responses even where a response begins with what would join
    the prompt's last token.
    """
    texts = [text[start:end] for start, end in pairwise(cuts)]
    encoded: list[list[int]] = tokenizer([text[: cuts[-1]], *texts], add_special_tokens=False)["input_ids"]
    whole, parts = encoded[0], encoded[1:]
    if whole == [token for part in parts for token in part]:
        return parts
    # Some tokenizers write a text's start otherwise than its middle: then the pieces are cut from the whole.
    heads: list[list[int]] = tokenizer([text[:cut] for cut in cuts[1:]], add_special_tokens=False)["input_ids"]
    if all(whole[: len(head)] == head for head in heads):
        ends = [0, *map(len, heads)]
        return [whole[start:end] for start, end in pairwise(ends)]
    return parts


def ended_once(chat: Chat, piece: list[int]) -> tuple[list[int], list[int]]:
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
