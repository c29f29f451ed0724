"""`train reward`: fit a small reward head to pairs, with its model card.

train reward --pairs pairs.jsonl
"""

import json
import logging
import os
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from curate.files import refuse_read_only
from curate.models.reward_features import Backbone, FeatureConfig
from curate.models.reward_head import RewardHead
from curate.store.workspace import Workspace, check_name
from schemas.errors import UserError
from train.config import RewardConfig
from train.reward.card import reward_card
from train.reward.evaluate import (
    RESAMPLES,
    length_margins,
    mean_by_dataset,
    probe_responses,
    probe_wins,
    probed_rows,
    win_values,
)
from train.reward.features import cached_features, pair_features
from train.reward.fit import PairTable, fit_head
from train.reward.pairs import TextPair, read_reward_pairs
from train.reward.split import plant_pairs, split_pairs

log = logging.getLogger(__name__)

LAYERS: dict[Backbone, tuple[int, ...]] = {"smollm2": (8, 12, 16), "minilm": ()}
"""Layers that are read; cross-validation decides which are weighed."""
READS: dict[Backbone, str] = {
    "smollm2": "the last {0.max_prompt_tokens} tokens of the conversation and the first {0.max_response_tokens}",
    "minilm": "the first 256 tokens of the last user turn and the first 256",
}
"""The part of a long text that reaches the model; the card completes the sentence with "of the response"."""
MIN_GROUPS = 5
"""Fewest prompt groups to train on: one for each fold."""


@dataclass(frozen=True)
class FittedHead:
    """A reward head that was fitted and saved."""

    name: str
    features: list[str]
    train_pairs: int
    heldout_pairs: int
    accuracy: dict[str, tuple[float, float, float]]
    """File -> share of held-out pairs whose chosen response scores higher, with its 95% interval."""
    longer_wins: dict[str, tuple[float, float, float]]
    """The same of "the longer response is better"."""
    folder: Path
    seconds: float

    def summary(self) -> dict[str, Any]:
        """What `train reward --json` prints."""
        return {**asdict(self), "folder": str(self.folder)}

    def lines(self) -> list[str]:
        pairs = f"{self.train_pairs:,} training and {self.heldout_pairs:,} held-out pairs"
        lines = [f"{self.name}: {pairs}, head in {self.folder}"]
        for dataset, (share, low, high) in self.accuracy.items():
            longer = self.longer_wins[dataset][0]
            lines.append(
                f"  {dataset}: {share:.3f} ({low:.3f} to {high:.3f}) of held-out pairs; longer wins: {longer:.3f}"
            )
        return lines


def train_reward(config: RewardConfig) -> FittedHead:
    """Fit, evaluate and save one head."""
    started = time.monotonic()
    if not config.pairs:
        raise UserError("--pairs must be given: a file of preference pairs")
    check_name("--name", config.name, [path.name for path in Workspace(config.data).heads()])
    refuse_read_only(config.data)
    pairs = read_reward_pairs([Path(path) for path in config.pairs])
    train, heldout = split_pairs(pairs, config.share, config.seed)
    for part, rows, fewest in (("train on", train, MIN_GROUPS), ("hold out", heldout, 1)):
        if (found := len({pair.group for pair in rows})) < fewest:
            raise UserError(f"too few prompts: {found} prompt groups to {part}, at least {fewest} are needed")
    head, results = fit_and_evaluate(config, train, plant_pairs(train, config.seed), heldout)
    folder = Workspace(config.data).head(config.name)
    write_folder(head, results, folder)
    seconds = round(time.monotonic() - started, 1)
    log.info("reward: %d pairs in, %d trained on, %d held out, %.1f s", len(pairs), len(train), len(heldout), seconds)
    return FittedHead(
        name=config.name,
        features=results["blocks"],
        train_pairs=len(train),
        heldout_pairs=len(heldout),
        accuracy=results["accuracy"],
        longer_wins=results["longer_wins"],
        folder=folder,
        seconds=seconds,
    )


def fit_and_evaluate(
    config: RewardConfig, train: list[TextPair], planted: list[TextPair], heldout: list[TextPair]
) -> tuple[RewardHead, dict[str, Any]]:
    """The head, and everything its card says."""
    features = FeatureConfig(config.backbone, LAYERS[config.backbone])
    tables = Workspace(config.data).reward_features
    learned = [*train, *planted]
    table = PairTable(
        *pair_features(features, learned, tables),
        group=np.array([pair.group for pair in learned]),
        is_planted=np.arange(len(learned)) >= len(train),
    )
    fitted = fit_head(config.name, features, table)
    chosen, rejected = (fitted.head.weigh(blocks) for blocks in pair_features(features, heldout, tables))
    length, probed = length_margins(heldout), probed_rows(heldout)
    longer = win_values(length)
    probed_pairs = [heldout[row] for row in probed]
    probes = fitted.head.weigh(cached_features(features, probe_responses(probed_pairs), tables))
    wins = win_values(chosen - rejected)
    return fitted.head, {
        "name": config.name,
        "backbone": config.backbone,
        "blocks": list(fitted.head.config.blocks),
        "columns": len(fitted.head.weight),
        "reads": READS[config.backbone].format(features),
        "strength": fitted.strength,
        "slope": round(fitted.slope, 4),
        "loss": round(fitted.loss, 4),
        "seed": config.seed,
        "share": config.share,
        "train_pairs": count_by_dataset(train),
        "planted_pairs": len(planted),
        "heldout_pairs": count_by_dataset(heldout) | {"all": len(heldout)},
        "resamples": RESAMPLES,
        "accuracy": mean_by_dataset(heldout, wins, config.seed),
        "longer_wins": mean_by_dataset(heldout, longer, config.seed),
        "gain": mean_by_dataset(heldout, wins - longer, config.seed),
        "heldout_loss": round(float(np.logaddexp(0, rejected - chosen).mean()), 4),
        "probe_wins": probe_wins(probed_pairs, chosen[probed], probes),
        "command": format_command(config),
    }


def count_by_dataset(pairs: Sequence[TextPair]) -> dict[str, int]:
    """File -> number of its pairs."""
    return dict(Counter(pair.dataset for pair in pairs))


def format_command(config: RewardConfig) -> str:
    """The command that gives the same head, with file names instead of paths."""
    flags = [f"--pairs {Path(path).name}" for path in config.pairs]
    flags += [f"--{field} {getattr(config, field)}" for field in ("backbone", "share", "seed", "name")]
    return " \\\n  ".join(["train reward", *flags])


def write_folder(head: RewardHead, results: dict[str, Any], folder: Path) -> None:
    """Put head, results and card in `folder`, all or nothing."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        made = Path(scratch) / "made"
        head.save(made)
        (made / "results.json").write_text(json.dumps(results, indent=1) + "\n")
        (made / "README.md").write_text(reward_card(results))
        if folder.exists():
            os.rename(folder, Path(scratch) / "old")
        os.rename(made, folder)
