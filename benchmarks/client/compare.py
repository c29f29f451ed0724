"""Calls a second of our client, ledger and tables included, beside a bare aiohttp loop and three other tools.

Ours and the bare loop are timed by their own clocks, in turn. The others are timed by the server, from the first call
that is theirs to the last answer, so that neither their start nor their end counts against them.
"""

import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CALLS = 5_000
MANY_CALLS = 50_000
CONCURRENCY = 256
RUNS = 5
"""Of ours and of the bare loop."""
PEER_RUNS = 2
LONGEST_S = 900.0
"""Of one run of one client."""

HERE = Path(__file__).parent
ENVIRONMENTS = HERE.parents[1] / ".venv-peers"
PEERS = {
    "distilabel 1.5.3": ("distilabel", "with_distilabel.py"),
    "data-designer 0.9.7": ("data-designer", "with_data_designer.py"),
    "bespokelabs-curator 0.1.31": ("curator", "with_curator.py"),
}
"""Name -> its environment and pinned requirements, and the script that makes the calls with it."""

OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    # data-designer
    "NEMO_TELEMETRY_ENABLED": "false",
    # curator; its live display would cost it time
    "TELEMETRY_ENABLED": "false",
    "CURATOR_DISABLE_RICH_DISPLAY": "1",
    # litellm, below curator: prices from its package, and a key, which it wants whether the endpoint does or not
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "OPENAI_API_KEY": "none",
}


class Unavailable(Exception):
    """A client that could not be installed or did not make its calls."""


@dataclass(frozen=True)
class Run:
    """What one client did with its calls."""

    calls_per_s: float
    cpu_ms_per_call: float | None
    rss_mb: float | None
    mean_in_flight: float
    most_in_flight: int
    server_busy: float
    """Share of one core that the server took."""


def main() -> None:
    """Print a row a client, and last one line of JSON."""
    with server() as port:
        ours, bare = [], []
        for _ in range(RUNS):
            ours.append(run(port, [sys.executable, str(HERE / "ours.py")], CALLS))
            bare.append(run(port, [sys.executable, str(HERE / "bare.py")], CALLS))
        print(f"{CALLS} calls, {CONCURRENCY} in flight, answered after 50 ms")
        heads = ("calls/s", "CPU ms/call", "RSS MB", "in flight, mean", "most", "server's CPU", "runs")
        print(f"{'':28}" + "".join(f"{head:>17}" for head in heads))
        show("pairwright, ledger on", ours)
        show("bare aiohttp", bare)
        peers: dict[str, float | None] = {}
        for name, (environment, script) in PEERS.items():
            try:
                command = [str(installed(environment)), str(HERE / "peers" / script)]
                runs = [run(port, command, CALLS, timed_by_server=True) for _ in range(PEER_RUNS)]
            except Unavailable as error:
                print(f"{name:28}{'-':>17}  {error}", flush=True)
                peers[name] = None
            else:
                show(name, runs)
                peers[name] = round(middle(runs), 1)
        many = run(port, [sys.executable, str(HERE / "ours.py")], MANY_CALLS)
        show(f"pairwright, {MANY_CALLS} calls", [many])
    found = {
        "calls_per_s": round(middle(ours), 1),
        "cpu_ms_per_call": round(statistics.median(one.cpu_ms_per_call or 0.0 for one in ours), 3),
        "bare_calls_per_s": round(middle(bare), 1),
        "peers": peers,
        "rss_mb_5k": round(statistics.median(one.rss_mb or 0.0 for one in ours), 1),
        "rss_mb_50k": round(many.rss_mb or 0.0, 1),
    }
    print(json.dumps(found))


@contextmanager
def server() -> Iterator[int]:
    """The endpoint, in a process of its own; its port."""
    process = subprocess.Popen([sys.executable, str(HERE / "server.py")], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        yield int(process.stdout.readline())
    finally:
        process.terminate()
        process.wait()


def installed(environment: str) -> Path:
    """The Python of a peer's own environment, made where it is missing or pinned otherwise."""
    requirements = HERE / "peers" / f"{environment}.txt"
    pinned = hashlib.sha256(requirements.read_bytes()).hexdigest()
    folder = ENVIRONMENTS / environment
    python, ready = folder / "bin" / "python", folder / "ready"
    if ready.exists() and ready.read_text() == pinned:
        return python
    print(f"installing {environment} in {folder}", file=sys.stderr, flush=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "-r", str(requirements)]
    for command in ([sys.executable, "-m", "venv", "--clear", str(folder)], pip):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise Unavailable(f"not installed: {last_line(done.stderr)}")
    ready.write_text(pinned)
    return python


def run(port: int, command: list[str], calls: int, timed_by_server: bool = False) -> Run:
    """One client's calls, in a process and a folder of their own."""
    stats(port, calls)
    with tempfile.TemporaryDirectory() as folder:
        # A peer keeps caches and settings in the home folder; the next run must not find them.
        environment = {**os.environ, **OFFLINE, "HOME": folder} if timed_by_server else None
        asked = [*command, f"http://127.0.0.1:{port}/v1", str(calls), str(CONCURRENCY), folder]
        try:
            done = subprocess.run(asked, capture_output=True, text=True, timeout=LONGEST_S, env=environment)
        except subprocess.TimeoutExpired as error:
            raise Unavailable(f"not ready after {LONGEST_S:.0f} s") from error
    served = stats(port, calls)
    if done.returncode:
        raise Unavailable(f"exit code {done.returncode}: {last_line(done.stderr)}")
    told = json.loads(done.stdout.splitlines()[-1])
    if told["responses"] != calls or served["received"] < calls:
        raise Unavailable(f"{told['responses']} responses of {calls}, {served['received']:.0f} calls received")
    seconds = served["seconds"] if timed_by_server else told["seconds"]
    return Run(
        calls / seconds,
        None if timed_by_server else 1000 * told["cpu_s"] / calls,
        None if timed_by_server else told["rss_mb"],
        served["mean_in_flight"],
        int(served["most_in_flight"]),
        served["cpu_s"] / served["seconds"],
    )


def stats(port: int, calls: int) -> dict[str, float]:
    """What the server counted since it was last asked."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/stats?calls={calls}") as reply:
        found: dict[str, float] = json.load(reply)
    return found


def middle(runs: list[Run]) -> float:
    """Median of the calls a second."""
    return statistics.median(one.calls_per_s for one in runs)


def show(name: str, runs: list[Run]) -> None:
    """One row: medians, and the calls a second of each run."""
    cpu = [one.cpu_ms_per_call for one in runs if one.cpu_ms_per_call is not None]
    rss = [one.rss_mb for one in runs if one.rss_mb is not None]
    cells = (
        f"{middle(runs):.0f}",
        f"{statistics.median(cpu):.2f}" if cpu else "-",
        f"{statistics.median(rss):.0f}" if rss else "-",
        f"{statistics.median(one.mean_in_flight for one in runs):.0f}",
        f"{max(one.most_in_flight for one in runs)}",
        f"{statistics.median(one.server_busy for one in runs):.0%}",
    )
    each = " ".join(f"{one.calls_per_s:.0f}" for one in runs)
    print(f"{name:28}" + "".join(f"{cell:>17}" for cell in cells) + f"    {each}", flush=True)


def last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[-1][:200]


if __name__ == "__main__":
    main()
