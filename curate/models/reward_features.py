"""Features of one response to a conversation, for the small reward heads."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, get_args

from curate.models.embedded import embedded_folder
from curate.models.folders import check_weights
from schemas.wire import replace_surrogates

if TYPE_CHECKING:
    import numpy as np

Backbone = Literal["smollm2", "minilm"]
BACKBONES: tuple[str, ...] = get_args(Backbone)
Conversation = Sequence[Mapping[str, str]]
Blocks = dict[str, "np.ndarray"]
"""Block name -> (rows, columns), float32."""

SURFACE = (
    "log_characters",
    "log_lines",
    "log_list_items",
    "has_code",
    "has_no_word",
    "log_words",
    "distinct_words",
    "ends_closed",
    "asks_back",
    "refuses",
    "apologises",
    "first_person",
    "digits",
    "upper_case",
    "not_ascii",
    "fractions",
    "response_words_in_prompt",
    "prompt_words_in_response",
    "prompt_numbers_in_response",
    "copies_prompt",
)
WORD = re.compile(r"\w+")
NUMBER = re.compile(r"\d+(?:\.\d+)?")
LIST_ITEM = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s", re.MULTILINE)
REFUSING = re.compile(
    r"\b(?:can(?:no|')?t|cannot|won't|not able to|unable to|not going to|shouldn't|not comfortable)\b", re.IGNORECASE
)
APOLOGISING = re.compile(r"\b(?:sorry|apologi[sz]e|unfortunately)\b", re.IGNORECASE)
FIRST_PERSON = re.compile(r"\bI(?:'m|'d|'ve|'ll)?\b")


@dataclass(frozen=True)
class FeatureConfig:
    backbone: Backbone
    layers: tuple[int, ...] = ()
    """Decoder layers whose output is pooled, counted from 1. Only for smollm2."""
    max_prompt_tokens: int = 96
    """Of a longer prompt the end is kept, so that the last user turn stays."""
    max_response_tokens: int = 160
    """Of a longer response the start is kept."""


def extract(config: FeatureConfig, conversations: Sequence[Conversation], responses: Sequence[str]) -> Blocks:
    """Every block of features of `responses[i]` to `conversations[i]`, rows in the order given."""
    return text_blocks(conversations, responses) | backbone_blocks(config, conversations, responses)


def text_blocks(conversations: Sequence[Conversation], responses: Sequence[str]) -> Blocks:
    """The blocks that need no model: `surface`, and `in_context`, the same columns for some kinds of prompt only.

    `in_context` repeats them once for prompts of several turns and once for prompts with numbers, and
    is 0 for others: what makes a response good differs between a chat and a sum.
    """
    import numpy as np

    prompts = [last_user_turn(turns) for turns in conversations]
    rows = [surface_features(prompt, response) for prompt, response in zip(prompts, responses, strict=True)]
    columns = np.array(rows, dtype=np.float32).reshape(-1, len(SURFACE))
    several_turns = np.array([[len(turns) > 2] for turns in conversations], dtype=np.float32).reshape(-1, 1)
    numbers = np.array([[len(NUMBER.findall(prompt)) > 2] for prompt in prompts], dtype=np.float32).reshape(-1, 1)
    return {"surface": columns, "in_context": np.concatenate([columns * several_turns, columns * numbers], axis=1)}


def backbone_blocks(config: FeatureConfig, conversations: Sequence[Conversation], responses: Sequence[str]) -> Blocks:
    """The blocks from the embedded model.

    smollm2 gives `mean_L` and `last_L` (576 columns: state over the response, and at its last token)
    for each layer L. minilm gives `response` (384 columns: its vector) and `cosine` (1 column: to the
    vector of the last user turn).
    """
    spoken = [[{**turn, "content": replace_surrogates(turn["content"])} for turn in turns] for turns in conversations]
    texts = [replace_surrogates(response) for response in responses]
    return BACKBONE_BLOCKS[config.backbone](config, spoken, texts)


def last_user_turn(turns: Conversation) -> str:
    """The last user turn, which the response answers."""
    return next(turn["content"] for turn in reversed(turns) if turn["role"] == "user")


def surface_features(prompt: str, response: str) -> list[float]:
    """The columns named in `SURFACE`, from the text alone."""
    import math

    words = [word.casefold() for word in WORD.findall(response)]
    asked = {word.casefold() for word in WORD.findall(prompt)}
    numbers, asked_numbers = set(NUMBER.findall(response)), set(NUMBER.findall(prompt))
    length, opening, closing = max(1, len(response)), response[:200], response.rstrip()[-1:]
    return [
        math.log1p(len(response)),
        math.log1p(response.count("\n")),
        math.log1p(len(LIST_ITEM.findall(response))),
        float("```" in response),
        float(not words),
        math.log1p(len(words)),
        # Of the first hundred: the share of new words falls with length in any honest text.
        len(set(words[:100])) / max(1, len(words[:100])),
        float(closing in tuple('.!?)"`') or closing.isdigit()),
        float(closing == "?"),
        float(bool(REFUSING.search(opening))),
        float(bool(APOLOGISING.search(opening))),
        min(1.0, len(FIRST_PERSON.findall(response)) / max(1, len(words)) * 10),
        sum(map(str.isdigit, response)) / length,
        sum(map(str.isupper, response)) / length,
        sum(not character.isascii() for character in response) / length,
        sum("." in number for number in numbers) / max(1, len(numbers)),
        sum(word in asked for word in words) / max(1, len(words)),
        len(asked.intersection(words)) / max(1, len(asked)),
        len(numbers & asked_numbers) / max(1, len(asked_numbers)),
        float(response.strip() == prompt.strip()),
    ]


@cache
def load_smollm2() -> tuple[Any, Any]:
    """The language model without its output layer, and its tokenizer."""
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    folder = check_weights(embedded_folder("smollm2"))
    model = AutoModel.from_pretrained(folder, dtype="float32").eval()
    return model, AutoTokenizer.from_pretrained(folder)


def smollm2_blocks(config: FeatureConfig, conversations: Sequence[Conversation], responses: Sequence[str]) -> Blocks:
    """Pooled states, in batches of 16 rows of like length."""
    import numpy as np
    import torch

    _, tokenizer = load_smollm2()
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    rows = []
    for turns, response in zip(conversations, responses, strict=True):
        prompt = tokenizer(apply_markup(turns), add_special_tokens=False)["input_ids"][-config.max_prompt_tokens :]
        # The end mark gives an empty response a token to be judged by, and shows that a text was finished.
        tokens = [*tokenizer(remove_markup(response), add_special_tokens=False)["input_ids"], end]
        rows.append((prompt, tokens[: config.max_response_tokens]))
    names = [f"{pool}_{layer}" for layer in config.layers for pool in ("mean", "last")]
    blocks = {name: np.zeros((len(rows), load_smollm2()[0].config.hidden_size), dtype=np.float32) for name in names}
    order = sorted(range(len(rows)), key=lambda row: sum(map(len, rows[row])))
    for start in range(0, len(order), 16):
        batch = order[start : start + 16]
        with torch.inference_mode():
            for name, values in smollm2_batch(config.layers, [rows[row] for row in batch]).items():
                blocks[name][batch] = values.numpy()
    return blocks


def apply_markup(turns: Conversation) -> str:
    """The conversation in the model's chat markup, ready for its response; no system turn is added."""
    text = "".join(f"<|im_start|>{turn['role']}\n{remove_markup(turn['content'])}<|im_end|>\n" for turn in turns)
    return f"{text}<|im_start|>assistant\n"


def remove_markup(text: str) -> str:
    """`text` with no chat markup in it, so that a response cannot write turns of its own."""
    return text.replace("<|", "< |")


def smollm2_batch(layers: Sequence[int], rows: Sequence[tuple[list[int], list[int]]]) -> dict[str, Any]:
    """Block name -> tensor, for rows of (prompt tokens, response tokens); stops at the deepest layer asked for."""
    import torch

    model, tokenizer = load_smollm2()
    spans = [(len(prompt), len(prompt) + len(response)) for prompt, response in rows]
    tokens = torch.full((len(rows), max(stop for _, stop in spans)), tokenizer.pad_token_id)
    for row, (prompt, response) in enumerate(rows):
        tokens[row, : spans[row][1]] = torch.tensor([*prompt, *response])
    # Attention is causal and padding is on the right, so no mask is needed, and none is faster.
    states = model.embed_tokens(tokens)
    positions = torch.arange(tokens.shape[1])[None]
    rotary = model.rotary_emb(states, position_ids=positions)
    blocks: dict[str, Any] = {}
    for layer in range(1, max(layers) + 1):
        states = model.layers[layer - 1](states, position_embeddings=rotary, position_ids=positions)
        if layer in layers:
            responses = [states[row, start:stop] for row, (start, stop) in enumerate(spans)]
            blocks[f"mean_{layer}"] = torch.stack([response.mean(dim=0) for response in responses])
            blocks[f"last_{layer}"] = torch.stack([response[-1] for response in responses])
    return blocks


@cache
def load_minilm() -> Any:
    """The sentence encoder, on the processor: the same vectors on every machine."""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(check_weights(embedded_folder("minilm"))), device="cpu")


def minilm_blocks(config: FeatureConfig, conversations: Sequence[Conversation], responses: Sequence[str]) -> Blocks:
    """The response's vector, and how near it is to that of the last user turn."""
    import numpy as np

    prompts = [last_user_turn(turns) for turns in conversations]
    texts = list(dict.fromkeys([*prompts, *responses]))
    vectors = (
        load_minilm().encode(texts, batch_size=32, convert_to_numpy=True, show_progress_bar=False).astype(np.float32)
    )
    place = {text: row for row, text in enumerate(texts)}
    asked = vectors[[place[text] for text in prompts]]
    answered = vectors[[place[text] for text in responses]]
    return {"response": answered, "cosine": (asked * answered).sum(axis=1, keepdims=True)}


BACKBONE_BLOCKS = {"smollm2": smollm2_blocks, "minilm": minilm_blocks}
