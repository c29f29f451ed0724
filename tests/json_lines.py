"""Write the files of rows that tests read."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def write_lines(path: Path, rows: Iterable[Any]) -> Path:
    """A JSON object a line; returns the path."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
