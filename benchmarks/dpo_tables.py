"""Print the tables of `dpo.py`, one a part, and its last line."""

import argparse
import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from dpo_flops import Shape, Work, best_rate, done_flops, needed_flops, packed_work, padded_work, shape_of
from dpo_pairs import MICRO, Pair

__all__ = ["PRINTED", "last_line", "lengths", "shape_of", "short"]

Found = dict[str, Any]
KEYS = (
    "model",
    "pairs",
    "ours_cpu_s",
    "trl_tuned_cpu_s",
    "trl_default_cpu_s",
    "ours_peak_mb",
    "trl_tuned_peak_mb",
    "flop_ratio_tuned",
    "loss_error_over_trl",
    "gradient_error_over_trl",
    "gemm_share",
    "rss_200k_over_2k",
)


ERRORS = {"loss": "loss", "gradient": "all"}
"""What is compared with float64 -> its name among the differences."""


def lengths(pairs: Sequence[Pair]) -> str:
    """Mean tokens of a pair, for reading."""
    prompt, chosen, rejected = (statistics.fmean(column) for column in zip(*map(Pair.lengths, pairs), strict=True))
    return f"{prompt:.0f} prompt, {chosen:.0f} chosen and {rejected:.0f} rejected tokens on average"


def short(found: Found) -> str:
    """A measured process as one line of progress."""
    parts = [f"{name} {statistics.fmean(found[name]):.2f}" for name in ("cpu_s", "wall_s") if found.get(name)]
    parts += [f"{name} {found[name]:,.0f}" for name in ("base_mb", "peak_mb") if name in found]
    parts += [f"peak {found['peak_gpu_gib']:.2f} GiB"] if "peak_gpu_gib" in found else []
    if "loss" in found:
        parts.append(f"loss {found['loss'][0]:.6f} to {found['loss'][-1]:.6f}")
    if "rates" in found:
        parts.append(", ".join(f"{name} {value:.1f}" for name, value in found["rates"].items()) + " GFLOP/s")
    return "; ".join(parts)


def works(found: Found, device: str) -> dict[str, list[list[Work]]]:
    """Arm -> round -> what each measured step goes over; on a GPU TRL scores responses alone by itself."""
    on_cpu = device == "cpu"
    count: dict[str, Callable[[Any], Work]] = {
        "ours": lambda step: packed_work(step, on_cpu),
        "trl_tuned": lambda step: padded_work(step, True),
        "trl_default": lambda step: padded_work(step, not on_cpu),
    }
    return {arm: [[count[arm](step) for step in steps] for steps in dealt] for arm, dealt in found["dealt"].items()}


def mean_flops(found: Found, shape: Shape, device: str) -> dict[str, float]:
    """Arm -> operations a step."""
    return {
        arm: statistics.fmean(done_flops(shape, work, arm) for steps in rounds for work in steps)
        for arm, rounds in works(found, device).items()
    }


def seconds(runs: Sequence[Found], name: str = "cpu_s") -> list[float]:
    """Seconds a step of each run."""
    return [statistics.fmean(run[name]) for run in runs]


def print_steps(found: Found, shape: Shape, cfg: argparse.Namespace) -> None:
    """An arm a line, against ours; then what the machine can multiply."""
    runs, done, over = found["runs"], mean_flops(found, shape, cfg.device), works(found, cfg.device)
    clock = "wall_s" if cfg.device == "cuda" else "cpu_s"
    medians = {arm: statistics.median(seconds(runs[arm], clock)) for arm in done}
    unit = "wall" if cfg.device == "cuda" else "CPU"
    head = (
        f"{unit + ' s a step':>14} {'min to max':>16} {'times ours':>10} {'base MB':>8} {'peak MB':>8} {'of tuned':>8}"
    )
    print(f"\n{'arm':<12}{head} {'TFLOP':>7} {'times ours':>10} {'tokens':>7} {'scored':>7}")
    for arm, median in medians.items():
        values = seconds(runs[arm], clock)
        peak, base = (statistics.median(run[name] for run in runs[arm]) for name in ("peak_mb", "base_mb"))
        tuned = statistics.median(run["peak_mb"] for run in runs["trl_tuned"]) if "trl_tuned" in runs else math.nan
        times = times_ours(runs, arm, clock)
        flops = done[arm] / done["ours"] if "ours" in done else math.nan
        every = [work for steps in over[arm] for work in steps]
        tokens, scored = (statistics.fmean(getattr(work, name) for work in every) for name in ("tokens", "scored"))
        print(
            f"{arm:<12}{median:>14.2f} {f'{min(values):.2f} to {max(values):.2f}':>16} {times:>10.2f} {base:>8,.0f} "
            f"{peak:>8,.0f} {peak / tuned:>8.2f} {done[arm] / 1e12:>7.2f} {flops:>10.2f} "
            f"{tokens:>7,.0f} {scored:>7,.0f}"
        )
        check_scored(arm, runs[arm], over[arm])
        if cfg.device == "cuda":
            memory = statistics.median(run["peak_gpu_gib"] for run in runs[arm])
            print(f"{'':<12}{tokens_a_second(found, arm):,.0f} tokens a second, {memory:.2f} GiB")
    name, peak_rate = best_rate(runs["gemm"])
    print(f"matrix products: {peak_rate:.1f} GFLOP a {unit} second at best ({name}, median of the rounds)", end="")
    if "ours" in medians:
        print(
            f"; ours {needed_rate(found, shape, clock):.1f}, a share of {gemm_share(found, shape, clock):.2f}", end=""
        )
    print()


def times_ours(runs: Found, arm: str, clock: str) -> float:
    """How often our seconds an arm takes: the median of the rounds, in each of which both have the same pairs."""
    if "ours" not in runs:
        return math.nan
    ours = seconds(runs["ours"], clock)
    return statistics.median(one / other for one, other in zip(seconds(runs[arm], clock), ours, strict=True))


def tokens_a_second(found: Found, arm: str) -> float:
    """Tokens of the pairs, a prompt counted once, over wall seconds: the median of the rounds."""
    rounds = zip(found["dealt"][arm], seconds(found["runs"][arm], "wall_s"), strict=True)
    return statistics.median(
        statistics.fmean(sum(sum(pair.lengths()) for micro in step for pair in micro) for step in steps) / wall
        for steps, wall in rounds
    )


def check_scored(arm: str, runs: Sequence[Found], over: Sequence[Sequence[Work]]) -> None:
    """TRL's head must have met as many positions as are counted for it."""
    for run, works in zip(runs, over, strict=True):
        if "scored" in run and run["scored"] != [work.scored for work in works]:
            raise RuntimeError(f"{arm} scored {run['scored']} positions, not {[work.scored for work in works]}")


def needed_rate(found: Found, shape: Shape, clock: str) -> float:
    """Billions of needed operations of our step a second, the median of the rounds."""
    needed = [
        statistics.fmean(needed_flops(shape, packed_work(step)) for step in steps) for steps in found["dealt"]["ours"]
    ]
    taken = seconds(found["runs"]["ours"], clock)
    return statistics.median(flops / one for flops, one in zip(needed, taken, strict=True)) / 1e9


def gemm_share(found: Found, shape: Shape, clock: str = "cpu_s") -> float:
    """That over what the machine multiplies at best in the same rounds."""
    return needed_rate(found, shape, clock) / best_rate(found["runs"]["gemm"])[1]


def print_equality(found: Found, shape: Shape, cfg: argparse.Namespace) -> None:
    """The couples a line each, then how near to float64 ours is beside TRL, which no other processor changes much."""
    losses = found["losses"]
    print(f"\n{found['pairs']} pairs in batches of 4, adapters shaken; losses {min(losses):.4f} to {max(losses):.4f}")
    print(
        "largest |loss - loss| of a batch; |a - b| / |b| of the gradients, the worst tensor of the adapter and all of"
    )
    print("them as one; the largest difference of an entry over the largest entry")
    print(f"{'':<26} {'loss':>9} {'worst tensor':>13} {'all tensors':>12} {'entry':>9}")
    for couple, one in found["differences"].items():
        loss, tensor, every, entry = (one[name] for name in ("loss", "tensor", "all", "entry"))
        print(f"{couple:<26} {loss:>9.2e} {tensor:>13.2e} {every:>12.2e} {entry:>9.2e}")
    if ratios := errors_over_trl(found):
        shown = ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items())
        print(f"distance from float64, ours over TRL's: {shown}")


def errors_over_trl(found: Found) -> dict[str, float]:
    """Our distance from float64 over that of TRL: of the losses, and of all gradients as one; none without float64.

    A distance by itself is a fact about one processor's rounding.
    """
    ours, trl = (found["differences"].get(f"{arm} and float64") for arm in ("ours", "trl_tuned"))
    return {name: ours[part] / trl[part] for name, part in ERRORS.items()} if ours and trl else {}


def print_curve(found: Found, shape: Shape, cfg: argparse.Namespace) -> None:
    ours = found["ours"]
    print(f"\n{len(ours)} steps, loss {ours[0]:.4f} at the first, {statistics.fmean(ours[-5:]):.4f} over the last five")
    for name, losses in found.items():
        if name != "ours":
            apart = [abs(a - b) for a, b in zip(ours, losses, strict=True)]
            print(
                f"ours and {name}: losses differ by {max(apart):.2e} at most, {statistics.fmean(apart):.2e} on average"
            )


def print_rss(found: Found, shape: Shape, cfg: argparse.Namespace) -> None:
    print(f"\n{'rows':>9} {'tokens':>13} {'files MB':>9} {'base MB':>8} {'peak MB':>8}")
    for rows, one in found.items():
        files = one["files_mb"]
        print(f"{int(rows):>9,} {one['tokens']:>13,} {files:>9,.0f} {one['base_mb']:>8,.0f} {one['peak_mb']:>8,.0f}")


def print_batches(found: Found, shape: Shape, cfg: argparse.Namespace) -> None:
    print(f"\n{'pairs a step':>12} {'tokens':>8} {'micro-batches':>14} {'peak MB':>8} {'gradient, other parts':>22}")
    for size, one in found.items():
        parts = f"{one['parts']} ({one['other_parts']})"
        print(f"{size:>12} {one['tokens']:>8,} {parts:>14} {one['peak_mb']:>8,.0f} {one['gradient']:>22.2e}")


def print_wide(found: Found, shape: Shape, cfg: argparse.Namespace) -> None:
    print(f"\none step of {found['pairs']} pairs, {found['tokens']:,} tokens: {found['peak_gpu_gib']:.2f} GiB at most")


PRINTED: dict[str, Callable[[Found, Shape, argparse.Namespace], None]] = {
    "steps": print_steps,
    "equality": print_equality,
    "curve": print_curve,
    "rss": print_rss,
    "batches": print_batches,
    "wide": print_wide,
}


def last_line(found: Found, shape: Shape, cfg: argparse.Namespace) -> Found:
    """The figures by name; null for what was not measured."""
    line: Found = dict.fromkeys(KEYS)
    line["model"] = cfg.model
    if "steps" in found:
        runs, done = found["steps"]["runs"], mean_flops(found["steps"], shape, cfg.device)
        line["pairs"] = 2 * MICRO * cfg.steps * cfg.rounds
        for arm in done:
            line[f"{arm}_cpu_s"] = round(statistics.median(seconds(runs[arm])), 3)
            if f"{arm}_peak_mb" in line:
                line[f"{arm}_peak_mb"] = round(statistics.median(run["peak_mb"] for run in runs[arm]))
        if "ours" in done:
            line["gemm_share"] = round(gemm_share(found["steps"], shape), 3)
        if {"ours", "trl_tuned"} <= done.keys():
            line["flop_ratio_tuned"] = round(done["trl_tuned"] / done["ours"], 3)
        if cfg.device == "cuda":
            line |= gpu_line(found, shape)
    if "equality" in found:
        for name, ratio in errors_over_trl(found["equality"]).items():
            line[f"{name}_error_over_trl"] = float(f"{ratio:.3g}")
    if "rss" in found:
        peaks = {int(rows): one["peak_mb"] for rows, one in found["rss"].items()}
        line["rss_200k_over_2k"] = round(peaks[max(peaks)] / peaks[min(peaks)], 3)
    return line


def gpu_line(found: Found, shape: Shape) -> Found:
    """What counts on a GPU, beside the names of a CPU, which are null there but for the ratios."""
    steps = found["steps"]
    line: Found = {name: None for name in KEYS if name.endswith(("cpu_s", "peak_mb"))}
    for arm in steps["dealt"]:
        runs = steps["runs"][arm]
        line[f"{arm}_tokens_per_s"] = round(tokens_a_second(steps, arm))
        line[f"{arm}_peak_gib"] = round(statistics.median(run["peak_gpu_gib"] for run in runs), 2)
    if "ours" in steps["dealt"]:
        line["gemm_share"] = round(gemm_share(steps, shape, "wall_s"), 3)
    if "wide" in found:
        line["wide_peak_gib"] = round(found["wide"]["peak_gpu_gib"], 2)
    return line
