"""`train dpo`: fit an adapter that prefers the chosen responses of a mix.

train dpo --mix v1 --epochs 1
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from curate.store.workspace import Workspace
from schemas.errors import UserError
from train.config import DPOConfig
from train.data.chat import Chat
from train.data.mix_reader import MixRows, Split, read_mix
from train.data.packing import Batch
from train.data.pair_weights import read_weights, weights_sha256
from train.data.token_store import TokenRows, token_rows
from train.data.tokens import Preflight
from train.loop.loop import LoopConfig, Loss, SplitRows, new_accelerator, train
from train.loop.memory import plan_memory
from train.loop.oom import MicroBatcher
from train.losses import LOSSES, SIMPO_GAMMA, LossConfig, pair_loss
from train.model.language_model import LanguageModel, check_vocabulary, prepare_model
from train.model.load import (
    LoRA,
    ModelWeights,
    check_same_tokens,
    choose_device,
    choose_sides,
    load_chat,
    load_frozen,
    load_trainable,
)
from train.model.reference import reference_key, reference_logps
from train.run.run_folder import TrainedRun, finish_run, log_reused, open_run, plan_run, run_request

log = logging.getLogger(__name__)

SPLITS: tuple[Split, Split] = ("train", "heldout")
REFERENCE_TOKENS = {"cpu": 4096, "cuda": 65_536}
"""Tokens of a batch where nothing is kept for a gradient."""


def train_dpo(cfg: DPOConfig) -> TrainedRun:
    """Train, or find the same run finished."""
    cfg, loss = with_loss_defaults(cfg)
    device = choose_device(cfg.device)
    mix = read_mix(cfg.data, cfg.mix, cfg.max_rows)
    policy, reference = choose_sides(cfg.data, cfg.base, cfg.policy, cfg.reference)
    if LOSSES[cfg.loss].needs_reference:
        check_same_tokens(policy, reference)
    data: dict[str, Any] = mix.identity()
    if cfg.weights:
        data["weights_sha256"] = weights_sha256(Path(cfg.weights))
    sides = {"policy": policy} | ({"reference": reference} if LOSSES[cfg.loss].needs_reference else {})
    asked = run_request("dpo", cfg, data, **sides)
    with open_run(cfg.data, cfg.name or f"dpo-{mix.name}", asked) as run:
        if run.manifest:
            return log_reused(run, run.manifest)
        is_same = policy.digest == reference.digest
        said = ", ".join(f"{side} {weights.describe()}" for side, weights in sides.items())
        log.info("%s%s", said, ": the same weights" if is_same and len(sides) == 2 else "")
        chat = load_chat(policy)
        rows, preflight = read_rows(cfg, mix, chat)
        against = (
            reference_logps_by_split(reference, rows, cfg, chat.pad, device)
            if LOSSES[cfg.loss].needs_reference
            else None
        )
        weights = pair_weights(cfg.weights, rows["train"])
        model = load_trainable(
            policy, LoRA(cfg.lora_rank, cfg.lora_alpha, cfg.lora_dropout), cfg.max_length, cfg.seed, device
        )
        language = prepare_model(model, policy.name, chat.pad)
        check_vocabulary(language, *rows.values())
        tokens = plan_run(
            run, cfg.micro_batch_tokens, lambda: plan_memory(language, rows["train"], cfg)
        ).micro_batch_tokens
        trained = train(
            language,
            SplitRows(rows["train"], rows["heldout"], weights.numpy().nonzero()[0]),
            PairObjective(loss, against, weights),
            LoopConfig.of(cfg, tokens),
            run.path,
            new_accelerator(device),
            start_loss(loss) if is_same and against is not None else None,
        )
        return TrainedRun.of(run, finish_run(run, model, trained, preflight))


def with_loss_defaults(cfg: DPOConfig) -> tuple[DPOConfig, LossConfig]:
    """The settings with those of the loss filled in; refuses any that it has no use for."""
    if cfg.label_smoothing and cfg.loss != "sigmoid":
        raise UserError(
            f"--label-smoothing is for --loss sigmoid, and --loss {cfg.loss} has no use for it; leave it out"
        )
    if cfg.simpo_gamma is not None and cfg.loss != "simpo":
        raise UserError(f"--simpo-gamma is for --loss simpo, and --loss {cfg.loss} has no use for it; leave it out")
    if cfg.reference and not LOSSES[cfg.loss].needs_reference:
        raise UserError(f"--loss {cfg.loss} has no reference; leave --reference out")
    beta = LOSSES[cfg.loss].beta if cfg.beta is None else cfg.beta
    gamma = SIMPO_GAMMA if cfg.simpo_gamma is None else cfg.simpo_gamma
    return replace(cfg, beta=beta, simpo_gamma=gamma), LossConfig(cfg.loss, beta, cfg.label_smoothing, gamma)


def pair_weights(path: str, rows: TokenRows) -> Tensor:
    """(rows,) float64: the weight of each training pair, 1 without a file of weights."""
    if not path:
        return torch.ones(len(rows), dtype=torch.float64)
    return torch.from_numpy(read_weights(Path(path), [row.row_id for row in rows]))


def read_rows(cfg: DPOConfig, mix: MixRows, chat: Chat) -> tuple[dict[Split, TokenRows], dict[str, Preflight]]:
    """Rows of each split as tokens, and the counts of rows kept, truncated and dropped."""
    rows: dict[Split, TokenRows] = {}
    preflight: dict[str, Preflight] = {}
    for split in SPLITS:
        rows[split], preflight[split] = token_rows(cfg.data, chat, mix.texts(split, "pair"), split, cfg.max_length)
        log.info("%s: %s", split, preflight[split].summary())
    if not len(rows["train"]):
        raise UserError(f"no pair of mix '{mix.name}' can be trained on: {preflight['train'].summary()}")
    return rows, preflight


def reference_logps_by_split(
    reference: ModelWeights, rows: dict[Split, TokenRows], cfg: DPOConfig, pad: int, device: torch.device
) -> dict[Split, Tensor]:
    """Split -> (rows, 2) summed log-probabilities under the frozen reference, which is loaded if any are missing."""

    @cache
    def load() -> tuple[LanguageModel, MicroBatcher]:
        language = prepare_model(load_frozen(reference, cfg.max_length, device), reference.name, pad)
        check_vocabulary(language, *rows.values())
        asked, most = cfg.micro_batch_tokens, REFERENCE_TOKENS[device.type]
        return language, MicroBatcher(min(asked, most) if asked else most, language.packs)

    def measure(split: Split) -> Callable[[list[int]], Tensor]:
        return lambda places: line_logps(*load(), rows[split], places)

    key = {split: reference_key(rows[split].key, reference.digest, device.type) for split in SPLITS}
    folder = Workspace(cfg.data).references
    return {
        split: reference_logps(folder, key[split], rows[split], 2, measure(split), reference.name) for split in SPLITS
    }


def line_logps(language: LanguageModel, batcher: MicroBatcher, rows: TokenRows, places: list[int]) -> Tensor:
    """(places, lines of a row) under a frozen model, as many at a time as there is room for."""

    @torch.no_grad()
    def measure(parts: list[list[int]]) -> Tensor:
        found: dict[int, Tensor] = {}
        for part in parts:
            batch = language.batch(rows, part)
            found |= zip(part, language.line_logps(batch).view(len(part), -1).cpu(), strict=True)
            rows.release()
        return torch.stack([found[place] for place in places])

    return batcher.run_in_parts(rows, places, measure)


def start_loss(loss: LossConfig) -> float:
    """The loss where the policy is the reference."""
    nothing = torch.zeros(1, 2, dtype=torch.float64)
    return float(pair_loss(nothing, nothing, torch.ones_like(nothing), loss)[0])


@dataclass(frozen=True)
class PairObjective:
    """A loss of pairs against log-probabilities of the reference that are known already."""

    cfg: LossConfig
    reference: dict[Split, Tensor] | None
    """Split -> (rows, 2), where the loss needs any."""
    weights: Tensor
    """(training rows,); held-out rows all count the same."""

    def weight(self, batch: Batch, is_heldout: bool) -> float:
        return float(len(batch.rows)) if is_heldout else float(self.weights[batch.rows].sum())

    def loss(self, logps: Tensor, batch: Batch, is_heldout: bool) -> Loss:
        policy = logps.view(-1, 2)
        against = None
        if self.reference is not None:
            against = self.reference["heldout" if is_heldout else "train"][batch.rows].to(policy.device)
        losses, metrics = pair_loss(policy, against, batch.learned_tokens.view(-1, 2), self.cfg)
        if not is_heldout:
            losses = losses * self.weights[batch.rows].to(losses.device)
        return Loss(losses.sum(), metrics)
