"""CPU seconds and memory of screening and of screening again, without embedding and scoring."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from screening.curate_runs import Ran, curate, run_python
from screening.evaluation import evaluation_files
from screening.perturb import write_pairs

ROWS = (10_000, 100_000, 1_000_000)
UNEMBEDDED = ("off_topic", "semantic_duplicate_prompt", "semantic_duplicate_pair")
"""Rules that need vectors."""
BUILD = "scale"


@dataclass(frozen=True)
class Scaled:
    """What so many pairs took, each step a process of its own."""

    imported: Ran
    screened: Ran
    rescreened: Ran


def measure_scale(folder: Path, sizes: Sequence[int] = ROWS) -> dict[int, Scaled]:
    """Print a line a size. Everything that is written for a size is deleted after it."""
    print(f"{'pairs':>9}  {'MB':>6}  {'import':>15}  {'screening':>15}  {'s/100k':>6}  {'screening again':>15}")
    found = {}
    for size in sizes:
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            path, data = Path(scratch) / "pairs.jsonl", Path(scratch) / "data"
            size_mb = write_pairs(path, size) / 2**20
            scaled = found[size] = scale(path, data)
            steps = (scaled.imported, scaled.screened, scaled.rescreened)
            imported, screened, again = (f"{ran.cpu_s:.1f} s, {ran.rss_mb:.0f} MB" for ran in steps)
            rate = scaled.screened.cpu_s / size * 100_000
            print(f"{size:9,}  {size_mb:6.0f}  {imported:>15}  {screened:>15}  {rate:6.1f}  {again:>15}")
            print("  seconds of the stages: " + ", ".join(f"{s} {t:.1f}" for s, t in stage_seconds(data).items()))
    return found


def scale(path: Path, data: Path) -> Scaled:
    """Import the file, build it, and screen the build again with another margin.

    The import is a process of its own; the build finds its table and does the rest.
    """
    data.mkdir()
    imported = run_python(str(Path(__file__).with_name("import_pairs.py")), str(path), str(data))
    against = [text for file in evaluation_files(data) for text in ("--decontaminate", str(file))]
    skipped = [text for rule in UNEMBEDDED for text in ("--skip-rule", rule)]
    screened = curate("build", "--source", str(path), "--name", BUILD, *against, *skipped, data=data)
    if len(list((data / "tables" / "read_pairs").iterdir())) != 1:
        raise RuntimeError("the build read the file again: its time is not that of screening")
    rescreened = curate("screen", BUILD, "--min-margin", "0.5", data=data)
    return Scaled(imported, screened, rescreened)


def stage_seconds(data: Path) -> dict[str, float]:
    """Stage -> wall seconds of its tables, in the order they were made."""
    manifests = sorted(data.glob("tables/*/*/manifest.json"), key=lambda path: path.stat().st_mtime)
    seconds: dict[str, float] = {}
    for path in manifests:
        parts = json.loads(path.read_text())["parts"]
        seconds[path.parts[-3]] = seconds.get(path.parts[-3], 0.0) + sum(part["seconds"] for part in parts)
    return seconds
