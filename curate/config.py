"""What the commands can be told; imports nothing heavy, so that `--help` is quick."""

import os
from dataclasses import dataclass, field
from pathlib import Path


def default_data() -> Path:
    """`PAIRWRIGHT_DATA`, else `data` in the working directory."""
    return Path(os.environ.get("PAIRWRIGHT_DATA", "data"))


@dataclass(frozen=True)
class BuildConfig:
    """Prompts or ready pairs of one source, all the way to screened pairs."""

    source: str
    """`sft`: best and worst of several responses of one model; `gpt`: a chosen and a rejected response written by
    one model; `samples`: the pairs that come with pairwright; else ready pairs from a file or a hub dataset
    (`owner/name[:split]`)."""
    name: str = ""
    """Name of the build; by default the source, or the stem of its file."""
    prompts: str = "samples"
    """Prompts for `sft` and `gpt`: `samples`, a .jsonl, .json or .parquet file (.gz too), or a hub dataset
    (`owner/name[:split]`)."""
    num_prompts: int | None = None
    """Rows taken from the source, after a shuffle by `--seed`; all by default."""
    generator: str = ""
    """Model that writes responses: `smollm2`, a run, `hf:PATH`, a hub model (`owner/name`), `openai:MODEL` or
    `http://HOST/v1#MODEL`; by default the newest SFT run, else `smollm2`. Needed for `gpt`."""
    scorer: str = ""
    """Model that scores responses: `reward-mini`, `reward-mini-b`, `nim:MODEL` or a folder made by `train reward`;
    by default `reward-mini` for `sft`, and none for other sources."""
    n: int = 4
    """Responses drawn for each prompt."""
    temperature: float = 0.7
    """Sampling temperature; 0 takes the most likely token."""
    top_p: float = 0.95
    """Share of probability that sampling draws from."""
    max_tokens: int = 256
    """Longest response, in tokens."""
    min_margin: float = 0.0
    """Smallest score margin kept, in the scorer's units."""
    max_cosine: float = 0.95
    """Prompts at least this alike are near duplicates; the pair with the larger margin stays."""
    seed: int = 30
    """Seed of the shuffle and of sampling."""
    data: Path = field(default_factory=default_data)
    """Folder of tables, builds, mixes, runs and the ledger (or set PAIRWRIGHT_DATA)."""


@dataclass(frozen=True)
class MixConfig:
    """Builds put together into a versioned dataset with a held-out split."""

    name: str = field(metadata={"positional": True})
    """Name of the mix, for example v1."""
    add: tuple[str, ...] = ()
    """A build, or NAME:SHARE for a seeded random share of it (`samples:0.5`); give it once for each source. Without
    it the recipe `mixes/NAME.toml` is used as it stands."""
    heldout: float = 0.1
    """Share of prompt groups kept out of training."""
    seed: int = 30
    """Seed of shares, order and split."""
    data: Path = field(default_factory=default_data)
    """Folder of tables, builds, mixes, runs and the ledger (or set PAIRWRIGHT_DATA)."""


@dataclass(frozen=True)
class ExplainConfig:
    """The way back from a pair to its prompt, responses, scores, calls and rules."""

    pair_id: str = field(metadata={"positional": True})
    """Id of a pair, as `curate build` and the tables print it."""
    data: Path = field(default_factory=default_data)
    """Folder of tables, builds, mixes, runs and the ledger (or set PAIRWRIGHT_DATA)."""


@dataclass(frozen=True)
class ShowConfig:
    """Builds, mixes and runs with their counts, or one of them with its pairs."""

    name: str = field(default="", metadata={"positional": True})
    """A build or mix to show in full."""
    data: Path = field(default_factory=default_data)
    """Folder of tables, builds, mixes, runs and the ledger (or set PAIRWRIGHT_DATA)."""


@dataclass(frozen=True)
class DoctorConfig:
    """Checks of the machine, the models, the keys and the store."""

    data: Path = field(default_factory=default_data)
    """Folder of tables, builds, mixes, runs and the ledger (or set PAIRWRIGHT_DATA)."""
