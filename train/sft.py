"""`train sft`: fit an adapter that answers as conversations do.

train sft --dataset HuggingFaceTB/smol-smoltalk --max-rows 23000
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from curate.sources.conversations import read_conversations
from curate.sources.rows import rows_config
from schemas.errors import UserError
from train.config import SFTConfig
from train.data.mix_reader import Split, read_mix
from train.data.packing import Batch
from train.data.token_store import Texts, TokenRows, token_rows
from train.data.tokens import Preflight
from train.loop.loop import LoopConfig, Loss, SplitRows, new_accelerator, train
from train.loop.memory import plan_memory
from train.losses import sft_loss
from train.model.language_model import check_vocabulary, prepare_model
from train.model.load import LoRA, base_name, choose_device, load_chat, load_trainable, resolve_weights
from train.run.run_folder import TrainedRun, finish_run, log_reused, open_run, plan_run, run_request

log = logging.getLogger(__name__)


def train_sft(cfg: SFTConfig) -> TrainedRun:
    """Train, or find the same run finished."""
    if cfg.dataset and cfg.mix:
        raise UserError("--dataset and --mix both say what to learn; give one of them")
    device = choose_device(cfg.device)
    base = resolve_weights(base_name(cfg.base), cfg.data)
    conversations, source, default_name = read_source(cfg)
    with open_run(cfg.data, cfg.name or default_name, run_request("sft", cfg, source, policy=base)) as run:
        if run.manifest:
            return log_reused(run, run.manifest)
        log.info("sft of %s", base.describe())
        chat = load_chat(base)
        rows: dict[Split, TokenRows] = {}
        preflight: dict[str, Preflight] = {}
        for split, texts in conversations.items():
            rows[split], preflight[split] = token_rows(cfg.data, chat, texts, split, cfg.max_length)
            log.info("%s: %s", split, preflight[split].summary())
        if not len(rows["train"]):
            raise UserError(f"no conversation can be trained on: {preflight['train'].summary()}")
        model = load_trainable(
            base, LoRA(cfg.lora_rank, cfg.lora_alpha, cfg.lora_dropout), cfg.max_length, cfg.seed, device
        )
        language = prepare_model(model, base.name, chat.pad)
        check_vocabulary(language, *rows.values())
        tokens = plan_run(
            run, cfg.micro_batch_tokens, lambda: plan_memory(language, rows["train"], cfg)
        ).micro_batch_tokens
        loop = LoopConfig.of(cfg, tokens)
        learned = SplitRows(rows["train"], rows["heldout"], np.arange(len(rows["train"])))
        trained = train(language, learned, SFTObjective(), loop, run.path, new_accelerator(device))
        return TrainedRun.of(run, finish_run(run, model, trained, preflight))


def read_source(cfg: SFTConfig) -> tuple[dict[Split, Texts], dict[str, Any], str]:
    """The conversations, their identity, and the default name of the run."""
    if cfg.dataset:
        rows = rows_config(cfg.dataset, cfg.max_rows, cfg.seed)
        source = {"dataset": Path(rows.path).name, "sha256": rows.sha256}
        identity = {"sha256": rows.sha256, "max_rows": cfg.max_rows, "seed": cfg.seed, "version": rows.version}
        texts: dict[Split, Texts] = {
            "train": Texts("conversation", identity, lambda: read_conversations(rows)),
            "heldout": Texts("conversation", identity, lambda: [], 0),
        }
        return texts, source, f"sft-{Path(cfg.dataset.partition(':')[0]).name.split('.')[0]}"
    mix = read_mix(cfg.data, cfg.mix, cfg.max_rows)
    splits: tuple[Split, Split] = ("train", "heldout")
    return {split: mix.texts(split, "conversation") for split in splits}, mix.identity(), f"sft-{mix.name}"


class SFTObjective:
    """The mean over all learned tokens."""

    def weight(self, batch: Batch, is_heldout: bool) -> float:
        return float(batch.learned_tokens.sum())

    def loss(self, logps: Tensor, batch: Batch, is_heldout: bool) -> Loss:
        return Loss(sft_loss(logps), {})
