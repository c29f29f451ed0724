"""Every reader of text from outside, as a call that takes any text and raises no error but REFUSALS."""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import strategies as st
from scripted import completion, user

from curate.generate.contrast import parse_pair
from curate.generate.flaw_checks import CHECKS, Written
from curate.generate.flaws import unusable_reason
from curate.models.chat_api import ChatAPI
from curate.models.classify_api import ClassifyAPI, PoolingAPI
from curate.models.judge import PairJudgeAPI
from curate.models.judge_prompts import LETTER_SAMPLING, read_letter, read_score
from curate.models.lenient_json import find_objects
from curate.models.limits import EndpointConfig
from curate.models.reasoning import split_reasoning
from curate.models.reply_body import error_in_answer, json_object, read_error
from curate.models.reward_api import RewardAPI
from curate.sources.conversations import read_conversation
from curate.sources.fields import Fields
from curate.sources.file_source import FileSource
from curate.sources.formats import read_row
from curate.sources.messages import UnusableRow, conversation, read_response
from curate.sources.prompts import read_prompt
from curate.sources.row import BadRow, Row, raw_text
from schemas.calls import Request
from schemas.errors import ResponseError, UserError
from schemas.names import WRITTEN_FLAWS, WrittenFlaw
from schemas.wire import FlawedPairJSON, PairJSON, replace_surrogates

REFUSALS = (ResponseError, UserError, UnusableRow)
REQUEST = Request("score", user("Why does the sea rise?"), n=2, sampling=LETTER_SAMPLING)


def read_objects(text: str) -> None:
    for found in find_objects(text)[0]:
        found.read()


def read_body(kind: type[ChatAPI]) -> Callable[[str], object]:
    """Reads a text as the body of an answer, and as each part of one."""
    api = kind("test", "http://127.0.0.1:9/v1", "tiny", "PAIRWRIGHT_API_KEY", EndpointConfig())

    def read(text: str) -> None:
        json_object(text.encode("utf-8", "replace"))
        value: Any = text
        with suppress(ValueError, RecursionError):
            value = json.loads(text)
        whole = completion("A")
        odd: list[dict[str, Any]] = [
            completion(text),
            {**whole, "usage": value},
            {**whole, "usage": {"prompt_tokens": value, "completion_tokens": value}},
            {**whole, "choices": value},
            {**whole, "choices": [value]},
            {**whole, "choices": [{"message": value}]},
            {**whole, "choices": [{"message": {"content": value, "refusal": value}, "finish_reason": value}]},
            {**whole, "choices": [whole["choices"][0] | {"logprobs": value}]},
            {**whole, "choices": [whole["choices"][0] | {"logprobs": {"content": [value]}}]},
            {"data": value},
            {"data": [value]},
            {"data": [{"probs": value, "data": value}]},
            {"data": [{"probs": [value], "data": [[value]]}]},
        ]
        for body in [*odd, {"error": value}, *([value] if isinstance(value, dict) else [])]:
            error_in_answer(body)
            with suppress(ResponseError):
                api.read(body, REQUEST)

    return read


def check_flaw(flaw: WrittenFlaw) -> Callable[[str], object]:
    """Checks a text as each part of a written pair."""
    good = (
        "How do I make tea? Use at most 30 words.",
        "Boil water, pour, and wait.",
        "Boil water.",
        "pour",
        "at most 30",
    )

    def check(text: str) -> None:
        for i in range(len(good)):
            # No half of a surrogate pair comes this far.
            whole = replace_surrogates(text)
            written = Written(*(whole if i == at else part for at, part in enumerate(good)))
            unusable_reason(flaw, whole, written, CHECKS[flaw](written))

    return check


def read_file(ending: str) -> Callable[[str], object]:
    """Reads a text as a file of rows, and each row as preferences, a prompt and a conversation."""

    def read(text: str) -> None:
        with TemporaryDirectory() as folder:
            path = Path(folder) / f"rows{ending}"
            path.write_bytes(text.encode("utf-8", "surrogatepass"))
            for row in FileSource(str(path)).rows():
                read_any_row(row)

    return read


def read_any_row(row: Row | BadRow) -> None:
    raw_text(row)
    for take in (read_row, lambda fields: read_prompt(row, fields), lambda fields: read_conversation(row, fields)):
        with suppress(UnusableRow):
            take(Fields(row if isinstance(row, dict) else {}))


TARGETS: dict[str, Callable[[str], object]] = {
    "reasoning": split_reasoning,
    "objects": read_objects,
    "pair": lambda text: parse_pair(text, PairJSON, text),
    "flawed pair": lambda text: parse_pair(text, FlawedPairJSON, "asked"),
    "score": lambda text: read_score(text, text),
    "letter": read_letter,
    "error": lambda text: read_error(400, text.encode("utf-8", "replace"), "key"),
    "chat": read_body(ChatAPI),
    "pair judge": read_body(PairJudgeAPI),
    "classify": read_body(ClassifyAPI),
    "pooling": read_body(PoolingAPI),
    "reward": read_body(RewardAPI),
    "messages": conversation,
    "response": read_response,
    "columns": lambda text: read_any_row({"prompt": text, "chosen": text, "rejected": "no", "system": text}),
    "preference": lambda text: read_any_row({"prompt": "Why?", "response_a": text, "response_b": "no", "winner": text}),
    **{f"file {ending}": read_file(ending) for ending in (".jsonl", ".json", ".csv", ".tsv", ".txt")},
} | {f"flaw {flaw}": check_flaw(flaw) for flaw in WRITTEN_FLAWS}

FRAGMENTS = [
    *'{}[]",:\\/<>|`$. \n\t0Aé\u200b\ufeff\0',
    "<think>", "</think>", "[THINK]", "[/THINK]", "<|channel|>", "final", "<|message|>", "<|end|>", "```", "```json\n",
    "Here is my thought process:", "Here is my response:", "analysisWe ", "assistantfinal", "<answer>", "</answer>",
    '"chosen": ', '"rejected": ', '"score": ', '"reason": ', '"flaw": ', '"quote": ', '"choices": ', '"message": ',
    '"content": ', '"logprobs": ', '"top_logprobs": ', '"token": ', '"logprob": ', '"data": ', '"probs": ', '"usage": ',
    '{"chosen": "a", "rejected": "b"}', '{"score": 8}', '"score": "8/10"', "\\nabla", "\\n", "\\u12", "\\ud83d", "\\\\",
    "\\(", "\\frac{1}{2}", "[[A]]", "[[", "Answer: ", "A", "B", "Response ", "is better", "reward:", "helpfulness:",
    "1e999", "-1e999", "NaN", "Infinity", "true", "null", "9" * 400, "9" * 5000, "in 5 words", "at most ", "'", "Paris",
    '{"role": "user", "content": "a"}', '{"from": "gpt", "value": "a"}, ', '[{"role": ', "'role': 'user', ", "\r\n",
    "\n\nHuman: ", "\n\nAssistant: ", "Human:", "<|im_start|>user\n", "[INST]", "### Response:", '"prompt": "Why?"',
    '"rank": 1', '"messages": [', '"label": true', '"tools": ', '"\n"', "model_a", "tie", "A>>B",
    "I can't help with that. ", "- item\n", "| a | b |\n", "Boil water, pour, and wait. ",
]  # fmt: skip
"""What the readers look for, and what they trip over."""

TEXTS = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=8), max_size=30).map("".join)
"""Texts made of such fragments, half a surrogate pair among them."""
HUGE = [
    "9" * 400,
    "-" + "9" * 400,
    "9" * 5000,
    "[" * 600 + "]" * 600,
    "[" * 100_000,
    '{"a":' * 100_000,
    '{"score": ' + "9" * 5000 + "}",
    '{"score": ' + "[" * 100_000 + "]" * 100_000 + "}",
    '{"data": ' + "[" * 600 + "]" * 600 + "}",
    '{"message": ' + '{"refusal": ' * 900 + "1" + "}" * 901,
    "reward:" + "9" * 5000,
    "\ud83d",
    '{"chosen": "\\ud83d", "rejected": "\ud83d"}',
]
"""Texts of sizes and depths at which readers break."""
