"""Configs of the `train` commands. Imports nothing heavy, so `--help` stays fast."""

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Interval
from pydantic.dataclasses import dataclass

from curate.config import CONFIG, Config, Count, DataConfig, Int
from curate.models.reward_features import Backbone

Device = Literal["auto", "cpu", "cuda"]
Share = Literal["a", "b", "both"]


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class TrainingConfig(Config):
    """Settings that `train sft` and `train dpo` share."""

    epochs: Count = 3
    """Times every row is seen: a conversation, or a pair."""
    lr: Annotated[float, Interval(ge=0, le=1)]
    """Learning rate at the first step; it falls to 0 in a straight line."""
    batch_size: Count = 4
    """Rows a step."""
    max_length: Annotated[Int, Ge(2)] = 512
    """Longest conversation, or prompt and response, in tokens; longer ones lose their oldest turns, then the end of the
    last response."""
    lora_rank: Count = 8
    """Rank of the LoRA adapter."""
    lora_alpha: Count = 16
    """Scale of the LoRA adapter, over its rank."""
    lora_dropout: Annotated[float, Interval(ge=0, le=0.99)] = 0.05
    """Dropout before the LoRA adapter, in training alone."""
    micro_batch_tokens: Annotated[Int, Ge(2)] | None = None
    """Most tokens of a micro-batch: it changes time and memory and no gradient; by default from the free memory."""
    gradient_checkpointing: bool = False
    """Keep fewer activations and compute them again: less memory, more time."""
    device: Device = "auto"
    """Device to train on; `auto` takes a GPU if there is one."""
    seed: Annotated[Int, Interval(ge=0, le=2**32 - 1)] = 30
    """Seed of the adapter's first weights, the order, the dropout and, for `train sft`, the choice of conversations."""


@dataclass(frozen=True, config=CONFIG)
class SFTConfig(DataConfig, TrainingConfig):
    """Teach a base model to answer as conversations do: LoRA, loss on the assistant's turns alone."""

    dataset: str = ""
    """Conversations: a .jsonl, .json, .csv, .parquet or .arrow file (also with .gz or .zst behind it), a folder that
    `save_to_disk` wrote, or a hub dataset (`owner/name[/subset][@revision][:split]`), with columns messages,
    conversations, a prompt and a response or completion, or instruction and output; by default the chosen side of a
    mix. A turn with `weight` 0 or `train` false is not learned."""
    columns: str = ""
    """Columns of other names, as in `prompt=q,response=a`: what pairwright reads, then the column of `--dataset`."""
    mix: str = ""
    """Mix whose chosen responses are learned where `--dataset` is not given; by default the newest."""
    base: str = "smollm2"
    """Base model: `smollm2`, a folder, or a hub model (`owner/name`)."""
    name: str = ""
    """Name of the run; by default sft and the name of the data, for example sft-v1."""
    max_rows: Count = 23_000
    """Conversations taken: with `--dataset` the first ones after a shuffle by `--seed`, else the first of the mix."""
    lr: Annotated[float, Interval(ge=0, le=1)] = 2e-5
    """Learning rate at the first step; it falls to 0 in a straight line."""


@dataclass(frozen=True, config=CONFIG)
class DPOConfig(DataConfig, TrainingConfig):
    """Teach a policy to prefer the chosen responses of a mix: direct preference optimization with LoRA."""

    mix: str = ""
    """Mix of pairs to learn; by default the newest."""
    base: str = ""
    """Base model: `smollm2`, a folder, or a hub model (`owner/name`); by default that of the newest SFT run, else
    `smollm2`."""
    policy: str = ""
    """Run or base model that training starts from; by default the newest SFT run on the base, else the base."""
    reference: str = ""
    """Run or base model that the policy is compared with; by default the same as the policy."""
    name: str = ""
    """Name of the run; by default dpo and the name of the mix, for example dpo-v1."""
    max_rows: Count | None = None
    """Training pairs taken, the first of the mix; all by default."""
    loss: Literal["sigmoid", "ipo", "simpo"] = "sigmoid"
    """Loss to minimize: sigmoid (DPO), ipo (log-ratios of the average token, to a set distance) or simpo (without a
    reference)."""
    beta: Annotated[float, Gt(0)] | None = None
    """sigmoid: how strongly the policy is held to the reference (by default 0.2); ipo: the sides are led 1/(2 beta)
    nats a token apart (0.1); simpo: scale of the average log-probability (2)."""
    label_smoothing: Annotated[float, Interval(ge=0, le=0.5)] = 0.0
    """Share of pairs whose labels are assumed to be swapped; for --loss sigmoid."""
    simpo_gamma: Annotated[float, Ge(0)] | None = None
    """Target margin between the rewards of the two sides, for --loss simpo; by default 0.5, and 0.3 to 1.6 times beta
    is usual."""
    weights: str = ""
    """A .parquet, .csv or .jsonl file with pair_id and weight, for weights of pairs in the loss; equal by default."""
    lr: Annotated[float, Interval(ge=0, le=1)] = 1e-5
    """Learning rate at the first step; it falls to 0 in a straight line."""


@dataclass(frozen=True, config=CONFIG)
class RewardConfig(DataConfig):
    """Fit a small reward head on frozen features of an embedded model."""

    pairs: tuple[str, ...] = ()
    """File of preference pairs: flat prompt, chosen, rejected; UltraFeedback parquet; HH texts; or a prompt's
    responses with is_correct. May be given several times."""
    backbone: Backbone = "smollm2"
    """Embedded model whose features the head uses."""
    share: Share = "both"
    """Disjoint 40% of the prompt groups to train on, or both; the same 20% is always held out."""
    seed: Annotated[Int, Interval(ge=0, le=2**32 - 1)] = 0
    """Seed of the split, the planted responses and the intervals."""
    name: str = "reward"
    """Name of the head and of its folder, models/NAME in the data folder."""
