"""Put builds together into a versioned dataset: a recipe, its lock, and a folder of rows with a held-out split.

    mix(MixConfig(name="v1", add=("uf", "sft:500"), ratio="1:4"))

A share is one of what screening kept of a build: `NAME:0.5` is a random half of it, rounded to whole pairs. The numbers
of other tools mean other things, as `curate.mix.foreign_recipe` says.
"""

import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from curate.config import BuildConfig, MixConfig
from curate.files import Damaged, check_file, file_sha256, full_disk, refuse_read_only
from curate.mix.card.card import bibtex, write_card
from curate.mix.card.croissant import write_croissant
from curate.mix.card.facts import gather_facts
from curate.mix.choose import choose_rows
from curate.mix.licenses import MixLicense, mix_license
from curate.mix.recipe import Recipe, read_recipe
from curate.mix.resolve import resolve_recipe
from curate.mix.write import write_rows
from curate.models.licenses import known_terms
from curate.pipeline.build import build
from curate.pipeline.mend import mended
from curate.screen.human import all_verdicts, are_applied, verdicts_on
from curate.store.mixes import (
    CARD,
    CHECKSUMS,
    CROISSANT,
    LOCK,
    RECIPE,
    ROWS_FILE,
    MixLock,
    PinnedSource,
    PinnedTable,
    checksums,
    write_lock,
)
from curate.store.workspace import Workspace, check_name
from schemas.errors import UserError
from schemas.names import PERSONAL_DATA
from schemas.stages import StageName, pairs_stage

log = logging.getLogger(__name__)

FAR_FROM_ASKED = 0.05
"""From this difference on, the share that is held out is said beside the one that was asked for."""

LICENSE = "license"
"""Of the facts of a lock, the one about the license of the mix."""


@dataclass(frozen=True)
class PublishedMix:
    """A published mix."""

    recipe: Recipe
    lock: MixLock
    path: Path

    def summary(self) -> dict[str, Any]:
        """The JSON object of `curate mix --json`; the names are a contract."""
        return {
            "name": self.recipe.name,
            "rows": self.lock.rows,
            "train": self.lock.train,
            "heldout": self.lock.heldout,
            "sources": {source.build: source.rows for source in self.lock.sources},
            "kept": {source.build: source.kept for source in self.lock.sources},
            "left_out": {source.build: source.left_out for source in self.lock.sources},
            "duplicates_between_sources": self.lock.duplicates_between_sources,
            "like_heldout": self.lock.like_heldout,
            "license": self.lock.facts[LICENSE],
            "sha256": self.lock.sha256,
            "path": str(self.path),
        }

    def lines(self) -> list[str]:
        """The same for people to read."""
        sources = ", ".join(f"{source.rows} from {source.build}" for source in self.lock.sources)
        lines = [f"mix '{self.recipe.name}': {self.lock.rows} pairs ({sources}); {self.lock.heldout} held out"]
        left_out = {
            "duplicates between sources": self.lock.duplicates_between_sources,
            "like heldout": self.lock.like_heldout,
        }
        if any(left_out.values()):
            lines.append("left out: " + ", ".join(f"{rows} {name}" for name, rows in left_out.items() if rows))
        for source in self.lock.sources:
            if source.left_out:
                reasons = "".join(f", -{rows} {name.replace('_', ' ')}" for name, rows in source.left_out.items())
                lines.append(f"{source.build}: {source.kept} kept by screening{reasons} = {source.rows} in the mix")
        share, asked = self.lock.heldout / self.lock.rows, self.recipe.heldout_share
        if abs(share - asked) > FAR_FROM_ASKED:
            lines.append(
                f"held out: {share:.0%} of the pairs, where {asked:.0%} of the prompt groups were asked for; which "
                "these are goes by the seed"
            )
        lines += MixLicense.read(self.lock.facts[LICENSE]).lines()
        if personal := {name: rows for name, rows in self.lock.facts["flags"].items() if name in PERSONAL_DATA}:
            kinds = ", ".join(f"{name} {rows}" for name, rows in personal.items())
            lines.append(
                f"careful: personal data is flagged ({kinds}), for which curate verify and push refuse the mix; screen "
                "its builds again with --redact or --drop-personal-data and publish a new one"
            )
        return [*lines, f"{self.path}  sha256 {self.lock.sha256}"]


def mix(cfg: MixConfig) -> PublishedMix:
    """Publish a mix, or make a published one again from the tables its lock pins."""
    workspace = Workspace(cfg.data)
    check_name("mix name", cfg.name, (*workspace.mix_names(), *workspace.build_names()))
    lock = find_lock(workspace, cfg.name)
    if lock:
        check_recipe_file(workspace, cfg.name, lock, is_told=bool(cfg.add or cfg.recipe))
    else:
        workspace.refuse_early_mix(cfg.name)
    recipe = resolve_recipe(cfg, workspace)
    builds = [source.build for source in recipe.sources]
    if lock:
        return mended(workspace, builds, lambda: republish(workspace, recipe, lock))
    if workspace.build(cfg.name).exists():
        raise UserError(f"'{cfg.name}' is the name of a build; choose another for the mix")
    return mended(workspace, builds, lambda: publish(workspace, recipe))


def find_lock(workspace: Workspace, name: str) -> MixLock | None:
    """The lock of a published mix; None where there is none, or a damaged one that is to be made again."""
    try:
        return workspace.open_mix(name).lock if workspace.lock(name).exists() else None
    except Damaged as error:
        log.warning("%s", error.found)
        return None


def check_recipe_file(workspace: Workspace, name: str, lock: MixLock, is_told: bool = False) -> None:
    """Raises Damaged where the recipe of a published mix is another one now; it may be gone where the flags tell it."""
    path, again = workspace.recipe(name), f"give curate mix {name} with its --add or --recipe again"
    if not path.exists():
        if is_told:
            return
        raise Damaged(f"{path} is missing", again)
    try:
        written = read_recipe(path, name)
    except UserError as error:
        raise Damaged(str(error), f"remove it, and {again}") from error
    if written.name != name:
        raise Damaged(f"{path} is the recipe of mix '{written.name}'", f"remove it, and {again}")
    if written.sha256() != lock.recipe_sha256:
        other = f"{workspace.lock(name)} belongs to another recipe than {path}"
        raise Damaged(other, f"choose a new name, or remove {path.name} and {again}")


def publish(workspace: Workspace, recipe: Recipe) -> PublishedMix:
    """A new mix; one that lost its lock gets it back where its rows come out as they lie there."""
    folder = workspace.mix(recipe.name)
    sources = [pin_build(workspace, source.build) for source in recipe.sources]
    refuse_unapplied(workspace, sources)
    with scratch_folder(folder, "made") as made:
        lock = write_mix(recipe, sources, workspace, made)
        # The checksums come next to last: a folder without them was never published.
        if (folder / CHECKSUMS).exists():
            path = workspace.lock(recipe.name)
            lost = f"{path} is lost, and the rows it stood for are not what its builds give now: "
            for name in lock.data_files():
                check_file(folder / name, lock.files[name], f"{lost}restore it, or publish a mix under a new name")
            log.warning("%s is lost; made again", path)
        with full_disk(folder):
            # A crash may have left rows of builds as they were then.
            for left in folder.glob("*.parquet"):
                if left.name not in lock.files and ROWS_FILE.fullmatch(left.name):
                    left.unlink()
            move_files(made, folder, [*lock.files, CHECKSUMS, LOCK])
    return PublishedMix(recipe, lock, folder)


@contextmanager
def scratch_folder(folder: Path, ending: str) -> Iterator[Path]:
    """A folder beside that of a mix, empty at first; at the end it is removed with all that is still in it."""
    made = folder.with_name(f".{folder.name}.{ending}")
    shutil.rmtree(made, ignore_errors=True)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def move_files(made: Path, folder: Path, names: Iterable[str]) -> None:
    """Put files of a folder that was made into the folder of a mix, in this order."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        os.replace(made / name, folder / name)


def pin_build(workspace: Workspace, name: str) -> PinnedSource:
    """The tables of a build, by key and content. The samples are imported when nobody built them yet."""
    if name == "samples" and not workspace.build("samples").exists():
        build(BuildConfig(source="samples", data=workspace.data))
    identities = workspace.read_build(name).identities

    def pin(stage: StageName) -> PinnedTable:
        return PinnedTable(stage, identities[stage])

    judged = StageName.COLLECT_HUMAN_VERDICTS
    return PinnedSource(
        build=name,
        is_embedded=StageName.FIND_SEMANTIC_DUPLICATES in identities,
        pairs=pin(pairs_stage(identities)),
        screened=pin(StageName.SCREEN_PAIRS),
        judged=pin(judged) if judged in identities else None,
    )


def refuse_unapplied(workspace: Workspace, sources: list[PinnedSource]) -> None:
    """Stop where reviewers judged pairs of a build after it was screened: the mix would hold pairs they rejected."""
    verdicts = all_verdicts(workspace.data)
    for source in sources:
        pairs = workspace.open_pinned(source.pairs, source.build)
        on_pairs = verdicts_on(pairs.scan(), verdicts) if verdicts.height else verdicts
        if not are_applied(on_pairs, workspace.open_pinned(source.judged, source.build) if source.judged else None):
            raise UserError(
                f"people judged pairs of build '{source.build}' since it was screened; apply what they said first: "
                f"curate screen {source.build}"
            )


def write_mix(
    recipe: Recipe,
    pinned: Sequence[PinnedSource],
    workspace: Workspace,
    folder: Path,
    facts: dict[str, Any] | None = None,
) -> MixLock:
    """Write a whole mix into a new folder; `facts` are those of the lock of a mix that is made again."""
    refuse_read_only(workspace.data)
    chosen = choose_rows(recipe, pinned, workspace)
    tables = {source.build: workspace.open_pinned(source.pairs, source.build) for source in pinned}
    with full_disk(folder):
        folder.mkdir(parents=True)
        files = write_rows(chosen.rows, tables, folder)
    counts, splits, licenses = (chosen.counts(column) for column in ("source", "split", "license"))
    facts = facts or {
        **gather_facts(workspace, pinned, chosen),
        LICENSE: mix_license(licenses, known_terms(workspace.data)).summary(),
    }
    lock = MixLock(
        name=recipe.name,
        recipe_sha256=recipe.sha256(),
        sources=tuple(
            replace(
                source,
                kept=chosen.kept[source.build],
                rows=counts.get(source.build, 0),
                left_out=chosen.left_out[source.build],
            )
            for source in pinned
        ),
        duplicates_between_sources=chosen.duplicates_between_sources,
        like_heldout=chosen.like_heldout,
        rows=chosen.rows.height,
        train=splits.get("train", 0),
        heldout=splits.get("heldout", 0),
        files=files,
        licenses=licenses,
        facts=facts,
    )
    return describe_mix(recipe, lock, folder)


def describe_mix(recipe: Recipe, lock: MixLock, folder: Path) -> MixLock:
    """Write all that follows from recipe and lock beside the rows of a mix: the recipe, the card, and last the lock."""
    with full_disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
        texts = {
            RECIPE: recipe.to_toml(),
            CARD: write_card(recipe, lock),
            CROISSANT: write_croissant(lock, bibtex(lock)),
        }
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8", newline="\n")
        others = {name: file_sha256(folder / name) for name in texts}
        lock = replace(lock, files={**{name: lock.files[name] for name in lock.data_files()}, **others})
        write_lock(folder, lock)
    return lock


def republish(workspace: Workspace, recipe: Recipe, lock: MixLock) -> PublishedMix:
    """The mix of an existing lock: as it lies there, or made again from the pinned tables."""
    name, folder = recipe.name, workspace.mix(recipe.name)
    if lock.recipe_sha256 != recipe.sha256():
        raise UserError(f"{workspace.lock(name)} belongs to another recipe than these flags; choose a new name")
    if damaged := workspace.open_mix(name).damage():
        with scratch_folder(folder, "remade") as made:
            if any(file in lock.data_files() for file in damaged):
                remade = write_mix(recipe, lock.sources, workspace, made, lock.facts)
            else:
                remade = describe_mix(recipe, lock, made)
            # A file that is whole may be written otherwise by now, such as the card.
            if lost := [file for file in damaged if remade.files.get(file) != lock.files.get(file)]:
                raise UserError(
                    f"{folder / lost[0]} could not be made again with the locked content (sha256 {lock.sha256})"
                ) from damaged[lost[0]]
            with full_disk(folder):
                (made / CHECKSUMS).write_bytes(checksums(lock.files))
                move_files(made, folder, damaged)
        for error in damaged.values():
            log.warning("%s; made again", error.found)
    for source in lock.sources:
        if workspace.build(source.build).exists():
            now = pin_build(workspace, source.build)
            if (now.pairs, now.screened) != (source.pairs, source.screened):
                log.info("build '%s' has changed since mix '%s'; publish a new mix to use it", source.build, name)
    return PublishedMix(recipe, lock, folder)
