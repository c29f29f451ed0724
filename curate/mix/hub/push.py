"""Publish a mix on the hub: verified, private unless told otherwise, and whole in one commit.

push(PushConfig(name="v1", repo="owner/name"))
"""

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.config import PushConfig
from curate.mix.concerns import mix_concerns
from curate.mix.hub.repo import HubFiles, check_repo, has_token, hub_client, list_files
from curate.mix.verify.verify import verify_folder
from curate.store.mixes import CARD, CHECKSUMS, LOCK, Mix, told_name
from curate.store.workspace import Workspace
from schemas.errors import UserError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

log = logging.getLogger(__name__)

MAIN = "main"
ALLOWED = ("personal-data", "unknown-license", "license-conflict")
"""What `--allow` may name."""


@dataclass(frozen=True)
class Pushed:
    """A mix on the hub, or what `--dry-run` says would be there."""

    name: str
    repo: str
    revision: str
    is_private: bool
    files: dict[str, int]
    """File -> bytes."""
    licenses: dict[str, int]
    """License -> rows."""
    refused: tuple[str, ...] = ()
    """Why it would not be uploaded; of a dry run alone."""
    commit: str | None = None
    """That holds it; None for a dry run."""
    is_new: bool = False
    """It was not there before."""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(self.files.values())

    def summary(self) -> dict[str, Any]:
        """The JSON object of `curate push --json`; the names are a contract."""
        return {
            "name": self.name,
            "repo": self.repo,
            "revision": self.revision,
            "private": self.is_private,
            "files": self.files,
            "bytes": self.size,
            "licenses": self.licenses,
            "refused": list(self.refused),
            "commit": self.commit,
            "uploaded": self.is_new,
        }

    def lines(self) -> list[str]:
        """The same for people to read."""
        where = f"{self.repo} at {self.revision}"
        if self.commit is None:
            return [f"would push {self.describe()} to {where}", *self.file_lines(), *self.refusal_lines()]
        if not self.is_new:
            return [f"mix '{self.name}' is already there, whole, in {where}; nothing to do"]
        return [f"pushed {self.describe()} to {where}, commit {self.commit}"]

    def describe(self) -> str:
        """The mix in a few words."""
        visibility = "private" if self.is_private else "public"
        licenses = ", ".join(f"{license} {rows:,}" for license, rows in self.licenses.items())
        return f"mix '{self.name}' ({visibility}; {len(self.files)} files, {self.size:,} bytes; licenses: {licenses})"

    def file_lines(self) -> list[str]:
        return [f"  {size:>15,}  {name}" for name, size in self.files.items()]

    def refusal_lines(self) -> list[str]:
        return [f"would be refused: {each}" for each in self.refused]


def push(cfg: PushConfig) -> Pushed:
    """Upload a mix in one commit, unless it is there; with `dry_run` say only what would be uploaded.

    Raises UserError for a mix that may not be published, and for a repository that holds something else.
    """
    check_repo(cfg.repo)
    if unknown := [name for name in cfg.allow if name not in ALLOWED]:
        raise UserError(f"--allow {unknown[0]} is none of {', '.join(ALLOWED)}")
    workspace = Workspace(cfg.data)
    mix = workspace.open_mix(cfg.name)
    if damage := verify_folder(mix.folder, mix.name, workspace).damage:
        raise UserError(f"mix '{mix.name}' does not verify: {damage[0]}")
    names = sorted([*mix.lock.files, CHECKSUMS, LOCK])
    plan = Pushed(
        name=mix.name,
        repo=cfg.repo,
        revision=cfg.revision,
        is_private=not cfg.public,
        files={name: (mix.folder / name).stat().st_size for name in names},
        licenses=mix.lock.licenses,
    )
    refused = find_refusals(mix, cfg.allow)
    if cfg.dry_run:
        return replace(plan, refused=tuple(refused))
    if refused:
        raise UserError(refused[0])
    if not has_token():
        raise UserError("no token of the hub; log in with hf auth login, or set HF_TOKEN to a token that may write")
    with hub_client(f"mix '{mix.name}' could not be pushed to {cfg.repo}") as api:
        return upload(api, mix, plan)


def find_refusals(mix: Mix, allow: Sequence[str]) -> list[str]:
    """Why a mix may not be published, each in one sentence, but for what is allowed by name."""
    return [
        f"{why}, or publish it all the same with --allow {name}"
        for name, why in mix_concerns(mix).items()
        if name not in allow
    ]


def upload(api: "HfApi", mix: Mix, plan: Pushed) -> Pushed:
    """Bring a mix into its repository, which is made where there is none."""
    is_public = find_visibility(api, plan.repo)
    if is_public is None:
        api.create_repo(plan.repo, repo_type="dataset", private=plan.is_private)
    elif is_public == plan.is_private:
        raise UserError(other_visibility(plan))
    names = list(plan.files)
    branches = [each.name for each in api.list_repo_refs(plan.repo, repo_type="dataset").branches]
    main = list_files(api, plan.repo, MAIN)
    refuse_other_mix(api, main, plan)
    is_branch = plan.revision != MAIN and plan.revision in branches
    there = list_files(api, plan.repo, plan.revision) if is_branch else main
    # A branch begins as a copy of main, which keeps what is in it.
    is_copy = plan.revision != MAIN and there.commit == main.commit
    # A card may be edited on the hub.
    is_same = not there.differing(mix.folder, [name for name in names if name != CARD])
    if there.names and not is_same and not is_copy:
        refuse_other_mix(api, there, plan)
        raise UserError(
            f"{plan.repo} holds another version of mix '{mix.name}' at {plan.revision}; give --revision BRANCH or "
            "another repository"
        )
    if plan.revision not in branches:
        api.create_branch(plan.repo, repo_type="dataset", branch=plan.revision, revision=there.commit)
    if is_same:
        if there.differing(mix.folder, [CARD]):
            log.info("the card of %s is another one than here, and stays as it is", plan.repo)
        return replace(plan, commit=there.commit)
    return replace(plan, commit=commit(api, mix, plan, there), is_new=True)


def find_visibility(api: "HfApi", repo: str) -> bool | None:
    """Whether a repository is public; None where there is none."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return not api.repo_info(repo, repo_type="dataset").private
    except RepositoryNotFoundError:
        return None


def other_visibility(plan: Pushed) -> str:
    """The sentence for a repository that is public where the mix is not to be, or the other way round."""
    if plan.is_private:
        return f"{plan.repo} is public; give --public to publish mix '{plan.name}' for all, or another repository"
    return f"{plan.repo} is private, and --public makes only a new repository public; change it in its settings"


def refuse_other_mix(api: "HfApi", there: HubFiles, plan: Pushed) -> None:
    """Raises UserError where a repository holds something that is no version of this mix."""
    if not there.names:
        return
    if LOCK not in there.files:
        raise UserError(f"{plan.repo} holds something else ({', '.join(there.names[:3])}); give another repository")
    with tempfile.TemporaryDirectory() as folder:
        path = api.hf_hub_download(plan.repo, LOCK, repo_type="dataset", revision=there.commit, local_dir=folder)
        name = told_name(Path(path))
    if name != plan.name:
        raise UserError(f"{plan.repo} holds another mix than '{plan.name}'; give another repository")


def commit(api: "HfApi", mix: Mix, plan: Pushed, there: HubFiles) -> str:
    """Commit a mix and nothing else on top of a commit; returns the new one, in which every file is what it is here."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    names = list(plan.files)
    log.info("pushing %s to %s at %s", plan.describe(), plan.repo, plan.revision)
    made = api.create_commit(
        plan.repo,
        [
            *(CommitOperationDelete(name) for name in there.names if name not in names),
            *(CommitOperationAdd(name, mix.folder / name) for name in names),
        ],
        commit_message=f"Publish mix {mix.name}",
        repo_type="dataset",
        revision=plan.revision,
        parent_commit=there.commit,
    )
    if lost := list_files(api, plan.repo, made.oid).differing(mix.folder, names):
        raise UserError(f"{lost[0]} of {plan.repo} is not what was sent; remove the branch there and push again")
    return made.oid
