"""Where real data lies that some tests read; they are skipped where it is absent."""

from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2] / "shared"
DATASETS = SHARED / "datasets"
PAIRS = DATASETS / "ultrafeedback_pairs.parquet"

needs_datasets = pytest.mark.skipif(not DATASETS.is_dir(), reason="the public datasets are not here")
needs_pairs = pytest.mark.skipif(not PAIRS.is_file(), reason="the public pair files are not here")
