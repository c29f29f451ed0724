"""The calls as `curate build` makes them: prompts from a file, through the ledger, to a table of candidates."""

import json
import resource
import sys
import time
from pathlib import Path

# What answers is otherwise imported at the first call, inside the time that is measured.
import curate.models.chat_api  # noqa: F401
from curate.generate.self_sample import SampleConfig, sample_responses
from curate.models.limits import EndpointConfig
from curate.models.resolve import resolve_generator
from curate.sources.prompts import read_prompts
from curate.sources.rows import rows_config
from curate.store.session import open_session
from schemas.stages import StageName
from schemas.tables import Candidate, Prompt


def main() -> None:
    """Print responses, seconds and CPU seconds of the stage, and the most memory the process had."""
    url, calls, concurrency, data = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
    asked = data / "prompts.jsonl"
    with asked.open("w") as stream:
        for i in range(calls):
            stream.write(json.dumps({"prompt": f"What is the {i}th thing to know about the sea?"}) + "\n")
    terms = EndpointConfig(concurrency=concurrency)
    generator = resolve_generator(f"{url}#m", data, terms)
    drawn = SampleConfig(generator.model, generator.digest, n=1, temperature=0.7, top_p=0.95, max_tokens=256, seed=30)
    with open_session(data, terms.budget) as session:
        store, rows = session.store, rows_config(str(asked), None, seed=30)
        prompts = store.read(StageName.READ_PROMPTS, read_prompts, rows, writes=Prompt)
        tools = {"generator": generator, "recorder": session.recorder}
        started, cpu_before = time.perf_counter(), time.process_time()
        made = store.map(StageName.SAMPLE_RESPONSES, sample_responses, drawn, prompts, writes=Candidate, **tools)
        seconds, cpu_s = time.perf_counter() - started, time.process_time() - cpu_before
    rss_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"responses": made.rows, "seconds": seconds, "cpu_s": cpu_s, "rss_mb": rss_mb}))


if __name__ == "__main__":
    main()
