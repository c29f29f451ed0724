"""Inputs that users of other tools reported, with what is expected of them; they lie beside the project."""

from collections.abc import Callable
from pathlib import Path

import pytest
from shared_data import SHARED


@pytest.fixture
def case() -> Callable[[str], Path]:
    """The folder of a reported case by its name; skips where the cases are absent."""

    def find(name: str) -> Path:
        folder = SHARED / "cases" / name
        if not folder.is_dir():
            pytest.skip(f"no {folder}")
        return folder

    return find
