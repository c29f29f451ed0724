"""DPO with LoRA beside TRL 1.16: CPU seconds a step, memory, arithmetic, equality; tables and, last, one JSON line.

All train on the same real pairs in the same steps: 8 pairs that fit untruncated in 512 tokens, as two micro-batches
of 4, LoRA of rank 8 on query and value without dropout, beta 0.2, AdamW at 1e-3, fp32 on all cores. Every run is a
process of its own, the arms take turns, and every round has other pairs; figures are medians of the rounds, seconds
are CPU seconds of all threads, so that other work on the machine disturbs little, and memory is the most that was
resident during the steps, nothing taken off. MB are 2^20 bytes.

  steps     ours, TRL as it is tuned best (`dpo_trl.py` says how) and TRL's defaults, and what this machine multiplies
            matrices at, measured in the same rounds
  equality  losses and gradients of 32 pairs beside TRL's and a plain float64 implementation
  curve     the losses of 50 steps of 2 pairs beside TRL's, on the shortest pairs
  rss       peak memory of an epoch over 200,000 rows over that of 2,000, with a tiny model that would not hide them;
            all rows are read and every step has its metrics, but most are not computed
  batches   4 to 256 pairs a step, the 32 shortest again and again, under one token budget: memory, and gradients
            against other micro-batches

`--only steps,curve` runs parts. With `--work FOLDER` what is measured stays there, a command that was killed goes on
where it was, and the last line is made of all that is there; what is missing is null. On `--device cuda` the steps are
in bf16: tokens a second, peak GiB, the share of the card's measured matrix rate, and 64 pairs of 512 tokens.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from curate.flags import set_defaults

set_defaults()
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import dpo_tables  # noqa: E402
from dpo_measured import gradient_differences  # noqa: E402
from dpo_models import MODELS, prepared  # noqa: E402
from dpo_pairs import MICRO, PAIRS_FILE, Pair, dealt_at_random, length_groups, real_pairs, write_steps  # noqa: E402

from schemas.errors import UserError  # noqa: E402

HERE = Path(__file__).parent
ARMS = {"trl_default": "dpo_trl.py", "trl_tuned": "dpo_trl.py", "ours": "dpo_ours.py"}
"""Arm -> what runs it; they take turns in this order."""
PARTS = ("steps", "equality", "curve", "rss", "batches")
EQUAL_PAIRS = 32
CURVE_PAIRS = 2
"""Pairs a step of the curve."""
BATCHES = (4, 8, 16, 32, 64, 128, 256)
SHORTEST = 32
"""Different pairs of the batches part, which repeat."""
STORES = (2_000, 200_000)
WIDE = 64
"""Pairs of one step on a GPU."""

Steps = list[list[list[Pair]]]


class Missing(Exception):
    """A part that is not run now and was not run before."""


@dataclass(frozen=True)
class Bench:
    """What is asked, and what everything is measured with."""

    cfg: argparse.Namespace
    folder: Path
    """Of the model."""
    tokenizer: Path
    pairs: list[Pair]
    may_run: bool = True

    def child(self, name: str, script: str, kind: str, dealt: Steps | None = None, **job: Any) -> dict[str, Any]:
        """What a process of its own finds, or found before with the same job and the same code."""
        cfg, work = self.cfg, self.cfg.work
        job |= {"kind": kind, "threads": cfg.threads, "device": cfg.device, "max_length": cfg.max_length}
        decides = [cfg.model, job, [] if dealt is None else [[[vars(p) for p in m] for m in s] for s in dealt]]
        decides.append(code_digest(script, name.startswith("steps")))
        digest = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:12]
        place = work / "found" / f"{name}-{digest}"
        result, gradients = place.with_suffix(".json"), place.with_suffix(".safetensors")
        if not result.is_file():
            if not self.may_run:
                raise Missing
            place.parent.mkdir(parents=True, exist_ok=True)
            job |= {"model": str(self.folder), "tokenizer": str(self.tokenizer), "work": str(work)}
            job |= {"steps": str(work / "steps.json"), "gradients": str(gradients)}
            if dealt is not None:
                write_steps(work / "steps.json", dealt)
            run_child(HERE / script, job, work, result)
        found: dict[str, Any] = json.loads(result.read_text())
        print(f"  {name}: {dpo_tables.short(found)}", flush=True)
        return found | {"gradients": str(gradients)}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 2 for the user's mistake."""
    try:
        cfg = read_flags(argv)
        with tempfile.TemporaryDirectory() as scratch:
            cfg.work = cfg.work or Path(scratch)
            cfg.work.mkdir(parents=True, exist_ok=True)
            print(json.dumps(measure(cfg)))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def read_flags(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags, checked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, help="smollm2 by default; on a GPU qwen0.5b")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--only", type=names_of(PARTS), default=list(PARTS), help=f"parts of {','.join(PARTS)}")
    parser.add_argument("--arms", type=names_of(ARMS), default=list(ARMS), help=f"arms of {','.join(ARMS)}")
    parser.add_argument("--pairs-file", type=Path, default=PAIRS_FILE)
    parser.add_argument("--pairs", type=int, help="pairs that fit to choose from, by chance; all by default")
    parser.add_argument("--max-length", type=int, default=512, help="tokens of a prompt and a response")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1, help="measured steps a round, after one to warm up")
    parser.add_argument("--equal-pairs", type=int, default=EQUAL_PAIRS)
    parser.add_argument("--curve-steps", type=int, default=50)
    parser.add_argument("--batch-sizes", type=lambda text: [int(n) for n in text.split(",")], default=list(BATCHES))
    parser.add_argument("--budget", type=int, default=1024, help="tokens a micro-batch of the batches part")
    parser.add_argument("--stores", type=lambda text: [int(n) for n in text.split(",")], default=list(STORES))
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seed", type=int, default=30)
    parser.add_argument("--work", type=Path, help="folder that keeps what is measured, to go on there")
    cfg = parser.parse_args(argv)
    cfg.model = cfg.model or ("qwen0.5b" if cfg.device == "cuda" else "smollm2")
    if cfg.device == "cuda":
        cfg.only = [part for part in cfg.only if part in ("steps", "equality", "curve")]
    if min(cfg.rounds, cfg.steps, cfg.curve_steps, cfg.threads, cfg.equal_pairs // MICRO, *cfg.batch_sizes) < 1:
        raise UserError("--rounds, --steps, --curve-steps, --threads and --batch-sizes must be at least 1")
    return cfg


def names_of(known: Sequence[str] | dict[str, str]) -> Any:
    """A flag's type: names with commas between them, in the order they are known in."""

    def read(text: str) -> list[str]:
        asked = text.split(",")
        if unknown := sorted(set(asked) - set(known)):
            raise argparse.ArgumentTypeError(f"no {', '.join(unknown)}; known: {', '.join(known)}")
        return [name for name in known if name in asked]

    return read


def measure(cfg: argparse.Namespace) -> dict[str, Any]:
    """Every part that is asked for, tables printed; returns the last line."""
    from transformers import AutoConfig, AutoTokenizer

    tokenizer, folder = prepared("smollm2", cfg.work), prepared(cfg.model, cfg.work)
    fitting = real_pairs(cfg.pairs_file, AutoTokenizer.from_pretrained(tokenizer), cfg.max_length, cfg.seed)
    pairs = fitting[: cfg.pairs]
    print(f"{cfg.model}, {cfg.device}, {cfg.threads} threads; {len(pairs)} pairs of {dpo_tables.lengths(pairs)}")
    shape = dpo_tables.shape_of(AutoConfig.from_pretrained(folder))
    found: dict[str, Any] = {}
    parts = {"steps": measure_steps, "equality": measure_equality, "curve": measure_curve}
    if cfg.device == "cuda":
        parts["wide"] = measure_wide
    else:
        parts |= {"rss": measure_rss, "batches": measure_batches}
    for name, part in parts.items():
        may_run = name in cfg.only or (name == "wide" and "steps" in cfg.only)
        bench = Bench(cfg, folder, tokenizer, pairs, may_run)
        print(f"\n{name}{'' if may_run else ' (measured before)'}", flush=True)
        try:
            found[name] = part(bench)
        except Missing:
            print("  not measured")
            continue
        dpo_tables.PRINTED[name](found[name], shape, cfg)
    print()
    return dpo_tables.last_line(found, shape, cfg)


def measure_steps(bench: Bench) -> dict[str, Any]:
    """Arm -> its runs, and what it went over; `gemm` -> rates of the rounds."""
    cfg = bench.cfg
    grouped = length_groups(bench.pairs, cfg.rounds * cfg.steps, cfg.seed)
    every = {arm: grouped for arm in cfg.arms}
    if "trl_default" in every:
        every["trl_default"] = dealt_at_random(grouped, cfg.seed)
    # a round has pairs of its own
    cuts = range(0, len(grouped), cfg.steps)
    dealt = {arm: [steps[start : start + cfg.steps] for start in cuts] for arm, steps in every.items()}
    runs: dict[str, Any] = {arm: [] for arm in ("gemm", *dealt)}
    for turn in range(cfg.rounds):
        for arm, rounds in dealt.items():
            # the first step warms up, on the last pairs of the round before
            steps = [rounds[turn - 1][-1], *rounds[turn]]
            runs[arm].append(bench.child(f"steps-{arm}-{turn}", ARMS[arm], "steps", steps, arm=arm, turn=turn))
        runs["gemm"].append(bench.child(f"steps-gemm-{turn}", "dpo_flops.py", "gemm", turn=turn)["rates"])
    return {"runs": runs, "dealt": dealt}


def measure_equality(bench: Bench) -> dict[str, Any]:
    """Two of the three -> largest difference of a batch's loss, and how far their gradients lie apart."""
    chosen = sorted(bench.pairs[: bench.cfg.equal_pairs], key=Pair.longest)
    batches = [[chosen[start : start + MICRO]] for start in range(0, len(chosen), MICRO)]
    scripts = {"ours": "dpo_ours.py", "trl_tuned": "dpo_trl.py", "float64": "dpo_float64.py"}
    if bench.cfg.device == "cuda":
        del scripts["float64"]
    found = {
        arm: bench.child(f"equality-{arm}", script, "equality", batches, arm=arm) for arm, script in scripts.items()
    }
    couples = [(one, other) for one in found for other in found if list(found).index(one) < list(found).index(other)]
    differences = {
        f"{one} and {other}": {
            "loss": max(abs(a - b) for a, b in zip(found[one]["loss"], found[other]["loss"], strict=True)),
            **gradient_differences(Path(found[one]["gradients"]), Path(found[other]["gradients"])),
        }
        for one, other in couples
    }
    return {"pairs": len(chosen), "losses": found["ours"]["loss"], "differences": differences}


def measure_curve(bench: Bench) -> dict[str, Any]:
    """Losses of ours, of TRL, and of ours a pair at a time, which tells how far rounding alone carries."""
    cfg = bench.cfg
    wanted = CURVE_PAIRS * cfg.curve_steps
    shortest = sorted(bench.pairs, key=Pair.longest)[:wanted]
    chosen = [shortest[i * 7919 % len(shortest)] for i in range(wanted)]
    whole = [[chosen[start : start + CURVE_PAIRS]] for start in range(0, wanted, CURVE_PAIRS)]
    single = [[[pair] for pair in step[0]] for step in whole]
    ways = {"ours": ("dpo_ours.py", whole), "ours, a pair at a time": ("dpo_ours.py", single)}
    ways["trl_tuned"] = ("dpo_trl.py", whole)
    return {
        name: bench.child(f"curve-{name.replace(', ', '-').replace(' ', '-')}", script, "curve", steps, arm=name)[
            "loss"
        ]
        for name, (script, steps) in ways.items()
    }


def measure_rss(bench: Bench) -> dict[str, Any]:
    """Rows -> memory of training on a store of so many; the model is a tiny one, so that rows would show."""
    small, budget = replace(bench, folder=prepared("tiny", bench.cfg.work)), bench.cfg.budget
    dealt = [[bench.pairs]]
    return {
        str(rows): small.child(f"rss-{rows}", "dpo_scale.py", "rss", dealt, rows=rows, budget=budget)
        for rows in bench.cfg.stores
    }


def measure_batches(bench: Bench) -> dict[str, Any]:
    """Pairs a step -> memory, and how far the gradient lies from that of other micro-batches."""
    shortest = sorted(bench.pairs, key=Pair.longest)[:SHORTEST]
    found = {}
    for size in bench.cfg.batch_sizes:
        dealt = [[[shortest[i % len(shortest)] for i in range(size)]]]
        budget = bench.cfg.budget
        found[str(size)] = bench.child(f"batches-{size}", "dpo_scale.py", "batches", dealt, budget=budget)
    return found


def measure_wide(bench: Bench) -> dict[str, Any]:
    """Memory of one step of many long pairs under the token budget, on a GPU."""
    longest = sorted(bench.pairs, key=Pair.longest)[-WIDE:]
    dealt = [[[longest[i % len(longest)] for i in range(WIDE)]]]
    return bench.child("wide", "dpo_scale.py", "batches", dealt, budget=bench.cfg.budget)


def run_child(script: Path, job: dict[str, Any], work: Path, result: Path) -> None:
    """Run a job to its end; what it says on the way is shown only if it fails."""
    (work / "job.json").write_text(json.dumps(job))
    scratch = result.with_suffix(".part")
    environment = os.environ | {"PYTHONWARNINGS": "ignore"}
    command = [sys.executable, str(script), str(work / "job.json"), str(scratch)]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment)
    if ran.returncode:
        raise RuntimeError(f"{script.name} ended with {ran.returncode} on {job['kind']}:\n{ran.stderr[-4000:]}")
    scratch.rename(result)


def code_digest(script: str, in_turns: bool) -> list[str]:
    """Of the code that is measured and that measures it, so that nothing of another version is taken for it.

    What is measured `in_turns` is measured anew together, whichever of it has changed.
    """
    shared = ("dpo_measured.py", "dpo_pairs.py", "dpo_models.py")
    files = sorted(HERE.glob("dpo_*.py")) if in_turns else [HERE / name for name in (script, *shared)]
    if in_turns or script in ("dpo_ours.py", "dpo_scale.py"):
        files += [HERE / "dpo_ours.py", HERE / "dpo_store.py", *sorted((HERE.parent / "train").rglob("*.py"))]
    files = [file for file in files if file.name != "dpo_tables.py"]
    versions = [f"{library} {version(library)}" for library in ("torch", "transformers", "peft", "trl")]
    return [hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest(), *versions]


if __name__ == "__main__":
    sys.exit(main())
