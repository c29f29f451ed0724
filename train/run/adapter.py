"""Train an adapter in the folder of a run, as `train sft` and `train dpo` both do."""

import logging
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from curate.store.mixes import Split
from schemas.errors import UserError
from schemas.ids import short_id
from train.config import DPOConfig, SFTConfig
from train.data.chat import Chat
from train.data.token_store import Texts, TokenRows, token_rows
from train.loop.loop import Objective, train
from train.loop.memory import plan_memory
from train.model.language_model import check_vocabulary, prepare_model
from train.model.load import ModelWeights, load_trainable
from train.run.run_folder import RunFolder, TrainedRun, finish_run, plan_run

log = logging.getLogger(__name__)


def tokenize_splits(
    cfg: SFTConfig | DPOConfig, chat: Chat, texts: Mapping[Split, Texts], none: str
) -> dict[Split, TokenRows]:
    """The rows of each split as tokens. Raises UserError, which begins with `none`, where no training row fits."""
    rows: dict[Split, TokenRows] = {}
    for split, split_texts in texts.items():
        rows[split] = token_rows(cfg.data, chat, split_texts, split, cfg.max_length)
        log.info("%s: %s", split, rows[split].preflight.summary())
    if not len(rows["train"]):
        raise UserError(f"{none} can be trained on: {rows['train'].preflight.summary()}")
    return rows


def train_adapter(
    run: RunFolder,
    cfg: SFTConfig | DPOConfig,
    weights: ModelWeights,
    chat: Chat,
    rows: Mapping[Split, TokenRows],
    learned: NDArray[np.int64],
    objective: Objective,
    device: torch.device,
    start_loss: float | None = None,
) -> TrainedRun:
    """Load the weights, train an adapter on the `learned` places of the training rows, and finish the run.

    Where `start_loss` is given, the loss before the first step must be that.
    """
    model = load_trainable(weights, cfg, device)
    language = prepare_model(model, weights.name, chat.pad)
    check_vocabulary(language, *rows.values())
    plan = plan_run(run, cfg.micro_batch_tokens, lambda: plan_memory(language, rows["train"], cfg))
    asked = short_id(run.asked)
    trained = train(language, rows, learned, objective, cfg, plan.micro_batch_tokens, run.path, asked, start_loss)
    return TrainedRun.of(run, finish_run(run, model, trained, rows))
