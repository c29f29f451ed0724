"""Find the folder of a local, embedded or hub model, and check its weights before they are loaded."""

from pathlib import Path

from curate.models.digests import HUB_SNAPSHOT, LOADED, check_snapshot
from curate.models.embedded import EMBEDDED, embedded_folder, embedded_place, mend_embedded
from curate.models.hub import asking_hub, check_endpoint
from schemas.errors import UserError


def model_folder(name: str) -> Path:
    """The folder of an embedded model, of `hf:FOLDER`, or of the hub's newest snapshot of `hf:OWNER/NAME`."""
    if name == "smollm2":
        return embedded_folder(name)
    place = name.removeprefix("hf:")
    if Path(place).is_dir():
        return Path(place)
    if place.startswith((".", "/", "~")) or place.count("/") != 1:
        raise UserError(f"no model folder {place}")
    check_endpoint()
    from huggingface_hub import snapshot_download

    with asking_hub(f"no folder and no reachable hub model '{place}'"):
        return Path(snapshot_download(place, allow_patterns=[*(f"*{end}" for end in LOADED), "README.md"]))


def check_weights(folder: Path) -> Path:
    """The folder, whose files are those that its digest stands for; an embedded model is unpacked again if need be.

    The digest of any other folder is that of its files. Raises Damaged for a damaged snapshot of the hub.
    """
    if HUB_SNAPSHOT.search(folder.absolute().as_posix()):
        check_snapshot(folder)
    for alias in EMBEDDED:
        if folder == embedded_place(alias):
            mend_embedded(alias)
    return folder
