"""Scores from a transformers model in this process: reward models, and judges that answer with one letter.

Each conversation is rendered by the model's chat template, which writes the special tokens itself,
and read once; nothing is added to it and nothing is truncated. Rows are read in batches of like length.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging

from curate.models.hf_generator import first_line, split_usable, with_adapter
from schemas.calls import CallResult, Request
from schemas.errors import UserError

TOKENS_PER_BATCH = {"cpu": 4096, "cuda": 65536}
"""Padding included."""
MOST_ROWS = 64


# transformers reports its defaults on stderr; what matters is checked here.
logging.set_verbosity_error()  # type: ignore[no-untyped-call]


logging.disable_progress_bar()  # type: ignore[no-untyped-call]


class HFScorer(ABC):
    """A model that reads a conversation once and gives one number; a subclass defines which."""

    is_remote = False
    price_name: str | None = None
    padding_side = "right"
    is_asked = False
    """The conversation ends in a user turn, and the mark that opens the response is added."""

    def __init__(self, name: str, digest: str, folder: Path, adapter: Path | None = None) -> None:
        """`folder` holds the model, `adapter` a PEFT adapter for it; `digest` stands for both.

        Raises UserError for a folder that is not such a model or has no chat template.
        """
        self.model = name
        self.digest = digest
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        # bf16 products are some 200 times slower than fp32 on most CPUs.
        dtype = torch.bfloat16 if self.device == "cuda" else torch.float32
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder)
            model = self._load(folder, dtype)
        except (OSError, ValueError, SafetensorError) as error:
            raise UserError(f"{name}: {folder} is not a transformers model folder ({first_line(error)})") from error
        if not self._tokenizer.chat_template:
            raise UserError(f"{name}: {folder} has no chat template, so it cannot read a conversation")
        if adapter:
            model = with_adapter(model, adapter)
        self._model = model.to(self.device).eval()
        self._context = int(getattr(model.config, "max_position_embeddings", 0)) or None

    def answer(self, requests: Sequence[Request], needed: set[int]) -> Iterator[list[tuple[int, CallResult]]]:
        """Scores in batches of similar length."""
        rows, unfit = split_usable(requests, self._tokens)
        if found := [(i, answer) for i, answer in unfit if i in needed]:
            yield found
        for group in length_batches(rows, TOKENS_PER_BATCH[self.device]):
            if batch := [i for i in group if i in needed]:
                began = time.perf_counter()
                scores = self._scores(*self._padded([rows[i] for i in batch]))
                seconds = (time.perf_counter() - began) / len(batch)
                yield [
                    (i, CallResult(values=(score,), input_tokens=len(rows[i]), seconds=seconds))
                    for i, score in zip(batch, scores, strict=True)
                ]

    @abstractmethod
    def _load(self, folder: Path, dtype: torch.dtype) -> Any:
        """The model on the processor."""

    def _tokens(self, request: Request) -> list[int] | CallResult:
        """The rendered conversation, or why it cannot be put to this model."""
        try:
            text = self._tokenizer.apply_chat_template(
                request.messages, tokenize=False, add_generation_prompt=self.is_asked
            )
        except TemplateError as error:
            return CallResult(failure="bad_prompt", error=f"the chat template refuses the conversation: {error}")
        # The template has written the first token; the tokenizer would write it a second time.
        tokens: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        if self._context and len(tokens) > self._context:
            problem = f"conversation of {len(tokens)} tokens exceeds the context of {self._context}"
            return CallResult(failure="prompt_too_long", error=problem)
        return tokens

    def _padded(self, rows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids and attention mask, on the model's device."""
        longest = max(map(len, rows))
        tokens = torch.full((len(rows), longest), self._pad_token(rows))
        mask = torch.zeros_like(tokens)
        for row, ids in enumerate(rows):
            start = longest - len(ids) if self.padding_side == "left" else 0
            tokens[row, start : start + len(ids)] = torch.tensor(ids)
            mask[row, start : start + len(ids)] = 1
        return tokens.to(self.device), mask.to(self.device)

    @abstractmethod
    def _pad_token(self, rows: list[list[int]]) -> int:
        """What fills up the shorter of the rows."""

    @abstractmethod
    def _scores(self, tokens: torch.Tensor, mask: torch.Tensor) -> list[float]:
        """One number a row."""


class RewardModel(HFScorer):
    """`hf:`, a sequence classifier with one label, as Skywork-Reward-V2 is.

    The score is read at the last token that is not padding, as transformers does it for one row.
    """

    def _load(self, folder: Path, dtype: torch.dtype) -> Any:
        model, found = AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, output_loading_info=True
        )
        if found["missing_keys"]:
            # transformers fills what is missing with random weights, and the scores would be noise.
            missing = ", ".join(sorted(found["missing_keys"])[:3])
            raise UserError(
                f"{self.model}: {folder} is no reward model, for it lacks the weights of a head ({missing})"
            )
        if model.config.num_labels != 1:
            raise UserError(f"{self.model}: {folder} has {model.config.num_labels} labels; a reward model has one")
        self._own_pad_token = model.config.get_text_config().pad_token_id
        return model

    def _pad_token(self, rows: list[list[int]]) -> int:
        """The model's own; where it has none, one that is in no row, so that no text is taken for padding."""
        if self._own_pad_token is not None:
            return int(self._own_pad_token)
        used = {token for row in rows for token in row}
        unused = next(token for token in range(len(used) + 1) if token not in used)
        self._model.config.get_text_config().pad_token_id = unused
        return unused

    @torch.inference_mode()
    def _scores(self, tokens: torch.Tensor, mask: torch.Tensor) -> list[float]:
        logits = self._model(input_ids=tokens, attention_mask=mask, use_cache=False).logits
        scores: list[float] = logits[:, 0].double().tolist()
        return scores


class FirstToken(HFScorer):
    """`first-token:`, a causal model whose logit 0 at the next token is the score, as Nemotron-70B-Reward-HF is.

    That is `scores[0][0][0]` of its model card. The logit is raw: the model's own temperature does not touch it.
    """

    padding_side = "left"

    def _load(self, folder: Path, dtype: torch.dtype) -> Any:
        return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, use_safetensors=True)

    def _pad_token(self, rows: list[list[int]]) -> int:
        """Any: the mask hides it."""
        return 0

    @torch.inference_mode()
    def _scores(self, tokens: torch.Tensor, mask: torch.Tensor) -> list[float]:
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        found = self._model(
            input_ids=tokens, attention_mask=mask, position_ids=positions, use_cache=False, logits_to_keep=1
        )
        scores: list[float] = self._number(found.logits[:, -1].double()).tolist()
        return scores

    def _number(self, logits: torch.Tensor) -> torch.Tensor:
        """(rows,) from (rows, vocabulary)."""
        return logits[:, 0]


class LetterJudge(FirstToken):
    """`judge-pairs:` in this process: P(A) / (P(A) + P(B)) for the first token of the response.

    Other tokens do not count, however likely: there is no text to read.
    """

    is_asked = True

    def __init__(self, name: str, digest: str, folder: Path, adapter: Path | None = None) -> None:
        super().__init__(name, digest, folder, adapter)
        self._letters = [self._tokens_of(letter) for letter in ("A", "B")]

    def _tokens_of(self, letter: str) -> list[int]:
        """The ways in which the model may write the letter as one token."""
        written = [self._tokenizer(text, add_special_tokens=False)["input_ids"] for text in (letter, f" {letter}")]
        found = [tokens[0] for tokens in written if len(tokens) == 1]
        if not found:
            raise UserError(f"{self.model}: its tokenizer has no token for the letter {letter}")
        return found

    def _number(self, logits: torch.Tensor) -> torch.Tensor:
        first, second = (logits[:, tokens].logsumexp(dim=1) for tokens in self._letters)
        return torch.sigmoid(first - second)


def length_batches(rows: Mapping[int, Sequence[int]], tokens_per_batch: int) -> Iterator[list[int]]:
    """Keys of `rows` by length, as many together as fill `tokens_per_batch` when padded."""
    batch: list[int] = []
    for i in sorted(rows, key=lambda i: (len(rows[i]), i)):
        # The newest is the longest, and sets the width.
        if batch and (len(rows[i]) * (len(batch) + 1) > tokens_per_batch or len(batch) == MOST_ROWS):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch
