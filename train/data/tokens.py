"""Conversations and pairs as token ids, checked before step 0: one end after each response, every loss counted.

What is learned is found by rendering the template twice, up to a response and with it, and never by
looking for markers, so it holds for every chat template. The prompt of a pair is encoded once, by
itself, and both responses continue those very tokens.

A row of more than `max_length` tokens (of a pair: prompt and longer response) is truncated in this order:
1. The prompt loses its oldest exchanges, one after another; the system message stays.
2. The prompt loses its system message too. The last user turn is never truncated.
3. The response loses its end, and with it the token that ends the turn, so that the model does not
   learn to stop there. A response of which no token is left drops the row, and so do two that became the same.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.models.system_message import has_system, without_system
from schemas.tool_turns import Message, has_tool_turns, read_tools, template_form
from train.data.chat import Chat, Reason, Unfit, encode, end_once, render


@dataclass(frozen=True)
class Tokens:
    """Tokens of a response or a conversation, and which of them are learned."""

    ids: NDArray[np.uint32]
    learned: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Row:
    """One row of training data: a prompt and what continues it."""

    row_id: str
    prompt: NDArray[np.uint32]
    """At least one token; read, never learned."""
    responses: tuple[Tokens, ...]
    """Chosen and rejected; or the rest of a conversation from its first learned token on; user turns are unlearned."""

    def __len__(self) -> int:
        """All tokens, the prompt counted once."""
        return len(self.prompt) + sum(map(len, self.responses))


@dataclass
class Preflight:
    """Counts of the rows kept, truncated and dropped before the first step."""

    rows: int = 0
    kept: int = 0
    cut: Counter[str] = field(default_factory=Counter)
    """`prompt` rows that lost their oldest turns; `response`, `chosen`, `rejected` ones that lost their end."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Reason -> rows."""

    def add(self, other: "Preflight") -> None:
        """Count the rows of `other` too."""
        self.rows += other.rows
        self.kept += other.kept
        self.cut.update(other.cut)
        self.dropped.update(other.dropped)

    def drop(self, reason: Reason, messages: Sequence[Message]) -> None:
        """Count a row that does not fit; what a template refuses of a conversation with tools are its tool turns."""
        has_tools = reason == "template_refused" and has_tool_turns(messages)
        self.dropped["tool_calls" if has_tools else reason] += 1

    def summary(self) -> str:
        """One line for the log."""
        sides = {"prompt": "start of {} prompts", "response": "end of {} responses"}
        sides |= {side: f"end of {{}} {side} responses" for side in ("chosen", "rejected")}
        cut = ", ".join(text.format(self.cut[side]) for side, text in sides.items() if self.cut[side])
        dropped = ", ".join(f"{count} {reason}" for reason, count in sorted(self.dropped.items()))
        cut, dropped = (f" ({parts})" if parts else "" for parts in (cut, dropped))
        counts = f"{sum(self.cut.values())} truncated{cut}, {sum(self.dropped.values())} dropped{dropped}"
        return f"{self.kept} of {self.rows} rows kept, {counts}"

    def to_json(self) -> dict[str, Any]:
        return {"rows": self.rows, "kept": self.kept, "cut": dict(self.cut), "dropped": dict(self.dropped)}

    @classmethod
    def from_json(cls, preflight: dict[str, Any]) -> "Preflight":
        """What `to_json` returned, as it was."""
        return cls(preflight["rows"], preflight["kept"], Counter(preflight["cut"]), Counter(preflight["dropped"]))


def pair_row(
    chat: Chat,
    row_id: str,
    messages: Sequence[Message],
    chosen: str,
    rejected: str,
    max_length: int,
    preflight: Preflight,
    tools: str | None = None,
) -> Row | None:
    """A pair as a prompt and two responses to it, or None, counted, where it does not fit.

    `tools` is a JSON list of those that the prompt may call.
    """
    preflight.rows += 1
    try:
        turns, offered = template_turns(chat, messages, tools)
        for kept in shorten_conversation(turns):
            prompt, responses = encode_continuations(chat, kept, (chosen, rejected), offered)
            if len(prompt) + max(map(len, responses)) <= max_length:
                break
        if not prompt:
            raise Unfit("empty_prompt")
        room = max_length - len(prompt)
        if room < 1:
            raise Unfit("prompt_too_long")
        fitted = [response[:room] for response in responses]
        if fitted[0] == fitted[1]:
            raise Unfit("same_when_cut")
    except Unfit as error:
        preflight.drop(error.reason, messages)
        return None
    preflight.kept += 1
    preflight.cut["prompt"] += len(kept) < len(turns)
    for name, response, short in zip(("chosen", "rejected"), responses, fitted, strict=True):
        preflight.cut[name] += len(short) < len(response)
    learned = (Tokens(np.array(ids, dtype=np.uint32), np.ones(len(ids), dtype=np.bool_)) for ids in fitted)
    return Row(row_id, np.array(prompt, dtype=np.uint32), tuple(learned))


def conversation_row(
    chat: Chat,
    row_id: str,
    messages: Sequence[Message],
    max_length: int,
    preflight: Preflight,
    tools: str | None = None,
) -> Row | None:
    """A conversation up to its last learned response; None, counted, where it does not fit.

    Responses and calls of tools are learned, but for those with a `learn` that is false. `tools` is a JSON list of
    those that may be called.
    """
    preflight.rows += 1
    try:
        turns, offered = template_turns(chat, messages, tools)
        if not (learned_turns := [i for i, turn in enumerate(turns) if is_learned(turn)]):
            raise Unfit("not_learned")
        turns = turns[: learned_turns[-1] + 1]
        for kept in shorten_conversation(turns):
            whole = encode_conversation(chat, kept, [i for i, turn in enumerate(kept) if is_learned(turn)], offered)
            if len(whole) <= max_length:
                break
        # The first token has none before it to predict it from.
        if not whole.learned[1:].any():
            raise Unfit("empty_prompt")
        ids, learned = whole.ids[:max_length], whole.learned[:max_length]
        if not learned[1:].any():
            raise Unfit("prompt_too_long")
    except Unfit as error:
        preflight.drop(error.reason, messages)
        return None
    preflight.kept += 1
    preflight.cut["prompt"] += len(kept) < len(turns)
    preflight.cut["response"] += len(ids) < len(whole)
    start = 1 + int(learned[1:].argmax())
    return Row(row_id, ids[:start], (Tokens(ids[start:], learned[start:]),))


def is_learned(turn: Message) -> bool:
    return turn["role"] == "assistant" and turn.get("learn") is not False


def template_turns(
    chat: Chat, messages: Sequence[Message], tools: str | None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]] | None]:
    """Messages and tools as the template takes them, where it has a place for such turns."""
    if has_tool_turns(messages) and not chat.takes_tools:
        raise Unfit("tool_calls")
    if not chat.takes_system and has_system(messages):
        messages = without_system(messages)
    try:
        return template_form(messages), read_tools(tools)
    except (ValueError, RecursionError) as error:
        raise Unfit("tool_calls") from error


def shorten_conversation(messages: Sequence[Message]) -> Iterator[list[Message]]:
    """`messages`, then without the oldest exchanges, then without the system message; the last user turn stays."""
    system = [turn for turn in messages[:1] if turn["role"] == "system"]
    users = [i for i, turn in enumerate(messages) if turn["role"] == "user"]
    yield list(messages)
    for start in users[1:]:
        yield [*system, *messages[start:]]
    if system and users:
        yield list(messages[users[-1] :])


def encode_continuations(
    chat: Chat, messages: Sequence[Message], responses: Sequence[str], tools: list[dict[str, Any]] | None
) -> tuple[list[int], list[list[int]]]:
    """Tokens of a prompt and of each response to it; the prompt's are those of the prompt by itself."""
    before = render(chat.tokenizer, messages, prompt=True, tools=tools)
    texts = []
    for response in responses:
        full = render(chat.tokenizer, [*messages, {"role": "assistant", "content": response}], tools=tools)
        if not full.startswith(before):
            raise Unfit("rewritten_by_template")
        texts.append(full.removesuffix(chat.suffix))
    prompt, *wholes = encode(chat.tokenizer, [before, *texts])
    rests = [tokens_after(chat.tokenizer, prompt, before, *whole) for whole in zip(wholes, texts, strict=True)]
    return prompt, [end_once(chat, rest)[0] for rest in rests]


def tokens_after(tokenizer: Any, head: list[int], head_text: str, whole: list[int], whole_text: str) -> list[int]:
    """The tokens that follow `head`: those of the whole, unless what follows joined the head's last token."""
    if whole[: len(head)] == head:
        return whole[len(head) :]
    return encode(tokenizer, [whole_text[len(head_text) :]])[0]


def encode_conversation(
    chat: Chat, messages: Sequence[Message], turns: Sequence[int], tools: list[dict[str, Any]] | None
) -> Tokens:
    """A conversation up to the end of its last response; the responses at `turns` are learned.

    An earlier response that the template writes otherwise once turns follow it is read and not learned.
    """
    full = render(chat.tokenizer, messages, tools=tools)
    spans = [response_span(chat, messages, turn, full, tools) for turn in turns]
    if spans[-1] is None:
        raise Unfit("rewritten_by_template")
    cuts = [0, *(cut for span in spans if span for cut in span)]
    ids: list[int] = []
    learned: list[bool] = []
    for index, piece in enumerate(encode_pieces(chat.tokenizer, full, cuts)):
        if index % 2:
            response, rest = end_once(chat, piece)
            ids += response
            learned += [True] * len(response)
            piece = rest if index + 1 < len(cuts) - 1 else []
        ids += piece
        learned += [False] * len(piece)
    return Tokens(np.array(ids, dtype=np.uint32), np.array(learned, dtype=np.bool_))


def response_span(
    chat: Chat, messages: Sequence[Message], turn: int, full: str, tools: list[dict[str, Any]] | None
) -> tuple[int, int] | None:
    """Span of the response at `turn`, its end token included, in the rendered conversation."""
    if not turn:
        return None
    before = render(chat.tokenizer, messages[:turn], prompt=True, tools=tools)
    through = render(chat.tokenizer, messages[: turn + 1], tools=tools)
    if not (full.startswith(through) and through.startswith(before)):
        return None
    return len(before), len(through.removesuffix(chat.suffix))


def encode_pieces(tokenizer: Any, text: str, cuts: Sequence[int]) -> list[list[int]]:
    """Tokens of `text` between the cuts; every piece before a cut is what the text up to it gives by itself.

    So a prompt is a token prefix of its responses even where a response begins with what would join
    the prompt's last token.
    """
    texts = [text[start:end] for start, end in pairwise(cuts)]
    whole, *parts = encode(tokenizer, [text[: cuts[-1]], *texts])
    if whole == [token for part in parts for token in part]:
        return parts
    # Some tokenizers write a text's start otherwise than its middle: then the pieces are cut from the whole.
    heads = encode(tokenizer, [text[:cut] for cut in cuts[1:]])
    if all(whole[: len(head)] == head for head in heads):
        ends = [0, *map(len, heads)]
        return [whole[start:end] for start, end in pairwise(ends)]
    return parts
