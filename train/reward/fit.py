"""Fit a reward head: logistic regression on the difference of two responses' features, without intercept."""

import logging
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from curate.models.reward_features import Backbone, Blocks, FeatureConfig
from curate.models.reward_head import HeadConfig, RewardHead

log = logging.getLogger(__name__)

FOLDS = 5
STRENGTHS = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)
"""Inverse L2 penalties tried: scikit-learn's C."""
CHOICES: dict[Backbone, tuple[tuple[str, ...], ...]] = {
    "smollm2": (("mean_16",), ("last_8",), ("last_12",), ("last_16",), ("last_12", "last_16")),
    "minilm": (("cosine",), ("cosine", "response")),
}
"""Blocks tried beside those of the text."""
CLIP = 4.0
BLOCK_COLUMNS = 20
"""A block of more columns is shrunk to weigh about as this many do, or it would drown the columns of the text."""
SLOPE_STRENGTH = 100.0
"""Nearly no penalty on the slope, yet it stays finite where every margin has the right sign."""
TEXT_BLOCKS = ("surface", "in_context")


@dataclass(frozen=True)
class PairTable:
    """Features of pairs, row by row."""

    chosen: Blocks
    rejected: Blocks
    group: NDArray[np.str_]
    """Prompt group of each pair."""
    is_planted: NDArray[np.bool_]


@dataclass(frozen=True)
class Fitted:
    head: RewardHead
    strength: float
    """The C that was chosen."""
    slope: float
    """What the weights were multiplied by so that a margin of 1 is odds of e to 1."""
    loss: float
    """Mean negative log-likelihood of the real pairs out of fold, after calibration; log 2 is 0.693."""


def fit_head(name: str, features: FeatureConfig, pairs: PairTable) -> Fitted:
    """The columns and penalty with the least loss on real pairs out of fold, fitted on all and calibrated on those."""
    real = ~pairs.is_planted
    fold = np.unique(pairs.group, return_inverse=True)[1] % FOLDS
    tried = []
    for choice in CHOICES[features.backbone]:
        head = blank_head(HeadConfig(name, features, (*TEXT_BLOCKS, *choice), CLIP), pairs)
        columns = differences(head, pairs)
        for strength in STRENGTHS:
            margins = np.zeros(len(fold))
            for held in range(FOLDS):
                margins[fold == held] = columns[fold == held] @ bradley_terry(columns[fold != held], strength)
            slope = float(bradley_terry(margins[real, None], SLOPE_STRENGTH)[0])
            loss = float(np.logaddexp(0, -slope * margins[real]).mean())
            log.debug("%s, C %g: loss %.4f, slope %.2f", choice, strength, loss, slope)
            tried.append((loss, slope, strength, head, columns))
    loss, slope, strength, head, columns = min(tried, key=lambda entry: entry[0])
    weight = slope * bradley_terry(columns, strength) / shrinkage(head, pairs)
    # Only the layers that are weighed are read when scoring; the deepest sets the cost.
    layers = tuple(layer for layer in features.layers if any(name.endswith(f"_{layer}") for name in head.config.blocks))
    used = replace(head.config, features=replace(features, layers=layers))
    return Fitted(RewardHead(used, weight, head.center, head.scale, ""), strength, slope, loss)


def blank_head(config: HeadConfig, pairs: PairTable) -> RewardHead:
    """A head that standardizes by the responses of the real pairs, and weighs nothing yet."""
    real = ~pairs.is_planted
    sides = [
        np.concatenate([side[name] for name in config.blocks], axis=1)[real] for side in (pairs.chosen, pairs.rejected)
    ]
    columns = np.concatenate(sides).astype(np.float64)
    # A column that never varies says nothing; it is left alone instead of being divided by 0.
    spread = columns.std(axis=0)
    return RewardHead(
        config, np.zeros(columns.shape[1]), columns.mean(axis=0), np.where(spread > 1e-6, spread, 1.0), ""
    )


def differences(head: RewardHead, pairs: PairTable) -> NDArray[np.float64]:
    """Standardized features of the chosen less those of the rejected response, shrunk."""
    apart = head.standardize(pairs.chosen) - head.standardize(pairs.rejected)
    found: NDArray[np.float64] = apart / shrinkage(head, pairs)
    return found


def shrinkage(head: RewardHead, pairs: PairTable) -> NDArray[np.float64]:
    """Divisor of each column before fitting, so that a wide block is penalized about as a narrow one."""
    widths = [pairs.chosen[name].shape[1] for name in head.config.blocks]
    return np.concatenate([np.full(width, max(1.0, width / BLOCK_COLUMNS) ** 0.5) for width in widths])


def bradley_terry(columns: NDArray[np.float64], strength: float) -> NDArray[np.float64]:
    """Weights under which sigmoid(columns @ weights) best says that the chosen response wins."""
    from sklearn.linear_model import LogisticRegression

    # scikit-learn wants both classes: every other pair is swapped, which without an intercept changes nothing.
    label = np.arange(len(columns)) % 2
    turned = columns * np.where(label == 1, 1.0, -1.0)[:, None]
    model = LogisticRegression(C=strength, fit_intercept=False, max_iter=1000).fit(turned, label)
    found: NDArray[np.float64] = model.coef_[0]
    return found
