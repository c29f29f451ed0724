"""`train sft`: conversations in, an adapter that answers like them out."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from curate.sources.rows import rows_config
from schemas.errors import UserError
from train.budget import plan
from train.config import SFTConfig, check_numbers
from train.conversations import read_conversations
from train.language_model import check_vocabulary, prepare
from train.loop import LoopConfig, Loss, Rows, new_accelerator, train
from train.losses import sft_loss
from train.mix_rows import Split, read_mix
from train.models import LoRA, base_name, chosen_device, load_chat, named_weights, trainable
from train.packing import Batch
from train.run_folder import asked_for, finish, open_run, planned, reused, summary
from train.token_store import Texts, TokenRows, token_rows
from train.tokens import Preflight

log = logging.getLogger(__name__)


def train_sft(cfg: SFTConfig) -> dict[str, Any]:
    """Train, or find the same run finished; returns what `--json` prints."""
    check_numbers(cfg)
    if cfg.on and cfg.mix:
        raise UserError("--on and --mix both say what to learn; give one of them")
    device = chosen_device(cfg.device)
    base = named_weights(base_name(cfg.base), cfg.data)
    conversations, source, default_name = read_source(cfg)
    with open_run(cfg.data, cfg.name or default_name, asked_for("sft", cfg, source, policy=base)) as run:
        if run.manifest:
            return reused(run, run.manifest)
        log.info("sft of %s", base.said())
        chat = load_chat(base)
        rows: dict[Split, TokenRows] = {}
        preflight: dict[str, Preflight] = {}
        for split, texts in conversations.items():
            rows[split], preflight[split] = token_rows(cfg.data, chat, texts, split, cfg.max_length)
            log.info("%s: %s", split, preflight[split].summary())
        if not len(rows["train"]):
            raise UserError(f"no conversation can be trained on: {preflight['train'].summary()}")
        model = trainable(base, LoRA(cfg.rank, cfg.alpha, cfg.dropout), cfg.max_length, cfg.seed, device)
        language = prepare(model, base.name, chat.pad)
        check_vocabulary(language, *rows.values())
        tokens = planned(run, cfg.tokens_per_batch, lambda: plan(language, rows["train"], cfg)).tokens_per_batch
        loop = LoopConfig.of(cfg, tokens)
        course = Rows(rows["train"], rows["heldout"], np.arange(len(rows["train"])))
        trained = train(language, course, SFTObjective(), loop, run.path, new_accelerator(device))
        return summary(run, finish(run, model, trained, preflight))


def read_source(cfg: SFTConfig) -> tuple[dict[Split, Texts], dict[str, Any], str]:
    """The conversations, what identifies them, and what the run is called unless it is named."""
    if cfg.on:
        rows = rows_config(cfg.on, cfg.limit, cfg.seed)
        source = {"on": Path(rows.path).name, "sha256": rows.sha256}
        identity = {"sha256": rows.sha256, "limit": cfg.limit, "seed": cfg.seed, "version": rows.version}
        texts: dict[Split, Texts] = {
            "train": Texts("conversation", identity, lambda: read_conversations(rows)),
            "heldout": Texts("conversation", identity, lambda: [], 0),
        }
        return texts, source, f"sft-{Path(cfg.on.partition(':')[0]).name.split('.')[0]}"
    mix = read_mix(cfg.data, cfg.mix, cfg.limit)
    splits: tuple[Split, Split] = ("train", "heldout")
    return {split: mix.texts(split, "conversation") for split in splits}, mix.identity(), f"sft-{mix.name}"


class SFTObjective:
    """The mean over all learnt tokens."""

    def weight(self, batch: Batch, is_heldout: bool) -> float:
        return float(batch.learnt_tokens.sum())

    def loss(self, logps: Tensor, batch: Batch, is_heldout: bool) -> Loss:
        return Loss(sft_loss(logps), {})
