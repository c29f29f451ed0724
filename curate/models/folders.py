"""Find the folder of a local, embedded or hub model."""

from pathlib import Path

from curate.models.embedded import embedded_folder
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
        patterns = ["*.safetensors", "*.json", "*.txt", "*.jinja", "*.model"]
        return Path(snapshot_download(place, allow_patterns=patterns))
