"""Files that travel with the package: package data in an installed wheel, `data/` in a source checkout."""

from importlib.resources import files
from pathlib import Path


def asset(*parts: str) -> Path:
    """Path of a shipped file or folder, e.g. `asset("models", "reward-mini")`; it need not exist."""
    package = Path(str(files("curate")))
    installed = package / "data"
    return (installed if installed.is_dir() else package.parent / "data").joinpath(*parts)
