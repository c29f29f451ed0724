"""The least that a client can do: aiohttp, nothing kept of a response but that it was there."""

import asyncio
import json
import resource
import sys
import time

import aiohttp


async def run(url: str, calls: int, concurrency: int) -> dict[str, float]:
    """Responses, seconds and CPU seconds."""
    numbers = iter(range(calls))
    responses = 0
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def work() -> None:
            nonlocal responses
            for i in numbers:
                messages = [{"role": "user", "content": f"What is the {i}th thing to know about the sea?"}]
                body = {"model": "m", "messages": messages, "temperature": 0.7, "top_p": 0.95, "max_tokens": 256}
                async with session.post(f"{url}/chat/completions", json=body) as reply:
                    found = json.loads(await reply.read())
                    responses += bool(found["choices"][0]["message"]["content"])

        started, cpu_before = time.perf_counter(), time.process_time()
        await asyncio.gather(*(work() for _ in range(concurrency)))
        seconds, cpu_s = time.perf_counter() - started, time.process_time() - cpu_before
    return {"responses": responses, "seconds": seconds, "cpu_s": cpu_s}


def main() -> None:
    """Print what `run` gives, and the most memory the process had."""
    measured = asyncio.run(run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
    rss_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({**measured, "rss_mb": rss_mb}))


if __name__ == "__main__":
    main()
