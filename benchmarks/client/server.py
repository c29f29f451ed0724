"""An OpenAI-compatible endpoint that answers every chat completion after 50 ms, and counts.

Prints its port. `GET /stats?calls=N` tells of the last N requests since the last such look: `seconds` from the
first request to the last answer, requests in flight on average and at most, and the server's own CPU seconds.
`received` counts all of them: what comes before the N is a client's trial of the endpoint.
"""

import asyncio
import json
import time
from array import array

from aiohttp import web

LATENCY_S = 0.05
ANSWER = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "The sea is salt because rivers carry salt to it."},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 12, "completion_tokens": 11, "total_tokens": 23},
    }
).encode()


class Counts:
    """When requests came since the last look, and how long they stayed."""

    def __init__(self) -> None:
        self.came = array("d")
        self.last_answer = self.stayed_s = 0.0
        self.open = self.most_open = 0
        self.cpu_s_before = time.process_time()

    def come(self) -> float:
        now = time.perf_counter()
        self.came.append(now)
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        return now

    def go(self, came: float) -> None:
        self.open -= 1
        self.last_answer = time.perf_counter()
        self.stayed_s += self.last_answer - came

    def told(self, calls: int) -> dict[str, float]:
        """What `GET /stats` gives."""
        seconds = self.last_answer - self.came[-calls] if 0 < calls <= len(self.came) else 0.0
        return {
            "received": len(self.came),
            "seconds": seconds,
            "mean_in_flight": self.stayed_s / seconds if seconds else 0.0,
            "most_in_flight": self.most_open,
            "cpu_s": time.process_time() - self.cpu_s_before,
        }


async def serve() -> None:
    """Answer until ended."""
    counts = Counts()

    async def handle(request: web.BaseRequest) -> web.Response:
        nonlocal counts
        if request.method == "GET":
            told, counts = counts.told(int(request.query["calls"])), Counts()
            return web.json_response(told)
        came = counts.come()
        await request.read()
        await asyncio.sleep(LATENCY_S)
        counts.go(came)
        return web.Response(body=ANSWER, content_type="application/json")

    # No routes, no middleware and no log: the client is to be what limits the rate.
    runner = web.ServerRunner(web.Server(handle, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve())
