"""A transformers model in this process that reads conversations, optionally with a LoRA adapter."""

import logging
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from curate.models.folders import check_weights
from curate.models.system_message import SYSTEM_MOVED, has_system, without_system
from schemas.calls import CallResult, Request
from schemas.errors import UserError
from schemas.tool_turns import CallUnread, has_tool_turns, template_form

# transformers reports its defaults on stderr; what matters is checked here.
transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]

log = logging.getLogger(__name__)


class HFModel(ABC):
    """A model with a chat template, which writes the special tokens itself; nothing is added and nothing truncated.

    Batches are formed from all requests of a part, whatever is needed of them.
    """

    is_remote = False
    price_name: str | None = None
    is_asked = True
    """The conversation ends in a user turn, and the mark that opens the response is added."""
    needs_template = "so it cannot read a conversation"

    def __init__(self, name: str, digest: str, folder: Path, adapter: Path | None = None) -> None:
        """`folder` holds the model, `adapter` a PEFT adapter for it; `digest` stands for both.

        Raises UserError for a folder that is not such a model or has no chat template.
        """
        self.model = name
        self.digest = digest
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        # bf16 products are some 200 times slower than fp32 on most CPUs.
        dtype = torch.bfloat16 if self.device == "cuda" else torch.float32
        check_weights(folder)
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder)
            model = self._load(folder, dtype)
        except (OSError, ValueError, SafetensorError) as error:
            raise UserError(f"{name}: {folder} is not a transformers model folder ({first_line(error)})") from error
        if not self._tokenizer.chat_template:
            raise UserError(f"{name}: {folder} has no chat template, {self.needs_template}")
        if adapter:
            model = with_adapter(model, adapter)
        self._model = model.to(self.device).eval()
        self._has_moved_system = False
        self._context = int(getattr(model.config, "max_position_embeddings", 0)) or None

    def _load(self, folder: Path, dtype: torch.dtype) -> Any:
        """The model on the processor."""
        return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, use_safetensors=True)

    def answer(self, requests: Sequence[Request], needed: set[int]) -> Iterator[list[tuple[int, CallResult]]]:
        """Answers in batches of similar length, after those of the requests that cannot be put to the model."""
        prompts: dict[int, list[int]] = {}
        unfit: list[tuple[int, CallResult]] = []
        for i, request in enumerate(requests):
            try:
                tokens = self._encode(request.messages)
            except (TemplateError, CallUnread) as error:
                problem = f"the chat template refuses the conversation: {error}"
                unfit.append((i, CallResult(failure="bad_prompt", error=problem)))
                continue
            if self._context and (excess := self._excess(request, len(tokens), self._context)):
                unfit.append((i, CallResult(failure="prompt_too_long", error=excess)))
            else:
                prompts[i] = tokens
        if found := [(i, answer) for i, answer in unfit if i in needed]:
            yield found
        for group in self._batches(prompts, requests):
            if batch := [i for i in group if i in needed]:
                yield self._answer_batch(batch, [prompts[i] for i in batch], [requests[i] for i in batch])

    def _encode(self, messages: list[dict[str, str]]) -> list[int]:
        """The tokens of a conversation; raises TemplateError where the chat template refuses it in any form."""
        turns = template_form(messages) if has_tool_turns(messages) else messages
        try:
            encoded: Any = self._tokenizer.apply_chat_template(
                turns, add_generation_prompt=self.is_asked, return_dict=True
            )
        except TemplateError:
            if not has_system(messages):
                raise
            tokens = self._encode(without_system(messages))
            if not self._has_moved_system:
                self._has_moved_system = True
                log.warning("%s: the chat template refuses %s", self.model, SYSTEM_MOVED)
            return tokens
        return list(encoded["input_ids"])

    @abstractmethod
    def _excess(self, request: Request, tokens: int, context: int) -> str | None:
        """A sentence on a conversation of so many tokens that is too long for the context."""

    @abstractmethod
    def _batches(self, prompts: Mapping[int, list[int]], requests: Sequence[Request]) -> Iterable[list[int]]:
        """The keys of `prompts` in batches of similar length."""

    @abstractmethod
    def _answer_batch(
        self, batch: list[int], prompts: list[list[int]], requests: list[Request]
    ) -> list[tuple[int, CallResult]]:
        """The answers to the requests with the numbers in `batch`."""


def with_adapter(model: Any, adapter: Path) -> Any:
    """The model with a PEFT adapter on it: in its weights where they are exact enough, else beside them."""
    from peft import PeftModel
    from peft.tuners.lora import LoraModel

    with warnings.catch_warnings():
        # PEFT asks transformers for a name that is deprecated there, which is nothing a user can change.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        try:
            tuned = PeftModel.from_pretrained(model, str(adapter))
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise UserError(f"{adapter} is not an adapter for this model ({first_line(error)})") from error
    if not isinstance(tuned.base_model, LoraModel):
        return tuned
    # Half precision would round away much of what a small adapter adds to a weight.
    return tuned.merge_and_unload() if model.dtype == torch.float32 else tuned.get_base_model()


def first_line(error: Exception) -> str:
    """The first line of an error's text."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
