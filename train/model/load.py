"""Load policy and reference: a base model with LoRA, new or from a run's adapter."""

import logging
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.utils import logging as transformers_logging

from curate.files import nearest_hint
from curate.models.digests import file_digests, folder_digest
from curate.models.folders import check_weights, model_folder
from curate.store.runs import Run, all_runs, find_run, run_names
from schemas.errors import UserError
from schemas.ids import digest
from train.config import Device, TrainingConfig
from train.data.chat import Chat, read_chat

log = logging.getLogger(__name__)

TARGETS = ["q_proj", "v_proj"]

transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
# PEFT asks transformers for a name that is deprecated there, which is nothing a user can change.
warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)


@dataclass(frozen=True)
class ModelWeights:
    """A base model, or a base model with a run's adapter, before it is loaded."""

    name: str
    """As a generator is named: a run, `smollm2` or `hf:PATH_OR_ID`."""
    base: str
    folder: Path
    """Of the base model."""
    adapter: Path | None
    base_digest: str
    digest: str
    """Of base and adapter together."""

    def describe(self) -> str:
        """Name and digest for the log."""
        where = f" on {self.base}" if self.adapter else ""
        return f"{self.name}{where} ({self.digest[:12]})"


def choose_sides(data: Path, base: str, policy: str, reference: str) -> tuple[ModelWeights, ModelWeights]:
    """Policy and reference of DPO; by default both are the newest SFT run on the base, else the base."""
    if not policy:
        asked = base_name(base) if base else None
        runs = [run for run in all_runs(data, "sft") if asked in (None, run.base)]
        policy = runs[-1].name if runs else base or "smollm2"
    start = resolve_weights(policy, data)
    if base and start.base != base_name(base):
        raise UserError(
            f"--policy {policy} belongs to the base model {start.base}, not to --base {base}; name one of them"
        )
    return start, resolve_weights(reference, data) if reference else start


def resolve_weights(name: str, data: Path) -> ModelWeights:
    """The run or base model called `name`. Raises UserError for a name that is none, with the nearest that is."""
    if run := find_run(data, name):
        return run_weights(run)
    if name != "smollm2" and not name.startswith("hf:") and "/" not in name and not Path(name).is_dir():
        known = ["smollm2", *run_names(data)]
        raise UserError(f"no run or model '{name}'{nearest_hint(name, known)}; a hub model is named as OWNER/NAME")
    base = base_name(name)
    folder = model_folder(base)
    weights = folder_digest(folder)
    return ModelWeights(base, base, folder, None, weights, weights)


def base_name(name: str) -> str:
    """A base model as a generator is named; a folder by its whole path, so that it is found from anywhere."""
    if name == "smollm2":
        return name
    place = name.removeprefix("hf:")
    return f"hf:{Path(place).resolve() if Path(place).is_dir() else place}"


def run_weights(run: Run) -> ModelWeights:
    """A run's adapter on the base model it was trained on, both as they were."""
    folder = model_folder(run.base)
    base = folder_digest(folder)
    run.check(base)
    if not (run.adapter / "adapter_config.json").is_file():
        raise UserError(f"run '{run.name}' has no adapter in {run.adapter}; restore it, or train the run again")
    together = digest([base, digest(file_digests(run.adapter))])
    return ModelWeights(run.name, run.base, folder, run.adapter, base, together)


def choose_device(asked: Device) -> torch.device:
    """Where to train. Raises UserError for a GPU that is named and absent."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    is_named = asked == "cuda" or (asked == "auto" and named not in ("", "-1", "NoDevFiles"))
    if torch.cuda.is_available() and asked != "cpu":
        return torch.device("cuda")
    if is_named:
        how = "--device cuda" if asked == "cuda" else f"CUDA_VISIBLE_DEVICES={named}"
        raise UserError(f"{how} names a GPU, but torch sees none; give --device cpu to train without one")
    return torch.device("cpu")


def load_chat(weights: ModelWeights) -> Chat:
    """The tokenizer of a base model, with what ends its turns."""
    check_weights(weights.folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(weights.folder)
    except (OSError, ValueError) as error:
        raise model_folder_error(weights, error) from error
    has_settings = (weights.folder / "generation_config.json").is_file()
    settings = GenerationConfig.from_pretrained(weights.folder) if has_settings else GenerationConfig()  # type: ignore[no-untyped-call]
    chat = read_chat(weights.base, tokenizer, settings)
    if tokenizer.pad_token_id is None:
        log.info("%s has no pad token; its EOS pads, and padding is never read nor learned", weights.base)
    return chat


def check_same_tokens(first: ModelWeights, second: ModelWeights) -> None:
    """Refuse two models whose token ids mean different texts."""
    if first.folder == second.folder:
        return
    vocabularies = [
        AutoTokenizer.from_pretrained(check_weights(weights.folder)).get_vocab() for weights in (first, second)
    ]
    if vocabularies[0] != vocabularies[1]:
        raise UserError(
            f"{first.name} and {second.name} have different tokenizers, so one cannot be measured by the other"
        )


def load_base(weights: ModelWeights, max_length: int, device: torch.device) -> Any:
    """A base model, frozen: bf16 on a GPU, where trained weights stay fp32; fp32 on a CPU."""
    precision = torch.bfloat16 if device.type == "cuda" else torch.float32
    check_weights(weights.folder)
    try:
        model = AutoModelForCausalLM.from_pretrained(weights.folder, dtype=precision, use_safetensors=True)
    except (OSError, ValueError) as error:
        raise model_folder_error(weights, error) from error
    context = getattr(model.config, "max_position_embeddings", None)
    if context is not None and max_length > context:
        raise UserError(f"--max-length {max_length} is over the context of {weights.base}, {context} tokens")
    loaded: Any = model.requires_grad_(False)
    return loaded.to(device).eval()


def load_trainable(weights: ModelWeights, cfg: TrainingConfig, device: torch.device) -> Any:
    """A PEFT model whose adapter alone is trained: a new one on a base, or the run's own, continued."""
    model = load_base(weights, cfg.max_length, device)
    if weights.adapter is None:
        torch.manual_seed(cfg.seed)
        config = LoraConfig(
            r=cfg.lora_rank,
            lora_alpha=cfg.lora_alpha,
            lora_dropout=cfg.lora_dropout,
            target_modules=TARGETS,
            task_type="CAUSAL_LM",
        )
        try:
            return get_peft_model(model, config)
        except ValueError as error:
            raise UserError(f"{weights.base} has no layers named {' and '.join(TARGETS)} to adapt") from error
    saved: Any = PeftConfig.from_pretrained(str(weights.adapter))
    if (saved.r, saved.lora_alpha) != (cfg.lora_rank, cfg.lora_alpha):
        raise UserError(
            f"the adapter of run '{weights.name}' has rank {saved.r} and alpha {saved.lora_alpha}; training goes on "
            f"from it with --lora-rank {saved.r} --lora-alpha {saved.lora_alpha}"
        )
    saved.lora_dropout = cfg.lora_dropout
    return load_adapter(weights, model, config=saved, is_trainable=True)


def load_frozen(weights: ModelWeights, max_length: int, device: torch.device) -> Any:
    """The model to be measured against, in evaluation mode."""
    model = load_base(weights, max_length, device)
    if weights.adapter is not None:
        model = load_adapter(weights, model)
    return model.eval()


def load_adapter(weights: ModelWeights, model: Any, **settings: Any) -> Any:
    """The run's adapter on its base model."""
    try:
        return PeftModel.from_pretrained(model, str(weights.adapter), **settings)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"the adapter of run '{weights.name}' does not fit {weights.base}: it is of another base"
        ) from error


def model_folder_error(weights: ModelWeights, error: Exception) -> UserError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return UserError(f"{weights.base}: {weights.folder} is not a transformers model folder ({reason})")
