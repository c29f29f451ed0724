"""Compute features of many responses once: blocks of rows are kept on disk under the hash of their text."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from curate.files import Damaged
from curate.models.embedded import EMBEDDED
from curate.models.reward_features import Blocks, Conversation, FeatureConfig, backbone_blocks, text_blocks
from curate.store.tensor_files import read_tensors, write_tensors
from schemas.ids import digest, prompt_key
from train.reward.pairs import TextPair

log = logging.getLogger(__name__)

BLOCK_ROWS = 128


def pair_features(config: FeatureConfig, pairs: Sequence[TextPair], folder: Path) -> tuple[Blocks, Blocks]:
    """The blocks of the chosen and of the rejected responses; a response in several pairs is read once."""
    rows: dict[tuple[str, str], tuple[Conversation, str]] = {}
    for pair in pairs:
        for response in (pair.chosen, pair.rejected):
            rows.setdefault((prompt_key(pair.messages), response), (pair.messages, response))
    blocks = cached_features(config, list(rows.values()), folder)
    place = {key: row for row, key in enumerate(rows)}
    chosen = [place[prompt_key(pair.messages), pair.chosen] for pair in pairs]
    rejected = [place[prompt_key(pair.messages), pair.rejected] for pair in pairs]
    return {name: block[chosen] for name, block in blocks.items()}, {
        name: block[rejected] for name, block in blocks.items()
    }


def cached_features(config: FeatureConfig, rows: Sequence[tuple[Conversation, str]], folder: Path) -> Blocks:
    """Block name -> (rows, columns) of `extract`; what an earlier run left in `folder` is read."""
    starts = range(0, len(rows), BLOCK_ROWS)
    parts = [cached_block(config, rows[start : start + BLOCK_ROWS], folder) for start in starts]
    seen = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return seen | text_blocks([turns for turns, _ in rows], [response for _, response in rows])


def cached_block(config: FeatureConfig, rows: Sequence[tuple[Conversation, str]], folder: Path) -> Blocks:
    """The features of one block of rows, read from `folder`; missing or damaged ones are computed and saved there."""
    texts = [[[[turn["role"], turn["content"]] for turn in turns], response] for turns, response in rows]
    settings = [config.backbone, config.layers, config.max_prompt_tokens, config.max_response_tokens]
    path = folder / f"{digest([settings, EMBEDDED[config.backbone].weights_sha256, texts])[:32]}.safetensors"
    try:
        return read_tensors(path, "its features are computed again")
    except FileNotFoundError:
        pass
    except Damaged as error:
        log.warning("warning: %s", error)
    blocks = backbone_blocks(config, [turns for turns, _ in rows], [response for _, response in rows])
    write_tensors(path, blocks)
    log.info("features of %d responses, %s", len(rows), config.backbone)
    return blocks
