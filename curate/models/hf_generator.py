"""Responses from a transformers model in this process, optionally with a LoRA adapter."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from curate.ledger.entries import request_content
from curate.models.decode import bytes_per_token, decode, pack
from curate.models.hf_model import HFModel
from curate.models.reasoning import find_opening
from schemas.calls import CallResult, Request, Response
from schemas.ids import digest

SEQUENCES_PER_BATCH = {"cpu": 64, "cuda": 256}
OPENING_TOKENS = 16
"""Last tokens of a prompt, among which the mark is that opens a reasoning."""
CPU_BATCH_BYTES = 2 << 30
"""Room for the keys, values and logits of a batch; on a GPU it is half of what the weights leave."""


class HFGenerator(HFModel):
    """A causal language model.

    Batches are formed from the prompts of a part alone, in order of their length, and each prompt has
    a seed of its own, so an interrupted run goes on to the same responses on the same machine.
    """

    needs_template = "so it cannot hold a conversation; use a chat model"

    def __init__(self, name: str, digest: str, folder: Path, adapter: Path | None = None) -> None:
        super().__init__(name, digest, folder, adapter)
        self._token_bytes = bytes_per_token(self._model)
        if self._token_bytes is not None:
            pack(self._model)
        self._batch_bytes = batch_bytes(self._model)
        self._ends = end_tokens(self._tokenizer, self._model.generation_config)
        self._tokenizer.padding_side = "left"
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token_id = self._ends[0]

    def _excess(self, request: Request, tokens: int, context: int) -> str | None:
        room = int(request.sampling["max_tokens"])
        if tokens + room <= context:
            return None
        return f"prompt of {tokens} tokens and {room} for the response exceed the context of {context}"

    def _batches(self, prompts: Mapping[int, list[int]], requests: Sequence[Request]) -> Iterator[list[int]]:
        def fits(group: list[int]) -> bool:
            longest = max(len(prompts[i]) for i in group)
            drawn = sum(count_draws(requests[i]) for i in group)
            return drawn <= self._most_sequences(longest, requests[group[0]])

        return growing_groups(sorted(prompts, key=lambda i: (len(prompts[i]), i)), fits)

    def _most_sequences(self, longest: int, request: Request) -> int:
        """Sequences that are drawn together after prompts of up to `longest` tokens."""
        most = SEQUENCES_PER_BATCH[self.device]
        if self._token_bytes is None:
            # The cache is copied at every token and of unknown size: smaller batches.
            return most // 4
        # Logits, their softmax and what sorting takes.
        logits = 16 * int(self._model.config.get_text_config().vocab_size)
        tokens = longest + int(request.sampling["max_tokens"])
        return max(1, min(most, self._batch_bytes // (tokens * self._token_bytes + logits)))

    def _answer_batch(
        self, batch: list[int], prompts: list[list[int]], requests: list[Request]
    ) -> list[tuple[int, CallResult]]:
        start = time.perf_counter()
        counts = [count_draws(request) for request in requests]
        if len(batch) == 1:
            # One prompt may ask for more responses than are drawn together.
            most = self._most_sequences(len(prompts[0]), requests[0])
            luck = uniforms(requests[0])
            pieces = [luck[at : at + most] for at in range(0, counts[0], most)]
            tokens = [row for piece in pieces for row in self._decode(prompts, [len(piece)], piece, requests)]
        else:
            tokens = self._decode(prompts, counts, torch.cat([uniforms(request) for request in requests]), requests)
        seconds = (time.perf_counter() - start) / sum(len(row) for row in tokens)
        answers, rows = [], iter(tokens)
        for i, prompt, request, count in zip(batch, prompts, requests, counts, strict=True):
            # Where the template opened the reasoning, the mark belongs to what the model says.
            opening = find_opening(str(self._tokenizer.decode(prompt[-OPENING_TOKENS:])))
            drawn = [self._response(next(rows), opening) for _ in range(count)]
            copies = request.n // count
            length = sum(end for _, end in drawn)
            answer = CallResult(
                responses=tuple(response for response, _ in drawn) * copies,
                input_tokens=len(prompt),
                output_tokens=length * copies,
                seconds=seconds * length,
            )
            answers.append((i, answer))
        return answers

    def _decode(
        self, prompts: list[list[int]], counts: list[int], luck: torch.Tensor, requests: list[Request]
    ) -> list[list[int]]:
        """The tokens of `counts[i]` responses to each prompt."""
        sampling = requests[0].sampling
        is_greedy = sampling["temperature"] == 0
        if self._token_bytes is not None:
            return decode(self._model, prompts, counts, None if is_greedy else luck, sampling, self._ends)
        rows = [prompt for prompt, count in zip(prompts, counts, strict=True) for _ in range(count)]
        padded = self._tokenizer.pad({"input_ids": rows}, return_tensors="pt").to(self.device)
        torch.manual_seed(int(luck.sum() * 2**32))
        tokens = self._model.generate(
            **padded,
            **(
                {"do_sample": False}
                if is_greedy
                else {"do_sample": True, "temperature": sampling["temperature"], "top_p": sampling["top_p"], "top_k": 0}
            ),
            max_new_tokens=int(sampling["max_tokens"]),
            # The settings of some models hold a penalty that nobody asked for here.
            repetition_penalty=1.0,
            eos_token_id=self._ends,
            pad_token_id=self._tokenizer.pad_token_id,
        )
        drawn: list[list[int]] = tokens[:, padded["input_ids"].shape[1] :].tolist()
        return drawn

    def _response(self, row: list[int], opening: str) -> tuple[Response, int]:
        """Text up to the first end token, and how many tokens were drawn; no end token: it was truncated."""
        end = next((at for at, token in enumerate(row) if token in self._ends), None)
        # Special tokens inside a response stay visible, so that screening can see them.
        text = opening + str(self._tokenizer.decode(row[:end], skip_special_tokens=False))
        return Response(text, "length" if end is None else "stop"), len(row) if end is None else end + 1


def count_draws(request: Request) -> int:
    """Responses that are drawn for a request: without sampling its n are copies of one."""
    return request.n if request.sampling["temperature"] > 0 else 1


def uniforms(request: Request) -> torch.Tensor:
    """(responses, max_tokens) uniform numbers in [0, 1), one for each token a request may draw.

    They depend on the request and not on the model: two models that are compared then draw the same numbers.
    """
    asked = digest([request_content(request), request.sampling])
    generator = torch.Generator().manual_seed(int(asked[:15], 16))
    shape = count_draws(request), int(request.sampling["max_tokens"])
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def growing_groups(rows: list[int], fits: Callable[[list[int]], bool]) -> Iterator[list[int]]:
    """`rows` in groups of 1, 2, 4 ... as far as each fits, so that something is recorded soon after the start."""
    start, size = 0, 1
    while start < len(rows):
        stop = start + 1
        while stop < min(start + size, len(rows)) and fits(rows[start : stop + 1]):
            stop += 1
        yield rows[start:stop]
        start, size = stop, 2 * size


def batch_bytes(model: Any) -> int:
    """Room for a batch, the same at every start on one machine."""
    if model.device.type == "cpu":
        return CPU_BATCH_BYTES
    total = int(torch.cuda.get_device_properties(model.device).total_memory)
    return (total - int(model.get_memory_footprint())) // 2


def end_tokens(tokenizer: Any, generation_config: Any) -> list[int]:
    """Every token that ends a turn: the tokenizer's, the model's, and the one the chat template writes.

    The three differ in practice: a base Qwen2.5 ends text with one token and chat turns with another.
    """
    mark = "\u0001end-of-turn\u0001"
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": mark}]
    tail = str(tokenizer.apply_chat_template(turns, tokenize=False)).partition(mark)[2]
    first = tokenizer(tail, add_special_tokens=False)["input_ids"][:1] if tail else []
    ends = [token for token in first if token in tokenizer.all_special_ids]
    configured = generation_config.eos_token_id
    ends += configured if isinstance(configured, list) else [configured]
    ends.append(tokenizer.eos_token_id)
    return list(dict.fromkeys(int(token) for token in ends if token is not None))
