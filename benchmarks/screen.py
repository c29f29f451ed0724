"""All figures of screening: planted faults, clean rows, scale, duplicates and embedding; one JSON line comes last."""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from screening.curate_runs import Ran, run_python
from screening.rules import judge_rules
from screening.scale import ROWS, measure_scale

PARTS = ("rules", "scale", "duplicates", "embedding")
MILLION = 1_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", choices=PARTS, help="a part to run, may be repeated; all by default")
    parser.add_argument(
        "--rows",
        action="append",
        type=int,
        help="pairs of the scale part, may be repeated; 10k, 100k and 1M by default",
    )
    arguments = parser.parse_args()
    parts = arguments.only or PARTS
    # a part that is not run leaves nulls
    names = ("rules", "scale", "semantic_50k", "semantic_1m_s", "rescreen_1m_cpu_s", "embed_short")
    figures: dict[str, Any] = dict.fromkeys(names)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if "rules" in parts:
            heading("Planted faults and clean rows")
            figures["rules"] = judge_rules(folder)
        if "scale" in parts:
            heading("Scale, without embedding and scoring")
            scaled = measure_scale(folder, arguments.rows or ROWS)
            figures["scale"] = {str(size): cost(found.screened) for size, found in scaled.items()}
            if MILLION in scaled:
                figures["rescreen_1m_cpu_s"] = round(scaled[MILLION].rescreened.cpu_s, 2)
    if "duplicates" in parts:
        heading("Duplicates")
        found = benchmark("duplicates.py")
        figures["semantic_50k"], figures["semantic_1m_s"] = found["semantic_50k"], found["semantic_1m_s"]
    if "embedding" in parts:
        heading("Embedding")
        short = benchmark("embedding.py")["short"]
        figures["embed_short"] = {name: short[name] for name in ("ours", "sentence_transformers")}
    print(json.dumps(figures))


def heading(text: str) -> None:
    print(f"\n{text}\n", flush=True)


def cost(ran: Ran) -> dict[str, float]:
    return {"cpu_s": round(ran.cpu_s, 1), "rss_mb": round(ran.rss_mb)}


def benchmark(name: str) -> dict[str, Any]:
    """Run the benchmark beside this one, show its tables, and return the object that it prints last."""
    ran = run_python(str(Path(__file__).with_name(name)), "--json")
    print("\n".join(ran.printed))
    return ran.summary


if __name__ == "__main__":
    main()
