"""Check in full what training and evaluation stored: a run, an evaluation, token files, references, features."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from curate.store.folders import check_folder, read_folder
from curate.store.runs import ASKED, CHECKPOINTS, MANIFEST, PLAN, check_checkpoint, read_run
from curate.store.tensor_files import read_tensors
from curate.store.workspace import Workspace
from schemas.errors import UserError


def check_run(folder: Path) -> str:
    """Kind and base of a run, or that it is under way. Raises Damaged where a file of it is not what was written."""
    run = read_run(folder)
    for name in (ASKED, PLAN):
        if (folder / name).exists():
            read_folder(
                folder / name, folder.name, f"remove it, and the command that trains run '{folder.name}' goes on"
            )
    if run is None:
        steps = sorted((folder / CHECKPOINTS).glob("step-*"))
        for path in steps:
            check_checkpoint(path, f"remove {path}, and training goes on from the one before, or begins anew")
        return f"not finished, {len(steps)} checkpoints; its train command goes on with it"
    run.check()
    return f"{run.kind} of {run.base}, whole"


def check_evaluation(folder: Path) -> str:
    """Raises Damaged where a file of an evaluation is not what was written."""
    check_folder(folder / "results.json", folder.name, "give its evaluate command again: no call is repeated")
    return "whole"


def check_tokens(workspace: Workspace) -> str:
    """Raises Damaged where a split of tokens is not what was written."""
    return count_whole("split", workspace.tokens.glob("*/[!.]*"), check_split)


def check_split(folder: Path) -> None:
    remedy = f"remove {folder}, and training makes its tokens again"
    check_folder(folder / MANIFEST, f"{folder.parent.name}-{folder.name}", remedy)


def check_references(workspace: Workspace) -> str:
    """Raises Damaged where log-probabilities of a reference are not what was measured."""
    return count_whole("reference", workspace.references.glob("[!.]*"), check_reference)


def check_reference(folder: Path) -> None:
    remedy = f"remove {folder}, and training measures its rows again"
    for path in sorted(folder.glob("part-*")):
        read_tensors(path, f"remove {path}, and training measures its rows again")
    # Without it the parts are not all there yet.
    if (folder / MANIFEST).exists():
        check_folder(folder / MANIFEST, folder.name, remedy)


def check_features(workspace: Workspace) -> str:
    """Raises Damaged where features that reward heads were fitted on are not what was computed."""
    files = workspace.reward_features.glob("*.safetensors")
    return count_whole("file", files, lambda path: read_tensors(path, f"remove {path}, and it is computed again"))


def refuse_damage(damage: Sequence[UserError]) -> None:
    """Raises UserError with the first of what was found damaged, and how many more."""
    if damage:
        raise UserError(f"{damage[0]}{f' (and {len(damage) - 1} more)' if len(damage) > 1 else ''}")


def count_whole(what: str, places: Iterable[Path], check: Callable[[Path], object]) -> str:
    """How many there are; raises UserError with the first damage, and how many more."""
    damage: list[UserError] = []
    count = 0
    for place in sorted(places):
        count += 1
        try:
            check(place)
        except UserError as error:
            damage.append(error)
    refuse_damage(damage)
    return f"{count} {what}{'' if count == 1 else 's'}, whole"
