"""Responses from a transformers model in this process, optionally with a LoRA adapter."""

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from curate.backends.calls import Answer, Request, Response
from curate.backends.ledger import request_content
from schemas.errors import UserError
from schemas.ids import digest

# transformers talks on stderr about what its defaults are; what matters is checked here.
logging.set_verbosity_error()  # type: ignore[no-untyped-call]
logging.disable_progress_bar()  # type: ignore[no-untyped-call]

SEQUENCES_PER_BATCH = {"cpu": 16, "cuda": 256}


class HFGenerator:
    """A causal language model with a chat template.

    Batches are formed from the prompts of a part alone, in order of their length, and each batch has
    a seed of its own, so an interrupted run goes on to the same responses on the same machine.
    """

    def __init__(self, name: str, digest: str, folder: Path, adapter: Path | None = None) -> None:
        """`folder` holds the model, `adapter` a PEFT adapter for it; `digest` stands for both.

        Raises UserError for a folder that is not a model or has no chat template.
        """
        self.model = name
        self.digest = digest
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        # bf16 products are some 200 times slower than fp32 on most CPUs.
        dtype = torch.bfloat16 if self.device == "cuda" else torch.float32
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
            model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, use_safetensors=True)
        except (OSError, ValueError, SafetensorError) as error:
            raise UserError(f"{name}: {folder} is not a transformers model folder ({first_line(error)})") from error
        if not self._tokenizer.chat_template:
            raise UserError(
                f"{name}: {folder} has no chat template, so it cannot hold a conversation; use a chat model"
            )
        if adapter:
            model = with_adapter(model, adapter)
        self._model = model.to(self.device).eval()
        self._context = int(getattr(model.config, "max_position_embeddings", 0)) or None
        self._ends = end_tokens(self._tokenizer, model.generation_config)
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token_id = self._ends[0]

    def answer(self, requests: Sequence[Request], needed: set[int]) -> Iterator[list[tuple[int, Answer]]]:
        """Sampled responses, one group of prompts at a time."""
        prompts: dict[int, list[int]] = {}
        unfit = []
        for i, request in enumerate(requests):
            tokens = self._tokens(request)
            if isinstance(tokens, Answer):
                unfit.append((i, tokens))
            else:
                prompts[i] = tokens
        fitting = list(prompts)
        if found := [(i, answer) for i, answer in unfit if i in needed]:
            yield found
        if not fitting:
            return
        per_batch = max(1, SEQUENCES_PER_BATCH[self.device] // requests[0].n)
        fitting.sort(key=lambda i: (len(prompts[i]), i))
        for group in growing(fitting, per_batch):
            if batch := [i for i in group if i in needed]:
                yield self._sample(batch, [prompts[i] for i in batch], [requests[i] for i in batch])

    def _tokens(self, request: Request) -> list[int] | Answer:
        """The rendered conversation, or why it cannot be put to this model."""
        try:
            encoded: Any = self._tokenizer.apply_chat_template(
                request.messages, add_generation_prompt=True, return_dict=True
            )
        except TemplateError as error:
            return Answer(failure="bad_prompt", error=f"the chat template refuses the conversation: {error}")
        tokens, room = list(encoded["input_ids"]), int(request.sampling["max_tokens"])
        if self._context and len(tokens) + room > self._context:
            problem = (
                f"prompt of {len(tokens)} tokens and {room} for the response exceed the context of {self._context}"
            )
            return Answer(failure="prompt_too_long", error=problem)
        return tokens

    @torch.inference_mode()
    def _sample(self, batch: list[int], prompts: list[list[int]], requests: list[Request]) -> list[tuple[int, Answer]]:
        sampling = requests[0].sampling
        n, max_tokens = requests[0].n, int(sampling["max_tokens"])
        padded = self._tokenizer.pad({"input_ids": prompts}, return_tensors="pt").to(self.device)
        # Of what is asked, not of whom: two models that are compared then draw with the same luck.
        asked = digest([[request_content(request), request.sampling] for request in requests])
        torch.manual_seed(int(asked[:15], 16))
        drawn = (
            {"do_sample": True, "temperature": sampling["temperature"], "top_p": sampling["top_p"], "top_k": 0}
            if sampling["temperature"] > 0
            else {"do_sample": False}
        )
        tokens = self._model.generate(
            **padded,
            **drawn,
            num_return_sequences=n if drawn["do_sample"] else 1,
            max_new_tokens=max_tokens,
            eos_token_id=self._ends,
            pad_token_id=self._tokenizer.pad_token_id,
        )[:, padded["input_ids"].shape[1] :].tolist()
        copies = len(tokens) // len(batch)
        answers = []
        for position, (i, prompt) in enumerate(zip(batch, prompts, strict=True)):
            rows = tokens[position * copies : (position + 1) * copies] * (n // copies)
            responses = [self._response(row) for row in rows]
            answers.append(
                (
                    i,
                    Answer(
                        responses=tuple(response for response, _ in responses),
                        input_tokens=len(prompt),
                        output_tokens=sum(count for _, count in responses),
                    ),
                )
            )
        return answers

    def _response(self, row: list[int]) -> tuple[Response, int]:
        """Text up to the first end token, and how many tokens were drawn; no end token: it was cut."""
        end = next((at for at, token in enumerate(row) if token in self._ends), None)
        # Special tokens inside a response stay visible, so that screening can see them.
        text = str(self._tokenizer.decode(row[:end], skip_special_tokens=False))
        return Response(text, "length" if end is None else "stop"), len(row) if end is None else end + 1


def growing(rows: list[int], largest: int) -> Iterator[list[int]]:
    """`rows` in groups of 1, 2, 4 ... up to `largest`, so that something is recorded soon after the start."""
    start, size = 0, 1
    while start < len(rows):
        yield rows[start : start + size]
        start, size = start + size, min(largest, 2 * size)


def with_adapter(model: Any, adapter: Path) -> Any:
    """The model with a PEFT adapter on it."""
    from peft import PeftModel

    with warnings.catch_warnings():
        # PEFT asks transformers for a name that is deprecated there, which is nothing a user can change.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        try:
            return PeftModel.from_pretrained(model, str(adapter))
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise UserError(f"{adapter} is not an adapter for this model ({first_line(error)})") from error


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


def first_line(error: Exception) -> str:
    """The first line of an error's text."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
