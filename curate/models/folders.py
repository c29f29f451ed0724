"""Find the folder of a local, embedded or hub model."""

from pathlib import Path

from curate.models.embedded import embedded_folder
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
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        patterns = ["*.safetensors", "*.json", "*.txt", "*.jinja", "*.model"]
        return Path(snapshot_download(place, allow_patterns=patterns))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"no folder and no reachable hub model '{place}' ({reason})") from error
