"""Scores from a transformers model in this process: reward models, and judges that answer with one letter.

Each conversation is read once, in batches of like length.
"""

import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification

from curate.models.hf_model import HFModel
from schemas.calls import CallResult, Request
from schemas.errors import UserError

TOKENS_PER_BATCH = {"cpu": 4096, "cuda": 65536}
"""Padding included."""
MOST_ROWS = 64


class HFScorer(HFModel):
    """A model that reads a conversation once and gives one number; a subclass defines which."""

    padding_side = "right"
    is_asked = False

    def _excess(self, request: Request, tokens: int, context: int) -> str | None:
        return f"conversation of {tokens} tokens exceeds the context of {context}" if tokens > context else None

    def _batches(self, prompts: Mapping[int, list[int]], requests: Sequence[Request]) -> Iterator[list[int]]:
        return length_batches(prompts, TOKENS_PER_BATCH[self.device])

    def _answer_batch(
        self, batch: list[int], prompts: list[list[int]], requests: list[Request]
    ) -> list[tuple[int, CallResult]]:
        began = time.perf_counter()
        scores = self._scores(*self._padded(prompts))
        seconds = (time.perf_counter() - began) / len(batch)
        return [
            (i, CallResult(values=(score,), input_tokens=len(prompt), seconds=seconds))
            for i, prompt, score in zip(batch, prompts, scores, strict=True)
        ]

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
