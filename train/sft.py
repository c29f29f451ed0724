"""`train sft`: conversations in, an adapter that answers like them out."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from curate.sources.rows import rows_config
from schemas.errors import UserError
from schemas.ids import Message
from train.batches import Batch
from train.config import SFTConfig, check_numbers
from train.conversations import read_conversations
from train.loop import LoopConfig, Loss, Rows, new_accelerator, train
from train.losses import sft_loss
from train.mix_rows import read_mix
from train.models import LoRA, base_name, chosen_device, load_chat, named_weights, trainable
from train.run_folder import asked_for, finish, open_run, reused, summary
from train.tokens import Chat, Preflight, Row, conversation_row

log = logging.getLogger(__name__)

Conversations = dict[str, Sequence[tuple[str, Sequence[Message]]]]
"""Split -> (id, turns that end in a response)."""


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
        log.info("sft of %s on %d conversations", base.said(), len(conversations["train"]))
        preflight = {split: Preflight() for split in conversations}
        chat = load_chat(base)
        rows = Rows(
            tokenised(chat, conversations["train"], cfg.max_length, preflight["train"]),
            tokenised(chat, conversations["heldout"], cfg.max_length, preflight["heldout"]),
            chat.pad,
        )
        for split, said in preflight.items():
            log.info("%s: %s", split, said.summary())
        if not rows.train:
            raise UserError(f"no conversation can be trained on: {preflight['train'].summary()}")
        model = trainable(base, LoRA(cfg.rank, cfg.alpha, cfg.dropout), cfg.max_length, cfg.seed)
        loop = LoopConfig(cfg.epochs, cfg.lr, cfg.batch_size, cfg.seed, cfg.gradient_checkpointing)
        trained = train(model, rows, objective, loop, run.path, new_accelerator(device))
        return summary(run, finish(run, model, trained, preflight))


def read_source(cfg: SFTConfig) -> tuple[Conversations, dict[str, Any], str]:
    """The conversations, what identifies them, and what the run is called unless it is named."""
    if cfg.on:
        rows = rows_config(cfg.on, cfg.limit, cfg.seed)
        found, dropped = read_conversations(rows)
        if dropped:
            log.info("%s: %d rows unusable: %s", cfg.on, dropped.total(), dict(sorted(dropped.items())))
        stem = Path(cfg.on.partition(":")[0]).name.split(".")[0]
        return {"train": found, "heldout": []}, {"on": Path(rows.path).name, "sha256": rows.sha256}, f"sft-{stem}"
    mix = read_mix(cfg.data, cfg.mix, cfg.limit)
    splits = {"train": mix.train, "heldout": mix.heldout}
    conversations: Conversations = {
        split: [
            (row["pair_id"], [*row["messages"], {"role": "assistant", "content": row["chosen"]}])
            for row in frame.iter_rows(named=True)
        ]
        for split, frame in splits.items()
    }
    return conversations, mix.identity(), f"sft-{mix.name}"


def tokenised(
    chat: Chat, conversations: Sequence[tuple[str, Sequence[Message]]], max_length: int, said: Preflight
) -> list[Row]:
    """The conversations that fit, as tokens."""
    rows = (conversation_row(chat, row_id, messages, max_length, said) for row_id, messages in conversations)
    return [row for row in rows if row is not None]


def objective(logps: Tensor, batch: Batch, is_heldout: bool) -> Loss:
    """Mean over the learnt tokens of the batch."""
    tokens = batch.learnt[:, 1:].sum(dim=1)
    return Loss(sft_loss(logps, tokens), float(tokens.sum()), {})
