"""What every measured process has in common: its job, its memory, its clock, and adapters with the same weights."""

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BETA = 0.2
RATE = 1e-3
ADAPTER = {"r": 8, "lora_alpha": 16, "lora_dropout": 0.0, "target_modules": ["q_proj", "v_proj"]}
START, SHAKE = 0.02, 0.05
"""Spread of an adapter's first weights, and of those that change what the model says."""


def run_job(kinds: dict[str, Callable[[dict[str, Any]], dict[str, Any]]]) -> None:
    """Do the job in the file that the first argument names, and write what came of it to the second."""
    job = json.loads(Path(sys.argv[1]).read_text())
    found = kinds[job["kind"]](job)
    Path(sys.argv[2]).write_text(json.dumps(found))


def set_threads(job: dict[str, Any]) -> None:
    """All processes compute with the same threads."""
    import torch

    torch.set_num_threads(job["threads"])


def peak_mb() -> float:
    """The most memory that was resident since `forget_peak`, or since the process began."""
    # getrusage would tell the peak of the parent, if that was higher
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM:")) / 1024


def resident_mb() -> float:
    """Memory that is resident now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def forget_peak() -> None:
    """Begin the peak anew, so that loading and the reference are no part of it."""
    Path("/proc/self/clear_refs").write_text("5")


@dataclass
class Meter:
    """Seconds and memory of the steps, the first of which is a warm-up; on a GPU with the work waited for."""

    device: str
    base_mb: float = field(default_factory=resident_mb)
    cpu_s: list[float] = field(default_factory=list)
    wall_s: list[float] = field(default_factory=list)
    begun: tuple[float, float] | None = None

    def begin(self) -> None:
        """Before a step."""
        if not self.cpu_s and self.begun is None:
            forget_peak()
            if self.device == "cuda":
                import torch

                torch.cuda.reset_peak_memory_stats()
        self.begun = self.now()

    def end(self) -> None:
        """After a step, weights moved."""
        assert self.begun is not None
        cpu, wall = self.now()
        self.cpu_s.append(cpu - self.begun[0])
        self.wall_s.append(wall - self.begun[1])

    def now(self) -> tuple[float, float]:
        """CPU seconds of all threads and wall seconds."""
        if self.device == "cuda":
            import torch

            torch.cuda.synchronize()
        return time.process_time(), time.perf_counter()

    def report(self) -> dict[str, Any]:
        """Of the steps after the warm-up; the peak is of all steps, warm-up included."""
        found: dict[str, Any] = {"cpu_s": self.cpu_s[1:], "wall_s": self.wall_s[1:]}
        found |= {"base_mb": self.base_mb, "peak_mb": peak_mb()}
        if self.device == "cuda":
            import torch

            found["peak_gpu_gib"] = torch.cuda.max_memory_allocated() / 2**30
        return found


def set_adapter(model: Any, spread_of_second: float, spread_of_first: float = START, seed: int = 3) -> Any:
    """Give a PEFT model's adapter drawn weights, the same in every process whatever wraps the model."""
    import torch

    weights = {plain_name(name): value for name, value in model.named_parameters() if "lora_" in name}
    chance = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in sorted(weights.items()):
            spread = spread_of_second if "lora_B" in name else spread_of_first
            value.copy_(torch.randn(value.shape, generator=chance) * spread)
    return model


def shaken(model: Any) -> Any:
    """An adapter that changes what the model says, so that nothing is equal by being zero."""
    return set_adapter(model, SHAKE, SHAKE)


def plain_name(name: str) -> str:
    """A parameter's name without what wraps the model."""
    return name.rsplit("base_model.model.", 1)[-1]


def write_gradients(model: Any, path: Path) -> None:
    """The adapter's gradients, in float64, for another process to compare."""
    from safetensors.torch import save_file

    found = {plain_name(name): value.grad for name, value in model.named_parameters() if value.grad is not None}
    save_file({name: value.double().cpu().contiguous() for name, value in found.items()}, path)


def gradient_differences(one: Path, other: Path) -> dict[str, float]:
    """How far gradients a and b lie apart.

    `tensor`: the largest over the adapter's tensors of |a - b| / |b|, Euclidean norms; `all`: the same of all
    tensors as one; `entry`: the largest difference of an entry over the largest entry.
    """
    import torch
    from safetensors.torch import load_file

    first, second = load_file(one), load_file(other)
    if first.keys() != second.keys():
        raise RuntimeError(f"{one.name} and {other.name} are gradients of different tensors")
    a, b = (torch.cat([tensors[name].flatten() for name in sorted(tensors)]) for tensors in (first, second))
    return {
        "tensor": max(((first[name] - second[name]).norm() / second[name].norm()).item() for name in first),
        "all": ((a - b).norm() / b.norm()).item(),
        "entry": ((a - b).abs().max() / b.abs().max()).item(),
    }
