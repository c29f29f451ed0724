"""Bring a published mix from the hub back as a build, verified by its checksums.

pull(PullConfig(repo="owner/name"))
"""

import json
import logging
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.config import BuildConfig, PullConfig
from curate.files import full_disk, refuse_read_only
from curate.mix.hub.repo import HubFiles, check_repo, hub_client, list_files
from curate.mix.mix import move_files
from curate.mix.verify.verify import verify_folder
from curate.pipeline.build import Built, build
from curate.store.mixes import CARD, CHECKSUMS, LOCK, Mix, open_mix_folder
from curate.store.workspace import Workspace, check_name
from schemas.errors import UserError
from schemas.manifest import refuse_other_format

if TYPE_CHECKING:
    from huggingface_hub import HfApi

log = logging.getLogger(__name__)

FILE_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class Pulled:
    """A published mix that is a build here."""

    name: str
    """Of the build."""
    repo: str
    commit: str
    mix: Mix
    is_new: bool
    """Something was downloaded."""
    built: Built

    def summary(self) -> dict[str, Any]:
        """The JSON object of `curate pull --json`; the names are a contract."""
        return {
            "name": self.name,
            "repo": self.repo,
            "commit": self.commit,
            "mix": self.mix.name,
            "sha256": self.mix.lock.sha256,
            "train": self.mix.lock.train,
            "heldout": self.mix.lock.heldout,
            "kept": self.built.counts.kept,
            "downloaded": self.is_new,
            "path": str(self.mix.folder),
        }

    def lines(self) -> list[str]:
        """The same for people to read."""
        told = "pulled" if self.is_new else "already here, with the same content:"
        lock, kept = self.mix.lock, self.built.counts.kept
        return [
            f"{told} mix '{self.mix.name}' of {self.repo} ({lock.train} pairs, and {lock.heldout} that are held out)",
            f"build '{self.name}': {kept} of {lock.rows} pairs passed screening; no mix trains on those held out",
        ]


def pull(cfg: PullConfig) -> Pulled:
    """Download a published mix where it is not here yet, verify it, and make a build of it.

    Raises UserError for a repository that holds none, and for one that is not what was published.
    """
    repo, _, revision = cfg.repo.partition("@")
    check_repo(repo)
    workspace = Workspace(cfg.data)
    name = cfg.name or repo.partition("/")[2]
    check_name(
        "--name" if cfg.name else "the name of the build", name, (*workspace.build_names(), *workspace.mix_names())
    )
    folder = workspace.pulled / name
    refuse_other_build(workspace, name, folder)
    refuse_read_only(workspace.pulled)
    scratch = workspace.pulled / f".{name}.download"
    with hub_client(f"{repo} could not be pulled") as api:
        there = list_files(api, repo, revision or "main")
        if not {LOCK, CHECKSUMS} <= there.files.keys():
            raise UserError(f"{repo} is no published mix; import it with curate build --source {cfg.repo}")
        is_here = is_whole(folder, there)
        if not is_here:
            refuse_other_content(folder, there, repo)
            download(api, repo, there, scratch)
    if not is_here:
        names = [*verify(scratch, repo).lock.files, CHECKSUMS, LOCK]
        with full_disk(folder):
            move_files(scratch, folder, names)
            shutil.rmtree(scratch)
    mix = open_mix_folder(folder)
    built = build(BuildConfig(source=str(folder), name=name, data=cfg.data))
    return Pulled(name, repo, there.commit, mix, is_new=not is_here, built=built)


def refuse_other_build(workspace: Workspace, name: str, folder: Path) -> None:
    """Raises UserError where the name is that of a mix, or of a build of something else."""
    if name in workspace.mix_names():
        raise UserError(f"'{name}' is the name of a mix here; give the build another one with --name")
    if name in workspace.build_names():
        source = str(workspace.read_build(name).config["source"])
        if Path(source).resolve() != folder.resolve():
            raise UserError(f"build '{name}' was made from {source}; give this one another name with --name")


def is_whole(folder: Path, there: HubFiles) -> bool:
    """Whether the mix of a folder is here as it is on the hub, but for its card, which may be edited."""
    if not (folder / LOCK).is_file() or there.differing(folder, [LOCK]):
        return False
    names = [*open_mix_folder(folder).lock.files, CHECKSUMS]
    return not there.differing(folder, [name for name in names if name != CARD])


def refuse_other_content(folder: Path, there: HubFiles, repo: str) -> None:
    """Raises UserError where a folder holds another mix; one whose lock is the same lost something, and is mended."""
    if (folder / LOCK).is_file() and there.differing(folder, [LOCK]):
        raise UserError(f"{folder} holds another mix than {repo} does now; give --name for this one")


def download(api: "HfApi", repo: str, there: HubFiles, scratch: Path) -> None:
    """Bring the files that the lock names into a folder; what is there of an earlier try is not asked for again."""
    place: dict[str, Any] = {"repo_type": "dataset", "revision": there.commit, "local_dir": scratch}
    lock = Path(api.hf_hub_download(repo, LOCK, **place))
    try:
        record = json.loads(lock.read_bytes())
        written, names = int(record["format"]), [*map(str, record.get("files", ()))]
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise UserError(f"{repo} is no published mix: its {LOCK} cannot be read") from error
    refuse_other_format(written, f"{repo}/{LOCK}")
    if wrong := [name for name in names if not FILE_NAME.fullmatch(name) or name not in there.files]:
        raise UserError(f"{repo} is not what was published: its {LOCK} names {wrong[0]!r}, and there is no such file")
    for left in scratch.iterdir():
        # An earlier try may have been for another commit, or for a repository of the same name.
        if left.is_file() and left.name not in {*names, CHECKSUMS, LOCK}:
            left.unlink()
    log.info("downloading %d files of %s, %d bytes", len(names), repo, sum(there.files[name].size for name in names))
    api.snapshot_download(repo, allow_patterns=[*names, CHECKSUMS, LOCK], **place)


def verify(scratch: Path, repo: str) -> Mix:
    """The mix that was downloaded. Raises UserError, and forgets it, where it is not what its lock says."""
    if damage := verify_folder(scratch).damage:
        shutil.rmtree(scratch)
        raise UserError(f"{repo} is not what was published: {damage[0].replace(str(scratch), repo)}")
    return open_mix_folder(scratch)
