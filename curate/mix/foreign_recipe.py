"""Read the mixtures of other trainers as recipes: the `datasets` block of TRL, and the handbook's two.

Their numbers mean other things than a share here:

- `fraction` of TRL is a share of the final mixture. Fractions are normalized, the mixture is as large as the smallest
  dataset allows, and of each dataset the first rows are taken. Here each source gets that many pairs as its `count`.
- `dataset_mixer` of the alignment handbook is a share of each dataset, of which the first rows are taken.
- `weight` in its later `dataset_mixture` is a share of each dataset, of which the first rows after a shuffle are taken.

Which pairs these are is drawn here by the seed from those that screening kept.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from curate.mix.recipe import Source, read_number, read_text
from curate.store.workspace import Workspace
from schemas.errors import UserError
from schemas.stages import StageName

log = logging.getLogger(__name__)

FOREIGN = (".yaml", ".yml")
"""Endings of the files of other trainers."""


@dataclass(frozen=True)
class ForeignRecipe:
    """What a recipe of another trainer says of a mix."""

    sources: tuple[Source, ...]
    heldout_share: float | None
    """None where it splits nothing."""


@dataclass(frozen=True)
class Entry:
    """A dataset of a mixture."""

    path: str
    subset: str | None
    splits: tuple[str, ...]
    """Splits for training that are named; none for any."""
    amount: float | None


def read_foreign(path: Path, workspace: Workspace) -> ForeignRecipe:
    """The recipe of a YAML file, its datasets as builds of the data folder. Raises UserError."""
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    try:
        if isinstance(value, dict) and value.get("datasets"):
            entries = [trl_entry(entry) for entry in value["datasets"]]
            return ForeignRecipe(trl_sources(entries, path, workspace), heldout_share(value))
        if isinstance(value, dict) and value.get("dataset_mixture"):
            mixture = value["dataset_mixture"]
            weighted = [handbook_entry(entry) for entry in mixture["datasets"]]
            log.info("%s: weight is a share of each dataset, shuffled; here of what screening kept", path)
            return ForeignRecipe(share_sources(weighted, path, workspace), heldout_share(mixture))
        if isinstance(value, dict) and value.get("dataset_mixer"):
            entries = mixer_entries(value)
            log.info(
                "%s: dataset_mixer takes that share of each dataset from its first rows; here a random share of what "
                "screening kept is taken, and --heldout-share makes the test rows",
                path,
            )
            return ForeignRecipe(share_sources(entries, path, workspace), None)
    except KeyError as error:
        raise UserError(f"{path}: a dataset has no {error}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is not a mixture of datasets ({error})") from error
    raise UserError(f"{path} has neither datasets (TRL) nor dataset_mixer or dataset_mixture (alignment handbook)")


def trl_entry(entry: Mapping[str, Any]) -> Entry:
    """An entry of TRL; with `data_files`, those are the dataset."""
    files = entry.get("data_files")
    amount = entry.get("fraction")
    return Entry(
        read_text(files if files is not None else entry["path"]),
        entry.get("name"),
        (entry["split"],) if entry.get("split") else (),
        None if amount is None else read_number(amount),
    )


def handbook_entry(entry: Mapping[str, Any]) -> Entry:
    splits = (entry["split"],) if entry.get("split") else ()
    amount = entry.get("weight")
    return Entry(read_text(entry["id"]), entry.get("config"), splits, None if amount is None else read_number(amount))


def mixer_entries(value: Mapping[str, Any]) -> list[Entry]:
    splits = tuple(split for split in value.get("dataset_splits") or () if "train" in split)
    subsets = value.get("dataset_configs") or [None] * len(value["dataset_mixer"])
    pairs = zip(value["dataset_mixer"].items(), subsets, strict=True)
    return [Entry(read_text(name), subset, splits, read_number(share)) for (name, share), subset in pairs]


def heldout_share(value: Mapping[str, Any]) -> float | None:
    """The share of `test_split_size`, where it is given. Raises ValueError for a number of rows."""
    size = value.get("test_split_size")
    if size is None:
        return None
    if not 0 <= read_number(size) < 1:
        raise ValueError(f"test_split_size {size} is a number of rows; here it is a share of the prompts, under 1")
    return read_number(size)


def trl_sources(entries: list[Entry], path: Path, workspace: Workspace) -> tuple[Source, ...]:
    """Sources with as many pairs as TRL would take rows, were the pairs that screening kept the datasets."""
    builds = [find_build(entry, path, workspace) for entry in entries]
    amounts = [entry.amount for entry in entries if entry.amount is not None]
    if not amounts:
        return tuple(Source(build, 1.0) for build in builds)
    if len(amounts) < len(entries) or min(amounts) <= 0:
        raise ValueError("fraction is a number above 0 of all datasets, or of none")
    weights = [amount / sum(amounts) for amount in amounts]
    kept = [count_kept(build, workspace) for build in builds]
    total = min(rows / weight for rows, weight in zip(kept, weights, strict=True))
    counts = [round(weight * total) for weight in weights]
    log.info(
        "%s: fraction is a share of the final mixture, and TRL takes the first rows of each dataset; here it gives "
        "counts, drawn from what screening kept: %s",
        path,
        ", ".join(f"{build} {count} of {rows}" for build, count, rows in zip(builds, counts, kept, strict=True)),
    )
    return tuple(Source(build, 1.0, count) for build, count in zip(builds, counts, strict=True))


def share_sources(entries: list[Entry], path: Path, workspace: Workspace) -> tuple[Source, ...]:
    return tuple(
        Source(find_build(entry, path, workspace), 1.0 if entry.amount is None else entry.amount) for entry in entries
    )


def count_kept(build: str, workspace: Workspace) -> int:
    """Pairs of a build that passed screening."""
    screened = workspace.open_tables(workspace.read_build(build))[StageName.SCREEN_PAIRS].scan()
    return int(screened.filter(pl.col("dropped_by").is_null()).select(pl.len()).collect().item())


def find_build(entry: Entry, path: Path, workspace: Workspace) -> str:
    """The build whose source is a dataset, else the one of its name."""
    sources = {name: str(workspace.read_build(name).config["source"]) for name in workspace.build_names()}
    found = [name for name, source in sources.items() if is_source(source, entry)]
    if len(found) > 1:
        raise UserError(
            f"{path}: builds {', '.join(found)} are all made of '{entry.path}'; name the one that is meant with --add"
        )
    named = Path(entry.path).name
    if not found and named not in sources:
        split = f":{entry.splits[0]}" if entry.splits else ""
        subset = f"/{entry.subset}" if entry.subset else ""
        raise UserError(
            f"{path}: no build of '{entry.path}' in {workspace.builds}; make it with: curate build --source "
            f"{entry.path}{subset}{split}"
        )
    return found[0] if found else named


def is_source(source: str, entry: Entry) -> bool:
    """Whether the source of a build is a dataset, of the same split where both name one."""
    if source == entry.path or (Path(source).exists() and Path(source).resolve() == Path(entry.path).resolve()):
        return True
    base, _, split = source.partition(":")
    base = base.partition("@")[0]
    names = {f"{entry.path}/{entry.subset}"} if entry.subset else {entry.path}
    return base in names and (not split or not entry.splits or split in entry.splits)
