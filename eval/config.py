"""The config of an evaluation. Imports nothing heavy, so `--help` stays fast."""

from dataclasses import field
from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Interval
from pydantic.dataclasses import dataclass

from curate.config import CONFIG, Count, DataConfig, Int, JudgeConfig


@dataclass(frozen=True, config=CONFIG)
class EvalConfig(JudgeConfig, DataConfig):
    """Compare the responses of a run with those of a baseline on the same prompts, judged pair by pair."""

    run: str = field(default="", metadata={"positional": True})
    """The run to evaluate, or any model that --baseline can be; by default the run that finished last."""
    baseline: str = ""
    """The model it is compared with: `smollm2`, a run, `hf:PATH`, a hub model (`owner/name`), `openai:MODEL` or
    `http://HOST/v1#MODEL`; by default the run's base model."""
    prompts: str = "samples"
    """Prompts: `samples`, a .txt file with one a line, a .jsonl, .json, .csv, .parquet or .arrow file (also with .gz or
    .zst behind it), a folder that `save_to_disk` wrote, or a hub dataset (`owner/name[/subset][@revision][:split]`)."""
    num_prompts: Count | None = None
    """Prompts taken, at most, after a shuffle by `--seed`; 200 by default, all of them for `--responses-only`."""
    temperature: Annotated[float, Interval(ge=0, le=2)] = 0.7
    """Sampling temperature of both sides; 0 takes the most likely token."""
    top_p: Annotated[float, Interval(gt=0, le=1)] = 0.95
    """Share of probability that sampling draws from."""
    max_tokens: Count = 256
    """Longest response, in tokens; of a model that reasons first its reasoning counts."""
    judge: str = "reward-mini-b"
    """Model that scores the responses: `reward-mini`, `reward-mini-b`, `nim:MODEL`, `judge:GENERATOR` or a folder made
    by `train reward`. It should not be the one that selected the training pairs."""
    engine: str = "hf"
    """`hf` runs models in this process; `http://HOST/v1` asks an OpenAI-compatible server that serves the run and the
    baseline under their names, as vLLM does with `--lora-modules NAME=ADAPTER`."""
    seed: Int = 30
    """Seed of the shuffle, of sampling on both sides and of the bootstrap."""
    baseline_seed: Annotated[Int, Ge(0)] | None = None
    """Seed of sampling for the baseline, where it is not `--seed`: a model compared with itself shows the
    effect of chance alone."""
    responses_only: Path | None = None
    """Write the run's responses to this JSONL file, one prompt a line, and judge nothing: for leaderboards."""
    name: str = ""
    """Name of the evaluation; by default RUN-vs-BASELINE."""
