"""Small reward heads: linear scorers over frozen features of an embedded model."""

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.files import Damaged, asset, check_file, damaged_file
from curate.models.digests import DIGESTS, read_digests
from curate.models.embedded import embedded_folder
from curate.models.reward_features import BACKBONES, SURFACE, Conversation, FeatureConfig, extract
from schemas.calls import CallResult, Request
from schemas.errors import UserError

if TYPE_CHECKING:
    import numpy as np

HEADS = ("reward-mini", "reward-mini-b")
HEAD_FILE = "head.safetensors"
FIT_AGAIN = "restore it, or fit the head again with: train reward"

ROWS_PER_BATCH = 16


def head_folder(alias: str) -> Path:
    """The folder of a shipped head."""
    if alias not in HEADS:
        raise UserError(f"no reward head '{alias}'; known: {', '.join(HEADS)}")
    return asset("models", alias)


@dataclass(frozen=True)
class HeadConfig:
    """The features that the weights belong to; saved in the metadata of the head file."""

    name: str
    features: FeatureConfig
    blocks: tuple[str, ...]
    """Blocks of `extract` whose columns are weighed, in this order."""
    clip: float
    """Largest size of a standardized feature, so that no odd text leaves the range seen in training."""
    surface: tuple[str, ...] = SURFACE


class RewardHead:
    """Scores responses; a margin of 1 between two responses to one prompt is odds of e to 1.

    Of the conversation the last tokens are read and of the response the first, as many as
    `config.features` says; lengths and counts are of the whole text. Scores of different prompts
    cannot be compared.
    """

    def __init__(
        self, config: HeadConfig, weight: "np.ndarray", center: "np.ndarray", scale: "np.ndarray", digest: str
    ):
        self.alias = config.name
        self.digest = digest
        self.config = config
        self.weight, self.center, self.scale = weight, center, scale

    @classmethod
    def load(cls, folder: Path) -> "RewardHead":
        """The head saved in `folder`; `digest` covers its file and the weights of its backbone."""
        from safetensors import SafetensorError, safe_open

        path = folder / HEAD_FILE
        try:
            check_head(folder)
            with safe_open(path, framework="numpy") as stream:
                stored = json.loads((stream.metadata() or {})["head"])
                config = read_head_config(stored)
                if stored.get("has_digest") and not (folder / DIGESTS).exists():
                    raise Damaged(f"{folder / DIGESTS} is missing", FIT_AGAIN)
                weight, center, scale = (stream.get_tensor(name) for name in ("weight", "center", "scale"))
        except FileNotFoundError as error:
            raise UserError(f"no reward head at {path}; fit one with: train reward") from error
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path} is not a reward head of this version: {error}") from error
        digests = read_digests(embedded_folder(config.features.backbone))
        digest = hashlib.sha256(path.read_bytes() + digests["model.safetensors"].encode()).hexdigest()
        return cls(config, weight, center, scale, digest)

    def save(self, folder: Path) -> None:
        """Write the head file; equal heads give equal bytes."""
        from safetensors.numpy import save

        folder.mkdir(parents=True, exist_ok=True)
        tensors = {"weight": self.weight, "center": self.center, "scale": self.scale}
        # One metadata entry: safetensors does not keep the order of several.
        stored = {**asdict(self.config), "has_digest": True}
        described = save(tensors, {"head": json.dumps(stored, sort_keys=True)})
        (folder / HEAD_FILE).write_bytes(described)
        (folder / DIGESTS).write_text(json.dumps({HEAD_FILE: hashlib.sha256(described).hexdigest()}) + "\n")

    def score(self, conversations: Sequence[Conversation], responses: Sequence[str]) -> list[float]:
        """One finite number a row; higher is better. Meant for batches of 8 to 32 rows."""
        if not responses:
            return []
        scores: list[float] = self.weigh(extract(self.config.features, conversations, responses)).tolist()
        return scores

    def weigh(self, blocks: "dict[str, np.ndarray]") -> "np.ndarray":
        """Scores of the rows of `extract`'s blocks, float64."""
        scores: np.ndarray = self.standardize(blocks) @ self.weight
        return scores

    def standardize(self, blocks: "dict[str, np.ndarray]") -> "np.ndarray":
        """The columns weighed, in standard deviations from the training responses' mean, float64."""
        import numpy as np

        columns = np.concatenate([blocks[name] for name in self.config.blocks], axis=1).astype(np.float64)
        standard: np.ndarray = np.clip((columns - self.center) / self.scale, -self.config.clip, self.config.clip)
        return standard


def check_head(folder: Path) -> None:
    """Raises Damaged where a head is not what was written; one that an earlier version fitted has no digest."""
    if not (folder / DIGESTS).exists():
        return
    try:
        sha256 = json.loads((folder / DIGESTS).read_text())[HEAD_FILE]
    except (ValueError, KeyError, TypeError) as error:
        raise damaged_file(folder / DIGESTS, error, FIT_AGAIN) from error
    check_file(folder / HEAD_FILE, sha256, FIT_AGAIN)


def read_head_config(stored: dict[str, Any]) -> HeadConfig:
    """The config from its JSON; refuses columns that this version would compute differently."""
    features = dict(stored["features"])
    if features["backbone"] not in BACKBONES:
        raise ValueError(f"unknown backbone '{features['backbone']}'")
    if tuple(stored["surface"]) != SURFACE:
        raise ValueError("its surface features are not those of this version; fit it again")
    features["layers"] = tuple(features["layers"])
    return HeadConfig(str(stored["name"]), FeatureConfig(**features), tuple(stored["blocks"]), float(stored["clip"]))


class HeadScorer:
    """A reward head as a backend: one score a request, for the response its messages end with."""

    is_remote = False
    price_name: str | None = None

    def __init__(self, name: str, head: RewardHead) -> None:
        self.model = name
        self.digest = head.digest
        self._head = head
        # The backbone is loaded at the first row it reads: here, so that no batch takes that long.
        head.score([[{"role": "user", "content": "Hello"}]], ["Hello."])

    def answer(self, requests: Sequence[Request], needed: set[int]) -> Iterator[list[tuple[int, CallResult]]]:
        """Scores in batches of similar length."""
        lengths = [sum(len(message["content"]) for message in request.messages) for request in requests]
        order = sorted(range(len(requests)), key=lambda i: (lengths[i], i))
        for start in range(0, len(order), ROWS_PER_BATCH):
            batch = [i for i in order[start : start + ROWS_PER_BATCH] if i in needed]
            if batch:
                began = time.perf_counter()
                scores = self._head.score(
                    [requests[i].messages[:-1] for i in batch],
                    [requests[i].messages[-1]["content"] for i in batch],
                )
                seconds = (time.perf_counter() - began) / len(batch)
                yield [
                    (i, CallResult(values=(score,), seconds=seconds)) for i, score in zip(batch, scores, strict=True)
                ]
