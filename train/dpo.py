"""`train dpo`: a mix of pairs in, an adapter that prefers the chosen responses out."""

import logging
import math
from pathlib import Path
from typing import Any

import polars as pl
import torch
from accelerate import Accelerator
from safetensors import torch as safetensors
from torch import Tensor
from tqdm import tqdm

from curate.store import write_atomically
from schemas.errors import UserError
from train.batches import Batch, batch_of, steps_by_length
from train.config import DPOConfig, check_numbers
from train.loop import LoopConfig, Loss, Objective, Rows, new_accelerator, train
from train.losses import dpo_loss, dpo_metrics
from train.mix_rows import read_mix
from train.models import (
    LoRA,
    Weights,
    choose_sides,
    chosen_device,
    frozen,
    line_logps,
    load_chat,
    same_tokens,
    trainable,
)
from train.run_folder import asked_for, finish, open_run, reused, summary
from train.tokens import Chat, Preflight, Row, pair_row

log = logging.getLogger(__name__)

REFERENCE = "reference.safetensors"


def train_dpo(cfg: DPOConfig) -> dict[str, Any]:
    """Train, or find the same run finished; returns what `--json` prints."""
    check_numbers(cfg)
    device = chosen_device(cfg.device)
    mix = read_mix(cfg.data, cfg.mix, cfg.limit)
    policy, reference = choose_sides(cfg.data, cfg.base, cfg.policy, cfg.reference)
    same_tokens(policy, reference)
    asked = asked_for("dpo", cfg, mix.identity(), policy=policy, reference=reference)
    with open_run(cfg.data, cfg.name or f"dpo-{mix.name}", asked) as run:
        if run.manifest:
            return reused(run, run.manifest)
        is_same = policy.digest == reference.digest
        log.info("policy %s, reference %s%s", policy.said(), reference.said(), ": the same weights" if is_same else "")
        preflight = {"train": Preflight(), "heldout": Preflight()}
        chat = load_chat(policy)
        rows = Rows(
            tokenised(chat, mix.train, cfg.max_length, preflight["train"]),
            tokenised(chat, mix.heldout, cfg.max_length, preflight["heldout"]),
            chat.pad,
        )
        for split, said in preflight.items():
            log.info("%s: %s", split, said.summary())
        if not rows.train:
            raise UserError(f"no pair of mix '{mix.name}' can be trained on: {preflight['train'].summary()}")
        accelerator = new_accelerator(device)
        measured = reference_logps(reference, rows, cfg, accelerator, run.path / REFERENCE)
        model = trainable(policy, LoRA(cfg.rank, cfg.alpha, cfg.dropout), cfg.max_length, cfg.seed)
        loop = LoopConfig(cfg.epochs, cfg.lr, cfg.batch_size, cfg.seed, cfg.gradient_checkpointing)
        start_loss = math.log(2) if is_same else None
        trained = train(model, rows, objective(measured, cfg.beta), loop, run.path, accelerator, start_loss)
        manifest = finish(run, model, trained, preflight)
        (run.path / REFERENCE).unlink(missing_ok=True)
        return summary(run, manifest)


def tokenised(chat: Chat, pairs: pl.DataFrame, max_length: int, said: Preflight) -> list[Row]:
    """The pairs that fit, as tokens."""
    rows = (
        pair_row(chat, row["pair_id"], row["messages"], row["chosen"], row["rejected"], max_length, said)
        for row in pairs.iter_rows(named=True)
    )
    return [row for row in rows if row is not None]


def reference_logps(
    reference: Weights, rows: Rows, cfg: DPOConfig, accelerator: Accelerator, path: Path
) -> dict[str, Tensor]:
    """Split -> (rows, 2) summed log-probabilities under the frozen reference, without dropout, computed once.

    They are kept in the run's folder, which belongs to this reference and these rows alone.
    """
    if path.exists():
        return safetensors.load(path.read_bytes())
    model = frozen(reference, cfg.max_length).to(accelerator.device)
    measured = {
        split: split_logps(model, split_rows, rows.pad, cfg.batch_size, accelerator)
        for split, split_rows in (("train", rows.train), ("heldout", rows.heldout))
    }
    for split, split_rows in (("train", rows.train), ("heldout", rows.heldout)):
        broken = (~measured[split].isfinite().all(dim=1)).nonzero().flatten().tolist()
        if broken:
            ids = ", ".join(split_rows[row].row_id for row in broken[:10])
            raise UserError(
                f"{reference.name} gives {len(broken)} pairs a probability that is not finite, such as {ids}"
            )
    write_atomically(path, safetensors.save(measured))
    return measured


@torch.no_grad()
def split_logps(model: Any, rows: list[Row], pad: int, size: int, accelerator: Accelerator) -> Tensor:
    """(rows, 2) on the CPU."""
    measured = torch.zeros(len(rows), 2, dtype=torch.float64)
    batches = steps_by_length(rows, size)
    for chosen in tqdm(batches, desc="reference", unit="batch", delay=1.0, leave=False, disable=None):
        batch = batch_of(rows, chosen, pad, accelerator.device)
        with accelerator.autocast():
            measured[chosen] = line_logps(model, batch).view(-1, 2).cpu()
    return measured


def objective(measured: dict[str, Tensor], beta: float) -> Objective:
    """DPO against log-probabilities of the reference that are known already."""

    def loss(logps: Tensor, batch: Batch, is_heldout: bool) -> Loss:
        policy = logps.view(-1, 2)
        reference = measured["heldout" if is_heldout else "train"][batch.rows].to(policy.device)
        losses = dpo_loss(policy, reference, beta)
        return Loss(losses.mean(), float(len(losses)), dpo_metrics(policy.detach(), reference, beta))

    return loss
