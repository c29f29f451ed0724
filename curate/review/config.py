"""Configs of the review commands. Imports nothing heavy, so `--help` stays fast."""

from dataclasses import field
from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Interval
from pydantic.dataclasses import dataclass

from curate.config import CONFIG, Config, Count, DataConfig, Int, Share


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class ServerConfig(DataConfig):
    """Address of the Argilla server."""

    url: str = ""
    """Address of an Argilla server (or set ARGILLA_API_URL, and ARGILLA_API_KEY); by default the one that `curate
    review serve` runs on this data folder."""
    home: Path | None = None
    """Folder of the server that `curate review serve` runs; `argilla` in the data folder by default."""
    workspace: str = "pairwright"
    """Workspace of the datasets on the server."""


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class ChoiceConfig(Config):
    """Choice of the pairs that are sent for review."""

    records: Count = 200
    """Records to add, at most; those with known answers come on top."""
    random_share: Share = 0.4
    """Share drawn at random from every source and margin band: estimates for the whole dataset use these alone."""
    diverse_share: Share = 0.2
    """Share that is unlike the rest and of small margin; the remaining records are the most suspicious pairs."""
    only_flagged: bool = False
    """Only pairs with a flag. There are no estimates for the whole dataset then."""
    include_dropped: bool = False
    """Include pairs that a rule dropped, to see whether it was right."""
    overlap: Share = 0.1
    """Share of the records that two reviewers judge, in a dataset of their own (`NAME-overlap`)."""
    min_submitted: Count = 1
    """Reviewers who judge every record, where everyone judges everything; above 1 there is no overlap dataset."""
    gold: Path | None = None
    """File of pairs (`prompt`, `chosen`, `rejected`) whose chosen response is known to be better, mixed in to measure
    the accuracy of reviewers."""
    seed: Annotated[Int, Ge(0)] = 30
    """Seed of the draw and of the order of the responses."""


@dataclass(frozen=True, config=CONFIG)
class ServeConfig(DataConfig):
    """Run Argilla on this machine, with its web page, until it is stopped."""

    port: Annotated[Int, Interval(ge=0, le=65535)] = 6900
    """Port on 127.0.0.1."""
    home: Path | None = None
    """Folder of its database and password; `argilla` in the data folder by default."""


@dataclass(frozen=True, config=CONFIG)
class InviteConfig(ServerConfig):
    """Make an account for a reviewer and print how to sign in."""

    username: str = field(metadata={"positional": True})
    """Name to sign in with."""


@dataclass(frozen=True, config=CONFIG)
class PushConfig(ServerConfig, ChoiceConfig):
    """Send pairs of a build or mix for review in Argilla; giving the command again adds more."""

    name: str = field(metadata={"positional": True})
    """Name of the build or mix, and of the dataset."""
    suggest: bool = False
    """Show which response the scorer prefers. It anchors: reviewers then agree with it more often."""


@dataclass(frozen=True, config=CONFIG)
class PullConfig(ServerConfig):
    """Pull the answers of all reviewers, and screen the reviewed builds again."""

    name: str = field(metadata={"positional": True})
    """Name of the build or mix."""


@dataclass(frozen=True, config=CONFIG)
class StatusConfig(ServerConfig):
    """Show the progress of a review, and estimates of label quality."""

    name: str = field(metadata={"positional": True})
    """Name of the build or mix."""


@dataclass(frozen=True, config=CONFIG)
class ExportConfig(ChoiceConfig, DataConfig):
    """Write the records of a review to a file that reviewers judge without a server."""

    name: str = field(metadata={"positional": True})
    """Name of the build or mix."""
    out: Path
    """File to write: `.html`, a form that works by itself and saves answers, or `.jsonl`."""


@dataclass(frozen=True, config=CONFIG)
class ImportConfig(DataConfig):
    """Read the answers in a file, by the same rules as `pull`."""

    file: Path = field(metadata={"positional": True})
    """JSONL that the form saved, or that `export` wrote and reviewers filled in."""
