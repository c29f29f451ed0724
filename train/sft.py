"""`train sft`: fit an adapter that answers as conversations do.

train sft --dataset HuggingFaceTB/smol-smoltalk --max-rows 23000
"""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from curate.sources.conversations import read_conversations
from curate.sources.fields import parse_columns
from curate.sources.rows import rows_config
from curate.store.mixes import Split
from schemas.errors import UserError
from train.config import SFTConfig
from train.data.mix_reader import read_mix
from train.data.packing import Batch
from train.data.token_store import Texts
from train.loop.loop import Loss
from train.losses import sft_loss
from train.model.load import base_name, choose_device, load_chat, resolve_weights
from train.run.adapter import tokenize_splits, train_adapter
from train.run.run_folder import TrainedRun, log_reused, open_run, run_request

log = logging.getLogger(__name__)


def train_sft(cfg: SFTConfig) -> TrainedRun:
    """Train, or find the same run finished."""
    if cfg.dataset and cfg.mix:
        raise UserError("--dataset and --mix both say what to learn; give one of them")
    if cfg.columns and not cfg.dataset:
        raise UserError("--columns names columns of --dataset, and a mix has its own; leave it out")
    device = choose_device(cfg.device)
    base = resolve_weights(base_name(cfg.base), cfg.data)
    conversations, source, default_name = read_source(cfg)
    with open_run(cfg.data, cfg.name or default_name, run_request("sft", cfg, source, policy=base)) as run:
        if run.manifest:
            return log_reused(run, run.manifest)
        log.info("sft of %s", base.describe())
        chat = load_chat(base)
        rows = tokenize_splits(cfg, chat, conversations, "no conversation")
        learned = np.arange(len(rows["train"]))
        return train_adapter(run, cfg, base, chat, rows, learned, SFTObjective(), device)


def read_source(cfg: SFTConfig) -> tuple[dict[Split, Texts], dict[str, Any], str]:
    """The conversations, their identity, and the default name of the run."""
    if cfg.dataset:
        rows = replace(rows_config(cfg.dataset, cfg.max_rows, cfg.seed), columns=parse_columns(cfg.columns))
        source = {"dataset": Path(rows.path).name, "sha256": rows.sha256}
        identity = {"sha256": rows.sha256, "max_rows": cfg.max_rows, "seed": cfg.seed, "version": rows.version}
        identity |= {"columns": rows.columns} if rows.columns else {}
        texts: dict[Split, Texts] = {
            "train": Texts("conversation", identity, lambda: read_conversations(rows)),
            "heldout": Texts("conversation", identity, lambda: [], 0),
        }
        return texts, source, f"sft-{Path(cfg.dataset.partition(':')[0]).name.split('.')[0]}"
    mix = read_mix(cfg.data, cfg.mix, cfg.max_rows)
    return mix.texts("conversation"), mix.identity(), f"sft-{mix.name}"


class SFTObjective:
    """The mean over all learned tokens."""

    def weight(self, batch: Batch, split: Split) -> float:
        return float(batch.learned_tokens.sum())

    def loss(self, logps: Tensor, batch: Batch, split: Split) -> Loss:
        return Loss(sft_loss(logps), {})
