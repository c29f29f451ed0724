"""Prepare a causal language model for log-probabilities of responses: packed where possible, and fused."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor, nn

from schemas.errors import UserError
from train.data.packing import Batch, pack_rows, pad_rows
from train.data.token_store import TokenRows
from train.data.tokens import Row, Tokens
from train.model.attention import NAME, NotPackable
from train.model.head import Head, learned_logps, read_head
from train.model.lora_layer import Dropout, adapt_lora_layers

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LanguageModel:
    """A model, with or without an adapter, with its head and its kind of packing."""

    name: str
    """Its name in messages."""
    model: Any
    """Of transformers, or of PEFT around one."""
    head: Head
    packs: bool
    """Whether several rows, and both responses of one, can be in one sequence."""
    pad: int
    dropout: Dropout

    @property
    def device(self) -> torch.device:
        return self.head.weight.device

    def batch(self, rows: Sequence[Row], places: Sequence[int]) -> Batch:
        """The rows at these places, on the model's device."""
        made = pack_rows(rows, places) if self.packs else pad_rows(rows, places, self.pad)
        return made.to(self.device)

    def line_logps(self, batch: Batch) -> Tensor:
        """(lines,) float64: summed log-probability of what is learned of each response."""
        hidden = hidden_states(base_of(self.model), batch)
        return learned_logps(hidden, self.head, batch.targets, batch.lines, len(batch.learned_tokens))


def base_of(model: Any) -> Any:
    """The transformers model, whose layers hold the adapter's if there is one."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def hidden_states(base: Any, batch: Batch, **more: Any) -> Tensor:
    """(learned, width): the states that predict the learned tokens.

    Padding is on the right, where no real token sees it, so there is no attention mask to give.
    """
    told: dict[str, Any] = {"position_ids": batch.positions, "segments": batch.segments} if batch.segments else {}
    states: Tensor = base.get_decoder()(input_ids=batch.ids, use_cache=False, **told, **more).last_hidden_state
    return states.flatten(0, 1)[batch.predicts]


def prepare_model(model: Any, name: str, pad: int) -> LanguageModel:
    """Find out by trial what the model supports, and make it fast; `model` is changed and in evaluation mode.

    Raises UserError for a head that is trained or that makes logits in a way that is not known.
    """
    base = base_of(model)
    head = read_head(base, name)
    model.eval()
    disable_dropout(base)
    rows = trial_rows(len(head.weight))
    places = range(len(rows))
    with torch.no_grad():
        padded = pad_rows(rows, places, pad).to(head.weight.device)
        expected = hidden_states(base, padded)
        check_head(base, head, padded, expected, name)
        why_not = pack_by_trial(base, rows, expected)
    if why_not:
        log.warning("rows are not packed for %s (%s): each response has its own copy of the prompt", name, why_not)
    return LanguageModel(name, model, head, not why_not, pad, adapt_lora_layers(base))


def disable_dropout(base: Any) -> None:
    """Switch off what a model drops out by itself: what the adapter drops out does not depend on parts."""
    for name, module in base.named_modules():
        if isinstance(module, nn.Dropout) and "lora_" not in name:
            module.p = 0.0
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = 0.0


def trial_rows(vocabulary: int) -> list[Row]:
    """Two pairs of random tokens, longer than the short windows of a model that has any."""
    random = np.random.default_rng(0)

    def some(count: int) -> Tokens:
        return Tokens(random.integers(vocabulary, size=count).astype(np.uint32), np.ones(count, dtype=bool))

    return [Row("trial", some(21).ids, (some(9), some(17))), Row("trial", some(5).ids, (some(13), some(3)))]


def check_head(base: Any, head: Head, batch: Batch, hidden: Tensor, name: str) -> None:
    """Refuse a model whose logits are not what its head makes of its hidden states."""
    logits = base(input_ids=batch.ids, use_cache=False).logits.flatten(0, 1)[batch.predicts]
    expected = logits.float().log_softmax(dim=-1).gather(1, batch.targets[:, None])[:, 0]
    found = learned_logps(hidden, head, batch.targets, torch.arange(len(hidden), device=hidden.device), len(hidden))
    if not are_close(expected.double(), found, hidden.dtype):
        raise UserError(f"{name} scales or caps its logits in a way that is not supported; use another base model")


def pack_by_trial(base: Any, rows: Sequence[Row], expected: Tensor) -> str:
    """Switch to packed attention if it gives the same states; else leave the model as it is and say why."""
    before = base.config._attn_implementation
    why = "its layers are not made for it"
    try:
        base.set_attn_implementation(NAME)
        windows: set[int] = set()
        found = hidden_states(base, pack_rows(rows, range(len(rows))).to(expected.device), windows=windows)
        if base.config._attn_implementation == NAME and are_close(expected, found, expected.dtype):
            if windows or not has_windows(base.config.get_text_config()):
                return ""
            why = "its layers keep their window to themselves"
    except NotPackable as error:
        why = f"its attention has {error}"
    except (TypeError, ValueError, RuntimeError) as error:
        why = str(error).partition("\n")[0][:200]
    base.set_attn_implementation(before)
    return why


def has_windows(config: Any) -> bool:
    """Whether some layers see only so many tokens back, which rows as short as those of the trial do not show."""
    kinds = getattr(config, "layer_types", None)
    in_use = kinds is None or any(kind in ("sliding_attention", "chunked_attention") for kind in kinds)
    sizes = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size")]
    return in_use and any(size is not None for size in sizes)


def are_close(expected: Tensor, found: Tensor, dtype: torch.dtype) -> bool:
    share = 1e-3 if torch.finfo(dtype).bits >= 32 else 5e-2
    return bool((expected - found).abs().max() <= share * expected.abs().max())


def check_vocabulary(language: LanguageModel, *splits: TokenRows) -> None:
    """Refuse tokens that the model has no embedding for."""
    known = base_of(language.model).get_input_embeddings().num_embeddings
    largest_id = max(rows.largest_id for rows in splits)
    if largest_id >= known:
        raise UserError(
            f"the tokenizer of {language.name} writes token {largest_id}, and its vocabulary ends at {known - 1}: "
            "tokenizer and weights are of two models; use a folder in which they belong together"
        )
