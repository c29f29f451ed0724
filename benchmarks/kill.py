"""Kill -9 a build of 2,000 calls at 20 random moments: what was asked twice, and whether the tables are the same.

The endpoint answers from a digest of what it is sent, after 20 to 50 ms, and counts. Calls in flight when a build is
killed are lost, so at most kills x concurrency calls may be made again.
"""

import asyncio
import hashlib
import json
import random
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import combinations
from pathlib import Path
from typing import Any

from aiohttp import web

CALLS = 2000
KILLS = 20
CONCURRENCY = 32
SEED = 30
LATENCY_S = (0.02, 0.05)
LATEST_S = 0.1
"""A kill comes up to so long after the call that sets it off."""

LONGEST_S = 900.0
"""Of one build."""

SUBJECTS = ("rivers", "bread", "glass", "wolves", "violins", "tides", "bridges", "salt", "clocks", "maps")
PLACES = ("Norway", "Peru", "Kenya", "Japan", "Malta", "Chile", "Nepal", "Fiji", "Ghana", "Latvia")


class Endpoint:
    """Answers every chat completion with a pair that its body decides, and counts what it received."""

    def __init__(self) -> None:
        self.received = 0
        self._more = asyncio.Event()

    async def start(self) -> str:
        """Serve; the address."""
        runner = web.ServerRunner(web.Server(self._handle, access_log=None))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}/v1"

    async def reach(self, received: int) -> None:
        """Wait until so many calls have been received."""
        while self.received < received:
            self._more.clear()
            await self._more.wait()

    async def _handle(self, request: web.BaseRequest) -> web.Response:
        self.received += 1
        self._more.set()
        digest = hashlib.sha256(await request.read()).digest()
        shortest, longest = LATENCY_S
        await asyncio.sleep(shortest + (longest - shortest) * digest[0] / 255)
        pair = json.dumps({"chosen": sentence(digest[1:9]), "rejected": sentence(digest[9:17])})
        choice = {"index": 0, "message": {"role": "assistant", "content": pair}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 60, "completion_tokens": 40, "total_tokens": 100}
        return web.json_response({"object": "chat.completion", "model": "m", "choices": [choice], "usage": usage})


def sentence(numbers: bytes) -> str:
    """Words that `numbers` choose."""
    words = [(SUBJECTS, PLACES)[i % 2][number % 10] for i, number in enumerate(numbers)]
    return f"They speak of {' and '.join(words)}."


def write_prompts(path: Path) -> None:
    """Distinct prompts, one a call."""
    chosen = random.Random(SEED).sample(list(combinations(SUBJECTS + PLACES, 4)), CALLS)
    asked = [f"What do {', '.join(words)} have in common?" for words in chosen]
    path.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in asked))


@asynccontextmanager
async def started(url: str, prompts: Path, data: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """The command that is killed and given again; it never outlives the block."""
    asked = ["--source", "gpt", "--flaws", "none", "--generator", f"{url}#m", "--prompts", str(prompts)]
    limits = ["--concurrency", str(CONCURRENCY), "--data", str(data), "--json"]
    command = [sys.executable, "-m", "curate.cli.main", "build", *asked, *limits]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def finish(url: str, prompts: Path, data: Path) -> dict[str, Any]:
    """Run a build to its end; its summary."""
    async with started(url, prompts, data) as process, asyncio.timeout(LONGEST_S):
        out, err = await process.communicate()
    if process.returncode:
        raise SystemExit(f"the build ended with exit code {process.returncode}:\n{err.decode()}")
    summary: dict[str, Any] = json.loads(out.decode().splitlines()[-1])
    return summary


async def kill(endpoint: Endpoint, url: str, prompts: Path, data: Path, received: int, after_s: float) -> None:
    """Start a build and kill it `after_s` after so many calls were received."""
    async with started(url, prompts, data) as process, asyncio.timeout(LONGEST_S):
        ended = asyncio.create_task(process.communicate())
        # At least one call of this start: a kill before any call has nothing to lose.
        reached = asyncio.create_task(endpoint.reach(max(received, endpoint.received + 1)))
        await asyncio.wait({ended, reached}, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.sleep(after_s)
        if ended.done():
            raise SystemExit(f"the build ended before {received} calls:\n{ended.result()[1].decode()}")
        process.kill()
        await ended
    print(f"killed after {endpoint.received} calls", flush=True)


def digests(data: Path) -> dict[str, str]:
    """File -> SHA-256 of every part of every table."""
    files = sorted(data.glob("tables/**/*.parquet"))
    return {str(path.relative_to(data)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


async def main() -> int:
    """Print what was asked, what was received and whether the tables are the same; 1 if a bound is broken."""
    chance = random.Random(SEED)
    moments = [(called, chance.uniform(0, LATEST_S)) for called in sorted(chance.sample(range(1, CALLS), KILLS))]
    endpoint = Endpoint()
    url = await endpoint.start()
    with tempfile.TemporaryDirectory() as scratch:
        prompts, whole, killed = (Path(scratch) / name for name in ("prompts.jsonl", "whole", "killed"))
        write_prompts(prompts)
        undisturbed = await finish(url, prompts, whole)
        needed, endpoint.received = endpoint.received, 0
        counted = f"{needed} calls, {undisturbed['kept']} pairs kept, {len(digests(whole))} table files"
        print(f"undisturbed: {counted}", flush=True)
        for called, after_s in moments:
            await kill(endpoint, url, prompts, killed, called, after_s)
        resumed = await finish(url, prompts, killed)
        same = resumed["table"] == undisturbed["table"] and digests(killed) == digests(whole)
    received = endpoint.received
    is_bounded = received <= needed + KILLS * CONCURRENCY
    found = {"needed": needed, "received": received, "kills": KILLS, "concurrency": CONCURRENCY, "same_bytes": same}
    print(json.dumps(found))
    return 0 if same and is_bounded and needed == CALLS else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
