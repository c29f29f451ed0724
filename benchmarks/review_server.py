"""10,000 records in the embedded Argilla: times of push, queue, text query and pull, memory, and kill -9.

    .venv/bin/python benchmarks/review_server.py [RECORDS]

Prints a table and, last, one JSON line. The server is the real one of `curate review serve`, installed on first use.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import polars as pl

from curate.config import BuildConfig
from curate.pipeline.build import build
from curate.review.argilla.accounts import invite
from curate.review.argilla.pull import pull
from curate.review.argilla.push import push
from curate.review.config import InviteConfig, PullConfig, PushConfig

SHARED = Path(__file__).parents[2] / "shared/datasets/ultrafeedback_pairs.parquet"
NO_VECTORS = ("off_topic", "semantic_duplicate_prompt", "semantic_duplicate_pair")
PLAIN = ("What is a good way to learn a language? ", "Read and speak every day. " * 30, "Buy a dictionary. " * 40)
AT_ONCE = 100
PENDING = {"type": "terms", "scope": {"entity": "response", "property": "status"}, "values": ["pending"]}
QUEUE = {"filters": {"type": "and", "and": [PENDING]}}
QUERIES = {"common": "the", "rare": "number 4321", "phrase": '"of the"'}


def main() -> None:
    records = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        write_pairs(data / "pairs.jsonl", records)
        build(
            BuildConfig(
                source=str(data / "pairs.jsonl"), name="pairs", skip_rule=(*NO_VECTORS, "lexical_duplicate"), data=data
            )
        )
        server, found = start(data)
        try:
            figures = measured(data, found, server, records)
        finally:
            server.kill()
    width = max(map(len, figures))
    for name, value in figures.items():
        print(f"{name:{width}}  {value:>10,.3f}" if isinstance(value, float) else f"{name:{width}}  {value:>10,}")
    print(json.dumps(figures))


def measured(data: Path, found: dict[str, str], server: subprocess.Popen[str], records: int) -> dict[str, Any]:
    """Seconds of each step, and MB of the server at its end."""
    figures: dict[str, Any] = {"records": records}
    asked = PushConfig(
        name="pairs", records=records, overlap=0.0, min_submitted=1, include_dropped=True, diverse_share=0.0, data=data
    )
    figures["push_s"], _ = timed(lambda: push(asked))
    account = invite(InviteConfig(username="reviewer", data=data))
    sign_in = {"username": "reviewer", "password": account.password}
    token = httpx.post(f"{found['url']}/api/v1/token", data=sign_in).raise_for_status().json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=f"{found['url']}/api/v1", headers=headers, timeout=120) as client:
        dataset = client.get("/me/datasets").raise_for_status().json()["items"][0]["id"]

        def page(offset: int, body: dict[str, Any], limit: int = 10) -> dict[str, Any]:
            where = f"/me/datasets/{dataset}/records/search"
            answer = client.post(where, params={"offset": offset, "limit": limit}, json=body).raise_for_status()
            return dict(answer.json())

        figures["queue_page_1_s"] = median(lambda: page(0, QUEUE))
        figures["queue_page_100_s"] = median(lambda: page(990, QUEUE))
        for name, words in QUERIES.items():
            body = {**QUEUE, "query": {"text": {"q": words}}}
            figures[f"text_{name}_s"] = median(lambda body=body: page(0, body))
            figures[f"text_{name}_records"] = page(0, body)["total"]
        figures["answers_s"], given = timed(lambda: answer_all(client, page, records))
        figures["pull_s"], pulled = timed(lambda: pull(PullConfig(name="pairs", data=data)))
        figures["pull_again_s"], _ = timed(lambda: pull(PullConfig(name="pairs", data=data)))
        figures["pulled"] = pulled.submitted
        figures["server_mb"] = resident_mb(server.pid)
        assert pulled.submitted == given == records
        record = page(0, {}, 1)["items"][0]["record"]["id"]
        mine = client.get(f"/records/{record}").raise_for_status().json()
        before = {"status": "submitted", "values": {"better": {"value": "equal"}}}
        response = next(one for one in mine["responses"] if one["status"] == "submitted")
        client.put(f"/responses/{response['id']}", json=before).raise_for_status()
    # It has said yes to the last answer; now it dies.
    server.kill()
    server.wait()
    again, _ = start(data)
    try:
        after = pull(PullConfig(name="pairs", data=data))
        figures["pulled_after_kill"] = after.submitted
        figures["lost"] = records - after.submitted + (0 if after.verdicts["tie"] == pulled.verdicts["tie"] + 1 else 1)
    finally:
        again.terminate()
        again.wait()
    return figures


def write_pairs(path: Path, count: int) -> None:
    """Pairs of the length of real ones, each with a number of its own."""
    real = pl.read_parquet(SHARED).select("prompt", "chosen", "rejected").rows() if SHARED.exists() else [PLAIN]
    with path.open("w") as lines:
        for i in range(count):
            prompt, chosen, rejected = real[i % len(real)]
            row = {"prompt": f"{prompt} (number {i})", "chosen": chosen, "rejected": f"{rejected} ({i})"}
            lines.write(json.dumps({**row, "score_chosen": 1 + i % 7, "score_rejected": 0.5}) + "\n")


def start(data: Path) -> tuple[subprocess.Popen[str], dict[str, str]]:
    """The server, as soon as it answers."""
    command = [sys.executable, "-m", "curate.cli.main", "review", "serve", "--json", "--port", "0", "--data", str(data)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ)
    assert process.stdout
    return process, json.loads(process.stdout.readline())


def answer_all(client: httpx.Client, page: Callable[..., dict[str, Any]], records: int) -> int:
    """Judge what is pending until nothing is; the answers given."""
    given = 0
    while items := page(0, QUEUE, AT_ONCE)["items"]:
        answers = [
            {"record_id": item["record"]["id"], "status": "submitted", "values": {"better": {"value": "a"}}}
            for item in items
        ]
        client.post("/me/responses/bulk", json={"items": answers}).raise_for_status()
        given += len(answers)
    return given


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.monotonic()
    found = work()
    return time.monotonic() - started, found


def median(work: Callable[[], Any], times: int = 5) -> float:
    """Of the seconds of five runs."""
    return sorted(timed(work)[0] for _ in range(times))[times // 2]


def resident_mb(pid: int) -> float:
    """The most memory that a process has held."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


if __name__ == "__main__":
    main()
