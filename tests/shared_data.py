"""Where real data lies that some tests read; they are skipped where it is absent."""

from pathlib import Path

SHARED = Path(__file__).parents[2] / "shared"
DATASETS = SHARED / "datasets"
