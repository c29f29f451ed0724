"""`train dpo`: fit an adapter that prefers the chosen responses of a mix.

train dpo --mix v1 --epochs 1
"""

import logging
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from curate.store.mixes import Split
from curate.store.workspace import Workspace
from schemas.errors import UserError
from train.config import DPOConfig
from train.data.mix_reader import read_mix
from train.data.packing import Batch
from train.data.pair_weights import read_weights, weights_sha256
from train.data.token_store import TokenRows
from train.loop.loop import Loss
from train.loop.oom import MicroBatcher
from train.losses import LOSSES, SIMPO_GAMMA, LossConfig, pair_loss
from train.model.language_model import LanguageModel, check_vocabulary, prepare_model
from train.model.load import ModelWeights, check_same_tokens, choose_device, choose_sides, load_chat, load_frozen
from train.model.reference import reference_key, reference_logps
from train.run.adapter import tokenize_splits, train_adapter
from train.run.run_folder import TrainedRun, log_reused, open_run, run_request

log = logging.getLogger(__name__)

REFERENCE_TOKENS = {"cpu": 4096, "cuda": 65_536}
"""Tokens of a batch where nothing is kept for a gradient."""


def train_dpo(cfg: DPOConfig) -> TrainedRun:
    """Train, or find the same run finished."""
    cfg, loss = with_loss_defaults(cfg)
    device = choose_device(cfg.device)
    mix = read_mix(cfg.data, cfg.mix, cfg.max_rows)
    policy, reference = choose_sides(cfg.data, cfg.base, cfg.policy, cfg.reference)
    sides = {"policy": policy}
    if LOSSES[cfg.loss].needs_reference:
        check_same_tokens(policy, reference)
        sides["reference"] = reference
    data: dict[str, Any] = mix.identity()
    if cfg.weights:
        data["weights_sha256"] = weights_sha256(Path(cfg.weights))
    asked = run_request("dpo", cfg, data, **sides)
    with open_run(cfg.data, cfg.name or f"dpo-{mix.name}", asked) as run:
        if run.manifest:
            return log_reused(run, run.manifest)
        is_same = "reference" in sides and policy.digest == reference.digest
        said = ", ".join(f"{side} {weights.describe()}" for side, weights in sides.items())
        log.info("%s%s", said, ": the same weights" if is_same else "")
        chat = load_chat(policy)
        rows = tokenize_splits(cfg, chat, mix.texts("pair"), f"no pair of mix '{mix.name}'")
        against = measure_reference(reference, rows, cfg, chat.pad, device) if "reference" in sides else None
        weights = pair_weights(cfg.weights, rows["train"])
        learned = weights.numpy().nonzero()[0]
        objective = PairObjective(loss, against, weights)
        expected = start_loss(loss) if is_same else None
        return train_adapter(run, cfg, policy, chat, rows, learned, objective, device, expected)


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


def measure_reference(
    reference: ModelWeights, rows: dict[Split, TokenRows], cfg: DPOConfig, pad: int, device: torch.device
) -> dict[Split, Tensor]:
    """Split -> (rows, 2) summed log-probabilities under the frozen reference, which is loaded if any are missing."""

    @cache
    def load() -> tuple[LanguageModel, MicroBatcher]:
        language = prepare_model(load_frozen(reference, cfg.max_length, device), reference.name, pad)
        check_vocabulary(language, *rows.values())
        asked, most = cfg.micro_batch_tokens, REFERENCE_TOKENS[device.type]
        return language, MicroBatcher(min(asked, most) if asked else most, language.packs)

    def measure(part: TokenRows, places: list[int]) -> Tensor:
        return line_logps(*load(), part, places)

    found: dict[Split, Tensor] = {}
    for split, part in rows.items():
        folder = Workspace(cfg.data).references / reference_key(part.key, reference.digest, device.type)
        found[split] = reference_logps(folder, part, partial(measure, part), reference.name)
    return found


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

    def weight(self, batch: Batch, split: Split) -> float:
        return float(self.weights[batch.rows].sum()) if split == "train" else float(len(batch.rows))

    def loss(self, logps: Tensor, batch: Batch, split: Split) -> Loss:
        policy = logps.view(-1, 2)
        against = None if self.reference is None else self.reference[split][batch.rows].to(policy.device)
        losses, metrics = pair_loss(policy, against, batch.learned_tokens.view(-1, 2), self.cfg)
        if split == "train":
            losses = losses * self.weights[batch.rows].to(losses.device)
        return Loss(losses.sum(), metrics)
